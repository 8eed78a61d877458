import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.adapters.fleet import local
from fairlead.adapters.fleet.local import LocalFleet
from fairlead.core.ref import Ref

A, B = (Ref("package", n, n * 64) for n in "ab")
REPLICA = """
import os, signal, sys
from pathlib import Path
mark = Path(sys.argv[2]); mark.write_text(str(os.getpid()))
if Path(sys.argv[1]).name.startswith("b") and Path("stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.read()
    signal.pause()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for line in sys.stdin:
    mark.write_text(line)
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalFleet]:
    monkeypatch.setattr(local, "LINGER", 0.2)
    monkeypatch.setattr(local, "GRACE", 0.3)
    monkeypatch.setattr(local, "FIRST_PAUSE", 0.05)
    made = LocalFleet(tmp_path, tmp_path, lambda p, s: [sys.executable, "-c", REPLICA, str(p), s],
                      lambda d, i: f"{d[:4]}-{i}", dict(os.environ))  # fmt: skip
    yield made
    made.stop()


def reconciled(fleet: LocalFleet, wanted: dict[Ref, int], done: Callable[[dict[Ref, int]], bool]) -> None:
    end = time.monotonic() + 8
    while not done(fleet.reconcile(wanted)):
        assert time.monotonic() < end
        time.sleep(0.01)


def replaced(fleet: LocalFleet, pid: int) -> None:
    reconciled(fleet, {A: 1}, lambda _: fleet.pids().get(A, [pid]) != [pid])


def test_moves_to_what_is_wanted(fleet: LocalFleet, tmp_path: Path) -> None:
    reconciled(fleet, {A: 2, B: 1}, lambda r: r == {A: 2, B: 1} and (tmp_path / "bbbb-0").exists())
    before = fleet.pids()
    assert fleet.reconcile({A: 2, B: 1}) == {A: 2, B: 1} and fleet.pids() == before
    # No longer wanted: it lingers for what is on its way, and wanted again it never left.
    fleet.reconcile({A: 2})
    assert fleet.pids() == before
    fleet.reconcile({A: 2, B: 1})
    time.sleep(0.25)
    assert fleet.reconcile({A: 2, B: 1}) == {A: 2, B: 1} and fleet.pids() == before
    reconciled(fleet, {A: 1}, lambda r: r == {A: 1})
    assert fleet.pids()[A] == before[A][:1]


def test_a_shadow_is_told_to_yield(fleet: LocalFleet, tmp_path: Path) -> None:
    mark = tmp_path / "aaaa-0"

    def told(shadows: set[Ref], word: str) -> None:
        end = time.monotonic() + 8
        while not mark.exists() or mark.read_text() != word:
            fleet.reconcile({A: 1}, shadows)
            assert time.monotonic() < end
            time.sleep(0.01)

    told({A}, "10\n")
    told(set(), "0\n")
    (pid,) = fleet.pids()[A]
    os.kill(pid, signal.SIGKILL)
    replaced(fleet, pid)
    told({A}, "10\n")


def test_the_dead_are_replaced_ever_slower(fleet: LocalFleet) -> None:
    fleet.reconcile({A: 1})
    started = time.monotonic()
    for _ in range(4):
        (pid,) = fleet.pids()[A]
        os.kill(pid, signal.SIGKILL)
        replaced(fleet, pid)
    assert 0.05 + 0.1 + 0.2 + 0.4 <= time.monotonic() - started < 5


def test_who_does_not_listen_is_killed(fleet: LocalFleet, tmp_path: Path) -> None:
    (tmp_path / "stubborn").touch()
    reconciled(fleet, {B: 1}, lambda _: (tmp_path / "bbbb-0").exists())
    reconciled(fleet, {}, lambda r: r == {})
    reconciled(fleet, {B: 1}, lambda r: r == {B: 1})
    fleet.stop()
    assert fleet.pids() == {}
