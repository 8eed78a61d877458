"""The fleet as processes of this machine: one per replica, restarted when they die, let go with care."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path

from fairlead.core.ref import Ref

__all__ = ["LocalFleet"]

LINGER = 3.0
"""Seconds a replica that is no longer wanted stays up, for requests that are on their way to it."""
GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
YOUNG = 5.0
"""A process that dies younger than this (seconds), or before it had loaded, is followed after a pause
that doubles."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
SHADOW = 10
"""Niceness of a replica whose answers nobody sees."""


class LocalFleet:
    """The Fleet port over child processes; call `reconcile` often: it starts, restarts and stops.

    `command(package folder, socket name)` gives the arguments of a replica. Each child has the end
    of a pipe as standard input: it ends when this process does, and a line in it says how nice the
    replica is to be.
    """

    def __init__(
        self, packages: Path, run: Path, command: Callable[[Path, str], Sequence[str]],
        socket: Callable[[str, int], str], env: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._packages, self._run, self._command, self._socket = packages, run, command, socket
        self._env = dict(env)
        self._slots: dict[tuple[Ref, int], _Slot] = {}

    def reconcile(self, wanted: Mapping[Ref, int], shadows: Set[Ref] = frozenset()) -> dict[Ref, int]:
        """Move towards `wanted` replicas of each package; returns how many processes run now."""
        now = time.monotonic()
        places = {(ref, i) for ref, count in wanted.items() for i in range(count)}
        for place in sorted(places - self._slots.keys()):
            ref, i = place
            argv = self._command(self._packages / ref.digest, self._socket(ref.digest, i))
            self._slots[place] = _Slot(argv, self._run, self._env)
        for place, slot in list(self._slots.items()):
            slot.tend(now, place in places, SHADOW if place[0] in shadows else 0)
            if slot.gone:
                slot.bury(now)
                del self._slots[place]
                self._sweep(place)
        running: dict[Ref, int] = {}
        for (ref, _), slot in self._slots.items():
            running[ref] = running.get(ref, 0) + slot.running
        return running

    def pids(self) -> dict[Ref, list[int]]:
        """Process ids of the running replicas."""
        found: dict[Ref, list[int]] = {}
        for (ref, _), slot in self._slots.items():
            if slot.process is not None and slot.running:
                found.setdefault(ref, []).append(slot.process.pid)
        return found

    def stop(self) -> None:
        """End all of them, with SIGTERM first; returns when they are gone."""
        for slot in self._slots.values():
            slot.tell(signal.SIGTERM)
        end = time.monotonic() + GRACE
        for place, slot in self._slots.items():
            slot.wait(end)
            self._sweep(place)
        self._slots.clear()

    def _sweep(self, place: tuple[Ref, int]) -> None:
        """Remove what a replica leaves beside the others: it may not do so itself."""
        for left in self._run.glob(self._socket(place[0].digest, place[1]) + "*"):
            left.unlink(missing_ok=True)


class _Slot:
    """The place of one replica, whoever fills it."""

    def __init__(self, argv: Sequence[str], run: Path, env: Mapping[str, str]) -> None:
        self._argv, self._run, self._env = argv, run, env
        self.process: subprocess.Popen[bytes] | None = None
        self._born = self._next = 0.0
        self._failures = self._nice = 0
        self._unwanted: float | None = None
        self._told: float | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def gone(self) -> bool:
        """No longer wanted, and no longer there."""
        return self._unwanted is not None and not self.running

    def tend(self, now: float, wanted: bool, nice: int) -> None:
        if wanted:
            self._unwanted = None
            if not self.running:
                self._start(now)
            self._be(nice)
            return
        self._unwanted = now if self._unwanted is None else self._unwanted
        if self._told is None and now - self._unwanted >= LINGER:
            self._told = now
            self.tell(signal.SIGTERM)
        elif self._told is not None and now - self._told >= GRACE:
            self.tell(signal.SIGKILL)

    def _be(self, nice: int) -> None:
        """Say how nice the replica is to be, when that is news."""
        if nice == self._nice or self.process is None or self.process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"%d\n" % nice)
            self.process.stdin.flush()
            self._nice = nice

    def tell(self, number: signal.Signals) -> None:
        if self.process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def wait(self, end: float) -> None:
        """Until it is gone; from `end` (monotonic seconds) on by force."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.tell(signal.SIGKILL)
                self.process.wait()
            self.bury(time.monotonic())

    def _start(self, now: float) -> None:
        self.bury(now)
        if now < self._next:
            return
        self._born, self._told, self._nice = now, None, 0
        self.process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, cwd=self._run,
                                        env=self._env, start_new_session=True)  # fmt: skip

    def bury(self, now: float) -> None:
        """Take note of how it died: the quicker, the longer the pause before the next."""
        if self.process is None:
            return
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        failed = now - self._born < YOUNG or self.process.returncode == -signal.SIGALRM
        self.process = None
        self._failures = self._failures + 1 if failed else 0
        if self._failures:
            self._next = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 8))
