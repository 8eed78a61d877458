import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls, percentile
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
RATE, KILLS, EVERY = 200, 100, 0.35


def greeted(path: Path) -> tuple[socket.socket, int]:
    """A connection to a replica, as a gateway has one, and who is at the other end."""
    while True:
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(10)
        with contextlib.suppress(OSError):
            line.connect(os.fspath(path))
            if hello := line.recv(65536):
                return line, int(hello.partition(b'"pid":')[2].partition(b",")[0])
        line.close()
        time.sleep(0.001)


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs_replica.cold_replica")])
def test_r2_a_hundred_killed_replicas(
    zoo: Ground, bar: Bar, bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.publish(zoo.package())
    zoo.start()
    monkeypatch.chdir(zoo.run)  # the path of a unix socket is short
    (path,) = Path().glob("*.sock")
    gateways, seen, back, killed = zoo.served["gateways"], [], [], []
    kills = 5 if bug else KILLS
    calls = Calls(zoo.port, (RATE, kills * EVERY + 1), connections=64, patience=3.0)
    for _ in range(kills):
        line, pid = greeted(path)
        os.kill(pid, signal.SIGKILL)
        at = time.monotonic()
        line.recv(1)
        seen.append(1000 * (time.monotonic() - at))
        line.close()
        killed.append(at)
        line, _ = greeted(path)
        back.append(1000 * (time.monotonic() - at))
        line.close()
        zoo.until(at + EVERY)
    answers = calls.answers()
    slow = [1000 * min((a.done for a in answers if a.due > k and a.status == 200), default=k + 9)
            - 1000 * k for k in killed]  # fmt: skip
    bar("a new worker greets, p99", percentile(back, 0.99), "<= 50 ms")
    bar("death seen by end of file, p99", percentile(seen, 0.99), "<= 10 ms")
    bar("next request answered, p99", percentile(slow, 0.99), "<= 50 ms")
    bar(f"failed requests of {len(answers):,}", sum(a.status != 200 for a in answers), "= 0")
    bar("gateways that died", len({*gateways} - {*zoo.served["gateways"]}), "= 0")
