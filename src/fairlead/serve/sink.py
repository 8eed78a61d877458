"""The sink: writes what was asked and answered to the journal; its level says what an acknowledgement means."""

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar

from fairlead.core.journal import Batch, Durability, Entry, frame
from fairlead.serve.segment import Segments

__all__ = ["FsyncSink", "MemorySink", "OsSink", "Sink", "open_sink"]

LIMIT = 64 * 2**20
"""Bytes that may wait for the disk; what comes after that is lost, and counted."""
PATIENCE = 0.5
"""Seconds between two attempts at a disk that refused."""
PIECE = 2**20
"""Bytes written in one turn of the event loop after the disk came back."""

Then = Callable[[bool], None]
"""Called once, in the event loop, with whether the entries reached their level."""
Post = Callable[[Callable[[], None]], object]
"""Runs a call in the event loop; may be used from any thread."""


class Sink(ABC):
    """Appends entries to ``<gateway>-<sequence>.log``. Used from the event loop only.

    `lost` counts rows that were dropped because the disk refused or did not keep up, `waiting` the
    bytes that are not yet written.
    """

    durability: ClassVar[Durability]

    def __init__(self, folder: Path, gateway: str) -> None:
        self.lost = 0
        # One side counts what came, the other what went: no counter has two writers.
        self._taken = self._written = self._rows = 0
        self._fresh: list[bytes] = []
        self._segments = Segments(folder, gateway, synced=self.durability == "fsync")

    @property
    def waiting(self) -> int:
        return self._taken - self._written

    @property
    def trouble(self) -> str:
        """Why the disk refused last; "" while it does not."""
        return self._segments.trouble

    def add(self, entry: Entry) -> bool:
        """Take an entry; False when it was dropped because too much waits already."""
        rows = len(entry.ids) if isinstance(entry, Batch) else 1
        if self.waiting > LIMIT:
            self.lost += rows
            return False
        data = frame(entry)
        self._taken += len(data)
        self._rows += rows
        self._fresh.append(data)
        return True

    @abstractmethod
    def commit(self, then: Then) -> None:
        """Call `then` when what was added so far is as safe as the level promises, or is not."""

    @abstractmethod
    def flush(self) -> None:
        """Send what was added on its way; called every few milliseconds."""

    @abstractmethod
    def expire(self, before: float) -> None:
        """Tell those who have waited since `before` (`perf_counter` seconds) that it was not confirmed."""

    @abstractmethod
    def close(self) -> None:
        """Write everything, and sync it to the disk."""


class MemorySink(Sink):
    """`memory`: an acknowledged prediction is in memory. It reaches the file at the next flush, by a
    thread; a killed process loses that much at most, a disk that refuses nothing before `LIMIT`."""

    durability = "memory"

    def __init__(self, folder: Path, gateway: str) -> None:
        super().__init__(folder, gateway)
        self._queue: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="sink", daemon=True)
        self._thread.start()

    def commit(self, then: Then) -> None:
        then(True)

    def flush(self) -> None:
        if self._fresh:
            self._queue.put(self._fresh)
            self._fresh = []

    def expire(self, before: float) -> None:
        return

    def close(self) -> None:
        self.flush()
        self._queue.put(None)
        self._thread.join(timeout=10.0)

    def _write(self) -> None:
        while (chunks := self._queue.get()) is not None:
            data = b"".join(chunks)
            while not self._segments.append(data):
                time.sleep(PATIENCE)
            self._written += len(data)
        self._segments.close()


class OsSink(Sink):
    """`os`: an acknowledged prediction is in the kernel's hands; a killed process loses none.

    When the disk refuses, answers go on and say ``"logged": false``; what they say is kept, up to
    `LIMIT`, and written when the disk takes it again.
    """

    durability = "os"

    def __init__(self, folder: Path, gateway: str) -> None:
        super().__init__(folder, gateway)
        self._again = 0.0

    def commit(self, then: Then) -> None:
        then(self._store())

    def flush(self) -> None:
        self._store()

    def expire(self, before: float) -> None:
        return

    def close(self) -> None:
        self._again = 0.0
        while self._fresh and not self._again:
            self._store()
        self._segments.close()

    def _store(self) -> bool:
        """Write what was added, a piece at most; whether nothing is left."""
        if not self._fresh:
            return True
        if self._again and time.monotonic() < self._again:
            return False
        count = size = 0
        for chunk in self._fresh:
            count, size = count + 1, size + len(chunk)
            if size >= PIECE:
                break
        if not self._segments.append(b"".join(self._fresh[:count])):
            self._again = time.monotonic() + PATIENCE
            return False
        del self._fresh[:count]
        self._written += size
        self._again = 0.0
        return not self._fresh


class _Group:
    """What one commit waits for: its frames, how many rows they hold, and who is to be told."""

    __slots__ = ("chunks", "rows", "since", "then")

    def __init__(self, chunks: list[bytes], rows: int, then: Then | None) -> None:
        self.chunks, self.rows, self.then = chunks, rows, then
        self.since = time.perf_counter()

    def tell(self, logged: bool) -> None:
        """Once; later words are not passed on."""
        then, self.then = self.then, None
        if then is not None:
            then(logged)


class FsyncSink(Sink):
    """`fsync`: an acknowledged prediction is on the disk and survives a power cut.

    A thread writes and syncs; what arrives meanwhile is the next group. What the disk refuses is
    dropped, counted, and answered by 503, so that the log holds exactly what was acknowledged.
    """

    durability = "fsync"

    def __init__(self, folder: Path, gateway: str, post: Post) -> None:
        super().__init__(folder, gateway)
        self._post = post
        self._waiters: deque[_Group] = deque()
        self._queue: SimpleQueue[_Group | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="sink", daemon=True)
        self._thread.start()

    def commit(self, then: Then) -> None:
        group = self._hand(then)
        self._waiters.append(group)

    def flush(self) -> None:
        if self._fresh:
            self._hand(None)

    def expire(self, before: float) -> None:
        waiters = self._waiters
        while waiters and (waiters[0].then is None or waiters[0].since <= before):
            waiters.popleft().tell(False)

    def close(self) -> None:
        self.flush()
        self._queue.put(None)
        self._thread.join(timeout=10.0)

    def _hand(self, then: Then | None) -> _Group:
        group = _Group(self._fresh, self._rows, then)
        self._fresh, self._rows = [], 0
        self._queue.put(group)
        return group

    def _write(self) -> None:
        again, more = 0.0, True
        while more:
            groups = [self._queue.get()]
            while not self._queue.empty():
                groups.append(self._queue.get())
            more = None not in groups
            found = [g for g in groups if g is not None]
            data = b"".join([c for g in found for c in g.chunks])
            safe = time.monotonic() >= again and self._store(data)
            if not safe:
                again = again if time.monotonic() < again else time.monotonic() + PATIENCE
            if found:
                self._post(partial(self._stored, found, len(data), safe))
        self._segments.close()

    def _store(self, data: bytes) -> bool:
        return not data or (self._segments.append(data) and self._segments.sync())

    def _stored(self, groups: list[_Group], size: int, safe: bool) -> None:
        """Back in the event loop: the callers may be answered."""
        self._written += size
        for group in groups:
            self.lost += 0 if safe else group.rows
            group.tell(safe)
        while self._waiters and self._waiters[0].then is None:
            self._waiters.popleft()


def open_sink(folder: Path, gateway: str, durability: Durability, post: Post) -> Sink:
    """The sink of a level; `post` brings calls of its thread back into the event loop."""
    match durability:
        case "memory":
            return MemorySink(folder, gateway)
        case "os":
            return OsSink(folder, gateway)
        case "fsync":
            return FsyncSink(folder, gateway, post)
