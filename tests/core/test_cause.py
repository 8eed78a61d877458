"""Causes: columns that moved together are one sentence, columns that did not are their own."""

import pytest

from fairlead.core.cause import Cause, featureless, told
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.ref import Ref

DAY = 86_400.0
ME = Ref("package", "p", "1" * 64)
VIEWS = {"weather": [f"weather.{c}" for c in "abcde"], "plane": ["plane.age"]}


def moved(column: str, day: float = 0.0) -> Cause:
    return Cause(column=column, text=f"psi of {column}", since=20_000 * DAY + day * DAY)


def test_all_columns_of_a_view_are_one_cause_upstream() -> None:
    causes = [moved(c, place % 2) for place, c in enumerate(reversed(VIEWS["weather"]))]
    assert told(causes, VIEWS) == [
        "upstream: all 5 columns of view weather moved since 2024-10-04; the most weather.e: psi of weather.e"]


def test_what_else_moved_stays_its_own_cause_in_order_of_weight() -> None:
    causes = [moved("price"), *map(moved, VIEWS["weather"][:2]), moved("plane.age"), moved("dest")]
    first, second, *rest = told(causes, VIEWS)
    assert first == "price moved since 2024-10-04: psi of price"
    assert second.startswith("upstream: 2 of 5 columns of view weather moved since 2024-10-04 (weather.a, weather.b);")
    assert rest == ["plane.age moved since 2024-10-04: psi of plane.age", "dest moved since 2024-10-04: psi of dest"]


@pytest.mark.parametrize(("days", "sentences"), [((0, 0, 1, 2, 1, 0), 1), ((0, 9, 18, 27), 4), ((0, 0, 9, 9, 9), 3)])
def test_columns_of_the_request_are_one_cause_if_several_moved_at_once(days: tuple[int, ...], sentences: int) -> None:
    causes = [moved(f"c{i}", day) for i, day in enumerate(days)]
    found = told(causes, VIEWS)
    assert len(found) == sentences
    if sentences == 1:
        assert "6 columns together moved since 2024-10-04 (c0, c1, c2, c3 and 2 more); the most c0" in found[0]


@pytest.mark.parametrize(("lows", "words"), [((0.3,) * 6, "at least 30%"), ((0.3, 0.0, *(0.3,) * 4), ""), ((0.3,) * 5, "")])
def test_a_feature_store_that_did_not_answer_is_told_only_if_everything_is_missing(
    lows: tuple[float, ...], words: str
) -> None:
    names = [o for columns in VIEWS.values() for o in columns]
    facts = EvidenceSet(Evidence(subject=ME, measure=f"nulls:{name}", value=0.5, n=100, low=low, high=0.6)
                        for name, low in zip(names, lows, strict=False))  # fmt: skip
    said = featureless(facts, ME, VIEWS)
    assert words in said and bool(said) == bool(words)
    assert featureless(facts, ME, {}) == ""
