"""Estimates: what a package's metrics will be once the truth is known, from its answers alone.

They see what a change of the inputs costs. They cannot see that the inputs have come to mean
something else (P(y | x), concept drift): only labels can. So every estimate is scored against the
truth when it arrives (`missed`), and that difference is a measure to watch of its own.
"""

from collections.abc import Mapping
from math import nan, sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from fairlead.core.profile import ColumnProfile
from fairlead.errors import Invalid

__all__ = ["Calibration", "ErrorModel", "Estimate", "calibrate", "cbpe", "fit_errors"]

Vector = NDArray[np.float64]
Codes = NDArray[np.int64]

ROUNDS, RATE, PRIOR = 20, 0.3, 30.0
"""Of the additive error model: passes over the columns, share of a step, rows of doubt per bin."""


class Calibration(Struct, frozen=True, kw_only=True):
    """A rising map from score to probability, linear between its knots."""

    scores: tuple[float, ...]
    rates: tuple[float, ...]

    def rate(self, score: ArrayLike) -> Vector:
        """Probability of class 1 for each score, kept a millionth away from 0 and 1."""
        p = np.interp(np.asarray(score, dtype=np.float64), self.scores, self.rates)
        return np.clip(p, 1e-6, 1 - 1e-6)


class Estimate(Struct, frozen=True, kw_only=True):
    """Expected metrics of `n` predictions whose labels are not known yet.

    `sd_...`: how far the true value would scatter if the calibration is right (accuracy and Brier:
    the sum of the variances of independent labels; AUC: Hanley, McNeil 1982).
    """

    n: int
    auc: float
    accuracy: float
    precision: float
    true_positive_rate: float
    f1: float
    positive_rate: float
    brier: float
    sd_accuracy: float
    sd_auc: float
    sd_brier: float


def calibrate(score: ArrayLike, y: ArrayLike) -> Calibration:
    """Isotonic regression of labels (0/1) on scores, from rows the model was not trained on.

    Pool adjacent violators (Barlow 1972). Raises Invalid without rows.
    """
    scores, labels = np.asarray(score, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not len(scores) or scores.shape != labels.shape:
        raise Invalid(f"cannot calibrate on {len(scores)} scores and {len(labels)} labels",
                      hint="give one label for each score, and at least one")  # fmt: skip
    knots, at, weights = np.unique(scores, return_inverse=True, return_counts=True)
    sums = np.bincount(at, labels)
    blocks: list[tuple[float, float, int]] = []
    for total, weight in zip(sums.tolist(), weights.tolist(), strict=True):
        size = 1
        while blocks and blocks[-1][0] * weight >= total * blocks[-1][1]:
            before = blocks.pop()
            total, weight, size = total + before[0], weight + before[1], size + before[2]
        blocks.append((total, weight, size))
    ends = np.cumsum([size for _, _, size in blocks])
    edges = np.unique(np.concatenate([[0], ends[:-1], ends - 1]))
    rates = np.repeat([t / w for t, w, _ in blocks], [size for _, _, size in blocks])
    return Calibration(scores=tuple(knots[edges].tolist()), rates=tuple(rates[edges].tolist()))


def cbpe(score: ArrayLike, p: ArrayLike, threshold: float = 0.5) -> Estimate:
    """Expected metrics of scores (n,) with calibrated probabilities `p` (n,), without any label.

    The expected confusion matrix, and for the AUC the sum over pairs p_i (1 - p_j) [s_i > s_j]
    (statistics.md 6). It sees a shift of the inputs. It CANNOT see a change of what the inputs
    mean (P(y | x)): only labels can.
    """
    s, q = np.asarray(score, dtype=np.float64), np.asarray(p, dtype=np.float64)
    n = len(s)
    if not n or s.shape != q.shape:
        raise Invalid(f"cannot estimate from {n} scores and {len(q)} probabilities",
                      hint="give one probability for each score, and at least one")  # fmt: skip
    chosen = s >= threshold
    tp, fp = float(q[chosen].sum()), float((1 - q[chosen]).sum())
    fn, tn = float(q[~chosen].sum()), float((1 - q[~chosen]).sum())
    auc, ups = _expected_auc(s, q), float(q.sum())
    return Estimate(n=n, auc=auc, accuracy=(tp + tn) / n,
                    precision=tp / (tp + fp) if tp + fp else nan,
                    true_positive_rate=tp / (tp + fn), f1=2 * tp / (2 * tp + fp + fn),
                    positive_rate=(tp + fp) / n,
                    brier=float((q * (1 - s) ** 2 + (1 - q) * s**2).mean()),
                    sd_accuracy=float(np.sqrt((q * (1 - q)).sum())) / n,
                    sd_auc=_sd_auc(auc, ups, n - ups),
                    sd_brier=float(np.sqrt((q * (1 - q) * (1 - 2 * s) ** 2).sum())) / n)  # fmt: skip


def _expected_auc(score: Vector, p: Vector) -> float:
    _, at = np.unique(score, return_inverse=True)
    up, down = np.bincount(at, p), np.bincount(at, 1 - p)
    below = np.cumsum(down) - down
    return float((up * (below + down / 2)).sum() / (up.sum() * down.sum()))


def _sd_auc(auc: float, ups: float, downs: float) -> float:
    """Hanley, McNeil 1982, of that many expected positives and negatives."""
    if min(ups, downs) < 1:
        return nan
    both, apart = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
    spread = auc * (1 - auc) + (ups - 1) * both + (downs - 1) * apart
    return sqrt(max(spread, 0.0) / (ups * downs))


class ErrorModel(Struct, frozen=True, kw_only=True):
    """Expected |error| (and error squared) of a numeric answer: a base plus a value per bin of each
    column, learnt on rows the model was not trained on.

    Because it is a sum over bins, the expectation over a window is a product with its histograms:
    no row is read again, and windows, replicas and hours add up. `parts`: column -> [2, bins + 1],
    the first for rows without a value. `spread`: standard deviations of what is not explained.
    """

    base: tuple[float, float]
    parts: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    spread: tuple[float, float]
    n: int

    def expect(self, window: Mapping[str, ColumnProfile]) -> tuple[float, float]:
        """(mean |error|, mean squared error) of the rows of a window, neither below 0."""
        total = list(self.base)
        for name, pair in self.parts.items():
            seen = window.get(name)
            if seen is not None and seen.n:
                share = np.array([seen.nulls, *seen.counts]) / seen.n
                total = [t + float(share @ np.array(part)) for t, part in zip(total, pair, strict=True)]
        return max(total[0], 0.0), max(total[1], 0.0)


def fit_errors(codes: Mapping[str, Codes], sizes: Mapping[str, int], error: ArrayLike) -> ErrorModel:
    """Learn the error (n,) of held-out answers from the bin of each column (DLE with an additive
    model: boosting, one column at a time). `sizes`: bins of each column, the null bin included."""
    errors = np.asarray(error, dtype=np.float64)
    fits = [_boost(codes, sizes, target) for target in (np.abs(errors), errors**2)]
    parts = {name: (tuple(fits[0][1][name].tolist()), tuple(fits[1][1][name].tolist()))
             for name in codes}  # fmt: skip
    return ErrorModel(base=(fits[0][0], fits[1][0]), parts=parts, n=len(errors),
                      spread=(fits[0][2], fits[1][2]))  # fmt: skip


def _boost(
    codes: Mapping[str, Codes], sizes: Mapping[str, int], target: Vector
) -> tuple[float, dict[str, Vector], float]:
    base = float(target.mean())
    parts = {name: np.zeros(size) for name, size in sizes.items() if name in codes}
    weights = {name: np.bincount(code, minlength=sizes[name]) + PRIOR for name, code in codes.items()}
    left = target - base
    for _ in range(ROUNDS):
        for name, code in codes.items():
            step = RATE * np.bincount(code, left, minlength=sizes[name]) / weights[name]
            parts[name] += step
            left = left - step[code]
    return base, parts, float(left.std())
