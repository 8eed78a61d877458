"""Estimates: metrics expected without labels equal those that labels would give, and say how far they may be off."""

from math import isnan

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from fairlead.core.estimate import calibrate, cbpe, fit_errors
from fairlead.core.intake import seat
from fairlead.core.profile import ColumnProfile, profile_numbers, quantile_edges
from fairlead.errors import Invalid

Vector = NDArray[np.float64]


def labelled(n: int, seed: int, shift: float = 0.0) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(seed)
    z = rng.normal(shift, 1, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float64)
    return y, np.round(1 / (1 + np.exp(-2 * z)), 3)  # overconfident, with ties


def test_calibration_equals_isotonic_regression() -> None:
    y, score = labelled(3000, 0)
    known = IsotonicRegression(out_of_bounds="clip").fit(score, y)
    new = np.random.default_rng(1).random(500)
    assert calibrate(score, y).rate(new) == pytest.approx(
        np.clip(known.predict(new), 1e-6, 1 - 1e-6), abs=1e-9
    )


def test_expected_metrics_equal_the_mean_over_drawn_labels() -> None:
    rng = np.random.default_rng(5)
    score, p = np.round(rng.random(60), 1), rng.random(60)
    seen = cbpe(score, p, 0.4)
    pairs = p[:, None] * (1 - p)[None, :]
    wins = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    assert seen.auc == pytest.approx((pairs * wins).sum() / pairs.sum())
    y = rng.random((20_000, 60)) < p
    guess = score >= 0.4
    right = (y == guess).mean(axis=1)
    assert seen.accuracy == pytest.approx(right.mean(), abs=2e-3)
    assert seen.sd_accuracy == pytest.approx(right.std(), rel=0.03)
    assert seen.precision == pytest.approx(y[:, guess].mean(), abs=3e-3)
    assert seen.true_positive_rate == pytest.approx((y & guess).sum() / y.sum(), abs=3e-3)
    assert seen.brier == pytest.approx(((score - y) ** 2).mean(), abs=3e-3)
    assert seen.positive_rate == guess.mean()
    hits, misses = (y & guess).mean(), (y != guess).mean()
    assert seen.f1 == pytest.approx(2 * hits / (2 * hits + misses), abs=3e-3)


def test_estimate_follows_a_shift_of_the_inputs() -> None:
    y, score = labelled(20_000, 0)
    calibration = calibrate(score, y)
    truth, shifted = labelled(20_000, 1, shift=1.5)
    seen = cbpe(shifted, calibration.rate(shifted))
    assert seen.accuracy == pytest.approx(np.mean((shifted >= 0.5) == truth), abs=0.012)
    assert seen.auc == pytest.approx(roc_auc_score(truth, shifted), abs=0.02)
    assert abs(seen.accuracy - np.mean((score >= 0.5) == y)) > 0.03


def test_estimates_need_rows() -> None:
    with pytest.raises(Invalid, match="0 scores"):
        calibrate([], [])
    with pytest.raises(Invalid, match="2 scores and 1"):
        cbpe([0.1, 0.2], [0.5])
    assert isnan(cbpe([0.1], [0.2]).precision)


def test_the_bands_are_those_of_drawn_labels() -> None:
    rng = np.random.default_rng(6)
    score = rng.random(400)
    p = score
    seen, y = cbpe(score, p), rng.random((400, 400)) < p
    aucs = [roc_auc_score(truth, score) for truth in y]
    assert seen.sd_auc == pytest.approx(np.std(aucs), rel=0.25)
    assert seen.sd_brier == pytest.approx(((score - y) ** 2).mean(axis=1).std(), rel=0.05)
    assert isnan(cbpe([0.1], [0.2]).sd_auc)


def regression(rng: np.random.Generator, n: int, shift: float) -> tuple[Vector, Vector, Vector]:
    """A column that makes errors large, one that does not, and the errors."""
    loud, idle = rng.normal(shift, 1, n), rng.normal(size=n)
    return loud, idle, rng.normal(size=n) * (0.5 + np.maximum(loud, 0))


def test_expected_error_follows_a_shift_and_reads_histograms_only() -> None:
    rng = np.random.default_rng(8)
    columns = regression(rng, 20_000, 0.0)
    seats = {name: seat(profile_numbers(name, values, quantile_edges(values)))
             for name, values in zip(("loud", "idle"), columns, strict=False)}  # fmt: skip
    model = fit_errors({n: s.codes(v) for (n, s), v in zip(seats.items(), columns, strict=False)},
                       {n: s.size for n, s in seats.items()}, columns[2])  # fmt: skip
    for shift in (0.0, 0.7):
        loud, idle, error = regression(rng, 20_000, shift)
        window = {"loud": profiled(seats["loud"].profile, loud), "idle": profiled(seats["idle"].profile, idle)}
        absolute, squared = model.expect(window)
        assert absolute == pytest.approx(np.abs(error).mean(), rel=0.08)
        assert squared == pytest.approx((error**2).mean(), rel=0.15)
    assert model.expect({}) == model.base, "of what is not known nothing is assumed"


def profiled(of: ColumnProfile, values: Vector) -> ColumnProfile:
    return profile_numbers(of.name, values, of.edges)
