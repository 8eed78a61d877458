"""The command line: names, options and help. What a command does stands in `api/commands`."""

from collections.abc import Sequence

from fairlead.api.border import Border
from fairlead.api.cli import contain, govern, live, make, papers, people, release, start, watch
from fairlead.api.cli.shape import app
from fairlead.settings import settings

__all__ = ["ROOMS", "app", "main"]

ROOMS = (start, make, release, live, watch, govern, people, papers, contain)
"""Importing a room registers its commands."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status (see `api/border.py`). `--debug` may stand anywhere."""
    with Border(debug=settings().debug or "--debug" in arguments) as border:
        app(args=[a for a in arguments if a != "--debug"], prog_name="fairlead")
    return border.status
