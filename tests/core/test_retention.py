"""How much time passed is what the order of the log saw, whatever a clock says."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.event import Event
from fairlead.core.retention import ADDED, HALF_YEAR, HOLD, REMOVED, cutoff, holds
from fairlead.core.traffic import DAY

T = 1.7e9
YEARS = 10 * 365 * DAY


def days(n: int, start: float = T) -> list[float]:
    return [start + i * DAY for i in range(n)]


def test_what_is_old_enough_goes_and_nothing_else() -> None:
    moments = days(200)
    assert cutoff(moments, HALF_YEAR, moments[-1]) == moments[-1] - HALF_YEAR == T + 16 * DAY
    assert cutoff(days(183), HALF_YEAR, T + 183 * DAY) == 0.0


def test_a_clock_ten_years_ahead_makes_the_log_one_day_older() -> None:
    moments = days(100)
    for _ in range(5):  # and a jump back, and again, gains a day each time
        moments += [moments[-1] + YEARS]
        assert cutoff(moments, HALF_YEAR, moments[-1]) == 0.0
    assert cutoff([*days(182), T + YEARS], HALF_YEAR, T + YEARS) == 0.0


@given(st.lists(st.floats(0, 1e10), max_size=60), st.floats(DAY, 400 * DAY), st.floats(0, 1e10))
def test_nothing_younger_than_the_span_ever_goes(moments: list[float], span: float, now: float) -> None:
    before = cutoff(moments, span, now)
    assert before == 0 or before <= min(moments[-1], now) - span
    steps = [min(max(b - a, 0.0), DAY) for a, b in pairwise(moments)]
    assert before == 0 or sum(steps) >= span


@given(st.floats(40 * DAY, 1e10))
def test_pretending_needs_an_event_a_day(jump: float) -> None:
    moments = [*days(10), T + jump, T + jump + 1]
    assert cutoff(moments, 30 * DAY, moments[-1]) == 0.0


def test_holds_are_a_fold_over_the_log() -> None:
    def said(seq: int, verb: str, of: str) -> Event:
        return Event(seq=seq, at=T, actor="ann", verb=verb, subject=HOLD, body={"of": of, "reason": "case"})

    events = [said(1, ADDED, "log"), said(2, ADDED, "x"), said(3, REMOVED, "log")]
    assert list(holds(events)) == ["x"] and holds(events)["x"].by == "ann"


def test_half_a_year_is_the_floor() -> None:
    assert pytest.approx(6 * 30.5 * DAY) == HALF_YEAR
