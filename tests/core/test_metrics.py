"""Metrics equal scikit-learn; intervals and gains cover what a bootstrap and the truth say."""

from collections.abc import Callable
from math import isnan
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from fairlead.core.intervals import wilson
from fairlead.core.metrics import METRICS, metric_interval, paired_gain
from fairlead.errors import Invalid

Vector = NDArray[np.float64]


def scores(n: int, seed: int = 0, noise: float = 0.7) -> tuple[Vector, Vector, Vector]:
    """Labels and two models of which the first is better; the second has many ties."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(0.7 - 1.5 * z))).astype(np.float64)
    a = 1 / (1 + np.exp(0.7 - 1.5 * z + noise * rng.normal(size=n)))
    b = np.round(1 / (1 + np.exp(0.7 - 1.5 * z + 1.5 * noise * rng.normal(size=n))), 2)
    return y, a, b


def at(metric: Callable[..., float], cut: float = 0.3) -> Callable[[Vector, Vector], float]:
    return lambda y, s: float(metric(y, s >= cut))


BINARY: dict[str, Callable[[Vector, Vector], float]] = {
    "auc": sk.roc_auc_score,
    "log_loss": sk.log_loss,
    "brier": sk.brier_score_loss,
    "accuracy": at(sk.accuracy_score),
    "positive_rate": lambda y, s: float((s >= 0.3).mean()),
    "true_positive_rate": at(sk.recall_score),
    "false_positive_rate": at(lambda y, s: 1 - sk.recall_score(1 - y, ~s)),
    "precision": at(sk.precision_score),
    "f1": at(sk.f1_score),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_metrics_equal_scikit_learn(name: str) -> None:
    y, a, b = scores(3000)
    for score in (a, b):
        assert METRICS[name].value(y, score, threshold=0.3) == pytest.approx(BINARY[name](y, score))


def test_regression_metrics_equal_scikit_learn() -> None:
    y, a, _ = scores(500)
    assert METRICS["rmse"].value(y, a) == pytest.approx(sk.root_mean_squared_error(y, a))
    assert METRICS["mae"].value(y, a) == pytest.approx(sk.mean_absolute_error(y, a))
    assert METRICS["r2"].value(y, a) == pytest.approx(sk.r2_score(y, a))


def test_multiclass_metrics_equal_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    score = rng.dirichlet([1, 2, 3], 400)
    y = np.array([rng.choice(3, p=row) for row in score])
    assert METRICS["accuracy"].value(y, score) == sk.accuracy_score(y, score.argmax(axis=1))
    assert METRICS["log_loss"].value(y, score) == pytest.approx(sk.log_loss(y, score))


def test_every_metric_is_listed_under_its_name() -> None:
    assert all(name == metric.name for name, metric in METRICS.items())
    assert {t for m in METRICS.values() for t in m.tasks} == {"binary", "multiclass", "regression"}


JUDGES = [name for name, metric in METRICS.items() if metric.higher_is_better is not None]


@pytest.mark.parametrize("name", JUDGES)
def test_gain_is_the_oriented_difference_and_its_width_that_of_a_bootstrap(name: str) -> None:
    y, a, b = scores(800)
    metric = METRICS[name]
    gain, low, high = paired_gain(metric, y, a, b, threshold=0.4)
    sign = 1 if metric.higher_is_better else -1
    difference = metric.value(y, a, threshold=0.4) - metric.value(y, b, threshold=0.4)
    assert gain == pytest.approx(sign * difference)
    assert low < gain < high
    rng = np.random.default_rng(0)
    resampled = [
        metric.value(y[i], a[i], threshold=0.4) - metric.value(y[i], b[i], threshold=0.4)
        for i in rng.integers(0, 800, (400, 800))
    ]
    assert (high - low) / 2 == pytest.approx(1.96 * float(np.std(resampled)), rel=0.13)


@pytest.mark.parametrize("name", ["auc", "brier", "accuracy", "f1", "rmse"])
def test_gain_of_equal_models_is_rarely_certain(name: str) -> None:
    wrong = 0
    for seed in range(200):
        y, a, _ = scores(300, seed)
        c = np.clip(a[::1] + np.random.default_rng(seed + 1000).normal(0, 0.1, 300), 0.001, 0.999)
        d = np.clip(a[::1] + np.random.default_rng(seed + 2000).normal(0, 0.1, 300), 0.001, 0.999)
        _, low, high = paired_gain(METRICS[name], y, c, d)
        wrong += not low <= 0 <= high
    assert wrong <= 20  # nominal 10 of 200


def test_auc_interval_is_that_of_delong() -> None:
    y, a, _ = scores(200)
    value, low, high = metric_interval(METRICS["auc"], y, a)
    pairs = (a[y == 1][:, None] > a[y == 0][None, :]) + 0.5 * (a[y == 1][:, None] == a[y == 0])
    variance = pairs.mean(axis=1).var(ddof=1) / pairs.shape[0]
    variance += pairs.mean(axis=0).var(ddof=1) / pairs.shape[1]
    n = value * (1 - value) / variance
    assert value == pytest.approx(pairs.mean())
    assert (low, high) == pytest.approx(wilson(value * n, n))


def test_share_of_rows_has_its_wilson_interval() -> None:
    y, a, _ = scores(150)
    right = int(((a >= 0.5) == y).sum())
    assert metric_interval(METRICS["accuracy"], y, a)[1:] == pytest.approx(wilson(right, 150))
    perfect = metric_interval(METRICS["accuracy"], y, y)
    assert perfect == (1.0, *wilson(150, 150))
    assert metric_interval(METRICS["auc"], y, y)[1] < 0.99


@pytest.mark.parametrize("name", ["auc", "precision", "log_loss"])
def test_interval_covers_the_truth(name: str) -> None:
    y, a, _ = scores(200_000)
    truth = METRICS[name].value(y, a)
    covered = 0
    for i in range(400):
        cut = slice(i * 250, (i + 1) * 250)
        _, low, high = metric_interval(METRICS[name], y[cut], a[cut])
        covered += low <= truth <= high
    assert covered >= 0.92 * 400


def test_blocks_widen_the_interval_of_repeated_rows() -> None:
    y, a, b = scores(300)
    once = paired_gain(METRICS["auc"], y, a, b)
    again = np.repeat(np.arange(300), 4)
    blind = paired_gain(METRICS["auc"], y[again], a[again], b[again])
    aware = paired_gain(METRICS["auc"], y[again], a[again], b[again], blocks=again)
    assert blind[2] - blind[1] < 0.6 * (once[2] - once[1])
    assert aware == pytest.approx(once, abs=5e-4)
    y, score = np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0])  # influences -1.5, -0.5, 0.5, 1.5
    _, low, high = metric_interval(METRICS["mae"], y, score, blocks=["u", "u", "v", "v"])
    assert high - low == pytest.approx(2 * 1.959964 * (2 * (2**2 + 2**2)) ** 0.5 / 4)
    with pytest.raises(Invalid, match="one block"):
        metric_interval(METRICS["brier"], y, score, blocks=np.zeros(4))


def test_few_agreeing_rows_are_no_certainty() -> None:
    y = np.array([0.0, 1, 1, 0, 1])
    _, low, high = paired_gain(METRICS["accuracy"], y, y, y)
    assert low < -0.3
    assert high > 0.3


def test_undefined_is_not_a_number() -> None:
    ones = np.ones(5)
    assert isnan(METRICS["auc"].value(ones, ones))
    assert all(isnan(v) for v in metric_interval(METRICS["precision"], ones, ones * 0))
    assert all(isnan(v) for v in paired_gain(METRICS["auc"], ones, ones, ones))
    empty = np.array([])
    for metric in METRICS.values():
        assert isnan(metric.value(empty, empty)), metric.name


@pytest.mark.parametrize(
    ("y", "score", "words"),
    [
        ([0, 1], [0.5], "do not fit"),
        ([0, 1], [0.5, np.nan], "score of row 1"),
        ([np.nan, 1], [0.5, 0.5], "label of row 0"),
    ],
)
def test_what_does_not_fit_is_refused(y: Any, score: Any, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        METRICS["brier"].value(y, score)


def test_a_rate_without_a_better_side_has_no_gain() -> None:
    with pytest.raises(Invalid, match="no better side"):
        paired_gain(METRICS["positive_rate"], [1, 0], [1, 0], [0, 1])


def test_a_hundred_thousand_rows_in_less_than_a_second() -> None:
    y, a, b = scores(100_000)
    start = perf_counter()
    paired_gain(METRICS["auc"], y, a, b)
    assert perf_counter() - start < 1.0
