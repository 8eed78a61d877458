"""R19: two thousand connections that are slow on purpose, beside callers that are not."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls, percentile
from tests.faults.conftest import ROOT, Ground
from tests.faults.test_requests import resident

pytestmark = pytest.mark.faults
QUIET = 3.0
"""Load average below which a ratio of tail latencies says something about the gateway."""
COUNT, CALM, ATTACK, RATE, OURS = 2000, 6.0, 20.0, 150, 17
"""OURS: connections of the good callers and of the one who asks how many there are."""


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.no_sweep")])
def test_r19_slow_connections(plant: Ground, bar: Bar, bug: str) -> None:
    plant.publish(plant.package())
    plant.start()
    pid = plant.served["gateways"][0]
    calls = Calls(plant.port, (RATE, 2 * CALM + ATTACK))
    begin = time.monotonic()
    plant.wait(lambda: time.monotonic() > begin + CALM)
    before = most = resident(pid)
    command = [sys.executable, "-m", "tests.faults.attacker", str(plant.port), str(COUNT), str(ATTACK + 2)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as attacker:
        while time.monotonic() < begin + CALM + ATTACK:
            most = max(most, resident(pid))
            time.sleep(0.05)
        left = max(0, int(plant.counted("fairlead_connections")) - OURS)
        assert attacker.stdout is not None
        told = json.loads(attacker.stdout.read())
    answers = calls.answers()
    bar(f"of {COUNT:,} slow connections still open after {ATTACK:.0f} s", left, "= 0")
    # A slow reader cannot tell when it was cut off: it still reads what it had.
    lives = [k["longest"] for name, k in told.items() if name != "slow reader"]
    bar("longest life of one", max(lives), "<= 10 s")
    bar("memory of the gateway beside them", most - before, "<= 100 MB")
    bar("good requests that failed", sum(a.status != 200 for a in answers), "= 0")
    calm = [a.seconds for a in answers if not begin + CALM < a.due < begin + CALM + ATTACK]
    # The first second is the attacker's own work: it opens its connections on the same two cores.
    harmed = [a.seconds for a in answers if begin + CALM + 1 < a.due < begin + CALM + ATTACK]
    ratio = percentile(harmed, 0.99) / percentile(calm, 0.99)
    if os.getloadavg()[0] < QUIET:
        bar("p99 of the good beside them, against without", ratio, "<= 1.2 x")
