"""Attribution: benign samples raise nothing at the level they are judged by, a dead feature is seen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.attribution import Attribution, attribution, matrix, shares
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import MonitorText
from fairlead.core.monitor import level, monitors, ready_made
from fairlead.core.ref import Ref
from fairlead.core.vitals import Frame

PACKAGE = Ref("package", "m", "a" * 64)
SCALES = np.array([0.4, 0.2, 0.15, 0.1, 0.06, 0.04, 0.03, 0.02])
NAMES = [f"c{i}" for i in range(len(SCALES))]
HELD, ROWS, MAX = 64, 400, 0.05
BUDGET = level(monitors(ready_made({"reliance": MonitorText(measure="attribution", max=MAX)})), 1.0)


def draw(dice: np.random.Generator, n: int, mood: float = 0.0, dead: int = -1) -> NDArray[np.float64]:
    """Contributions as of a real model: skewed (lognormal sizes), of either sign, a fifth of them 0.
    `mood`: by how much the sizes of a column differ from day to day (sd of their logarithm)."""
    scales = SCALES * np.exp(dice.normal(0, mood, len(SCALES)))
    sizes = dice.lognormal(0, 0.8, (n, len(SCALES))) * scales
    found = sizes * dice.choice([-1, 0, 1], sizes.shape, p=[0.4, 0.2, 0.4])
    if dead >= 0:
        found[:, dead] = 0.0
    return np.asarray(found)


def low(before: NDArray[np.float64], now: NDArray[np.float64], at: float) -> float:
    return worst(before, now, at).low or 0.0


def worst(before: NDArray[np.float64], now: NDArray[np.float64], at: float) -> Evidence:
    seen = Attribution(package=PACKAGE, since=5.0, until=6.0, rows=len(now), held_out=len(before),
                       before=shares(NAMES, before), now=shares(NAMES, now))  # fmt: skip
    found = list(attribution(seen, Frame(subject=PACKAGE, since=0.0, until=9.0, level=at)))
    whole, = (e for e in found if e.measure == "attribution" and not e.slice)
    assert {e.slice for e in found if e.measure == "attribution"} == {"", *(f"column={n}" for n in NAMES)}
    assert (whole.since, whole.until, whole.n) == (5.0, 6.0, len(now))
    return whole


@pytest.mark.parametrize("at", [0.9, 0.95, 0.99])
def test_an_interval_covers_no_change_as_often_as_it_says(at: float) -> None:
    dice = np.random.default_rng(1)
    missed = sum(low(draw(dice, HELD), draw(dice, ROWS), at) > 0 for _ in range(400))
    assert missed <= 400 * (1 - at) + 3 * np.sqrt(400 * at * (1 - at))


def test_benign_days_of_ten_years_raise_no_alarm() -> None:
    """At the level that one false alarm a quarter leaves it: each year another model, days that differ
    by a seventh in the size of every column's contributions."""
    dice, alarms = np.random.default_rng(2), 0
    for _ in range(10):
        held = draw(dice, HELD)
        alarms += sum(low(held, draw(dice, ROWS, mood=0.15), BUDGET) > MAX for _ in range(365))
    assert alarms == 0


def test_a_feature_that_goes_dead_is_seen_the_first_day() -> None:
    dice = np.random.default_rng(3)
    days = [low(draw(dice, HELD), draw(dice, ROWS, dead=0), BUDGET) > MAX for _ in range(100)]
    assert sum(days) >= 95


def test_a_share_is_of_single_answers_and_rows_without_any_count_as_none() -> None:
    before = matrix(["a", "b"], [{"b": -1.0, "a": 3.0}, {"a": 1.0, "b": 1.0}])
    was, now = (shares(["a", "b"], m) for m in (before, np.array([[0.0, 0.0], [0.0, 5.0], [0.0, -2.0]])))
    assert (was["a"].mean, was["b"].mean) == (0.625, 0.375)
    assert now["a"].mean == 0.0 and now["b"].mean == pytest.approx(2 / 3)
    assert was["a"].variance == pytest.approx(0.125**2 * 2 / 2) and now["a"].variance == 0.0
