"""The cost of staying: what a model that grows old costs, against what a retraining would. Pure.

The rule of statistics.md section 8 retrains when the excess loss since the last training adds up to
the price of a retraining. That is the best one can do while the loss grows steadily: the sum is then
half of what the present rate would have cost over the model's whole life. After a sudden change the
rate says so long before the sum does, so the larger of the two counts (`Staying.cost`).
"""

from math import sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec
from fairlead.core.intervals import z_score
from fairlead.core.ledger import Rows
from fairlead.core.quality import Judged, misses
from fairlead.core.reference import Reference
from fairlead.core.traffic import DAY

__all__ = ["LEVEL", "SPANS", "Before", "Spans", "Staying", "before", "expected", "lived", "staying"]

LEVEL = 0.8
"""Of the interval whose lower end is the debt. A rate is looked at again and again, so the doubt it
bears, half of what this leaves, is divided by the number of spans."""

SPANS = 8
"""Spans of a day: a change is looked for so often, but in whole days, since nights differ."""

Vector = NDArray[np.float64]


class Spans(Struct, frozen=True, kw_only=True, eq=False):
    """The life of a package in n equal spans, oldest first. `answers`: given in each; of `judged` of
    them the loss is known: its mean (share of wrong answers, or mean absolute error) and its variance
    from row to row. All float64 [n]; spans without a known loss count nothing."""

    answers: Vector
    judged: Vector
    loss: Vector
    variance: Vector

    def __len__(self) -> int:
        return len(self.answers)


class Before(Struct, frozen=True, kw_only=True):
    """The mean loss of the rows held out in training, and its standard error."""

    loss: float
    error: float = 0.0


class Staying(Struct, frozen=True, kw_only=True):
    """What staying costs, in the money of `price`. `debt`: lost since the training; `rate`: lost a
    day now; both at the lower end of what the rows allow. `days`: since the training."""

    debt: float
    rate: float
    days: float

    @property
    def cost(self) -> float:
        """What a retraining may cost now: the debt, or half of the rate over the model's life."""
        return max(self.debt, self.rate * self.days / 2, 0.0)


def staying(spans: Spans, before: Before, price: float) -> Staying:
    """Judge the spans since the last training. `price`: of one unit of loss (a wrong answer, or 1 of
    absolute error).

    The rate is the highest that the newest 1, 2, 4, ... days prove. Answers whose loss is not known
    count as those of the same span.
    """
    known = spans.judged > 0
    answers = np.where(known, spans.answers, 0.0)
    excess = np.where(known, answers * (spans.loss - before.loss), 0.0)
    variance = np.where(known, answers**2 * spans.variance / np.maximum(spans.judged, 1), 0.0)

    def least(newest: int, z: float) -> float:
        """Lower end of what the answers of the newest spans lost above as many held-out rows."""
        part = slice(len(spans) - newest, None)
        noise = variance[part].sum() + (answers[part].sum() * before.error) ** 2
        return float(excess[part].sum() - z * sqrt(noise))

    rate, length, z = 0.0, SPANS, z_score(1 - (1 - LEVEL) / max(len(spans), 1))
    while length <= len(spans):
        rate = max(rate, least(length, z) / (length / SPANS))
        length *= 2
    debt = least(len(spans), z_score(LEVEL))
    return Staying(debt=price * debt, rate=price * rate, days=len(spans) / SPANS)


def before(known: Reference, spec: PackageSpec) -> Before | None:
    """The loss of the held-out rows; None when nothing is known of them."""
    name = "mae" if spec.task == "regression" else "accuracy"
    seen = known.metrics.get(name)
    if seen is None:
        return None
    loss = seen.value if spec.task == "regression" else 1 - seen.value
    return Before(loss=loss, error=seen.error)


def lived(rows: Rows, data: Judged, spec: PackageSpec, since: float, until: float) -> Spans:
    """The spans of [since, until) that are over: all answers `rows`, and those with a label."""
    if spec.task == "regression":
        losses = np.abs(data.rows.scores[:, 0] - data.y)
    else:
        losses = misses(data, spec)
    return _spans(rows.at, data.rows.at, losses, losses**2, (since, until))


def expected(rows: Rows, known: Reference, spec: PackageSpec, since: float,
             until: float) -> Spans | None:  # fmt: skip
    """The same without any label, from the chance of each answer to be wrong; blind to concept
    drift. None for a regression, whose rows have no such chance."""
    if known.calibration is None or spec.task == "regression":
        return None
    width = len(spec.classes) if spec.task == "multiclass" else 1
    some = rows.where(np.flatnonzero(np.isfinite(rows.scores[:, :width]).all(axis=1)))
    sure = some.scores[:, :width].max(axis=1, initial=0.0)
    right = known.calibration.rate(sure)
    if spec.task == "binary":
        right = np.where(sure >= spec.threshold, right, 1 - right)
    return _spans(rows.at, some.at, 1 - right, 1 - right, (since, until))


def _spans(answered: Vector, judged: Vector, losses: Vector, squares: Vector,
           within: tuple[float, float]) -> Spans:  # fmt: skip
    since, until = within
    length = DAY / SPANS
    n = max(int((until - since) // length), 0)

    def total(at: Vector, weights: Vector | None = None) -> Vector:
        place = ((at - since) // length).astype(np.int64)
        inside = (place >= 0) & (place < n)
        some = None if weights is None else weights[inside]
        return np.bincount(place[inside], some, minlength=n).astype(np.float64)[:n]

    count = total(judged)
    mean = total(judged, losses) / np.maximum(count, 1)
    variance = np.maximum(total(judged, squares) / np.maximum(count, 1) - mean**2, 0.0)
    return Spans(answers=total(answered), judged=count, loss=mean, variance=variance)
