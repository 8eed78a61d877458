"""Skew: served features equal those recomputed; a late fact explains itself, a wrong value does not."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from fairlead.core.feature import Aggregate, FeatureView
from fairlead.core.skew import AT, ID, Skew
from fairlead.flow.skew import compare

LATEST = FeatureView(name="pump", source="facts", entity="id", time="at", columns=("heat",), max_age=7200.0)
RECENT = FeatureView(name="recent", source="facts", entity="id", time="at", window=7200.0,
                     aggregates=(Aggregate(name="mean", operation="mean", column="heat"),
                                 Aggregate(name="n", operation="count")))  # fmt: skip
ALWAYS = FeatureView(name="kind", source="kinds", entity="id", columns=("maker",))
NOON = 1_700_000_000.0
FACTS = pl.DataFrame({"id": ["a"] * 4, "heat": [10.0, 20.0, 30.0, 99.0],
                      "at": [datetime.fromtimestamp(NOON + s, UTC) for s in (-7000, -3000, -60, 9000)]})  # fmt: skip
SOURCES = {"facts": FACTS, "kinds": pl.DataFrame({"id": ["a"], "maker": ["Ebara"]})}


def compared(at: float = NOON, **served: Any) -> dict[str, tuple[int, int]]:
    row = {AT: at, ID: "01a", "id": "a", "pump.heat": 30.0, "recent.mean": 20.0, "recent.n": 3, "kind.maker": "Ebara"}
    found = compare([row | {k.replace("__", "."): v for k, v in served.items()}], [LATEST, RECENT, ALWAYS], SOURCES)
    assert all(isinstance(s, Skew) and s.n == 1 for s in found)
    assert all(s.example == ("01a" if s.wrong else "") for s in found), "only what is wrong is shown"
    return {s.feature: (s.wrong, s.late) for s in found}


def test_what_was_served_as_the_facts_say_is_right() -> None:
    assert compared() == dict.fromkeys(("pump.heat", "recent.mean", "recent.n", "kind.maker"), (0, 0))


@pytest.mark.parametrize(("served", "late"), [
    ({"pump__heat": 20.0}, "pump.heat"), ({"recent__mean": 15.0}, "recent.mean"),
    ({"recent__n": 2}, "recent.n"), ({"recent__n": 1}, "recent.n"),
])  # fmt: skip
def test_a_value_that_was_right_before_a_late_fact_is_late_not_wrong(served: dict[str, Any], late: str) -> None:
    found = compared(**served)
    assert found.pop(late) == (0, 1) and set(found.values()) == {(0, 0)}


def test_what_was_not_served_is_missing_not_wrong() -> None:
    row = {AT: NOON, ID: "01a", "id": "a", "kind.maker": None}
    assert compare([row], [ALWAYS], SOURCES) == [Skew(feature="kind.maker", n=1, wrong=0, late=0, missing=1)]


@pytest.mark.parametrize("served", [{"pump__heat": 30.5}, {"recent__mean": 17.0}, {"kind__maker": "KSB"}])
def test_any_other_value_is_wrong(served: dict[str, Any]) -> None:
    found = compared(**served)
    assert sum(wrong for wrong, _ in found.values()) == 1 and sum(late for _, late in found.values()) == 0


def test_what_the_table_cannot_know_yet_is_not_compared() -> None:
    assert set(compared(at=NOON + 9001)) == {"kind.maker"}
