"""Laws of the sequential tests: exact expectations, invariance, quick simulations of their errors."""

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from math import comb, exp, inf, log
from timeit import repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fairlead.core.sequential import (
    Window,
    culprits,
    log_e_above,
    log_e_below,
    log_e_discordant,
    log_e_harm,
    log_e_mean_above,
    log_e_mean_below,
    log_e_mismatch,
    log_e_safe,
    log_mean,
    mean_interval,
    rate_interval,
    ratio_interval,
)

Vector = NDArray[np.float64]
ACT = log(20)  # alpha 0.05


def binomial(n: int, p: float) -> list[float]:
    return [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def outcomes(exposures: list[tuple[int, float]]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every outcome of independent binomials (n, p), with its probability."""
    tables = [binomial(n, p) for n, p in exposures]
    for counts in product(*(range(n + 1) for n, _ in exposures)):
        yield counts, float(np.prod([t[k] for t, k in zip(tables, counts, strict=True)]))


def expected(
    log_e: Callable[[tuple[int, ...]], float], exposures: list[tuple[int, float]]
) -> float:
    return sum(chance * exp(log_e(counts)) for counts, chance in outcomes(exposures))


# ---- law 2: the expectation of every e-value is at most 1, by enumeration


@pytest.mark.parametrize("ratio", [1.0, 1.5, 0.5])
@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.1, 0.5), (0.66, 0.3)])
def test_harm_has_expectation_at_most_one(ratio: float, rates: tuple[float, float]) -> None:
    p, q = rates  # the baseline's rate in two windows of unlike shares
    for slack in (1.0, 0.6):
        sizes = [(2, min(1, slack * ratio * p)), (5, p), (4, min(1, slack * ratio * q)), (2, q)]
        mean = expected(
            lambda x: log_e_harm([(x[0], 2, x[1], 5), (x[2], 4, x[3], 2)], ratio), sizes
        )
        assert mean <= 1 + 1e-9
        assert mean > 0.2 or slack < 1  # no idle test: it stakes nearly all it may


@pytest.mark.parametrize("exclude", [1.5, 2.0])
@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.1, 0.5), (0.45, 0.3)])
def test_safe_has_expectation_at_most_one(exclude: float, rates: tuple[float, float]) -> None:
    p, q = rates
    for excess in (1.0, 1.4):
        sizes = [
            (2, min(1, excess * exclude * p)), (5, p), (4, min(1, excess * exclude * q)), (2, q),
        ]  # fmt: skip
        mean = expected(
            lambda x: log_e_safe([(x[0], 2, x[1], 5), (x[2], 4, x[3], 2)], exclude), sizes
        )
        assert mean <= 1 + 1e-9


@pytest.mark.parametrize("bound", [0.01, 0.3, 0.9])
def test_rates_have_expectation_one_at_the_bound_and_less_beyond(bound: float) -> None:
    at, lower, higher = [(7, bound)], [(7, bound * 0.7)], [(7, min(1, bound * 1.1))]
    assert expected(lambda x: log_e_above([(x[0], 7)], bound), at) == pytest.approx(1)
    assert expected(lambda x: log_e_above([(x[0], 7)], bound), lower) < 1
    assert expected(lambda x: log_e_below([(x[0], 7)], bound), at) == pytest.approx(1)
    assert expected(lambda x: log_e_below([(x[0], 7)], bound), higher) < 1


@pytest.mark.parametrize("mu", [0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_means_have_expectation_at_most_one(mu: float, spread: float) -> None:
    """Values low, mu, high with mean mu; two windows of two values each."""
    low, high = mu * (1 - spread), mu + (1 - mu) * spread
    values = [low, mu, high]
    up = mu * spread / (high - low) * 0.8 if spread else 0.1
    chances = [0.8 - up, 0.2, up] if spread else [0.4, 0.2, 0.4]
    assert np.dot(values, chances) == pytest.approx(mu)
    above = below = 0.0
    for x in product(range(3), repeat=4):
        v = [values[i] for i in x]
        chance = float(np.prod([chances[i] for i in x]))
        windows = [(2, a + b, a * a + b * b) for a, b in (v[:2], v[2:])]
        above += chance * exp(log_e_mean_above(windows, mu))
        below += chance * exp(log_e_mean_below(windows, mu))
    assert above <= 1 + 1e-9
    assert below <= 1 + 1e-9
    assert above > 0.2


def test_mismatch_and_discordant_have_expectation_one() -> None:
    shares = (0.2, 0.3, 0.5)
    mean = sum(
        comb(6, a) * comb(6 - a, b) * 0.2**a * 0.3**b * 0.5 ** (6 - a - b)
        * exp(log_e_mismatch((a, b, 6 - a - b), shares))
        for a in range(7) for b in range(7 - a)
    )  # fmt: skip
    assert mean == pytest.approx(1)
    assert expected(lambda x: log_e_discordant(x[0], 8 - x[0]), [(8, 0.5)]) == pytest.approx(1)
    assert expected(lambda x: log_e_discordant(x[0], 8 - x[0]), [(8, 0.6)]) < 1


# ---- law 3: counters merge


def windows_of(most: int) -> st.SearchStrategy[list[Window]]:
    arm = st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
    window = st.tuples(arm, arm).map(lambda a: (*a[0], *a[1]))
    return st.lists(window, max_size=most)


@given(windows_of(6), st.randoms(use_true_random=False), st.floats(0.5, 2))
def test_order_of_windows_does_not_matter(
    windows: list[Window], chance: object, ratio: float
) -> None:
    shuffled = list(windows)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert log_e_harm(shuffled, ratio) == pytest.approx(log_e_harm(windows, ratio), abs=1e-9)
    assert log_e_safe(shuffled, ratio) == pytest.approx(log_e_safe(windows, ratio), abs=1e-9)


@given(windows_of(3), st.integers(2, 5))
def test_windows_of_one_share_add_up(windows: list[Window], times: int) -> None:
    added = [(a * times, b * times, c * times, d * times) for a, b, c, d in windows]
    assert log_e_harm(windows * times) == pytest.approx(log_e_harm(added), abs=1e-8)


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), min_size=1, max_size=5))
def test_moments_of_replicas_add_up_within_a_window(days: list[list[float]]) -> None:
    def sums(values: list[float]) -> tuple[int, float, float]:
        return len(values), sum(values), sum(v * v for v in values)

    whole = [sums(day) for day in days]
    halves = [(sums(day[::2]), sums(day[1::2])) for day in days]
    merged = [(a[0] + b[0], a[1] + b[1], a[2] + b[2]) for a, b in halves]
    assert log_e_mean_above(merged, 0.4) == pytest.approx(log_e_mean_above(whole, 0.4), abs=1e-9)
    mirrored = [sums([1 - v for v in day]) for day in days]
    assert log_e_mean_below(mirrored, 0.6) == pytest.approx(log_e_mean_above(whole, 0.4), abs=1e-9)


def shares_mixture(windows: list[Window], ratio: float, grid: Vector, weights: Vector) -> float:
    """The formula of statistics.md 3.1, window by window."""
    total = 0.0
    for step, weight in zip(grid, weights / weights.sum(), strict=True):
        for xc, nc, xt, nt in windows:
            w = nc / (nc + nt)
            null = w * ratio / (1 - w + w * ratio)
            theta = w * ratio * exp(step) / (1 - w + w * ratio * exp(step))
            weight *= (theta / null) ** xc * ((1 - theta) / (1 - null)) ** xt
        total += weight
    return log(total)


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
def test_harm_and_safe_are_mixtures_of_event_shares(ratio: float) -> None:
    windows = [(5, 100, 20, 900), (7, 100, 30, 400)]
    up, down = np.linspace(log(1.05), log(20), 40), np.linspace(log(1 / 3), log(0.97), 30)
    near = np.exp(-0.5 * (up - log(2)) ** 2)
    gross = np.linspace(log(25), log(200), 8)
    weights = np.append(0.9 * near / near.sum(), np.full(8, 0.1 / 8))
    harm = shares_mixture(windows, ratio, np.append(up, gross), weights)
    safe = shares_mixture(windows, ratio, down, np.exp(-0.5 * ((down + log(ratio)) / 0.35) ** 2))
    assert log_e_harm(windows, ratio) == pytest.approx(harm)
    assert log_e_safe(windows, ratio) == pytest.approx(safe)


def test_mean_is_the_empirical_bernstein_mixture() -> None:
    days = [[0.9, 0.4], [0.1, 0.8, 0.7], [0.6]]
    bets = np.geomspace(0.002, 0.9, 12)
    log_e = np.log(np.sqrt(bets) / np.sqrt(bets).sum())
    before: list[float] = [0.3]
    for values in days:
        m = float(np.mean(before))
        c = max(m, 0.3)
        for x in values:
            log_e += bets * (x - 0.3) / c + (np.log1p(-bets) + bets) * ((x - m) / c) ** 2
        before += values
    windows = [(len(v), sum(v), sum(x * x for x in v)) for v in days]
    assert log_e_mean_above(windows, 0.3) == pytest.approx(float(np.log(np.exp(log_e).sum())))


def test_nothing_seen_is_no_evidence() -> None:
    silent: list[list[Window]] = [[], [(0, 50, 0, 50)], [(3, 10, 0, 0)], [(0, 0, 4, 10)]]
    for windows in silent:
        assert log_e_harm(windows) == log_e_safe(windows, 2.0) == 0.0
        assert ratio_interval(windows) == (0.0, inf)
    for value in (log_e_below([], 0.1), log_e_above([], 0.1), log_e_mean_above([], 0.5)):
        assert value == pytest.approx(0)
    assert log_e_mismatch((0, 0), (0.1, 0.9)) == log_e_discordant(0, 0) == log_mean([]) == 0.0
    assert culprits([], 0.05) == []


def test_impossible_events_are_overwhelming_and_stay_finite() -> None:
    assert ACT < log_e_above([(3, 5)], 0.0) < 1e3
    assert ACT < log_e_below([(2, 5)], 1.0) < 1e3
    assert log_e_above([(5, 5)], 1.0) == pytest.approx(0, abs=1e-9)
    assert ACT < log_e_mismatch((40, 60), (0.0, 1.0)) < 1e4


# ---- several guardrails


@given(st.lists(st.floats(-20, 40), min_size=1, max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_mean_and_culprits_follow_their_definitions(log_es: list[float], alpha: float) -> None:
    assert log_mean(log_es) == pytest.approx(log(sum(map(exp, log_es)) / len(log_es)))
    ranked = sorted(log_es, reverse=True)
    sizes = [i for i, e in enumerate(ranked, 1) if exp(e) * i * alpha >= len(log_es)]
    blamed = culprits(log_es, alpha)
    assert len(blamed) == max(sizes, default=0)
    assert sorted((log_es[i] for i in blamed), reverse=True) == ranked[: len(blamed)]


# ---- laws 1, 5, 6, 8: errors of decisions, quick simulations (large ones in tests/prove)

RUNS, POLLS = 150, 60


def rejections(
    draw: Callable[[np.random.Generator, int], Window], test: Callable[[list[Window]], float]
) -> int:
    """Runs in which the test ever acts at any poll."""
    rng = np.random.default_rng(7)
    acted = 0
    for _ in range(RUNS):
        windows: list[Window] = []
        for t in range(POLLS):
            windows.append(draw(rng, t))
            if test(windows) >= ACT:
                acted += 1
                break
    return acted


def traffic(
    rng: np.random.Generator, t: int, ratio: float = 1.0, base: float = 0.005, rows: int = 2000
) -> Window:
    """A ramp 2 -> 50 %, a rate that waves, an incident that hits both arms in polls 40 to 45."""
    share = (0.02, 0.05, 0.2, 0.5)[min(t // 15, 3)]
    p = base * (1 + 0.9 * np.sin(t / 5)) + (0.05 if 40 < t < 45 else 0)
    n = int(rng.binomial(rows, share))
    return int(rng.binomial(n, p * ratio)), n, int(rng.binomial(rows - n, p)), rows - n


def test_harmless_candidate_is_rarely_rolled_back() -> None:
    assert rejections(traffic, log_e_harm) <= 0.05 * RUNS


def test_harm_within_the_tolerated_ratio_is_rarely_rolled_back() -> None:
    acted = rejections(lambda rng, t: traffic(rng, t, 1.3), lambda w: log_e_harm(w, 1.3))
    assert acted <= 0.05 * RUNS


def test_harmful_candidate_is_rarely_promoted() -> None:
    acted = rejections(lambda rng, t: traffic(rng, t, 2.0), lambda w: log_e_safe(w, 2.0))
    assert acted <= 0.05 * RUNS


def test_both_answers_come_soon() -> None:
    assert rejections(lambda rng, t: traffic(rng, t, 2.0), log_e_harm) >= 0.95 * RUNS
    assert rejections(traffic, lambda w: log_e_safe(w, 2.0)) >= 0.95 * RUNS


def test_router_that_breaks_its_promise_harms_nobody_and_is_noticed() -> None:
    """Promised 10 %, sent 13 %: observed shares keep the error, the balance test tells."""

    def leaky(rng: np.random.Generator, _: int) -> Window:
        n = int(rng.binomial(1000, 0.13))
        return int(rng.binomial(n, 0.01)), n, int(rng.binomial(1000 - n, 0.01)), 1000 - n

    def balance(windows: list[Window]) -> float:
        return log_e_mismatch((sum(w[1] for w in windows), sum(w[3] for w in windows)), (0.1, 0.9))

    assert rejections(leaky, log_e_harm) <= 0.05 * RUNS
    assert rejections(leaky, balance) >= 0.95 * RUNS


def test_sticky_units_count_once() -> None:
    """Units with unlike habits: a first error per unit keeps the error, requests do not."""

    def first(x: list[Window]) -> float:
        return log_e_harm(x[1::2])

    def each(x: list[Window]) -> float:
        return log_e_harm(x[::2])

    acted = {first: 0, each: 0}
    rng = np.random.default_rng(3)
    for _ in range(60):
        windows = list(sticky(rng, units=2000, polls=30))
        for test in acted:
            acted[test] += any(test(windows[: 2 * k]) >= ACT for k in range(1, 31))
    assert acted[first] <= 0.05 * 60
    assert acted[each] > 0.2 * 60  # the trap is real, so the law above means something


def sticky(rng: np.random.Generator, units: int, polls: int) -> Iterator[Window]:
    """Per poll a window of requests and one of units at risk of their first error."""
    arm = rng.random(units) < 0.2
    habit = rng.lognormal(0, 1, units)
    bad = rng.random(units) < 0.02
    fresh = np.ones(units, dtype=bool)
    for _ in range(polls):
        requests = rng.poisson(habit)
        errors = rng.binomial(requests, np.where(bad, 0.3, 0.0005))
        yield (int(errors[arm].sum()), int(requests[arm].sum()),
               int(errors[~arm].sum()), int(requests[~arm].sum()))  # fmt: skip
        risk, hit = fresh & (requests > 0), fresh & (errors > 0)
        yield int(hit[arm].sum()), int(risk[arm].sum()), int(hit[~arm].sum()), int(risk[~arm].sum())
        fresh &= ~hit


def test_eight_guardrails_share_one_error() -> None:
    rng = np.random.default_rng(5)
    pooled = alone = 0
    for _ in range(100):
        guards: list[list[Window]] = [[] for _ in range(8)]
        any_pooled = any_alone = False
        for t in range(12):
            for windows in guards:
                windows.append(traffic(rng, 15, rows=1000) if t else traffic(rng, 30))
            log_es = [log_e_harm(w) for w in guards]
            any_pooled |= log_mean(log_es) >= ACT
            any_alone |= max(log_es) >= ACT
        pooled, alone = pooled + any_pooled, alone + any_alone
    assert pooled <= 5
    assert alone >= pooled


def test_paired_losses_find_a_small_difference_and_forgive_none() -> None:
    rng = np.random.default_rng(11)

    def acts(shift: float) -> int:
        count = 0
        for _ in range(40):
            x = np.clip(rng.normal(0.5 + shift / 2, 0.05, (40, 100)), 0, 1)
            windows = [(100, float(v.sum()), float((v * v).sum())) for v in x]
            count += any(log_e_mean_above(windows[:k], 0.5) >= ACT for k in range(1, 41))
        return count

    assert acts(0.0) <= 2
    assert acts(0.01) >= 38


# ---- the confidence sequence


def test_interval_covers_the_ratio_at_every_look() -> None:
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(40):
        windows: list[Window] = []
        outside = False
        for t in range(12):
            windows.append(traffic(rng, 5 * t, 1.5, rows=10_000))
            low, high = ratio_interval(windows)
            outside |= not low <= 1.5 <= high
        missed += outside
        assert high / low < 2.5
    assert missed <= 2


def test_interval_ends_are_where_the_tests_turn() -> None:
    windows = [(30, 1000, 150, 9000)]
    low, high = ratio_interval(windows)
    assert low < 1.8 < high
    tight, wide = ratio_interval(windows, 0.2), ratio_interval(windows, 0.001)
    assert wide[0] < low < tight[0] < 1.8 < tight[1] < high < wide[1]
    swapped = ratio_interval([(150, 9000, 30, 1000)])
    assert swapped == pytest.approx((1 / high, 1 / low), rel=1e-4)
    assert ratio_interval([(0, 1000, 30, 1000)])[0] == 0.0
    assert ratio_interval([(30, 1000, 0, 1000)])[1] == inf


@pytest.mark.parametrize("p", [0.001, 0.05, 0.5, 0.98])
def test_intervals_cover_rates_and_means_at_every_look(p: float) -> None:
    rng = np.random.default_rng(6)
    missed = np.zeros(2)
    for _ in range(40):
        x = np.cumsum(rng.binomial(500, p, 30)).tolist()
        outside = np.zeros(2)
        for k in range(30):
            counts = [(x[k], 500 * (k + 1))]
            moments = [(500, float(b - a), float(b - a)) for a, b in pairwise([0, *x[: k + 1]])]
            ends = [rate_interval(counts), mean_interval(moments)]
            outside = np.maximum(outside, [not low <= p <= high for low, high in ends])
        missed += outside
        half = 4 * np.sqrt(p * (1 - p) / 15_000)
        assert ends[0][1] - ends[0][0] < 2.5 * half
        assert ends[1][1] - ends[1][0] < 2.5 * half + 0.003
    assert missed.max() <= 2


def test_intervals_of_little_are_wide_and_meet_the_tests() -> None:
    assert rate_interval([]) == mean_interval([]) == (0.0, 1.0)
    assert rate_interval([(0, 100)])[0] == 0.0 and rate_interval([(100, 100)])[1] == 1.0
    low, high = rate_interval([(30, 100), (20, 100)])
    mirrored = rate_interval([(150, 200)])
    assert (1 - high, 1 - low) == pytest.approx(mirrored) and low < 0.25 < high
    low, high = mean_interval([(50, 10.0, 4.0), (50, 12.0, 5.0)])
    mirrored = mean_interval([(50, 40.0, 34.0), (50, 38.0, 31.0)])
    assert (1 - high, 1 - low) == pytest.approx(mirrored) and low < 0.22 < high


def test_a_thousand_windows_take_a_millisecond_or_so() -> None:
    rng = np.random.default_rng(0)
    windows = [traffic(rng, t) for t in range(1000)]
    assert min(repeat(lambda: log_e_harm(windows), number=3, repeat=5)) / 3 < 0.01
