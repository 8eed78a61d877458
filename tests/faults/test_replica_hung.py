import threading
import time
from typing import Any

import pytest

from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls
from tests.faults.conftest import Ground
from tests.faults.crowd import Crowd, Reply
from tests.faults.models import MAGIC

BUGS = "tests.faults.bugs_replica"
DEADLINE, SLACK = 500, 50
"""Milliseconds."""
RATE, HANGS, EVERY = 100, 5, 1.5


def hanging(hour: int) -> dict[str, Any]:
    return {"distance": MAGIC, "carrier": "UA", "hour": hour, "late": None}


def ask_to_hang(port: int, replies: list[tuple[float, Reply]]) -> None:
    """HANGS rows that hang, each another one, then the first of them twice more."""
    with Crowd(port, 1) as caller:
        for hour in (*range(HANGS), 0, 0):
            begun = time.monotonic()
            replies.append((begun, caller.ask([hanging(hour)])[0]))
            time.sleep(max(0.0, begun + EVERY - time.monotonic()))


@pytest.mark.faults
@pytest.mark.parametrize(("model", "bug"), [
    ("looper", ""), ("sleeper", ""), ("matcher", ""),
    pytest.param("looper", f"{BUGS}.patient_parent", marks=twin(f"{BUGS}.patient_parent").marks),
    pytest.param("sleeper", f"{BUGS}.no_deadline", marks=twin(f"{BUGS}.no_deadline").marks)])  # fmt: skip
def test_r4_a_replica_hangs(zoo: Ground, bar: Bar, model: str, bug: str) -> None:
    zoo.publish(zoo.package(name=model))
    zoo.start(deadline_ms=DEADLINE)
    calls = Calls(zoo.port, (RATE, EVERY * (HANGS + 2) + 1), connections=128, patience=3.0)
    replies: list[tuple[float, Reply]] = []
    harm = threading.Thread(target=ask_to_hang, args=(zoo.port, replies))
    harm.start()
    answers = calls.answers()
    harm.join()
    hung, convicted = replies[: HANGS + 1], replies[HANGS + 1]
    # Who comes with the row that hangs cannot be answered before its deadline; who comes later can.
    mates = [a for a in answers if any(-0.02 < a.due - at < 2 * SLACK / 1000 for at, _ in hung)]
    others = [a for a in answers if a not in mates]
    bar(f"a hanging row is refused ({model})", 1000 * max(r.seconds for _, r in hung), f"<= {DEADLINE + SLACK} ms")
    bar("slowest answer to anybody", 1000 * max(a.seconds for a in answers), f"<= {DEADLINE + SLACK} ms")
    bar(f"of {len(others):,} other requests without an answer", sum(a.status != 200 for a in others), "= 0")
    assert {r.status for _, r in hung} == {503}
    assert convicted[1].status == 422 and convicted[1].body["error"]["code"] == "poison"
