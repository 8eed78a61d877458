"""Project: wires settings to adapters to flow; the composition root of the control side."""

from collections.abc import Collection
from pathlib import Path

from fairlead.adapters.sources import tables
from fairlead.project.bringing import Bringing
from fairlead.project.erasing import Erasing
from fairlead.project.explaining import Explaining
from fairlead.project.imaging import Imaging
from fairlead.project.rehearsing import Rehearsing
from fairlead.project.reviewing import Reviewing

__all__ = ["Project", "read_table"]


class Project(Erasing, Rehearsing, Explaining, Imaging, Reviewing, Bringing):
    """A folder with a `fairlead.yaml`, and everything Fairlead can do with it.

    Every verb reads the records and the blobs, does its work, and writes what it did into the
    records together with one audit event. Not shared between threads.
    """


def read_table(path: Path, *, target: str = "", moments: Collection[str] = ()) -> tables.Table:
    """The rows of a CSV or Parquet file, and what to know about how they were read."""
    return tables.read(path, target=target, moments=moments)
