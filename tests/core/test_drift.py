"""Drift: distances, the detector's error and power, margins."""

from math import inf, isnan, log

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, wasserstein_distance

from fairlead.core.drift import (
    Detector,
    Margin,
    alarms,
    breaches,
    distance,
    js,
    psi,
    psi_noise,
    restart,
    step,
    wasserstein,
    watch,
)
from fairlead.core.profile import (
    ColumnProfile,
    merge,
    profile_labels,
    profile_numbers,
    quantile_edges,
)
from fairlead.errors import Invalid

Vector = NDArray[np.float64]
EDGES = quantile_edges(np.random.default_rng(99).normal(size=20_000))


def window(rng: np.random.Generator, shift: float = 0.0, n: int = 500) -> ColumnProfile:
    return profile_numbers("x", rng.normal(shift, 1, n), EDGES)


def reference(rng: np.random.Generator, windows: int = 30, n: int = 500) -> Detector:
    return watch([window(rng, n=n) for _ in range(windows)])


# ---- distances


def test_distances_equal_their_formulas() -> None:
    p, q = np.array([30.0, 50, 20]) * 1e4, np.array([20.0, 40, 40]) * 1e4
    assert psi(p, q) == pytest.approx(0.1 * log(1.5) + 0.1 * log(1.25) + 0.2 * log(2), abs=1e-4)
    assert js(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-4)
    assert psi(p, p) == js(p, p) == 0.0
    assert js([1e9, 0], [0, 1e9]) == pytest.approx(1, abs=1e-6)


def test_wasserstein_is_near_that_of_the_values() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20_000), rng.normal(0.5, 1.2, size=5_000)
    known = wasserstein_distance(a, b) / a.std()
    seen = wasserstein(profile_numbers("x", a, EDGES), profile_numbers("x", b, EDGES))
    assert seen == pytest.approx(known, rel=0.15)
    assert isnan(wasserstein(profile_labels("x", {"a": 1}), profile_labels("x", {"a": 1})))


def test_psi_noise_is_the_quantile_of_psi_without_drift() -> None:
    assert psi_noise(10, 200, 200, 0.05) == pytest.approx(chi2.ppf(0.95, 9) / 100, rel=1e-2)
    rng = np.random.default_rng(1)
    pairs = rng.multinomial(2000, np.full(10, 0.1), (500, 2))
    above = np.mean([psi(a, b) > psi_noise(10, 2000, 2000, 0.05) for a, b in pairs])
    assert 0.02 < above < 0.08
    assert psi_noise(1, 10, 10, 0.05) == 0.0


def test_unseen_values_and_nulls_are_counted() -> None:
    old = profile_labels("c", {"a": 60, "b": 40})
    new = profile_labels("c", {"a": 30, "b": 20, "z": 50}, nulls=100, known=list(old.labels))
    seen = distance(old, new)
    assert seen.unseen == pytest.approx(0.5)
    assert seen.nulls == pytest.approx(0.5)
    words = " ".join(breaches(old, new))
    assert all(name in words for name in ("psi", "nulls", "unseen"))
    assert breaches(old, profile_labels("c", {"a": 61, "b": 39})) == []
    assert breaches(old, profile_labels("c", {})) == []
    few = profile_labels("c", {"a": 6, "b": 4, "z": 1}, nulls=1, known=list(old.labels))
    assert breaches(old, few) == []


def test_small_windows_need_a_larger_psi() -> None:
    rng = np.random.default_rng(4)
    old = window(rng, n=20_000)
    assert not any(breaches(old, window(rng, n=60)) for _ in range(300))
    assert not any(breaches(old, window(rng, 0.1, n=5000)) for _ in range(20))
    assert all(breaches(old, window(rng, 0.6, n=5000)) for _ in range(20))
    assert breaches(old, window(rng, 0.2, n=5000)) == []
    assert breaches(old, window(rng, 0.2, n=5000), Margin(psi=0.001)) != []


def test_columns_of_other_edges_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(Invalid, match="other edges"):
        distance(window(rng), profile_numbers("x", [1.0], (0.0, 1.0)))
    with pytest.raises(Invalid, match="other edges"):
        step(reference(rng), profile_numbers("x", [1.0]))


# ---- the detector: law 9


def test_false_alarms_come_no_more_often_than_promised() -> None:
    """Three columns, one false alarm in 40 windows accepted: the mean run length is longer."""
    rng = np.random.default_rng(0)
    runs = []
    for _ in range(10):
        detectors = [reference(rng, 15, n=100) for _ in range(3)]
        for t in range(1, 81):  # noqa: B007  the run length
            detectors = [step(d, window(rng, n=100)) for d in detectors]
            if alarms(detectors, every=40):
                break
        runs.append(t)
    assert np.mean(runs) >= 40


@pytest.mark.parametrize("shift", [0.25, -0.25])
def test_a_shift_is_found_within_days(shift: float) -> None:
    rng = np.random.default_rng(1)
    others = [reference(rng, 60) for _ in range(2)]
    drifting = reference(rng, 60)
    for day in range(1, 15):  # noqa: B007  the day of the alarm
        drifting = step(drifting, window(rng, shift))
        others = [step(d, window(rng)) for d in others]
        if found := alarms([others[0], drifting, others[1]], every=365):
            break
    assert found == [1]
    assert day <= 8
    calm = restart(drifting)
    assert alarms([calm], every=1) == []
    assert calm.history == drifting.history


def test_new_labels_and_nulls_are_found() -> None:
    rng = np.random.default_rng(2)

    def draw(null: float, new: float) -> ColumnProfile:
        a, b, z, nulls = rng.multinomial(400, [0.6 - null, 0.4 - new, new, null]).tolist()
        return profile_labels("c", {"a": a, "b": b, "z": z}, nulls, known=["a", "b"])

    start = watch([draw(0.01, 0.001) for _ in range(30)])
    for null, new in ((0.08, 0.001), (0.01, 0.05)):
        d = start
        for _ in range(8):
            d = step(d, draw(null, new))
        assert alarms([d], every=365) == [0]
    assert alarms([start], every=1) == []


def test_detector_is_a_value() -> None:
    rng = np.random.default_rng(3)
    d = reference(rng, 5)
    assert d.log_m == -inf
    today = window(rng)
    moved = step(d, today)
    assert step(d, today) == moved
    assert len(moved.history) == len(d.history) + 1
    assert step(moved, profile_numbers("x", [], EDGES)) is moved
    parts = profile_numbers("x", [0.5] * 300, EDGES), profile_numbers("x", [1.5] * 200, EDGES)
    waiting = step(moved, parts[0])
    assert (waiting.log_m, waiting.history) == (moved.log_m, moved.history)
    assert step(waiting, parts[1]) == step(moved, merge(*parts))
    assert msgspec.json.decode(msgspec.json.encode(moved), type=Detector) == moved


def test_reference_windows_are_measured_as_later_ones_are() -> None:
    rng = np.random.default_rng(8)
    windows = [window(rng, n=60) for _ in range(4)]
    for i, today in enumerate(windows):
        later = step(watch(windows[:i] + windows[i + 1 :]), today).history[-1]
        assert watch(windows).history[i] == pytest.approx(later)


def test_more_columns_need_more_evidence() -> None:
    rng = np.random.default_rng(9)
    d = reference(rng)
    for _ in range(4):
        d = step(d, window(rng, 0.5))
    assert alarms([d], every=30) == [0]
    assert alarms([d] * 10_000, every=30) == []


def test_bets_have_mean_one_when_windows_are_exchangeable() -> None:
    """The first step is M = e, whose mean over the rank of today among the windows is at most 1."""
    rng = np.random.default_rng(6)
    windows = [window(rng, rng.normal(), 200) for _ in range(12)]
    means = []
    for i, today in enumerate(windows):
        d = step(watch(windows[:i] + windows[i + 1 :]), today)
        means.append(np.exp(d.log_m))
    assert 0.5 < np.mean(means) <= 1.001


def test_a_column_without_values_is_watched_too() -> None:
    empty = profile_numbers("x", [np.nan] * 50)
    d = watch([empty] * 20)
    for _ in range(4):
        d = step(d, profile_numbers("x", [1.0] * 50))
    assert alarms([d], every=10) == [0]
    assert breaches(empty, profile_numbers("x", [1.0] * 50)) == [
        "nulls 100.0% -> 0.0%, more than 5.0% apart"
    ]
    with pytest.raises(Invalid, match="needs two"):
        watch([profile_numbers("x", []), empty])
    assert alarms([], every=365) == []
