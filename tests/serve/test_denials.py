"""Refused requests stand in the journal: with their reason, without hidden values, few of a flood."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec import json

from fairlead.core.journal import Batch, Denial
from fairlead.serve.config import GatewayConfig
from fairlead.serve.denials import A_SECOND, Denials
from fairlead.serve.metrics import Metrics
from fairlead.serve.refusal import Refusal

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

ROW = {"distance": 0.5, "carrier": "UA", "hour": 7, "late": False}
SECRET = "Ada-Lovelace"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    from tests.serve.conftest import Plant

    made = Plant(tmp_path_factory.mktemp("denials"))
    made.publish(made.package())
    made.start()
    yield made
    assert made.stop() == 0


def denials(plant: Plant, count: int, before: int = 0) -> list[Denial]:
    """Those in the journal behind its first `before` entries, once there are so many."""
    found: list[Denial] = []

    def all_there() -> bool:
        found[:] = [e for e in plant.entries()[before:] if isinstance(e, Denial)]
        return len(found) >= count

    plant.wait(all_there)
    return found


def test_a_refused_request_is_in_the_journal_with_its_reason(served: Plant) -> None:
    plant, package = served, served.package()
    bad = ROW | {"distance": "far"}
    asked: list[tuple[Any, str, str, str, dict[str, Any]]] = [
        (bad, "/predict", "type", "/distance", bad),
        ({"rows": [ROW, bad]}, "/predict", "type", "/rows/1/distance", bad),
        (b'{"distance": 1, ', "/predict", "malformed", "", {}),
        ({"rows": [ROW] * 2000}, "/predict", "rows", "", {}),
        ({"inputs": []}, "/v2/models/m/infer", "invalid", "/inputs", {}),
    ]
    told = [plant.ask(body, path, X_Unit="ann") for body, path, *_ in asked]
    assert plant.ask(ROW)[0] == 200
    assert plant.raw(ROW, "/nowhere")[0] == 404  # before anything is read: only counted
    found = denials(plant, len(asked))
    assert [(d.code, d.pointer, json.decode(d.body or b"{}")) for d in found] == [a[2:] for a in asked]
    for denial, (status, body) in zip(found, told, strict=True):
        error = body["error"] if isinstance(body["error"], dict) else body
        assert (denial.id, denial.status, denial.code) == (error["id"], status, error["code"])
        assert denial.package == str(package) and denial.unit == "ann" and denial.count == 1
        assert 0 < denial.latency < 1 and denial.epoch == 1 and denial.message
    assert [len(e.ids) for e in plant.entries() if isinstance(e, Batch)] == [1]


def test_a_flood_is_counted_and_a_few_of_it_are_written(served: Plant) -> None:
    plant, before, began, sent = served, len(served.entries()), time.monotonic(), 400
    for _ in range(sent):
        assert plant.ask(b"garbage")[0] == 400
    seconds = time.monotonic() - began
    assert plant.ask(ROW | {"distance": "far"})[0] == 422  # of another kind: not crowded out
    passed = plant.ask(path="/status")[1]["journal"]["refused_unlogged"]
    assert passed == plant.counted("fairlead_refused_unlogged_total") >= sent - A_SECOND * (int(seconds) + 2) > 0
    found = denials(plant, sent - passed + 1, before)
    assert Counter(d.code for d in found) == {"malformed": sent - passed, "type": 1}
    assert sent - passed <= sum(d.count for d in found if d.code == "malformed") <= sent


def test_who_is_failed_by_a_package_is_no_refused_request(served: Plant) -> None:
    """Such rows are in the journal as rows of that package: once is enough."""
    plant, before = served, len(served.entries())
    route = plant.publish(plant.package("nan"))
    plant.wait(lambda: plant.status()["epoch"] == route.epoch)
    assert plant.ask(ROW | {"distance": -1.0})[0] == 503
    assert plant.ask(ROW)[0] == 200
    plant.wait(lambda: sum(len(e.ids) for e in plant.entries()[before:] if isinstance(e, Batch)) == 2)
    assert not [e for e in plant.entries()[before:] if isinstance(e, Denial)]


def test_a_refusal_that_the_journal_cannot_take_is_counted_with_the_next_one() -> None:
    sink = cast(Any, Full())
    written = Denials(GatewayConfig(service="m"), sink, Metrics(gateway="x"), None)
    refusal = Refusal(status=400, code="malformed", message="no JSON", hint="")
    for sink.full in (True, True, False):
        written.add("id", "ann", refusal, b"", None, at=1.0, started=0.0)
    assert [d.count for d in sink.taken] == [3] and written.passed.n == 2


class Full:
    """A journal that takes what it has room for."""

    def __init__(self) -> None:
        self.full, self.taken = False, list[Denial]()

    def add(self, entry: Denial) -> bool:
        if not self.full:
            self.taken.append(entry)
        return not self.full


def test_no_hidden_value_reaches_the_disk(plant: Plant) -> None:
    plant.publish(plant.package(), sticky_by="carrier")
    plant.start(log={"redact": ["carrier"], "drop": ["late"]}, sticky_by="carrier")
    longer = SECRET + "-" + "x" * 80
    for body in (ROW | {"carrier": SECRET, "distance": "far"}, ROW | {"late": SECRET},
                 ROW | {"carrier": {"name": SECRET}}, ROW | {"carrier": [longer]},
                 ROW | {"career": SECRET, "carrier": "UA", "hour": "x"}, [SECRET],
                 {"rows": [{"carrier": SECRET}]}, {"rows": {"carrier": SECRET}}):  # fmt: skip
        assert plant.ask(body)[0] in (400, 422)
    found = denials(plant, 8)
    assert SECRET.encode() not in b"".join(p.read_bytes() for p in plant.state.rglob("*.log"))
    first = json.decode(found[0].body)
    assert first["carrier"].startswith("hmac:") and found[0].unit == first["carrier"]
    assert first["distance"] == "far" and "late" not in first
    assert found[0].message == "column 'distance' must be a number, not 'far'"
    assert {d.message for d in found[1:4]} == {""}
