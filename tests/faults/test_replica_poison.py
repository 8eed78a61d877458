import random
import time
from typing import Any

import pytest

from fairlead.core.traffic import Arm
from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls
from tests.faults.conftest import Ground
from tests.faults.crowd import Crowd
from tests.faults.models import DEATHS, MAGIC

BUGS = "tests.faults.bugs_replica"
SIZE = 32


def deaths(zoo: Ground) -> int:
    path = zoo.run / DEATHS
    return len(path.read_text().splitlines()) if path.exists() else 0


def rows(chosen: random.Random, killer: int) -> list[dict[str, Any]]:
    """SIZE rows in any order; the first place tells where the killer of that number went."""
    made = [{"distance": chosen.random(), "carrier": "UA", "hour": chosen.randrange(24), "late": None}
            for _ in range(SIZE)]  # fmt: skip
    made[chosen.randrange(SIZE)].update(distance=MAGIC, hour=killer)
    return made


def poisoned(zoo: Ground, bar: Bar, killers: int, rounds: int) -> None:
    """Batches with one killer each: new ones first, then the same again."""
    zoo.publish(zoo.package(name="killer"))
    zoo.start(deadline_ms=1000)
    chosen, lost, served, worst, again = random.Random(3), 0, 0, 0, 0
    with Crowd(zoo.port, SIZE) as crowd:
        for i in range(rounds):
            asked, before = rows(chosen, i % killers), deaths(zoo)
            for body, reply in zip(asked, crowd.ask(asked), strict=True):
                guilty = body["distance"] == MAGIC
                refused = (reply.status, reply.body.get("error", {}).get("code")) == (422, "poison")
                lost += not guilty and reply.status != 200
                served += guilty and not refused
            died = deaths(zoo) - before
            worst = max(worst, died)
            again += died if i >= killers else 0
            if lost or worst > 2 or again:
                break
    bar(f"mates without an answer, of {rounds * (SIZE - 1):,}", lost, "= 0")
    bar(f"killers that were not refused with 422, of {rounds}", served, "= 0")
    bar("most deaths of one killer", worst, "<= 2")
    bar("deaths by a killer that is known", again, "= 0")


def test_r3_a_killer_in_a_batch(zoo: Ground, bar: Bar) -> None:
    poisoned(zoo, bar, 2, 6)
    # In one request the killer is named by its place.
    row = {"distance": 0.5, "carrier": "UA", "hour": 1, "late": None}
    status, body = zoo.ask({"rows": [row, row | {"distance": MAGIC}, row]})
    assert (status, body["error"]["code"], body["error"]["pointer"]) == (422, "poison", "/rows/1")
    assert zoo.ask({"rows": [row] * 3})[0] == 200


@pytest.mark.faults
@pytest.mark.parametrize("bug", ["", twin(f"{BUGS}.batch_again"), twin(f"{BUGS}.no_memory")])
def test_r3_two_hundred_batches(zoo: Ground, bar: Bar) -> None:
    poisoned(zoo, bar, 20, 200)


@pytest.mark.faults
@pytest.mark.parametrize("bug", ["", twin(f"{BUGS}.no_end_of_crashes")])
def test_r3_a_candidate_in_a_crash_loop(zoo: Ground, bar: Bar) -> None:
    base, bad = zoo.package(), zoo.package(name="killer", threshold=0.4)
    zoo.publish(base, standby=(bad,))
    zoo.start()
    zoo.wait(lambda: all(p["state"] == "ready" for p in zoo.status()["packages"].values()))
    zoo.publish(Arm(base, 0.5), Arm(bad, 0.5))
    zoo.wait(lambda: len(zoo.status()["arms"]) == 2)
    # One row in ten kills, and each is another one.
    bodies = [{"distance": MAGIC if i % 10 == 0 else i / 7, "carrier": "UA", "hour": i, "late": None}
              for i in range(1000)]  # fmt: skip
    calls = Calls(zoo.port, (100, 8.0), bodies=bodies)
    end = time.monotonic() + 6
    reason = zoo.wait(lambda: (time.monotonic() > end and "no end")
                        or zoo.status()["packages"][str(bad)]["reason"])  # fmt: skip
    answers = calls.answers()
    bar("failed requests", sum(a.status != 200 for a in answers), "= 0")
    bar("deaths of a crash-looping candidate in 8 s", deaths(zoo), "<= 7")
    assert "died 5 times" in reason
    failed = [r for r in zoo.rows() if r["package"] == str(bad) and r["error"]]
    assert len(failed) > 50 and any("died 5 times" in r["error"] for r in failed)
