"""The command that writes a stretch of production as a page."""

from pathlib import Path

from rich.text import Text

from fairlead.api.console import console, emit, progress
from fairlead.api.present.figures import size
from fairlead.api.present.report import report_page
from fairlead.api.session import opened
from fairlead.core.duration import seconds
from fairlead.core.traffic import DAY
from fairlead.errors import Invalid
from fairlead.project import Project

__all__ = ["write"]

MONTH = "28d"
"""What is shown when nothing else is asked for."""


def write(given: Path | None, target: Path | None, release: str, last: str, *, week: bool,
          as_json: bool) -> None:  # fmt: skip
    """Write the page, or print what it is made of as JSON."""
    if sum((bool(release), bool(last), week)) > 1:
        raise Invalid("--release, --last and --week each name a stretch of time", hint="give one of them")
    with opened(given) as project, progress("reading the prediction log", quiet=as_json):
        since, until = _between(project, release, "7d" if week else last or MONTH)
        made = project.report(since, until)
    where = target or Path(f"{made.service}-report.html")
    if as_json:
        emit(made, "", as_json=True)
    if target is not None or not as_json:
        where.write_text(report_page(made), encoding="utf-8")
    if not as_json:
        console().print(Text.assemble("wrote ", (str(where), "bold"), f"  {size(where.stat().st_size)}"))


def _between(project: Project, release: str, last: str) -> tuple[float, float]:
    """The stretch that was asked for."""
    now = project.clock.now()
    if release:
        found = project.records.release(release)
        room = max((found.ended_at or now) - found.started_at, DAY / 24) / 10
        return found.started_at - room, min((found.ended_at or now) + room, now)
    return now - seconds(last), now
