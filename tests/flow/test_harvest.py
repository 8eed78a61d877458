"""A table from the prediction log: features as served, truths as known at the cut, nothing on both sides."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.core.feature import FeatureView
from fairlead.core.prediction import Feedback, Prediction
from fairlead.core.ref import Ref
from fairlead.core.schema import Schema
from fairlead.errors import Invalid, Missing
from fairlead.flow.conform import infer_contract
from fairlead.flow.harvest import Harvest, harvest
from fairlead.flow.rows import KNOWN, ROW

NOON = 1_750_000_000.0
VIEW = FeatureView(name="weather", source="w.csv", entity="port", time="at", columns=("wind",))
TABLE = pl.DataFrame({"port": ["JFK", "LGA"] * 20, "miles": [10.5, None] * 20, "gone": [1, 2] * 20,
                      "at": [datetime(2025, 1, 1, tzinfo=UTC)] * 40, "late": [True, False] * 20})  # fmt: skip


def contract() -> Schema:
    return infer_contract(TABLE, target="late", time="at")


def asked(name: str, at: float, **more: Any) -> Prediction:
    base = Prediction(id=name, service="s", package=Ref("package", "s", "a1"), at=at, unit=name,
                      inputs={"port": "JFK", "miles": 7, "extra": "x"}, features={"weather.wind": 3.0},
                      output={"score": 0.7, "label": "true"}, latency=0.0, live=True, propensity=1.0,
                      epoch=1)  # fmt: skip
    return replace(base, **more)


def told(name: str, value: Any, at: float, kind: str = "label") -> Feedback:
    return Feedback(prediction=name, name=kind, value=value, at=at)


class Log:
    """A log of these predictions and notes; only what a harvest asks of one."""

    def __init__(self, predictions: list[Prediction], notes: list[Feedback]) -> None:
        self._predictions, self._notes = predictions, notes

    def predictions(self, since: float, until: float, service: str) -> Iterator[Prediction]:
        return (p for p in self._predictions if since <= p.at < until and p.service == service)

    def feedback(self) -> Iterator[Feedback]:
        return iter(self._notes)


def reaped(log: Log, *, cut: float = NOON + 100, views: tuple[FeatureView, ...] = (VIEW,), **more: Any) -> Harvest:
    return harvest(log, "s", contract(), views, since=NOON, cut=cut, **more)  # type: ignore[arg-type]


def test_rows_are_what_was_sent_served_and_known() -> None:
    log = Log([asked("b", NOON + 2, features={"weather.wind": 9.0}), asked("a", NOON + 1)],
              [told("a", 1, NOON + 50), told("b", "no", NOON + 60), told("b", 5.0, NOON + 61, "tip")])  # fmt: skip
    found = reaped(log)
    assert found.frame.select(ROW, "port", "miles", "late", "weather.wind").rows() == [
        ("a", "JFK", 7.0, True, 3.0), ("b", "JFK", 7.0, False, 9.0)]  # fmt: skip
    assert [v.timestamp() for v in found.frame["at"]] == [NOON + 1, NOON + 2]
    assert [v.timestamp() for v in found.frame[KNOWN]] == [NOON + 50, NOON + 60]
    assert "gone" not in found.frame.columns, "nobody sent it"
    assert "extra" not in found.frame.columns, "no contract knows it"
    assert found.packages == (Ref("package", "s", "a1"),) and found.left_out == {}
    assert "settled" in reaped(log, known_at="settled").frame.columns


def test_nothing_known_after_the_cut_is_learnt() -> None:
    log = Log([asked("a", NOON + 1), asked("b", NOON + 2), asked("c", NOON + 150)],
              [told("a", True, NOON + 50), told("a", False, NOON + 120), told("b", True, NOON + 100),
               told("c", True, NOON + 151)])  # fmt: skip
    found = reaped(log)
    assert found.frame.select(ROW, "late").rows() == [("a", True)], "its correction came later"
    assert found.left_out == {"no truth": 1}
    assert reaped(log, cut=NOON + 130).frame["late"].to_list() == [False, True]


def test_one_question_with_one_truth_is_one_row() -> None:
    twice = [asked(name, NOON + i, unit="u") for i, name in enumerate("abc")]
    notes = [told("a", True, NOON + 50), told("b", True, NOON + 50), told("c", True, NOON + 51)]
    found = reaped(Log(twice, notes))
    assert found.frame[ROW].to_list() == ["a", "c"] and found.left_out == {"repeated": 1}


def test_answers_that_somebody_acts_on_are_left_out_if_asked() -> None:
    log = Log([asked("a", NOON), asked("b", NOON + 1, output={"score": 0.1, "label": "false"})],
              [told("a", True, NOON + 50), told("b", True, NOON + 50)])  # fmt: skip
    found = reaped(log, acted_on=("true",))
    assert found.frame[ROW].to_list() == ["b"] and found.left_out == {"acted on": 1}
    with pytest.raises(Missing, match="no labelled prediction"):
        reaped(log, acted_on=("true", "false"))


def test_what_the_caller_saw_counts_not_shadows_or_failed_attempts() -> None:
    other = Ref("package", "s", "b2")
    log = Log([asked("a", NOON, error="boom", features={"weather.wind": 1.0}),
               asked("a", NOON, package=other, fallback=True, features={"weather.wind": 2.0}),
               asked("b", NOON + 1, live=False), asked("c", NOON + 2, inputs={}),
               asked("d", NOON + 3, inputs={"body": "AAAA"})],
              [told(name, True, NOON + 50) for name in "abcd"])  # fmt: skip
    found = reaped(log)
    assert found.frame.select(ROW, "weather.wind").rows() == [("a", 2.0)]
    assert found.packages == (other,) and found.left_out == {"no inputs": 2}


def test_a_feature_that_was_never_served_is_said() -> None:
    more = replace(VIEW, columns=("wind", "rain"))
    with pytest.raises(Invalid, match=r"weather\.rain"):
        reaped(Log([asked("a", NOON)], [told("a", True, NOON + 1)]), views=(more,))


def test_logged_values_that_break_the_contract_are_named() -> None:
    log = Log([asked("a", NOON, inputs={"port": "JFK", "miles": "far"})], [told("a", True, NOON + 1)])
    with pytest.raises(Invalid, match="miles: 'far' in row 1"):
        reaped(log)
