"""Warm parents: a process that loads once, forks the worker that serves, and forks again when it dies."""

import gc
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable

__all__ = ["keep"]

GRACE = 15.0
"""Seconds a worker may take to finish after SIGTERM."""
YOUNG = 0.1
"""A worker that dies younger than this (seconds) counts as failing at its start."""
PATIENCE = 3
"""Failing starts in a row before there is a pause; it doubles up to the longest one. A fork costs
3 ms, so even a worker that always dies is no burden."""
LONGEST = 0.25
GLANCE = 0.05
"""Seconds between two looks at whether the worker hangs."""


def keep(work: Callable[[int], int], overdue: Callable[[], bool] | None = None) -> int:
    """Fork workers, one at a time, until told to stop (SIGTERM, or the end of standard input).

    `work(lifeline)` runs in the child and returns its exit status; `lifeline` is a descriptor that
    ends when this process dies. `overdue()` says that the worker hangs: it is killed. Must run in a
    process with no threads of its own that hold locks. Returns 0.
    """
    return _Parent(work, overdue).run()


class _Parent:
    def __init__(self, work: Callable[[int], int], overdue: Callable[[], bool] | None) -> None:
        self.work, self.overdue = work, overdue
        self.wake, waker = os.pipe()
        for end in (self.wake, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, self._noted)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.told = False
        self.child = self.line = self.failures = 0
        self.born = 0.0
        gc.collect()
        # The heap is shared with every worker: a collection must not touch, and so copy, it.
        gc.freeze()

    def _noted(self, number: int, _: object) -> None:
        self.told = self.told or number == signal.SIGTERM

    def run(self) -> int:
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        poll.register(0, select.POLLIN)
        glance = int(GLANCE * 1000) if self.overdue else None
        while not self.told:
            if not self.child:
                self._fork()
            for fd, _ in poll.poll(glance):
                self._drain(fd)
            if self.child and self.overdue and self.overdue():
                os.kill(self.child, signal.SIGKILL)
            self._reap()
        self._stop()
        return 0

    def _drain(self, fd: int) -> None:
        """Swallow wake-up bytes; the end of standard input means that the supervisor is gone."""
        try:
            if not os.read(fd, 4096) and fd == 0:
                self.told = True
        except BlockingIOError:
            return

    def _fork(self) -> None:
        if self.failures >= PATIENCE:
            pause = min(LONGEST, 0.01 * 2 ** min(self.failures - PATIENCE, 10))
            if select.select([self.wake], [], [], pause)[0]:
                return
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = os.pipe()
        self.child = os.fork()
        if not self.child:
            os.close(theirs)
            self._become_worker(ours)
        os.close(ours)
        self.line, self.born = theirs, time.monotonic()

    def _become_worker(self, lifeline: int) -> None:
        """In the child: forget the parent's signals, work, leave without the parent's cleanup."""
        status = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            status = self.work(lifeline)
        except BaseException:  # noqa: BLE001 - nothing may climb into the parent's stack
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        if not self.child or os.waitpid(self.child, os.WNOHANG)[0] == 0:
            return
        os.close(self.line)
        young = time.monotonic() - self.born < YOUNG
        self.failures = self.failures + 1 if young else 0
        self.child = 0

    def _stop(self) -> None:
        if not self.child:
            return
        os.kill(self.child, signal.SIGTERM)
        end = time.monotonic() + GRACE
        while self.child and time.monotonic() < end:
            select.select([self.wake], [], [], 0.05)
            self._drain(self.wake)
            self._reap()
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
