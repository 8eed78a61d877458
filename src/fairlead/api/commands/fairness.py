"""The command that shows how groups of people fare."""

from pathlib import Path

from rich.text import Text

from fairlead.api.border import REFUSED
from fairlead.api.commands.lab import newest
from fairlead.api.console import console, emit, progress
from fairlead.api.present.fairness import fairness_page, fairness_view
from fairlead.api.session import opened

__all__ = ["show"]


def show(given: Path | None, model: str, last: str, page: Path | None, *, live: bool, as_json: bool) -> int:
    """Compare groups; 1 when one of them certainly fares too badly."""
    with opened(given) as project, progress("comparing groups", quiet=as_json):
        found = project.live_fairness(last) if live else project.fairness(newest(project, "model", model).ref)
    emit(found, fairness_view(found), as_json=as_json)
    if page is not None:
        page.write_text(fairness_page(found), encoding="utf-8")
        if not as_json:
            console().print(Text.assemble("\nwritten  ", str(page)))
    return REFUSED if any(c.outcome == "fail" for c in found.compared) else 0
