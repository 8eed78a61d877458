from collections.abc import Iterator
from typing import Any

import pytest

from fairlead.core.ref import Ref
from fairlead.core.traffic import Arm
from tests.faults.bar import Bar, twin
from tests.faults.conftest import Ground
from tests.faults.models import LIES, MAGIC

BUGS = "tests.faults.bugs_replica"
ROW = {"distance": 0.5, "carrier": "UA", "hour": 1, "late": None}


def questions() -> Iterator[tuple[str, dict[str, Any]]]:
    for hour, name in enumerate(LIES):
        yield name, ROW | {"distance": MAGIC, "hour": hour}


def told(zoo: Ground, base: Ref, liar: Ref) -> tuple[list[str], list[str], int]:
    """Lies that were passed on, good rows that suffered from them, and how many lies there were."""
    passed, spoiled, count = [], [], 0
    for name, lie in questions():
        status, one = zoo.ask(lie)
        if status != 200 or one["package"] != str(base) or not one.get("fallback"):
            passed.append(name)
        status, many = zoo.ask({"rows": [ROW, lie, ROW]})
        first, second, third = many["predictions"]
        if second["package"] != str(base) or not second.get("fallback"):
            passed.append(f"{name}, in a batch")
        if {first["package"], third["package"]} != {str(liar)} or not 0 <= first["score"] <= 1:
            spoiled.append(name)
        zoo.ask(ROW)  # a good answer between two bad ones keeps the breaker closed
        count += 2
    return passed, spoiled, count


@pytest.mark.faults
@pytest.mark.parametrize("bug", ["", twin(f"{BUGS}.wide_margin"), twin(f"{BUGS}.any_shape")])
def test_r7_no_lie_is_passed_on(zoo: Ground, bar: Bar) -> None:
    base, liar = zoo.package(), zoo.package(name="liar", threshold=0.4)
    zoo.publish(base, standby=(liar,))
    zoo.start()
    zoo.wait(lambda: all(p["state"] == "ready" for p in zoo.status()["packages"].values()))
    zoo.publish(Arm(base, 0.0), Arm(liar, 1.0))
    zoo.wait(lambda: len(zoo.status()["arms"]) == 2)
    passed, spoiled, count = told(zoo, base, liar)
    bar(f"of {count} bad outputs passed on as an answer", len(passed), "= 0")
    bar("good rows beside them without the candidate's answer", len(spoiled), "= 0")
    failed = zoo.counted("fairlead_predictions_total", f'package="{liar}"', 'outcome="failed"')
    bar("failures counted against the candidate", int(failed), f"= {count}")
    zoo.wait(lambda: sum(bool(r["error"]) for r in zoo.rows() if r["package"] == str(liar)) == count)
    # Alone, it has nobody who answers for it: the caller gets an error, never a number.
    zoo.publish(liar)
    zoo.wait(lambda: len(zoo.status()["arms"]) == 1)
    statuses = [zoo.ask(lie)[0] for _, lie in questions() if zoo.ask(ROW)[0] == 200]
    bar("lies of the only package that got a 503", statuses.count(503), f"= {len(LIES)}")
