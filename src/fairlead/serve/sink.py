"""The sink: writes what was asked and answered to the journal, in batches, without holding up an answer."""

import fcntl
import os
import threading
import time
from pathlib import Path
from queue import SimpleQueue

from fairlead.core.journal import HEADER, Batch, Entry, frame

__all__ = ["Sink"]

ROTATE_BYTES = 8 * 2**20
ROTATE_SECONDS = 60.0
LIMIT = 64 * 2**20
"""Bytes that may wait for the disk; what comes after that is lost, and counted."""
PATIENCE = 0.5
"""Seconds between two attempts at a disk that refused."""


class Sink:
    """Appends entries to ``<gateway>-<sequence>.log``; one thread writes.

    An acknowledged prediction is in memory: it reaches the file within `flush` seconds of its
    answer, and a killed process loses that much at most. `lost` counts rows that were dropped
    because the disk did not keep up, `waiting` the bytes that are not yet written.
    """

    durability = "memory"

    def __init__(self, folder: Path, gateway: str) -> None:
        self.lost = 0
        # One side counts what came, the other what went: no counter has two writers.
        self._taken = self._written = 0
        self._fresh: list[bytes] = []
        self._queue: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._journal = _Journal(folder, gateway)
        self._thread = threading.Thread(target=self._write, name="sink", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._taken - self._written

    def add(self, entry: Entry) -> bool:
        """Take an entry; False when it was dropped because too much waits already."""
        if self.waiting > LIMIT:
            self.lost += len(entry.ids) if isinstance(entry, Batch) else 1
            return False
        data = frame(entry)
        self._taken += len(data)
        self._fresh.append(data)
        return True

    def flush(self) -> None:
        """Hand what was added to the writing thread."""
        if self._fresh:
            self._queue.put(self._fresh)
            self._fresh = []

    def close(self) -> None:
        """Write everything, and sync it to the disk."""
        self.flush()
        self._queue.put(None)
        self._thread.join(timeout=10.0)

    def _write(self) -> None:
        while (chunks := self._queue.get()) is not None:
            data = b"".join(chunks)
            while not self._journal.append(data):
                time.sleep(PATIENCE)
            self._written += len(data)
        self._journal.close()


class _Journal:
    """One gateway's files, oldest to newest; the newest is locked as long as the gateway lives."""

    def __init__(self, folder: Path, gateway: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._gateway, self._sequence = folder, gateway, 0
        self._fd = self._open()

    def append(self, data: bytes) -> bool:
        """All of it or nothing: False when the disk refused, and the file is as it was."""
        try:
            if self._size > len(HEADER) and self._full():
                old, self._sequence = self._fd, self._sequence + 1
                self._fd = self._open()
                os.close(old)
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self._size)
            os.lseek(self._fd, self._size, os.SEEK_SET)
            return False
        self._size += len(data)
        return True

    def close(self) -> None:
        os.fsync(self._fd)
        os.close(self._fd)

    def _full(self) -> bool:
        age = time.monotonic() - self._born
        return self._size >= ROTATE_BYTES or age >= ROTATE_SECONDS

    def _open(self) -> int:
        """Locked and headed before it gets its name: no reader takes it for an orphan."""
        name = f"{self._gateway}-{self._sequence:06d}.log"
        hidden = self._folder / f".{name}.{os.getpid()}"
        fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, HEADER)
        os.rename(hidden, self._folder / name)
        self._size, self._born = len(HEADER), time.monotonic()
        return fd
