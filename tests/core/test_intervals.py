"""Intervals: known values, coverage, edges."""

from math import inf

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fairlead.core.intervals import mover_ratio, newcombe, wilson, z_score


def test_z_score() -> None:
    assert z_score(0.95) == pytest.approx(1.959964, abs=1e-6)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(n: int, share: float, level: float) -> None:
    k = round(share * n)
    known = binomtest(k, n).proportion_ci(level, method="wilson")
    assert wilson(k, n, level) == pytest.approx((known.low, known.high), abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_newcombe_equals_the_published_example() -> None:
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    assert newcombe((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert newcombe((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=1e-4)
    assert newcombe((0, 0), (3, 10)) == (-1.0, 1.0)


def rate(k: int, n: int) -> tuple[float, float, float]:
    return k / n, *wilson(k, n)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 400), st.integers(1, 400))
def test_ratio_lies_in_its_interval_and_swaps(n: int, m: int, j: int, k: int) -> None:
    assume(j <= n and k <= m)
    a, b = rate(j, n), rate(k, m)
    low, high = mover_ratio(a, b)
    assert 0 <= low <= a[0] / b[0] <= high
    if j:
        assert mover_ratio(b, a) == pytest.approx((1 / high, 1 / low), rel=1e-9)


def test_ratio_edges() -> None:
    nothing, some = rate(0, 20), rate(10, 20)
    assert mover_ratio(some, nothing) == (0.0, inf)
    assert mover_ratio(nothing, nothing) == (0.0, inf)
    low, high = mover_ratio(nothing, some)
    assert low == 0.0
    assert 0.2 < high < 0.6
    assert mover_ratio((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)) == pytest.approx((2, 2))
    assert mover_ratio((5, 4, 6), (0.1, 0.0, 0.2))[1] == inf


@pytest.mark.parametrize("n", [25, 100, 400])
def test_small_groups_are_covered(n: int) -> None:
    """Law 11: coverage 94 to 98 % where the rates are 10 % in a small group of n and 20 % in 400."""
    rng = np.random.default_rng(n)
    difference = ratio = 0
    for j, k in zip(rng.binomial(n, 0.1, 1500), rng.binomial(400, 0.2, 1500), strict=True):
        low, high = newcombe((j, n), (k, 400))
        difference += low <= -0.1 <= high
        low, high = mover_ratio(rate(int(j), n), rate(int(k), 400))
        ratio += low <= 0.5 <= high
    assert 0.935 < difference / 1500 < 0.985
    assert 0.935 < ratio / 1500 < 0.985
