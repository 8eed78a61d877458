"""R27: the online feature store is slow, or does not answer at all."""

import json
import math
import time
from pathlib import Path

import pytest

from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.core.encoding import Encoding, Flag, Number
from fairlead.core.feature import FeatureView
from tests.faults.bar import Bar, twin
from tests.faults.caller import BODY, Calls, percentile
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
RATE, DEADLINE = 100, 1000
VIEW = FeatureView(name="weather", source="w", entity="origin", time="hour", columns=("temp",))


def start(plant: Ground, delay: Path) -> None:
    with SqliteOnline(plant.state / "online.db") as store:
        store.push(VIEW, [{"origin": "JFK", "hour": 900.0, "temp": 1.0}])
        encoding = Encoding((Number("distance"), Number("weather.temp"), Number("hour"), Flag("late")))
        plant.publish(plant.package(encoding=encoding, views=(VIEW,)))
    delay.write_text("0")
    plant.start(env={"FAIRLEAD_TEST_OPERATIONS": str(delay)}, deadline_ms=DEADLINE)


@pytest.mark.parametrize("bug", ["tests.faults.bugs.slow_store", twin("tests.faults.bugs.slow_store_waited_for")])
@pytest.mark.parametrize("seconds", [0.1, 5.0])
def test_r27_a_slow_feature_store(plant: Ground, bar: Bar, bug: str, seconds: float, tmp_path: Path) -> None:
    delay = tmp_path / "delay"
    start(plant, delay)
    row = BODY | {"distance": 0.0, "hour": 0, "late": False, "origin": "JFK"}
    calls = Calls(plant.port, (RATE, 13.0), bodies=[row], connections=64)
    begin = time.monotonic()
    plant.wait(lambda: time.monotonic() > begin + 2)
    delay.write_text(str(seconds))
    plant.wait(lambda: time.monotonic() > begin + 5)
    delay.write_text("0")
    answers = calls.answers()
    bar("failed while the feature store was slow", sum(a.status != 200 for a in answers), "= 0")
    slow = [a for a in answers if begin + 2.2 < a.due < begin + 5]
    bar("p99 then", percentile([a.seconds for a in slow], 0.99) * 1000, "<= 100 ms")
    flagged = [a for a in slow if json.loads(a.body).get("features") is False]
    bar("answers without features, and flagged", 100 * len(flagged) / len(slow), ">= 99 %")
    # With its feature the score is sigmoid(1), without it sigmoid(0): no answer says otherwise.
    for a in answers:
        body = json.loads(a.body)
        assert body["score"] == pytest.approx(1 / (1 + math.exp(-body.get("features", True))))
    plant.stop()
    missing = {r["id"] for r in plant.rows() if r["features"] == {}}
    bar("not flagged alike in answer and log", len(missing ^ {a.id for a in answers if b'"features":false' in a.body}), "= 0")
    late = [a for a in answers if a.due > begin + 5 + seconds + 2.5]
    bar("without features 2.5 s after the last slow read", sum(b'"features":false' in a.body for a in late), "= 0")
