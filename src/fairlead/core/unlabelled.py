"""Unlabelled: how well a package does now, judged before any truth is known, and later by it."""

from collections.abc import Iterator, Mapping
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec
from fairlead.core.catalogue import PRIMARY
from fairlead.core.estimate import ErrorModel, cbpe
from fairlead.core.evidence import Evidence
from fairlead.core.intake import Pair
from fairlead.core.intervals import z_score
from fairlead.core.ledger import Rows
from fairlead.core.metrics import METRICS
from fairlead.core.profile import ColumnProfile
from fairlead.core.quality import Judged
from fairlead.core.reference import Reference
from fairlead.core.vitals import Frame

__all__ = ["estimates", "lost", "missed"]

Vector = NDArray[np.float64]
Window = Mapping[str, Pair]


def estimates(
    rows: Rows, known: Reference, spec: PackageSpec, frame: Frame, window: Window
) -> Iterator[Evidence]:
    """What metrics of these rows to expect, each with the band in which the truth will scatter if
    the inputs mean what they meant (chance in these rows, and in those it was learnt from): "estimated_accuracy", "estimated_auc", ... and, against the
    rows held out in training, "estimated_lost" (AUC, accuracy of many classes, R2)."""
    if spec.task == "regression":
        if known.errors is not None and len(rows):
            yield from _errors(known, known.errors, len(rows), frame, _now(window))
        return
    sure = _sure(rows, spec)
    if known.calibration is None or not len(sure):
        return
    n, rate = len(sure), known.calibration.rate(sure)
    if spec.task == "multiclass":
        value, sd = float(rate.mean()), float(np.sqrt((rate * (1 - rate)).sum())) / n
        sd = _both(sd, known, "accuracy")
        yield _banded(frame, "estimated_accuracy", value, n, sd)
        yield _banded(frame, "estimated_lost", known.expected - value, n, sd)
        return
    seen = cbpe(sure, rate, spec.threshold)
    for metric, value, sd in (("accuracy", seen.accuracy, seen.sd_accuracy),
                              ("brier", seen.brier, seen.sd_brier)):  # fmt: skip
        yield _banded(frame, f"estimated_{metric}", value, n, _both(sd, known, metric))
    if seen.sd_auc == seen.sd_auc:
        sd = _both(seen.sd_auc, known, "auc")
        yield _banded(frame, "estimated_auc", seen.auc, n, sd)
        yield _banded(frame, "estimated_lost", known.expected - seen.auc, n, sd)


def missed(data: Judged, known: Reference, spec: PackageSpec, frame: Frame, window: Window) -> Iterator[Evidence]:  # fmt: skip
    """"missed": how much worse the truth of labelled rows is than was expected without it, in
    accuracy (of a regression in R2). Near 0 while the inputs mean what they meant."""
    n = len(data.y)
    if not n:
        return
    if spec.task == "regression":
        if known.errors is None or not known.variance > 0:
            return
        expected = known.errors.expect(_now(window))[1]
        squares = (data.rows.scores[:, 0] - data.y) ** 2
        sd = sqrt(float(squares.var()) / n + known.errors.spread[1] ** 2 / known.rows)
        value = (float(squares.mean()) - expected) / known.variance
        yield _banded(frame, "missed", value, n, sd / known.variance)
        return
    sure = _sure(data.rows, spec)
    if known.calibration is None or len(sure) != n:
        return
    rate = known.calibration.rate(sure)
    right = np.where(sure >= spec.threshold, rate, 1 - rate) if spec.task == "binary" else rate
    scores = data.rows.scores
    guess = sure >= spec.threshold if spec.task == "binary" else scores.argmax(axis=1)
    sd = sqrt(float((right * (1 - right)).sum())) / n
    value = float(right.mean() - np.mean(guess == data.y))
    yield _banded(frame, "missed", value, n, _both(sd, known, "accuracy"))


def lost(found: Evidence, known: Reference, spec: PackageSpec) -> Iterator[Evidence]:
    """A metric with labels against the same on held-out rows, positive: worse now. As
    ``lost:metric``, and as "lost" for the one that judges a task."""
    metric, before = METRICS.get(found.measure), known.metrics.get(found.measure)
    if metric is None or before is None or metric.higher_is_better is None or found.low is None:
        return
    sign = 1.0 if metric.higher_is_better else -1.0
    assert found.high is not None
    now = (found.high - found.low) / 2
    reach = sqrt(now**2 + (z_score(found.level) * before.error) ** 2)
    value = sign * (before.value - found.value)
    names = [f"lost:{found.measure}", *(["lost"] if found.measure == PRIMARY[spec.task] else [])]
    for name in names:
        yield Evidence(subject=found.subject, measure=name, value=value, n=found.n, low=value - reach,
                       high=value + reach, level=found.level, slice=found.slice, since=found.since,
                       until=found.until)  # fmt: skip


def _errors(
    known: Reference, errors: ErrorModel, n: int, frame: Frame, window: Mapping[str, ColumnProfile]
) -> Iterator[Evidence]:
    absolute, squared = errors.expect(window)
    reach = [spread * sqrt(1 / n + 1 / errors.n) for spread in errors.spread]
    yield _banded(frame, "estimated_mae", absolute, n, reach[0])
    root = sqrt(squared)
    yield _banded(frame, "estimated_rmse", root, n, reach[1] / (2 * root) if root else 0.0)
    if known.variance > 0:
        value = (squared - known.expected) / known.variance
        yield _banded(frame, "estimated_lost", value, n, reach[1] / known.variance)


def _now(window: Window) -> dict[str, ColumnProfile]:
    return {name: pair[1] for name, pair in window.items()}


def _sure(rows: Rows, spec: PackageSpec) -> Vector:
    """What the calibration reads: the score, or the highest of many; of rows with an answer."""
    width = len(spec.classes) if spec.task == "multiclass" else 1
    scores = rows.scores[:, :width]
    return np.asarray(scores[np.isfinite(scores).all(axis=1)].max(axis=1, initial=0.0))


def _both(sd: float, known: Reference, metric: str) -> float:
    """The scatter of these rows and that of the held-out ones together."""
    before = known.metrics.get(metric)
    return sqrt(sd**2 + (before.error if before else 0.0) ** 2)


def _banded(frame: Frame, measure: str, value: float, n: int, sd: float) -> Evidence:
    reach = z_score(frame.level) * sd
    return frame.number(measure, value, n, value - reach, value + reach)
