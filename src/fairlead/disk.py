"""The disk: what makes written bytes, and the names of files, survive a power cut."""

import os
from pathlib import Path

__all__ = ["sync"]


def sync(path: Path) -> None:
    """Return when the disk holds a file's bytes, or, of a folder, the names in it. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
