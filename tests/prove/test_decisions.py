"""Large simulations of every error that a decision states (statistics.md 11): `make prove`.

Paths of evidence are computed for all runs at once by the formula of event shares and compared
with the product's own function on samples; the error is then counted at EVERY poll.
"""

from collections.abc import Callable
from math import log

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from fairlead.core.drift import alarms, breaches, step, watch
from fairlead.core.intervals import mover_ratio, newcombe, wilson
from fairlead.core.metrics import METRICS, paired_gain
from fairlead.core.profile import ColumnProfile, profile_numbers, quantile_edges
from fairlead.core.sequential import (
    Window,
    log_e_above,
    log_e_below,
    log_e_discordant,
    log_e_harm,
    log_e_mean_above,
    log_e_mean_below,
    log_e_mismatch,
    log_e_safe,
    log_mean,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ACT = log(20)
ALPHA = 0.05


def within(acted: int, runs: int, alpha: float = ALPHA) -> bool:
    """The upper 99 % limit of the error that a rate of alpha would show is not exceeded."""
    return acted <= int(binom.ppf(0.99, runs, alpha))


class Arms:
    """Counts (runs, polls) of both arms."""

    def __init__(self, xc: Ints, nc: Ints, xt: Ints, nt: Ints) -> None:
        self.parts = xc, nc, xt, nt

    def windows(self, run: int, polls: int) -> list[Window]:
        xc, nc, xt, nt = (p[run, :polls].tolist() for p in self.parts)
        return list(zip(xc, nc, xt, nt, strict=True))

    def paths(self, ratio: float, safe: bool = False) -> Floats:
        """log e at every poll of every run."""
        steps = (
            np.linspace(log(1 / 3), log(0.97), 30) if safe else np.linspace(log(1.05), log(20), 40)
        )
        center, sd = (-log(ratio), 0.35) if safe else (log(2), 1.0)
        weights = np.exp(-0.5 * ((steps - center) / sd) ** 2)
        xc, nc, xt, nt = (p.astype(np.float64) for p in self.parts)
        odds = nc / np.maximum(nt, 1) * ratio
        total = np.full(xc.shape, -np.inf)
        for k, weight in zip(steps, weights / weights.sum(), strict=True):
            factor = xc * k + (xc + xt) * (np.log1p(odds) - np.log1p(odds * np.exp(k)))
            total = np.logaddexp(total, log(weight) + np.cumsum(factor, axis=1))
        self._agrees(total, ratio, safe)
        return total

    def _agrees(self, total: Floats, ratio: float, safe: bool) -> None:
        test = log_e_safe if safe else log_e_harm
        for run, polls in ((0, 1), (len(total) // 2, total.shape[1] // 2), (-1, total.shape[1])):
            own = test(self.windows(run, polls), ratio)
            assert own == pytest.approx(float(total[run, polls - 1]), abs=1e-6)


def draw(
    runs: int,
    polls: int,
    *,
    ratio: float = 1.0,
    base: float = 0.005,
    rows: int = 3000,
    share: float | Floats = 0.1,
    rate: Floats | None = None,
    seed: int = 0,
) -> Arms:
    rng = np.random.default_rng(seed)
    p = np.full(polls, base) if rate is None else rate
    nc = rng.binomial(rows, np.broadcast_to(share, polls), (runs, polls))
    nt = rows - nc
    return Arms(rng.binomial(nc, p * ratio), nc, rng.binomial(nt, p), nt)


POLLS = 1440
RAMP = np.array([0.01, 0.05, 0.25, 0.5])[np.minimum(np.arange(POLLS) // 30, 3)]
WAVE = 0.005 * (1 + 0.9 * np.sin(np.arange(POLLS) / 50))
INCIDENT = np.where((np.arange(POLLS) % 200) < 10, 0.08, 0.005)


@pytest.mark.parametrize(
    ("name", "share", "rate"),
    [
        ("steady", 0.1, np.full(POLLS, 0.005)),
        ("ramp", RAMP, np.full(POLLS, 0.005)),
        ("ramp, waves", RAMP, WAVE),
        ("shared incidents", 0.1, INCIDENT),
        ("frequent events", 0.3, np.full(POLLS, 0.4)),
    ],
)
def test_1_false_rollback_at_any_of_1440_polls(name: str, share: float, rate: Floats) -> None:
    arms = draw(1000, POLLS, share=share, rate=rate, rows=1000)
    acted = int((arms.paths(1.0).max(axis=1) >= ACT).sum())
    print(f"false rollback, {name}: {acted} of 1000")  # noqa: T201
    assert within(acted, 1000)


def test_1_false_rollback_at_the_tolerated_ratio() -> None:
    arms = draw(1000, POLLS, ratio=1.2, rate=WAVE, share=RAMP, rows=1000)
    assert within(int((arms.paths(1.2).max(axis=1) >= ACT).sum()), 1000)


def test_1_looks_inside_a_window_that_grows() -> None:
    """All counters in one window, read 300 times while it grows: the share moves with them."""
    arms = draw(300, 300, rows=100, base=0.02)
    grown = [np.cumsum(p, axis=1) for p in arms.parts]
    acted = 0
    for run in range(300):
        looks = zip(*(g[run].tolist() for g in grown), strict=True)
        acted += any(log_e_harm([look]) >= ACT for look in looks)
    assert within(acted, 300)


@pytest.mark.parametrize("ratio", [1.5, 2.0])
def test_5_false_promotion_at_the_excluded_ratio(ratio: float) -> None:
    arms = draw(1000, POLLS, ratio=ratio, rate=WAVE, share=RAMP, rows=1000)
    assert within(int((arms.paths(ratio, safe=True).max(axis=1) >= ACT).sum()), 1000)


@pytest.mark.parametrize(
    ("ratio", "rows"), [(1.5, 1000), (2.0, 250), (3.0, 100), (5.0, 50), (10.0, 25)]
)
def test_4_delay_is_near_that_of_the_oracle(ratio: float, rows: int) -> None:
    """The oracle is Wald's test that knows the true ratio; base 0.5 %, share 10 %."""
    arms = draw(400, 600, ratio=ratio, rows=rows, seed=1)
    xc, _, xt, _ = arms.parts
    theta, w = 0.1 * ratio / (0.9 + 0.1 * ratio), 0.1
    oracle = np.cumsum(xc * log(theta / w) + xt * log((1 - theta) / (1 - w)), axis=1)

    def delay(paths: Floats) -> float:
        first = np.where((paths >= ACT).any(axis=1), (paths >= ACT).argmax(axis=1), 600)
        return float(np.median(first) + 1)

    ours, best = delay(arms.paths(1.0)), delay(oracle)
    print(f"ratio {ratio}: {ours * rows:.0f} requests, oracle {best * rows:.0f}")  # noqa: T201
    assert ours <= 1.5 * best + 1


def test_5_a_harmless_candidate_is_promoted_within_the_hour() -> None:
    paths = draw(500, 60).paths(2.0, safe=True)
    assert ((paths >= ACT).any(axis=1)).mean() >= 0.99


def ever(
    runs: int, looks: int, path: Callable[[np.random.Generator], Callable[[int], float]]
) -> int:
    """In how many runs the evidence acts at any look; `path(rng)(k)` is log e after k windows."""
    rng = np.random.default_rng(12)
    acted = 0
    for _ in range(runs):
        log_e = path(rng)
        acted += any(log_e(k) >= ACT for k in range(1, looks + 1))
    return acted


def counts_of(
    test: Callable[[list[tuple[int, int]], float], float],
) -> Callable[..., Callable[[int], float]]:
    def path(rng: np.random.Generator) -> Callable[[int], float]:
        x = [(int(k), 50) for k in rng.binomial(50, 0.03, 200)]
        return lambda k: test(x[:k], 0.03)

    return path


def moments_of(
    test: Callable[[list[tuple[int, float, float]], float], float],
    values: Callable[[np.random.Generator], Floats],
    mu: float,
) -> Callable[..., Callable[[int], float]]:
    def path(rng: np.random.Generator) -> Callable[[int], float]:
        x = [(len(v), float(v.sum()), float((v * v).sum())) for v in values(rng)]
        return lambda k: test(x[:k], mu)

    return path


def discordant(rng: np.random.Generator) -> Callable[[int], float]:
    x = np.cumsum(rng.multinomial(20, [0.05, 0.05, 0.9], 200), axis=0)
    return lambda k: log_e_discordant(int(x[k - 1, 0]), int(x[k - 1, 1]))


def mismatch(rng: np.random.Generator) -> Callable[[int], float]:
    x = np.cumsum(rng.multinomial(30, [0.1, 0.3, 0.6], 200), axis=0)
    return lambda k: log_e_mismatch(x[k - 1].tolist(), (0.1, 0.3, 0.6))


def beta(rng: np.random.Generator) -> Floats:
    return rng.beta(2, 8, (200, 10))


def losses(rng: np.random.Generator) -> Floats:
    return np.asarray(np.clip(rng.normal(0.5, 0.1, (200, 10)), 0, 1), dtype=np.float64)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("rate above", counts_of(log_e_above)),
        ("rate below", counts_of(log_e_below)),
        ("mean above", moments_of(log_e_mean_above, beta, 0.2)),
        ("mean below", moments_of(log_e_mean_below, beta, 0.2)),
        ("paired loss", moments_of(log_e_mean_above, losses, 0.5)),
        ("discordant pairs", discordant),
        ("sample ratio", mismatch),
    ],
)
def test_1_false_action_of_each_kind_of_evidence(
    name: str, path: Callable[[np.random.Generator], Callable[[int], float]]
) -> None:
    acted = ever(500, 200, path)
    print(f"false action, {name}: {acted} of 500")  # noqa: T201
    assert within(acted, 500)


def test_6_a_router_that_leaks_raises_no_alarm_on_errors() -> None:
    drifting = 0.13 + 0.06 * np.sin(np.arange(POLLS) / 9)
    arms = draw(1000, POLLS, share=drifting, base=0.01, rows=500)
    assert within(int((arms.paths(1.0).max(axis=1) >= ACT).sum()), 1000)


def test_6_sticky_units_counted_once_keep_the_error() -> None:
    rng = np.random.default_rng(4)
    runs, units, polls = 400, 4000, 60
    counts = np.zeros((4, runs, polls), dtype=np.int64)
    for run in range(runs):
        arm = rng.random(units) < 0.1
        habit = rng.lognormal(-1, 1, units)
        chance = np.where(rng.random(units) < 0.02, 0.3, 0.0005)
        fresh = np.ones(units, dtype=bool)
        for t in range(polls):
            requests = rng.poisson(habit)
            risk = fresh & (requests > 0)
            hit = risk & (rng.random(units) < 1 - (1 - chance) ** requests)
            fresh &= ~hit
            counts[:, run, t] = (hit & arm).sum(), (risk & arm).sum(), (hit & ~arm).sum(), (risk & ~arm).sum()  # fmt: skip
    assert within(int((Arms(*counts).paths(1.0).max(axis=1) >= ACT).sum()), runs)


def test_7_delayed_labels_with_a_ramp() -> None:
    """Conversions arrive days later while the share grows: cohorts at risk, never `so far`."""
    rng = np.random.default_rng(8)
    runs, hours, rows = 200, 48, 400
    share = np.array([0.05, 0.25, 0.5])[np.arange(hours) // 16]
    naive = acted = 0
    for _ in range(runs):
        entered_c = rng.binomial(rows, share)
        at_risk = np.stack([entered_c, rows - entered_c]).astype(np.int64)
        converted, windows = np.zeros(2), []
        hit = crossed = False
        for hour in range(1, hours):
            events = rng.binomial(at_risk[:, :hour], 0.003)
            for s in np.nonzero(events.sum(axis=0))[0]:
                (xc, xt), (nc, nt) = events[:, s], at_risk[:, s]
                windows.append((int(xc), int(nc), int(xt), int(nt)))
            at_risk[:, :hour] -= events
            converted += events.sum(axis=1)
            crossed |= log_e_harm(windows) >= ACT
            seen = np.array([entered_c[:hour].sum(), (rows - entered_c[:hour]).sum()])
            p = converted.sum() / seen.sum()
            gap = converted[1] / seen[1] - converted[0] / seen[0]
            hit |= bool(hour > 20 and gap > 1.96 * np.sqrt(p * (1 - p) * (1 / seen).sum()))
        acted, naive = acted + crossed, naive + hit
    print(f"delayed labels: {acted} of {runs}, naive rate so far {naive}")  # noqa: T201
    assert within(acted, runs)
    assert naive > 0.5 * runs  # the trap is real


def test_8_eight_guardrails_averaged() -> None:
    paths = np.stack([draw(1000, 60, base=0.01, seed=s).paths(1.0) for s in range(8)])
    pooled = np.logaddexp.reduce(paths, axis=0) - log(8)
    assert float(pooled[3, 59]) == pytest.approx(log_mean(paths[:, 3, 59].tolist()))
    averaged = int((pooled.max(axis=1) >= ACT).sum())
    alone = int((paths.max(axis=(0, 2)) >= ACT).sum())
    print(f"8 guardrails: averaged {averaged}, each alone {alone} of 1000")  # noqa: T201
    assert within(averaged, 1000)
    assert alone > averaged


# ---- law 9: drift

EDGES = quantile_edges(np.random.default_rng(1).normal(size=50_000))


def day(rng: np.random.Generator, mean: float, n: int = 1000) -> ColumnProfile:
    return profile_numbers("x", rng.normal(mean, 1, n), EDGES)


def alarmed(
    columns: int, days: int, *, week: float = 0.0, move: float = 0.05, memory: float = 0.0,
    shift: float = 0.0, seed: int = 0,
) -> tuple[set[int], set[int], int]:  # fmt: skip
    """(columns that ever alarm, those of them confirmed by `breaches`, first day of column 0).

    30 days of reference; benign means move by `week` sd between weekdays and by `move` sd from
    day to day with autocorrelation `memory`; column 0 shifts by `shift` sd.
    """
    rng = np.random.default_rng(seed)
    weekday = rng.normal(0, week, (7, columns))
    state = rng.normal(0, move, columns)

    def draw_day(t: int) -> list[ColumnProfile]:
        nonlocal state
        state = memory * state + np.sqrt(1 - memory**2) * rng.normal(0, move, columns)
        means = state + weekday[t % 7]
        means[0] += shift if t >= 30 else 0.0
        return [day(rng, m) for m in means]

    past = [draw_day(t) for t in range(30)]
    detectors = [watch([today[i] for today in past]) for i in range(columns)]
    found: set[int] = set()
    confirmed: set[int] = set()
    first = days + 1
    for t in range(30, 30 + days):
        windows = draw_day(t)
        detectors = [step(d, w) for d, w in zip(detectors, windows, strict=True)]
        now = alarms(detectors, every=365)
        found.update(now)
        confirmed.update(i for i in now if breaches(detectors[i].reference, windows[i]))
        if 0 in now:
            first = min(first, t - 29)
    return found, confirmed, first


def test_9_two_hundred_columns_alarm_at_most_once_a_year() -> None:
    found, _, _ = alarmed(200, 365)
    print(f"200 columns, 365 days without drift: {len(found)} alarm")  # noqa: T201
    assert len(found) <= 1


def test_9_dependent_days_alarm_more_often_but_are_not_confirmed() -> None:
    found, confirmed, _ = alarmed(60, 365, week=0.04, move=0.03, memory=0.5, seed=1)
    print(f"60 columns, 365 days, weekdays and weather: {len(found)} alarm")  # noqa: T201
    assert len(found) <= 4
    assert not confirmed
    found, confirmed, _ = alarmed(60, 365, memory=0.5, seed=1)
    print(f"60 columns, 365 days, autocorrelation 0.5: {len(found)} alarm")  # noqa: T201
    assert not confirmed


def test_9_a_quarter_of_a_deviation_is_found_within_ten_days() -> None:
    firsts = [alarmed(5, 14, shift=0.25, seed=s)[2] for s in range(40)]
    print(f"shift 0.25 sd: median day {np.median(firsts)}")  # noqa: T201
    assert np.median(firsts) <= 7
    assert np.mean(np.array(firsts) <= 10) >= 0.9


def test_9_the_mean_run_length_is_as_promised() -> None:
    """One column, one false alarm in 60 windows accepted, 100 runs of at most 240 windows."""
    rng = np.random.default_rng(2)
    runs = []
    for _ in range(100):
        detector = watch([day(rng, 0, 100) for _ in range(15)])
        for t in range(1, 241):  # noqa: B007  the run length
            detector = step(detector, day(rng, 0, 100))
            if alarms([detector], every=60):
                break
        runs.append(t)
    print(f"mean run length {np.mean(runs):.0f} (cut at 240), promised 60")  # noqa: T201
    assert np.mean(runs) >= 60


# ---- law 11: intervals of small groups, and of paired gains


@pytest.mark.parametrize("n", [25, 40, 100, 200, 400])
@pytest.mark.parametrize(("p", "q"), [(0.05, 0.1), (0.02, 0.02), (0.3, 0.4)])
def test_11_small_groups_are_covered(n: int, p: float, q: float) -> None:
    rng = np.random.default_rng(n)
    rounds = 4000
    difference = ratio = 0
    for j, k in zip(
        rng.binomial(n, p, rounds).tolist(), rng.binomial(1000, q, rounds).tolist(), strict=True
    ):
        low, high = newcombe((j, n), (k, 1000))
        difference += low <= p - q <= high
        low, high = mover_ratio((j / n, *wilson(j, n)), (k / 1000, *wilson(k, 1000)))
        ratio += low <= p / q <= high
    assert difference / rounds >= 0.93
    assert ratio / rounds >= 0.93


@pytest.mark.parametrize("name", ["auc", "log_loss", "accuracy"])
def test_11_paired_gain_covers_the_truth(name: str) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=400_000)
    y = (rng.random(400_000) < 1 / (1 + np.exp(1 - z))).astype(np.float64)
    a = 1 / (1 + np.exp(1 - z + rng.normal(0, 0.6, 400_000)))
    b = 1 / (1 + np.exp(1 - z + rng.normal(0, 0.7, 400_000)))
    truth = paired_gain(METRICS[name], y, a, b)[0]
    covered = 0
    for cut in np.split(np.arange(400_000), 1000):
        _, low, high = paired_gain(METRICS[name], y[cut], a[cut], b[cut])
        covered += low <= truth <= high
    print(f"paired gain of {name}, 400 rows: covered {covered} of 1000")  # noqa: T201
    assert 930 <= covered <= 985
