"""References: what a model was like on rows it had not learnt from, kept beside it to judge production by."""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Task
from fairlead.core.estimate import Calibration, ErrorModel, calibrate, cbpe, fit_errors
from fairlead.core.intake import PREDICTION, Seat
from fairlead.core.intervals import z_score
from fairlead.core.metrics import METRICS, metric_interval
from fairlead.core.profile import (
    ColumnProfile,
    profile_labels,
    profile_numbers,
    quantile_edges,
)

__all__ = ["Held", "Known", "Reference", "answered", "reference", "windows_of"]

Vector = NDArray[np.float64]

LEVEL = 0.95


class Known(Struct, frozen=True, kw_only=True):
    """A metric of the held-out rows, and its standard error."""

    value: float
    error: float


class Reference(Struct, frozen=True, kw_only=True):
    """`rows` held-out rows and what their answers and truths taught.

    `answers`: how the answers were spread. `windows`: per column, days (or other spans) of the
    newest rows, for the detectors. `calibration`: score (of many classes: the highest) -> chance of
    class 1 (of being right); `errors`: of a regression; `expected`: what the estimate says of the
    held-out rows themselves (AUC, accuracy of many classes, mean squared error); `variance`: of the
    truth.
    """

    rows: int
    answers: ColumnProfile
    metrics: dict[str, Known]
    windows: dict[str, tuple[ColumnProfile, ...]] = {}
    calibration: Calibration | None = None
    errors: ErrorModel | None = None
    expected: float = float("nan")
    variance: float = float("nan")


class Held(Struct, frozen=True, kw_only=True, eq=False):
    """Held-out rows: raw `scores` [n, k], truths `y` (n,) (NaN: a class never met), class names."""

    task: Task
    classes: tuple[str, ...]
    scores: Vector
    y: Vector


def reference(
    held: Held, seats: Mapping[str, Seat], codes: Mapping[str, NDArray[np.int64]],
    windows: Mapping[str, tuple[ColumnProfile, ...]],
) -> Reference:  # fmt: skip
    """What to keep of held-out rows. `codes` (n,) per column: the bin of each row in its seat."""
    known = np.isfinite(held.y) & np.isfinite(held.scores).all(axis=1)
    scores, y = held.scores[known], held.y[known]
    flat = scores if held.task == "multiclass" else scores[:, 0]
    answers = answered(held)
    if not len(y):
        return Reference(rows=0, answers=answers, metrics={}, windows=dict(windows))
    if held.task == "regression":
        sizes = {name: s.size for name, s in seats.items() if name in codes}
        errors = fit_errors({n: codes[n][known] for n in sizes}, sizes, flat - y)
        return Reference(rows=len(y), answers=answers, metrics=_metrics(held, y, flat), errors=errors,
                         windows=dict(windows), expected=errors.base[1], variance=float(y.var()))  # fmt: skip
    sure, right = (flat, y) if held.task == "binary" else (
        flat.max(axis=1), np.asarray(flat.argmax(axis=1) == y, dtype=np.float64))  # fmt: skip
    calibration = calibrate(sure, right)
    rate = calibration.rate(sure)
    expected = cbpe(sure, rate).auc if held.task == "binary" else float(rate.mean())
    return Reference(rows=len(y), answers=answers, metrics=_metrics(held, y, flat), expected=expected,
                     windows=dict(windows), calibration=calibration, variance=float(y.var()))  # fmt: skip


def answered(held: Held) -> ColumnProfile:
    """How the answers of held-out rows are spread: scores or values in quantile bins, or classes."""
    if held.task != "multiclass":
        values = held.scores[:, 0]
        return profile_numbers(PREDICTION, values, quantile_edges(values))
    best = np.bincount(held.scores.argmax(axis=1), minlength=len(held.classes)).tolist()
    return profile_labels(PREDICTION, dict(zip(held.classes, best, strict=True)), known=held.classes)


def windows_of(seat: Seat, codes: NDArray[np.int64], spans: NDArray[np.int64]) -> tuple[ColumnProfile, ...]:
    """The profile of each span, in order. `codes`, `spans` (n,): of each row its bin and its span
    (0 ... k - 1)."""
    k = int(spans.max()) + 1 if len(spans) else 0
    counts = np.bincount(spans * seat.size + codes, minlength=k * seat.size).reshape(k, seat.size)
    return tuple(seat.profiled(row) for row in counts.tolist())


def _metrics(held: Held, y: Vector, scores: Vector) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for metric in METRICS.values():
        if held.task in metric.tasks:
            value, low, high = metric_interval(metric, y, scores, level=LEVEL)
            if value == value:
                error = (high - low) / 2 / z_score(LEVEL)
                found[metric.name] = Known(value=value, error=error)
    return found
