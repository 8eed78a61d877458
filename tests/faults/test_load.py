"""R20, R26: more requests than can be answered, and callers that do not wait for the answer."""

import socket
import time
from pathlib import Path

import pytest

from tests.faults.bar import Bar, twin
from tests.faults.caller import BODY, Answer, Calls, percentile
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
COST, DEADLINE = 20, 1000
"""Milliseconds a row takes, and a request has."""
CAPACITY = 1000 / COST
MEASURE, CALM, SPIKE, AFTER = 4.0, 3.0, 6.0, 5.0


def start(plant: Ground, log: Path, deadline: float) -> None:
    plant.publish(plant.package())
    plant.start(env={"FAIRLEAD_TEST_OPERATIONS": str(log)}, deadline_ms=deadline)


def executed(log: Path) -> int:
    """Rows that the replica worked on."""
    return sum(map(int, log.read_text().split())) if log.exists() else 0


def rate(answers: list[Answer], since: float, until: float) -> float:
    """Answered requests a second, by the time of the answer."""
    return sum(a.status == 200 and since <= a.done < until for a in answers) / (until - since)


@pytest.mark.parametrize("bug", ["tests.faults.bugs.timed", twin("tests.faults.bugs.timed_patient_queue"),
                                 twin("tests.faults.bugs.timed_no_hint")])  # fmt: skip
def test_r20_ten_times_the_load(plant: Ground, bar: Bar, bug: str, tmp_path: Path) -> None:
    log = tmp_path / "executed"
    start(plant, log, DEADLINE)
    row = BODY | {"distance": COST}
    steps = [(1.5 * CAPACITY, MEASURE), (CAPACITY / 2, CALM), (10 * CAPACITY, SPIKE), (CAPACITY / 2, AFTER)]
    answers = Calls(plant.port, *steps, bodies=[row], connections=2000).answers()
    measured = rate(answers, answers[0].due + 1, answers[0].due + MEASURE)
    begin = answers[0].due + MEASURE + CALM
    spike = [a for a in answers if begin <= a.due < begin + SPIKE]
    after = [a for a in answers if a.due > begin + SPIKE + 1.0]
    answered = [a for a in answers if a.status == 200]
    refused = [a for a in answers if a.status in (429, 503)]
    goodput = rate(answers, begin, begin + SPIKE)
    bar("goodput in the spike", 100 * goodput / measured, ">= 90 % of the measured capacity")
    bar("answered otherwise than by 200, 429 or 503", len(answers) - len(answered) - len(refused), "= 0")
    bar("p99 of the admitted", percentile([a.seconds for a in answered], 0.99) * 1000, f"<= {DEADLINE} ms")
    waits = [a.done - a.sent for a in spike if a.status == 429]
    bar("p99 of the refused", percentile(waits, 0.99) * 1000, "<= 10 ms")
    bar("refusals without Retry-After", sum(not a.retry_after for a in refused), "= 0")
    bar("rows computed for nobody", executed(log) - len(answered), "= 0")
    bar("refused later than 1 s after the spike", sum(a.status != 200 for a in after), "= 0")


@pytest.mark.parametrize("bug", ["tests.faults.bugs.timed", twin("tests.faults.bugs.timed_loyal")])
def test_r26_callers_that_go_away(plant: Ground, bar: Bar, bug: str, tmp_path: Path) -> None:
    """Fifty at a time wait behind a row that takes its time, and leave."""
    log = tmp_path / "executed"
    start(plant, log, 10_000)
    longest, rounds = 0.0, 10
    for done in range(rounds):
        with Calls(plant.port, (1, 1.0), bodies=[BODY | {"distance": 700}]).harm():
            plant.wait(lambda: plant.status()["inside"] == 1)
            lines = [socket.create_connection(("127.0.0.1", plant.port)) for _ in range(50)]
            for line in lines:
                line.sendall(REQUEST)
            plant.wait(lambda: plant.status()["inside"] == 51)
            for line in lines:
                line.close()
            left = time.monotonic()
            plant.wait(lambda: plant.status()["inside"] <= 1)
            longest = max(longest, time.monotonic() - left)
        assert executed(log) >= done + 1
    bar(f"slots free after {50 * rounds} callers left", longest * 1000, "<= 100 ms")
    # A batch that waits at the replica already cannot be called back.
    bar(f"their rows computed nevertheless, in {rounds} batches already sent", executed(log) - rounds,
        f"<= {32 * rounds}")  # fmt: skip


REQUEST = b'POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 35\r\n\r\n{"distance": 5.000,"carrier": "UA"}'
