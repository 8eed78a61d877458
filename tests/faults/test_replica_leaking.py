import contextlib
import time
from pathlib import Path

import pytest

from fairlead.core.traffic import Arm
from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls
from tests.faults.conftest import Ground

BUGS = "tests.faults.bugs_replica"
MB = 2**20


def resident(pid: int) -> float:
    """MB of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MB


def replicas(plant: Ground, package: object) -> list[int]:
    found: list[int] = plant.status()["packages"][str(package)]["replicas"]
    return found


def test_r5_a_fresh_replica_takes_over(zoo: Ground, bar: Bar) -> None:
    leaker = zoo.package(name="leaker")
    zoo.publish(leaker)
    zoo.start(replica_memory_mb=8)
    row, first = {"distance": 0.5, "carrier": "UA", "hour": 7, "late": False}, replicas(zoo, leaker)
    statuses = {zoo.ask(row)[0] for _ in range(200)}
    zoo.wait(lambda: zoo.ask(row)[0] == 200 and replicas(zoo, leaker) not in (first, []))
    assert statuses == {200}


@pytest.mark.faults
@pytest.mark.parametrize("bug", ["", twin(f"{BUGS}.stop_first")])
def test_r5_a_leaking_model_is_replaced(zoo: Ground, bar: Bar) -> None:
    base, leaker = zoo.package(), zoo.package(name="leaker", threshold=0.4)
    zoo.publish(base, standby=(leaker,))
    zoo.start(replica_memory_mb=32)
    zoo.wait(lambda: all(p["state"] == "ready" for p in zoo.status()["packages"].values()))
    # A candidate's rows do not wait for a replica: the least gap would send them to the baseline.
    zoo.publish(Arm(base, 0.0), Arm(leaker, 1.0))
    zoo.wait(lambda: len(zoo.status()["arms"]) == 2)
    calls, met, most = Calls(zoo.port, (300, 12.0), connections=64), set[int](), 0.0
    first = resident(replicas(zoo, leaker)[0])
    end = time.monotonic() + 12
    while time.monotonic() < end:
        for pid in replicas(zoo, leaker):
            met.add(pid)
            with contextlib.suppress(OSError):
                most = max(most, resident(pid) - first)
        time.sleep(0.02)
    answers = calls.answers()
    bar(f"failed requests of {len(answers):,}", sum(a.status != 200 for a in answers), "= 0")
    bar("answers of the baseline in its place", sum(b"fallback" in a.body for a in answers), "= 0")
    bar("replicas in 12 s at 100 kB a call and 32 MB", len(met), ">= 5")
    bar("most that one of them grew", most, "<= 96 MB")


@pytest.mark.faults
@pytest.mark.parametrize("bug", ["", twin(f"{BUGS}.hoarder")])
def test_r5_the_gateway_does_not_grow(zoo: Ground, bar: Bar, bug: str) -> None:
    zoo.publish(zoo.package())
    zoo.start()
    gateway = zoo.served["gateways"][0]
    row = {"distance": 0.5, "carrier": "UA", "hour": 7, "late": False}
    many, rounds = {"rows": [row] * 500}, 40 if bug else 400
    for _ in range(rounds // 4):
        zoo.raw(many)
    before = resident(gateway)
    for _ in range(rounds):
        assert zoo.raw(many)[0] == 200
    grown = resident(gateway) - before
    bar(f"growth of the gateway over {500 * rounds:,} rows", grown, "<= 10 MB")


@pytest.mark.faults
def test_r5_loading_and_unloading(zoo: Ground, bar: Bar) -> None:
    base = zoo.package()
    zoo.publish(base)
    zoo.start()
    assert zoo.process is not None
    family = zoo.served["gateways"][0], zoo.process.pid
    before = 0.0
    for i in range(20):
        ref = zoo.package(threshold=0.01 * (i + 1))
        zoo.publish(Arm(base, 1.0), Arm(ref, 0.0, mirror=1.0))
        zoo.known(ref, "replicas")
        assert zoo.ask({"distance": 0.5, "carrier": "UA", "hour": 7, "late": False})[0] == 200
        if i == 4:
            before = sum(map(resident, family))
    zoo.publish(base)
    zoo.wait(lambda: len(zoo.status()["packages"]) == 1)
    grown = sum(map(resident, family)) - before
    bar("growth of gateway and supervisor over 15 packages loaded and left", grown, "<= 2 MB")
