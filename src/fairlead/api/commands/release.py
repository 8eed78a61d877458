"""The release commands: bring a package to live traffic, and back."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace as changed
from rich.live import Live
from rich.text import Text

from fairlead.api.border import REFUSED
from fairlead.api.commands.lab import newest
from fairlead.api.console import console, emit, next_commands, progress
from fairlead.api.present.dossier import Dossier, dossier
from fairlead.api.present.figures import size
from fairlead.api.present.outlook import Ahead, ahead_view
from fairlead.api.present.rollout import View, headline, line, release_view, releases_table, seen
from fairlead.api.present.script import dump
from fairlead.api.session import opened
from fairlead.core.decision import Decision
from fairlead.core.forecast import forecast
from fairlead.core.ref import Ref, digest
from fairlead.core.release import Phase, Release, advance
from fairlead.core.traffic import DAY
from fairlead.errors import Missing
from fairlead.project import Project

__all__ = ["abort", "ahead", "look", "pause", "report", "resume", "rollback", "start", "status", "watch"]


RATE, ERRORS = 100.0, 0.001
"""Requests per minute, and the share of them that fails, where the log tells nothing; one in a
thousand at least, since twice nothing is no harm."""

RATIOS = (1.0, 1.5, 2.0, 5.0, 10.0)
"""How often candidates fail in simulations, relative to the baseline."""


def start(
    given: Path | None, packages: tuple[str, ...], plan: str, force: str, glass: str, *,
    as_json: bool,
) -> None:  # fmt: skip
    """Start a release of the newest package, or of those named."""
    with opened(given) as project:
        chosen = [newest(project, "package", text).ref for text in packages or ("",)]
        with progress("starting the release", quiet=as_json):
            made = project.start_release(chosen, project.plan(plan), force=force, glass=glass)
        now = project.clock.now()
    emit(made, headline(made, now), as_json=as_json)
    if not as_json:
        next_commands("fairlead release watch", "fairlead serve   (the evidence comes from live traffic)")  # fmt: skip


def ahead(
    given: Path | None, plan: str, rate: float | None, errors: float | None, *,
    simulate: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show a plan before it is started, and what it will take by simulation."""
    with opened(given) as project:
        chosen = project.plan(plan)
        seen_rate, seen_errors = _traffic(project)
    asked = RATE if seen_rate is None else seen_rate
    here = Ahead(plan=chosen, rate=asked if rate is None else rate,
                 errors=max(seen_errors, ERRORS) if errors is None else errors,
                 seen=rate is None and errors is None and seen_rate is not None)  # fmt: skip
    if simulate:
        with progress("simulating", quiet=as_json):
            outlooks = tuple(forecast(chosen, rate=here.rate / 60, errors=here.errors, ratio=ratio)
                             for ratio in RATIOS)  # fmt: skip
        here = changed(here, outlooks=outlooks)
    emit(here, ahead_view(here), as_json=as_json)
    if not as_json:
        next_commands(f"fairlead release start{f' --plan {plan}' if plan else ''}" if simulate
                      else "fairlead release plan --simulate")  # fmt: skip


def _traffic(project: Project) -> tuple[float | None, float]:
    """Requests per minute, and the share that failed, of the last day or as long as it serves."""
    now, made = project.clock.now(), project.records.releases(project.name)
    seen = project.observer().watch(now, DAY)
    here = project.records.service(project.name)
    package = here.package if here else None
    volume = seen.get(package, "volume") if package else None
    if package is None or volume is None or not volume.value:
        return None, 0.0
    minutes = max(min(DAY, now - made[0].started_at) / 60, 1.0)
    failed = seen.get(package, "errors")
    return volume.value / minutes, failed.value if failed else 0.0


def status(given: Path | None, release_id: str, *, as_json: bool) -> None:
    """One look, and the releases before it."""
    with opened(given) as project:
        view = look(project, release_id)
        everything = project.records.releases()
    if as_json:
        emit(view, "", as_json=True)
        return
    console().print(release_view(view))
    if len(everything) > 1 and not release_id:
        console().print(Text(""))
        console().print(releases_table(everything, view.now))


def watch(given: Path | None, release_id: str, every: float, *, as_json: bool) -> int:
    """Look until the release is over; 0 when promoted (or kept, as its plan says), else 1.

    For scripts each look is one line of JSON."""
    out = console()
    with opened(given) as project:
        views = _views(project, release_id, every)
        if as_json:
            for view in views:
                sys.stdout.write(dump(view, lines=True) + "\n")
                sys.stdout.flush()
        elif out.is_terminal:
            with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
                for view in views:
                    live.update(release_view(view), refresh=True)
        else:
            said = ""
            for view in views:
                text = line(view)
                if text.split("  ", 1)[1] != said:
                    said = text.split("  ", 1)[1]
                    sys.stdout.write(text + "\n")
                    sys.stdout.flush()
    return 0 if view.release.phase in (Phase.PROMOTED, Phase.KEPT) else REFUSED


def report(given: Path | None, release_id: str, target: Path) -> None:
    """Write the page of one release: its evidence, its decisions, its story."""
    with opened(given) as project:
        view = look(project, release_id)
        release = view.release
        text = dossier(Dossier(
            view=view, events=tuple(project.records.events(subject=f"release/{release.id}")),
            decisions=tuple(_decisions(project, release)),
        ))  # fmt: skip
    target.write_text(text, encoding="utf-8")
    console().print(Text.assemble("wrote ", (str(target), "bold"), f"  {size(target.stat().st_size)}"))


def _decisions(project: Project, release: Release) -> list[Decision]:
    """Every decision that moved a release, oldest first."""
    told = [e.body for e in project.records.events(subject=f"release/{release.id}")]
    packages = dict.fromkeys(c for body in told for c in (body.get("to") or {}).get("candidates", ()))
    made = {digest(d): d for p in packages for d in project.records.decisions(Ref.parse(p))}
    return [made[body["decision"]] for body in told if body.get("decision") in made]


def pause(given: Path | None, release_id: str) -> None:
    """Stop advancing."""
    with opened(given) as project:
        _tell(project, project.pause(_id(project, release_id)))


def resume(given: Path | None, release_id: str) -> None:
    """Advance again."""
    with opened(given) as project:
        _tell(project, project.resume(_id(project, release_id)))


def abort(given: Path | None, release_id: str, reason: str) -> None:
    """End a release by hand."""
    with opened(given) as project:
        _tell(project, project.abort(_id(project, release_id), reason))


def rollback(given: Path | None, reason: str) -> None:
    """Serve the package that served before."""
    with opened(given) as project:
        _tell(project, project.rollback(reason))


def look(project: Project, release_id: str) -> View:
    """The state of a release now; a running one is judged as its controller would. Raises Missing."""
    found = project.records.release(_id(project, release_id))
    now = project.clock.now()
    if found.phase.final:
        decision = next(reversed(_decisions(project, found)), None)
    else:
        decision = advance(found, project.observer().observe(found, now), now)
    return seen(found, decision, project.router.published(), now)


def _views(project: Project, release_id: str, every: float) -> Iterator[View]:
    chosen = _id(project, release_id)
    while True:
        view = look(project, chosen)
        yield view
        if view.release.phase.final:
            return
        time.sleep(every)


def _tell(project: Project, release: Release) -> None:
    console().print(headline(release, project.clock.now()))


def _id(project: Project, given: str) -> str:
    if given:
        return given
    made = project.records.releases()
    if not made:
        raise Missing("nothing was released yet", hint="start with `fairlead release start`")
    return next((r.id for r in reversed(made) if not r.phase.final), made[-1].id)
