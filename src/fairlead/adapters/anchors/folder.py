"""Checkpoints in a folder of another owner: a mounted share, a write-once disk."""

import os
from pathlib import Path

from fairlead.disk import sync
from fairlead.errors import Conflict, Unavailable

__all__ = ["FolderAnchor"]


class FolderAnchor:
    """The Anchor port over a folder: one new file per checkpoint, never written twice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, name: str, data: bytes) -> str:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            target = self._folder / name
            if target.exists():
                if target.read_bytes() == data:
                    return str(target)
                raise Conflict(f"{name} is published already, with other bytes",
                               hint="is another project using the same place?")  # fmt: skip
            fresh = self._folder / f".{name}.{os.getpid()}"
            fresh.write_bytes(data)
            sync(fresh)
            fresh.rename(target)
            sync(self._folder)
        except OSError as error:
            raise Unavailable(f"checkpoints cannot be written to {self._folder}: {error.strerror}",
                              hint="it is tried again at the next turn") from error  # fmt: skip
        return str(target)
