"""Access: what became of every request, counted by package, arm and code, and written down if wanted."""

import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter

import msgspec
from msgspec import Struct

from fairlead.core.trace import parent_of, trace_of
from fairlead.ports import Clock
from fairlead.serve.batch import Ask
from fairlead.serve.metrics import Counter, Metrics
from fairlead.serve.reader import Reader
from fairlead.serve.refusal import Refusal
from fairlead.serve.tracer import Asked, Share, Tracer

__all__ = ["Access", "AccessLog", "Seen"]

ROTATE = 64 * 2**20
"""Bytes after which the log is moved to access.jsonl.1, over the one before."""
WAITING = 8 * 2**20
"""Bytes that may wait for the disk; what comes after that is dropped, and counted."""
NOBODY, SEVERAL = "", "several"


class Seen(Struct, frozen=True, omit_defaults=True):
    """One line of the log. `at`: UTC seconds; `ms`: from the end of the request to its answer;
    `bytes`: of the answer; `error`: the code of the refusal."""

    at: float
    id: str
    path: str
    code: int
    package: str
    arm: str
    rows: int
    ms: float
    bytes: int
    trace: str
    error: str = ""


class Access:
    """Hears of every request once it is answered or refused. `log` and `tracer`: None when off."""

    def __init__(
        self, metrics: Metrics, clock: Clock, log: "AccessLog | None", tracer: Tracer | None
    ) -> None:
        self._metrics, self._clock, self._log, self._tracer = metrics, clock, log, tracer
        self._cells: dict[tuple[Reader | None, str], Counter] = {}

    def answered(self, asked: Asked, asks: Sequence[Ask], baseline: Reader | None) -> None:
        """A prediction, as `asks` say; `baseline` is of the package that everybody falls back to."""
        first = asks[0]
        reader, arm = first.reader, _arm(first, baseline)
        if len(asks) > 1 and any(a.reader is not reader or a.fallback != first.fallback for a in asks):
            reader, arm = None, SEVERAL
        cell = self._cells.get((reader, arm))
        if cell is None:
            cell = self._cell(reader.name if reader else arm, arm, 200)
            self._cells[reader, arm] = cell
        cell.n += 1
        if self._tracer is not None:
            self._tracer.answered(asked, asks, arm)
        if self._log is not None and self._log.share.yes():
            ms = round((perf_counter() - first.started) * 1000, 3)
            self._log.add(Seen(first.at, first.id, _path(asked), 200, reader.name if reader else arm, arm,
                               len(asks), ms, asked.size, first.trace or trace_of(first.id)))  # fmt: skip

    def flush(self) -> None:
        """Send fresh lines on their way to the disk; called every few milliseconds."""
        if self._log is not None:
            self._log.flush()

    def close(self) -> None:
        """Write and send what is left."""
        if self._log is not None:
            self._log.close()
        if self._tracer is not None:
            self._tracer.close()

    def refused(self, asked: Asked, refusal: Refusal) -> None:
        """An error body was sent, by whoever found the fault."""
        self._cell(NOBODY, NOBODY, refusal.status).n += 1
        at = self._clock.now()
        if self._tracer is not None:
            self._tracer.refused(asked, refusal, at)
        if self._log is not None:
            parent = parent_of(asked.head.trace) if asked.head else None
            self._log.add(Seen(at, asked.id, _path(asked), refusal.status, NOBODY, NOBODY, 0, 0.0, asked.size,
                               parent.trace if parent else trace_of(asked.id), refusal.code))  # fmt: skip

    def _cell(self, package: str, arm: str, code: int) -> Counter:
        return self._metrics.counter(
            "fairlead_requests_total", "Predictions by who answered, and all refused requests.",
            package=package, arm=arm, code=str(code))  # fmt: skip


def _arm(ask: Ask, baseline: Reader | None) -> str:
    if ask.reader is None:
        return "static"
    if ask.fallback:
        return "fallback"
    return "baseline" if ask.reader is baseline else "candidate"


def _path(asked: Asked) -> str:
    return asked.head.endpoint.path if asked.head is not None else ""


class AccessLog:
    """JSON lines in a file that all gateways of a service append to; a thread waits for the disk."""

    def __init__(self, path: Path, share: float, dropped: Counter) -> None:
        self.share = Share(share)
        self._path, self._dropped = path, dropped
        self._fresh: list[Seen] = []
        self._encode = msgspec.json.Encoder().encode_lines
        self._taken = self._written = 0
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._thread = threading.Thread(target=self._write, name="access log", daemon=True)
        self._thread.start()

    def add(self, seen: Seen) -> None:
        self._fresh.append(seen)

    def flush(self) -> None:
        """Called in the event loop."""
        if not self._fresh:
            return
        lines, self._fresh = self._fresh, []
        if self._taken - self._written > WAITING:
            self._dropped.n += len(lines)
            return
        data = self._encode(lines)
        self._taken += len(data)
        self._queue.put(data)

    def close(self) -> None:
        """Write what is left, unless the disk hangs."""
        self.flush()
        self._queue.put(b"")
        self._thread.join(timeout=1.0)

    def _write(self) -> None:
        while data := self._queue.get():
            try:
                self._rotate()
                os.write(self._fd, data)
            except OSError:
                self._dropped.n += data.count(b"\n")
            self._written += len(data)

    def _rotate(self) -> None:
        """The first gateway that finds the file too long moves it; the others follow it."""
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            mine = os.fstat(self._fd)
            moved = not self._path.exists() or self._path.stat().st_ino != mine.st_ino
            if not moved and mine.st_size > ROTATE:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                moved = True
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        if moved:
            old, self._fd = self._fd, os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.close(old)
