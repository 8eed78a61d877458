"""Warm parents: a process that loads once, forks the worker that serves, and forks again when it dies."""

import gc
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Protocol

__all__ = ["HAND_OVER", "Care", "keep"]

HAND_OVER = signal.SIGUSR1
"""Tells a worker that another one took its place: it says so to those it serves, and leaves after them."""
GRACE = 15.0
"""Seconds a worker may take to finish."""
YOUNG = 0.1
"""A worker that dies younger than this (seconds) counts as failing at its start."""
PATIENCE = 3
"""Failing starts in a row before there is a pause; it doubles up to the longest one. A fork costs
3 ms, so even a worker that always dies is no burden."""
LONGEST = 0.25
WILD = 4.0
GLANCE = 0.05
"""Seconds between two looks at a worker that somebody cares for."""


class Care(Protocol):
    """What a parent looks after in one worker."""

    def left(self) -> float:
        """Seconds until the worker counts as hung; then it is killed."""

    def growth(self, pid: int) -> float:
        """By how much it grew, as a share of what it may: above 1 a fresh worker takes its place,
        above `WILD` it is killed."""


def keep(work: Callable[[int], int], care: Callable[[int], Care] | None = None) -> int:
    """Fork workers, one at a time, until told to stop (SIGTERM, or the end of standard input).

    `work(lifeline)` runs in the child and returns its exit status; `lifeline` is a descriptor that
    ends when this process dies. `care(niceness)` is called before each fork. A number on standard input is
    the niceness that workers are to have. Must run in a process with no threads of its own that
    hold locks. Returns 0.
    """
    return _Parent(work, care).run()


class _Child:
    """One worker. `line`: its lifeline; `left_at`: when it was told to hand over, or None."""

    def __init__(self, pid: int, line: int, care: Care | None, nice: int) -> None:
        self.pid, self.line, self.care, self.nice = pid, line, care, nice
        self.born = time.monotonic()
        self.left_at: float | None = None
        self.growth = 0.0

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def over(self) -> bool:
        """Whether it is dead; then it is buried, too."""
        if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            return False
        os.close(self.line)
        return True

    def unbearable(self, now: float) -> bool:
        """Whether it hangs, devours memory, or does not leave."""
        if self.care is not None:
            self.growth = self.care.growth(self.pid)
            if self.care.left() <= 0 or self.growth > WILD:
                return True
        return self.left_at is not None and now - self.left_at > GRACE


class _Parent:
    def __init__(self, work: Callable[[int], int], care: Callable[[int], Care] | None) -> None:
        self.work, self.care = work, care
        self.wake, waker = os.pipe()
        for end in (self.wake, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._noted)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # A worker inherits this, so that no word reaches it before it listens.
        signal.pthread_sigmask(signal.SIG_BLOCK, {HAND_OVER})
        self.told = False
        self.child: _Child | None = None
        self.former: _Child | None = None
        self.failures = self.nice = 0
        gc.collect()
        # The heap is shared with every worker: a collection must not touch, and so copy, it.
        gc.freeze()

    def _noted(self, number: int, _: object) -> None:
        self.told = self.told or number == signal.SIGTERM

    def run(self) -> int:
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        poll.register(0, select.POLLIN)
        while not self.told:
            for fd, _ in poll.poll(self._glance()):
                self._drain(fd)
            self._look()
            self._reap()
            if self.child is None:
                self._fork()
        self._stop()
        return 0

    def _glance(self) -> int | None:
        """Milliseconds until the next look; None: until something happens."""
        if self.child is None:
            return 0
        cares = [c.care for c in (self.child, self.former) if c is not None and c.care is not None]
        left = min([GLANCE, *(c.left() for c in cares)])
        return 1 + int(max(0.0, left) * 1000) if cares else None

    def _drain(self, fd: int) -> None:
        """Swallow wake-up bytes; the end of standard input means that the supervisor is gone."""
        try:
            data = os.read(fd, 4096)
        except BlockingIOError:
            return
        if fd == 0:
            self.told = self.told or not data
            self.nice = int(data.split()[-1]) if data.strip() else self.nice

    def _look(self) -> None:
        """Kill what hangs, and let a fresh worker take over from one that is spent."""
        now = time.monotonic()
        for child in (self.child, self.former):
            if child is not None and child.unbearable(now):
                child.signal(signal.SIGKILL)
        child = self.child
        if child is None or self.former is not None or now - child.born < YOUNG:
            return
        self.failures = 0
        if child.nice != self.nice or child.growth > 1:
            self._fork()
            self.former = child
            child.left_at = now
            child.signal(HAND_OVER)

    def _fork(self) -> None:
        if self.failures >= PATIENCE:
            pause = min(LONGEST, 0.01 * 2 ** min(self.failures - PATIENCE, 10))
            if select.select([self.wake], [], [], pause)[0]:
                return
        sys.stdout.flush()
        sys.stderr.flush()
        care = self.care(self.nice) if self.care is not None else None
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(theirs)
            self._become_worker(ours)
        os.close(ours)
        self.child = _Child(pid, theirs, care, self.nice)

    def _become_worker(self, lifeline: int) -> None:
        """In the child: forget the parent's signals, work, leave without the parent's cleanup."""
        status = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.nice(self.nice)
            status = self.work(lifeline)
        except BaseException:  # noqa: BLE001 - nothing may climb into the parent's stack
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        if self.former is not None and self.former.over():
            self.former = None
        if self.child is not None and self.child.over():
            young = time.monotonic() - self.child.born < YOUNG
            self.failures = self.failures + 1 if young else 0
            self.child = None

    def _stop(self) -> None:
        """Ask the workers to end, then make them."""
        for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            for child in (self.child, self.former):
                if child is not None:
                    child.signal(number)
            end = time.monotonic() + seconds
            while (self.child or self.former) and time.monotonic() < end:
                select.select([self.wake], [], [], 0.05)
                self._drain(self.wake)
                self._reap()
