"""The command that shows where every monitor stands."""

from pathlib import Path

from fairlead.api.console import emit, progress
from fairlead.api.present.monitors import monitors_view
from fairlead.api.session import opened

__all__ = ["show"]


def show(given: Path | None, *, as_json: bool) -> None:
    """Judge every monitor now, and look back on its last windows."""
    with opened(given) as project, progress("reading the prediction log", quiet=as_json):
        standings = project.survey()
        now = project.clock.now()
    emit(standings, monitors_view(standings, now), as_json=as_json)
