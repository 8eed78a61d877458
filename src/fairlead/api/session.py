"""A session of one command with a project that is open while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.api.folder import find
from fairlead.project import Project

__all__ = ["opened"]


@contextmanager
def opened(given: Path | None) -> Iterator[Project]:
    """The project in `given` (default: the nearest one upwards), open until the command ends."""
    with Project.open(find(given)) as project:
        yield project
