"""R1, R13: gateways killed under load: who is hurt, how soon it is over, and what the log still holds."""

import os
import signal
import time

import pytest

from tests.faults.bar import Bar, twin
from tests.faults.caller import BODY, Calls
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
RATE, RETRIED, EVERY = 300, 80, 3.0


def kill(plant: Ground, kills: int) -> float:
    """Kill one of two gateways by turns; the longest time until a new one answered (seconds)."""
    begin, longest, known = time.monotonic(), 0.0, set[str]()
    for i in range(kills):
        pids = plant.wait(lambda: len(p := plant.served["gateways"]) == 2 and p)
        while time.monotonic() < begin + (i + 0.5) * EVERY:
            known.add(fresh(plant))
        os.kill(pids[i % 2], signal.SIGKILL)
        killed = time.monotonic()
        plant.wait(lambda: fresh(plant) not in known)
        longest = max(longest, time.monotonic() - killed)
        plant.wait(lambda p=pids[i % 2]: p not in plant.served["gateways"])  # type: ignore[misc]
    return longest


def fresh(plant: Ground) -> str:
    """Which gateway answers a new connection; "" when it broke."""
    time.sleep(0.002)
    plant.hang_up()
    try:
        return str(plant.ask(BODY)[1]["id"][10:14])
    except OSError:
        return ""


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.cold_gateway")])
def test_r1_a_gateway_killed_under_load(plant: Ground, bar: Bar, bug: str) -> None:
    kills = 2 if bug else 10
    plant.publish(plant.package())
    plant.start(gateways=2)
    once = Calls(plant.port, (RATE, kills * EVERY))
    retried = Calls(plant.port, (RETRIED, kills * EVERY), retry=True)
    back = kill(plant, kills)
    first, second = once.answers(), retried.answers()
    bar("longest until a new gateway answers", back * 1000, "<= 200 ms")
    failed = sum(a.status != 200 for a in first)
    bar(f"answered of {len(first):,} without a retry", 100 * (1 - failed / len(first)), ">= 99.9 %")
    bar(f"failed of {len(second):,} with one retry", sum(a.status != 200 for a in second), "= 0")


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.early_word")])
def test_r13_sixty_kills_at_os(plant: Ground, bar: Bar, bug: str) -> None:
    kills = 15 if bug else 60
    plant.publish(plant.package())
    plant.start(durability="os")
    calls = Calls(plant.port, (400, kills * 0.4), retry=True)
    for _ in range(kills):
        pid = plant.served["gateways"][0]
        end = time.monotonic() + 0.25
        plant.wait(lambda end=end: time.monotonic() > end)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        plant.wait(lambda pid=pid: plant.served["gateways"][0] != pid)  # type: ignore[misc]
    told = {a.id for a in calls.answers() if a.status == 200}
    os.kill(plant.served["gateways"][0], signal.SIGKILL)
    kept = [r["id"] for r in plant.rows()]
    bar(f"predictions lost of {len(told):,} acknowledged at `os` over {kills} kills",
        len(told - set(kept)), "= 0")  # fmt: skip
    bar("predictions twice in the log", len(kept) - len(set(kept)), "= 0")
