"""R22: restart after restart under load, by the door that `fairlead serve --restart` uses."""

import time

import pytest

from fairlead.dataplane import GatewayConfig, restart
from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
RATE, SECONDS, MOST = 500, 40.0, 60


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.naive_drain")])
def test_r22_restarts_under_load(plant: Ground, bar: Bar, bug: str) -> None:
    """Keep-alive connections, and as many that are opened for one request each."""
    seconds = 8.0 if bug else SECONDS
    plant.publish(plant.package())
    plant.start()
    kept = Calls(plant.port, (RATE, seconds), connections=16)
    fresh = Calls(plant.port, (RATE / 2, seconds), connections=64, close=True)
    end, count = time.monotonic() + seconds - 1.5, 0
    while time.monotonic() < end and count < MOST:
        restart(plant.root, GatewayConfig(service="m", deadline_ms=3000))
        count += 1
    first, second = kept.answers(), fresh.answers()
    bar("restarts under load", count, f">= {2 if bug else 10}")
    bar(f"failed of {len(first):,} over kept connections", sum(a.status != 200 for a in first), "= 0")
    bar(f"failed of {len(second):,} over new connections", sum(a.status != 200 for a in second), "= 0")
