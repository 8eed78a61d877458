"""Quality: what labels say about packages, alone and in pairs, from rows and labels joined by key."""

from collections.abc import Iterator, Sequence
from math import inf, nextafter

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec, Task
from fairlead.core.evidence import Evidence, Moments, Tally
from fairlead.core.join import BOOL, TEXT, Truth
from fairlead.core.ledger import LIVE, Rows
from fairlead.core.metrics import METRICS, metric_interval
from fairlead.core.ref import Ref
from fairlead.core.target import NO, YES, label
from fairlead.core.vitals import Frame, older

__all__ = ["AGES", "Judged", "cohorts", "judged", "maturity", "misses", "numbers", "pairs", "reward", "truths",
           "wrong"]  # fmt: skip

Vector = NDArray[np.float64]

AGES = {"1h": 3_600.0, "1d": 86_400.0, "7d": 604_800.0, "28d": 2_419_200.0}
"""Ages at which cohorts of predictions are compared."""

FIRST_PAIRS = 32
"""Pairs in the first window of paired losses; every later window doubles what was seen."""


class Judged(Struct, frozen=True, eq=False):
    """Rows with an answer whose label is known, in order of time: the label as a number (0 or 1,
    class number, or value) and when it became known."""

    rows: Rows
    y: Vector
    known_at: Vector

    def where(self, chosen: NDArray[np.bool_]) -> "Judged":
        return Judged(self.rows.where(chosen), self.y[chosen], self.known_at[chosen])


def judged(rows: Rows, truth: Truth, spec: PackageSpec) -> Judged:
    """Rows of packages of this task that answered and have a label one can read."""
    width = len(spec.classes) if spec.task == "multiclass" else 1
    place = truth.place(rows.key)
    chosen = (place >= 0) & np.isfinite(rows.scores[:, :width]).all(axis=1)
    some, place = rows.where(chosen), place[chosen]
    y = _read(truth, place, spec.task, spec.classes)
    order = np.lexsort((some.package, some.key, some.at))
    order = order[np.isfinite(y[order])]
    return Judged(some.where(order), y[order], truth.at[place[order]])


def truths(keys: NDArray[np.uint64], truth: Truth, task: Task, classes: Sequence[str]) -> Vector:
    """The label of each prediction as the number that metrics read; NaN where none is known."""
    place = truth.place(keys)
    y = np.full(len(keys), np.nan)
    y[place >= 0] = _read(truth, place[place >= 0], task, classes)
    return y


def _read(
    truth: Truth, place: NDArray[np.intp], task: Task, classes: Sequence[str]
) -> Vector:
    """Labels as the numbers that metrics read; NaN for one that fits no class."""
    code, kind = truth.code[place], truth.kind[place]
    if task == "regression":
        return np.where(kind == TEXT, np.nan, code)
    y = np.full(len(code), np.nan)
    for one in np.unique(kind).tolist():
        codes, at = np.unique(code[kind == one], return_inverse=True)
        read = [_class(_name(c, one, truth.words), classes) for c in codes.tolist()]
        y[kind == one] = np.array(read, dtype=np.float64)[at]
    return y


def _name(code: float, kind: int, words: Sequence[str]) -> str:
    if kind == TEXT:
        return words[int(code)]
    return label(bool(code) if kind == BOOL else code)


def _class(name: str, classes: Sequence[str]) -> float:
    """Position of a label among the classes; of two classes also yes and no in other spellings."""
    if name in classes:
        return float(classes.index(name))
    lower, word = [c.lower() for c in classes], name.strip().lower()
    if word in lower:
        return float(lower.index(word))
    for same in (YES, NO) if len(classes) == 2 else ():
        if word in same and sum(c in same for c in lower) == 1:
            return float([c in same for c in lower].index(True))
    return float("nan")


def maturity(rows: Rows, truth: Truth) -> float:
    """Seconds after which 19 of 20 of the labels that came had come; 0 without labels."""
    place = truth.place(rows.key)
    delays = truth.at[place[place >= 0]] - rows.at[place >= 0]
    return max(float(np.quantile(delays, 0.95)), 0.0) if len(delays) else 0.0


def numbers(data: Judged, frame: Frame, spec: PackageSpec) -> Iterator[Evidence]:
    """Every metric of the task that needs labels, with its interval."""
    if not len(data.y):
        return
    scores = _scores(data.rows, spec)
    for metric in METRICS.values():
        if spec.task in metric.tasks and metric.name != "positive_rate":
            value, low, high = metric_interval(metric, data.y, scores,
                                               threshold=spec.threshold, level=frame.level)  # fmt: skip
            if value == value:
                n = metric.support(data.y, scores, threshold=spec.threshold)
                yield frame.number(metric.name, value, n, low, high)


def cohorts(data: Judged, frame: Frame, spec: PackageSpec) -> Iterator[Evidence]:
    """Every metric by the age of the predictions, as slice ``age=7d``: of predictions asked in a
    window that ended so long ago, by the labels that came within that age. So each had the same
    time for its label to come, and windows of other weeks compare at equal age.
    """
    for name, age in AGES.items():
        at = data.rows.at
        ripe = (at >= frame.since - age) & (at <= frame.until - age)
        aged = data.where(ripe & (data.known_at - at <= age))
        for seen in numbers(aged, older(frame, age), spec):
            yield replace(seen, slice=f"age={name}")


def reward(rows: Rows, truth: Truth, frame: Frame, name: str) -> Iterator[Evidence]:
    """The mean of a reward (feedback of another name, in numbers) over live rows."""
    place = truth.place(rows.key)
    place = place[(place >= 0) & ((rows.flags & LIVE) > 0)]
    values = truth.code[place[truth.kind[place] != TEXT]]
    if len(values):
        yield frame.mean(name, values)


def _scores(rows: Rows, spec: PackageSpec) -> Vector:
    return rows.scores[:, : len(spec.classes)] if spec.task == "multiclass" else rows.scores[:, 0]


def wrong(data: Judged, spec: PackageSpec, subject: Ref) -> Iterator[Tally]:
    """One tally "wrong" per epoch: answers drawn by the dice whose class was wrong, of those with
    a label.

    Both arms of an epoch are equally old, so maturities are never mixed. A sticky unit counts
    with its first labelled answer only.
    """
    if spec.task == "regression":
        return
    live = data.where(((data.rows.flags & LIVE) > 0) & (data.rows.propensity < 1))
    for epoch in np.unique(live.rows.epoch).tolist():
        here = live.where(live.rows.epoch == epoch)
        first = _first_of_unit(here.rows.unit)
        bad = _guess(here.rows, spec)[first] != here.y[first]
        # The epoch stands for the window: both arms of it must carry the same start.
        yield Tally(subject=subject, measure="wrong", at=float(epoch), events=int(bad.sum()),
                    n=len(bad))  # fmt: skip


def _first_of_unit(units: NDArray[np.uint64]) -> NDArray[np.intp]:
    loose = np.flatnonzero(units == 0)
    _, first = np.unique(units, return_index=True)
    return np.union1d(loose, first[units[first] != 0])


def _guess(rows: Rows, spec: PackageSpec) -> Vector:
    scores = _scores(rows, spec)
    guess = scores.argmax(axis=1) if scores.ndim == 2 else scores >= spec.threshold
    return np.asarray(guess, dtype=np.float64)


def pairs(
    candidate: tuple[Judged, PackageSpec], baseline: tuple[Judged, PackageSpec], subject: Ref
) -> Iterator[Moments]:
    """Moments of (loss of the candidate - loss of the baseline + 1) / 2 on requests that both
    answered, in order of time, in windows that double.

    "brier_pair": Brier of binary, 0 or 1 of multiclass; of regression |error| over twice the
    standard deviation of the truth, at most 1. "wrong_pair": 0 or 1, a wrong class (no regression).
    """
    a, b = candidate[0], baseline[0]
    _, ours, theirs = np.intersect1d(a.rows.key, b.rows.key, return_indices=True)
    order = np.argsort(ours)
    ours, theirs = ours[order], theirs[order]
    if not len(ours):
        return
    scale = 2 * float(np.std(a.y[ours])) or 1.0
    gap = _losses(*candidate, scale)[ours] - _losses(*baseline, scale)[theirs]
    yield from _doubling(subject, "brier_pair", (gap + 1) / 2, a.rows.at[ours])
    if candidate[1].task != "regression":
        gap = misses(*candidate)[ours] - misses(*baseline)[theirs]
        yield from _doubling(subject, "wrong_pair", (gap + 1) / 2, a.rows.at[ours])


def _doubling(subject: Ref, measure: str, values: Vector, at: Vector) -> Iterator[Moments]:
    start, size, before = 0, FIRST_PAIRS, -inf
    while start < len(values):
        part = values[start : start + size]
        before = max(float(at[start]), nextafter(before, inf))
        yield Moments(subject=subject, measure=measure, at=before, n=len(part),
                      total=float(part.sum()), squares=float((part * part).sum()))  # fmt: skip
        start, size = start + size, start + size


def _losses(data: Judged, spec: PackageSpec, scale: float) -> Vector:
    scores = _scores(data.rows, spec)
    if spec.task == "binary":
        return np.asarray(np.clip((scores - data.y) ** 2, 0.0, 1.0))
    if spec.task == "multiclass":
        return misses(data, spec)
    return np.asarray(np.clip(np.abs(scores - data.y) / scale, 0.0, 1.0))


def misses(data: Judged, spec: PackageSpec) -> Vector:
    """1 where the class was wrong."""
    return np.asarray(_guess(data.rows, spec) != data.y, dtype=np.float64)
