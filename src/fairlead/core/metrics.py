"""Metrics of models: their values, confidence intervals, and paired gains of one model over another.

Every metric is linearised: value and influence of each row, so that the variance of any metric,
or of the difference of two models on the same rows, is a sum of squares (for the AUC this is
DeLong, DeLong, Clarke-Pearson 1988). No resampling: the same rows give the same digits.
"""

from collections.abc import Callable
from math import nan, sqrt
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from fairlead.core.intervals import wilson, z_score
from fairlead.errors import Invalid

__all__ = ["METRICS", "Linear", "Metric", "Task", "metric_interval", "paired_gain"]

Task = Literal["binary", "multiclass", "regression"]
Scale = Literal["rate", "unit", "shift", "free"]
Vector = NDArray[np.float64]


class Linear(Struct, frozen=True):
    """A metric near its value: the influence of each row (mean 0) and how many rows bear on it."""

    value: float
    influence: Vector
    support: int


Formula = Callable[[Vector, Vector, float], Linear]


class Metric(Struct, frozen=True, kw_only=True):
    """One metric: the tasks it serves, its direction, its formula.

    `higher_is_better` None: it describes and does not judge. `scale`: "rate" is a share of rows,
    "unit" another number in [0, 1], "shift" the share of class 1 less a constant, "free" anything else.
    `linear(y, score, threshold)`: `y` float64 (n,), 0/1 for binary, class numbers for multiclass;
    `score` float64 (n,), the probability of class 1 or the predicted number, or (n, classes)
    probabilities; score >= threshold means class 1.
    """

    name: str
    tasks: tuple[Task, ...]
    higher_is_better: bool | None
    scale: Scale
    linear: Formula

    def value(self, y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> float:
        """The metric of these rows; NaN where it is undefined (one class only, no rows).

        Raises Invalid for arrays that do not fit or are not finite.
        """
        return self.linear(*_arrays(y, score), threshold).value

    def support(self, y: ArrayLike, score: ArrayLike, *, threshold: float = 0.5) -> int:
        """How many rows a rate is a share of: all, true positives, chosen ones; else all rows.

        Raises Invalid like `value`.
        """
        truth, scores = _arrays(y, score)
        return self.linear(truth, scores, threshold).support if self.scale == "rate" else len(truth)


def metric_interval(
    metric: Metric,
    y: ArrayLike,
    score: ArrayLike,
    *,
    threshold: float = 0.5,
    level: float = 0.95,
    blocks: ArrayLike | None = None,
) -> tuple[float, float, float]:
    """(value, low, high): the metric with its confidence interval.

    Metrics within [0, 1] use the Wilson interval at the effective number of rows
    v (1 - v) / variance, which for a share of rows is that number itself; so does a share less a
    constant, moved by it; others use the normal interval. `blocks` (n,) names the group of each row (a customer, a day): rows of a group may
    depend on each other. Raises Invalid like `Metric.value`.
    """
    at = metric.linear(*_arrays(y, score), threshold)
    value = at.value
    if value != value:
        return nan, nan, nan
    error = _error(at.influence, blocks)
    if metric.scale == "free":
        reach = z_score(level) * error
        return value, value - reach, value + reach
    share = float(np.asarray(y, dtype=np.float64).mean()) if metric.scale == "shift" else value
    n = share * (1 - share) / error**2 if error > 0 else 0.0
    n = n or float(at.support)
    low, high = wilson(share * n, n, level)
    return value, low - share + value, high - share + value


def paired_gain(
    metric: Metric,
    y: ArrayLike,
    candidate: ArrayLike,
    baseline: ArrayLike,
    *,
    threshold: float = 0.5,
    baseline_threshold: float | None = None,
    level: float = 0.95,
    blocks: ArrayLike | None = None,
) -> tuple[float, float, float]:
    """(gain, low, high) of the candidate over the baseline on the same rows; positive: better.

    Normal interval of the paired difference of influences. Shares of rows get the width of one
    discordant pair more (Agresti, Min 2005), so that few rows without any are no certainty.
    `baseline_threshold` None: the candidate's. Raises Invalid like `Metric.value`, and for a
    metric that has no better side.
    """
    if metric.higher_is_better is None:
        raise Invalid(f"{metric.name} has no better side, so it has no gain",
                      hint="compare accuracy, auc, brier, ... or bound the value itself")  # fmt: skip
    other = threshold if baseline_threshold is None else baseline_threshold
    a = metric.linear(*_arrays(y, candidate), threshold)
    b = metric.linear(*_arrays(y, baseline), other)
    sign = 1.0 if metric.higher_is_better else -1.0
    gain = sign * (a.value - b.value)
    if gain != gain:
        return nan, nan, nan
    error = _error(a.influence - b.influence, blocks)
    if metric.scale == "rate":
        error = sqrt(error**2 + 1 / min(a.support, b.support) ** 2)
    reach = z_score(level) * error
    return gain, gain - reach, gain + reach


def _arrays(y: ArrayLike, score: ArrayLike) -> tuple[Vector, Vector]:
    truth = np.asarray(y, dtype=np.float64)
    scores = np.asarray(score, dtype=np.float64)
    if truth.ndim != 1 or scores.shape[:1] != truth.shape:
        raise Invalid(f"{truth.shape} labels do not fit scores of shape {scores.shape}",
                      hint="give one label per row and one score (or one per class) per row")  # fmt: skip
    for name, values in (("label", truth), ("score", scores)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise Invalid(f"the {name} of row {row} is not a finite number",
                          hint="leave out rows without a label and repair the model's output")  # fmt: skip
    return truth, scores


def _error(influence: Vector, blocks: ArrayLike | None) -> float:
    """Standard error of the mean of `influence`, of independent rows or of independent blocks."""
    n = len(influence)
    if blocks is None:
        return float(np.sqrt(influence @ influence)) / n
    _, group = np.unique(np.asarray(blocks), return_inverse=True)
    sums = np.bincount(group, influence)
    if len(sums) < 2:
        raise Invalid("all rows are in one block", hint="an interval needs at least two blocks")
    return float(np.sqrt(sums @ sums * len(sums) / (len(sums) - 1))) / n


def _mean(losses: Vector) -> Linear:
    if not len(losses):
        return Linear(nan, losses, 0)
    value = float(losses.mean())
    return Linear(value, losses - value, len(losses))


def _ratio(part: Vector, whole: Vector) -> Linear:
    """sum(part) / sum(whole), by the delta method."""
    total = float(whole.sum())
    if total <= 0:
        return Linear(nan, part, 0)
    value = float(part.sum()) / total
    influence = (part - value * whole) * (len(part) / total)
    return Linear(value, influence, int(np.count_nonzero(whole)))


def _chosen(score: Vector, threshold: float) -> Vector:
    return np.asarray(score >= threshold, dtype=np.float64)


def _accuracy(y: Vector, score: Vector, threshold: float) -> Linear:
    guess = _chosen(score, threshold) if score.ndim == 1 else score.argmax(axis=1)
    return _mean(np.asarray(guess == y, dtype=np.float64))


def _log_loss(y: Vector, score: Vector, _: float) -> Linear:
    if score.ndim == 1:
        right = np.where(y > 0.5, score, 1 - score)
    else:
        right = score[np.arange(len(y)), y.astype(np.intp)] / score.sum(axis=1)
    return _mean(-np.log(np.maximum(right, np.finfo(np.float64).eps)))


def _auc(y: Vector, score: Vector, _: float) -> Linear:
    """P(score of a positive > score of a negative) + P(equal) / 2, with DeLong's components."""
    positive = y > 0.5
    up, down = np.sort(score[positive]), np.sort(score[~positive])
    m, n = len(up), len(down)
    if m == 0 or n == 0:
        return Linear(nan, score, 0)
    wins = np.empty(len(y))
    wins[positive] = _below(down, score[positive]) / n
    wins[~positive] = 1 - _below(up, score[~positive]) / m
    value = float(wins[positive].mean())
    influence = wins - value
    influence[positive] *= len(y) / sqrt(m * max(m - 1, 1))
    influence[~positive] *= len(y) / sqrt(n * max(n - 1, 1))
    return Linear(value, influence, min(m, n))


def _below(ordered: Vector, values: Vector) -> Vector:
    """How many of `ordered` lie below each value, equal ones counted half."""
    order = np.argsort(values)
    queries = values[order]  # sorted queries walk through memory: 4 times faster
    counts = np.empty(len(values))
    counts[order] = np.searchsorted(ordered, queries) + np.searchsorted(ordered, queries, "right")
    return counts / 2


def _rmse(y: Vector, score: Vector, _: float) -> Linear:
    square = _mean((score - y) ** 2)
    root = sqrt(square.value) if square.value == square.value else nan
    return Linear(root, square.influence / (2 * root) if root else square.influence, square.support)


def _r2(y: Vector, score: Vector, _: float) -> Linear:
    """1 - sum((y - score)^2) / sum((y - mean(y))^2)."""
    around = (y - y.mean()) ** 2 if len(y) else y
    unexplained = _ratio((score - y) ** 2, around)
    return Linear(1 - unexplained.value, -unexplained.influence, len(y))


def _brier(y: Vector, score: Vector, _: float) -> Linear:
    return _mean((score - y) ** 2)


def _mae(y: Vector, score: Vector, _: float) -> Linear:
    return _mean(np.abs(score - y))


def _positive_rate(y: Vector, score: Vector, threshold: float) -> Linear:
    return _mean(_chosen(score, threshold))


def _true_positive_rate(y: Vector, score: Vector, threshold: float) -> Linear:
    return _ratio(_chosen(score, threshold) * y, y)


def _false_positive_rate(y: Vector, score: Vector, threshold: float) -> Linear:
    return _ratio(_chosen(score, threshold) * (1 - y), 1 - y)


def _precision(y: Vector, score: Vector, threshold: float) -> Linear:
    chosen = _chosen(score, threshold)
    return _ratio(chosen * y, chosen)


def _calibration(y: Vector, score: Vector, _: float) -> Linear:
    """Share of class 1 less its expected share: below 0 the scores promise too much."""
    return _mean(y - score)


def _f1(y: Vector, score: Vector, threshold: float) -> Linear:
    """2 TP / (2 TP + FP + FN)."""
    chosen = _chosen(score, threshold)
    return _ratio(2 * chosen * y, chosen + y)


def _metric(name: str, task: str, higher: bool | None, scale: Scale, linear: Formula) -> Metric:
    tasks: dict[str, tuple[Task, ...]] = {
        "binary": ("binary",), "classes": ("binary", "multiclass"), "number": ("regression",)
    }  # fmt: skip
    return Metric(name=name, tasks=tasks[task], higher_is_better=higher, scale=scale, linear=linear)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _metric("auc", "binary", True, "unit", _auc),
        _metric("log_loss", "classes", False, "free", _log_loss),
        _metric("brier", "binary", False, "unit", _brier),
        _metric("accuracy", "classes", True, "rate", _accuracy),
        _metric("positive_rate", "binary", None, "rate", _positive_rate),
        _metric("true_positive_rate", "binary", True, "rate", _true_positive_rate),
        _metric("false_positive_rate", "binary", False, "rate", _false_positive_rate),
        _metric("precision", "binary", True, "rate", _precision),
        _metric("f1", "binary", True, "rate", _f1),
        _metric("calibration", "binary", None, "shift", _calibration),
        _metric("rmse", "number", False, "free", _rmse),
        _metric("mae", "number", False, "free", _mae),
        _metric("r2", "number", True, "free", _r2),
    )
}
"""Every metric by name."""
