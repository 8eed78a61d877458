"""Clocks: the system's, and one in a file that every process of a project shares and one hand sets."""

import mmap
import os
import struct
import time
from pathlib import Path

from fairlead.errors import Missing

__all__ = ["SharedClock", "SystemClock", "open_clock"]

_SIZE = 8


class SystemClock:
    """UTC seconds of this machine."""

    def now(self) -> float:
        return time.time()


class SharedClock:
    """UTC seconds as a little-endian float64 in a file of 8 bytes, mapped into every process."""

    def __init__(self, path: Path) -> None:
        """Open an existing clock. Raises Missing."""
        self.path = path
        try:
            with path.open("r+b") as file:
                self._cell = mmap.mmap(file.fileno(), _SIZE)
        except (OSError, ValueError) as error:
            raise Missing(f"no clock at {path}: {error}",
                          hint="SharedClock.create makes one; unset FAIRLEAD_CLOCK for the "
                               "system's time") from error  # fmt: skip

    @classmethod
    def create(cls, path: Path, at: float) -> "SharedClock":
        """Make (or set anew) the clock at `path`, showing `at`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(fd, struct.pack("<d", at), 0)
        finally:
            os.close(fd)
        return cls(path)

    def now(self) -> float:
        (at,) = struct.unpack_from("<d", self._cell)
        return float(at)

    def set(self, at: float) -> None:
        """From now on it is `at`, in every process."""
        struct.pack_into("<d", self._cell, 0, at)


def open_clock(path: Path | None) -> SharedClock | SystemClock:
    """The clock in the file `path`, or the system's. Raises Missing."""
    return SystemClock() if path is None else SharedClock(path)
