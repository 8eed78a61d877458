import os
from collections.abc import Sequence
from itertools import chain
from statistics import median

import pytest

from fairlead.core.traffic import Arm
from tests.faults.bar import Bar, twin
from tests.faults.caller import Answer, Calls, percentile
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
BUGS = "tests.faults.bugs_replica"
PATHOLOGIES = ("slow", "hung", "mayfly", "glutton")
RATE, WINDOW = 200, 3.0


def window(zoo: Ground) -> list[Answer]:
    return Calls(zoo.port, (RATE, WINDOW), connections=64).answers()


def quantiles(windows: Sequence[list[Answer]], share: float) -> list[float]:
    """Milliseconds, of each window."""
    return [1000 * percentile([a.seconds for a in w], share) for w in windows]


def settled(zoo: Ground) -> bool:
    """Whether no mirrored row waits for its end."""
    return zoo.counted("fairlead_queue_rows") + zoo.counted("fairlead_in_flight_rows") == 0


@pytest.mark.parametrize("bug", ["", twin(f"{BUGS}.silent_drop"), twin(f"{BUGS}.equal_rank")])
def test_r8_a_sick_shadow(zoo: Ground, bar: Bar, bug: str) -> None:
    base = zoo.package()
    sick = {name: zoo.package(name=name, threshold=0.4) for name in PATHOLOGIES}
    zoo.publish(base)
    zoo.start(deadline_ms=500, shadow_queue=64, replica_memory_mb=64)
    without, beside, ranks, mirrored, total = [], [], list[int](), 0.0, 0
    for name in PATHOLOGIES[:2] if bug else PATHOLOGIES:
        zoo.publish(base)
        zoo.wait(lambda: len(zoo.status()["arms"]) == 1)
        without.append(window(zoo))
        zoo.publish(Arm(base, 1.0), Arm(sick[name], 0.0, mirror=1.0))
        package = str(sick[name])
        zoo.wait(lambda: zoo.status()["arms"][-1]["mirror"] == 1.0)
        ranks.append(os.getpriority(os.PRIO_PROCESS, zoo.known(package, "replicas")[0]))
        beside.append(window(zoo))
        total += len(beside[-1])
        zoo.wait(lambda: settled(zoo))
        mirrored += zoo.counted("fairlead_predictions_total", package, 'live="false"')
        mirrored += zoo.counted("fairlead_mirror_dropped_total", package)
    bad = sum(a.status != 200 or b"fallback" in a.body for a in chain(*without, *beside))
    bar(f"callers of {total:,} who noticed", bad, "= 0")
    bar("mirrored and dropped rows without a count", abs(int(total - mirrored)), "= 0")
    bar("niceness of the shadow", min(ranks), ">= 10")
    for share, goal in ((0.5, "<= 0.5 ms"), (0.99, "<= 5 ms")):
        alone, shift = quantiles(without, share), quantiles(beside, share)
        more = median(b - a for a, b in zip(alone, shift, strict=True))
        bar(f"p{100 * share:.0f} more beside a sick shadow (without {median(alone):.2f} ms)", more, goal)
