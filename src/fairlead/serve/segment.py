"""Segments: the journal files of one gateway, which hold whole frames only, whatever the disk does."""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from fairlead.core.journal import HEADER
from fairlead.disk import sync

__all__ = ["Segments"]

ROTATE_BYTES = 8 * 2**20
ROTATE_SECONDS = 60.0


class Segments:
    """Oldest to newest; the newest is locked as long as the gateway lives.

    `trouble`: why the disk refused last, "" after it took something. `synced`: names of new files
    are made to survive a power cut as well.
    """

    def __init__(self, folder: Path, gateway: str, *, synced: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.trouble = ""
        self._folder, self._gateway, self._synced = folder, gateway, synced
        self._sequence, self._broken = 0, False
        self._fd = self._open()

    def append(self, data: bytes) -> bool:
        """All of it or nothing: False when the disk refused, and the file is as it was."""
        try:
            if self._broken or (self._size > len(HEADER) and self._full()):
                self._rotate()
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self._refused(error, self._size)
            return False
        self._size += len(data)
        if not self._synced:
            self._sure, self.trouble = self._size, ""
        return True

    def sync(self) -> bool:
        """Whether what was appended is on the disk; when not, it is taken back.

        After a failed sync the kernel may have dropped the pages and still say yes the next time,
        so this file is not used again.
        """
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._refused(error, self._sure)
            self._broken = True
            return False
        self._sure, self.trouble = self._size, ""
        return True

    def close(self) -> None:
        """Sync the newest file, and let go of it."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            self.trouble = error.strerror or str(error)
        os.close(self._fd)

    def _refused(self, error: OSError, size: int) -> None:
        """Cut off what was half written; a file that cannot even be cut is not used again."""
        self.trouble = error.strerror or str(error)
        try:
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
        except OSError:
            self._broken = True
        self._size = size

    def _full(self) -> bool:
        age = time.monotonic() - self._born
        return self._size >= ROTATE_BYTES or age >= ROTATE_SECONDS

    def _rotate(self) -> None:
        self._sequence += 1
        fd = self._open()
        os.close(self._fd)
        self._fd, self._broken = fd, False

    def _open(self) -> int:
        """Locked and headed before it gets its name: no reader takes it for an orphan."""
        name = f"{self._gateway}-{self._sequence:06d}.log"
        hidden = self._folder / f".{name}.{os.getpid()}"
        fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(fd, HEADER)
            if self._synced:
                os.fsync(fd)
            os.rename(hidden, self._folder / name)
            if self._synced:
                sync(self._folder)
        except OSError:
            with contextlib.suppress(OSError):
                hidden.unlink(missing_ok=True)
            os.close(fd)
            raise
        self._size = self._sure = len(HEADER)
        self._born = time.monotonic()
        return fd
