"""Intake: what goes into a package, column by column, counted on the bins of its training profile."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.answers import Answers
from fairlead.core.artifact import PackageSpec, Task
from fairlead.core.drift import distance, psi_noise
from fairlead.core.evidence import Evidence
from fairlead.core.intervals import newcombe
from fairlead.core.profile import ColumnProfile, TableProfile
from fairlead.core.target import label
from fairlead.core.traffic import DAY
from fairlead.core.vitals import Frame

__all__ = ["PREDICTION", "Intake", "Pair", "Seat", "drift", "said", "seat"]

Counts = NDArray[np.int64]
Pair = tuple[ColumnProfile, ColumnProfile]
"""A column's reference, and the same column in a window."""

PREDICTION = "prediction"
"""The column of what was answered: score, value or class. A request column of that name hides it."""

YOUNG = 64
"""Buckets of one length; older ones are joined, eight at a time."""

SAMPLE = 4096
"""Rows of one reading of the log that are counted: 20,000 a second at five readings."""


class Seat(Struct, frozen=True):
    """How the values of a column are counted: nulls, then the bins or labels of its reference (of
    labels also the rest)."""

    profile: ColumnProfile
    edges: NDArray[np.float64]
    labels: dict[str, int]

    @property
    def size(self) -> int:
        return 1 + max(len(self.profile.counts), 1)

    def codes(self, values: Sequence[Any] | NDArray[Any]) -> Counts:
        """For each value 0 when there is none, else 1 + its bin or label."""
        if self.profile.kind == "label":
            last = len(self.labels)
            return np.array([0 if v is None else 1 + self.labels.get(label(v), last) for v in values],
                            dtype=np.int64)  # fmt: skip
        numbers = _numbers(values)
        found = 1 + np.searchsorted(self.edges, numbers, side="right")
        return np.where(np.isfinite(numbers), found, 0)

    def total(self, values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
        """Each value as it counts in a mean: 0 where there is no number."""
        if self.profile.kind == "label":
            return np.zeros(len(values))
        return np.nan_to_num(_numbers(values), posinf=0.0, neginf=0.0)

    def profiled(self, counts: Sequence[int], total: float = 0.0) -> ColumnProfile:
        """The profile that these counts, and the sum of the values, make."""
        n, nulls, rest, of = sum(counts), counts[0], counts[1:], self.profile
        if of.kind == "number":
            return ColumnProfile(name=of.name, kind="number", n=n, nulls=nulls, edges=of.edges,
                                 bins=tuple(rest) if of.edges else (),
                                 mean=total / (n - nulls) if n > nulls else 0.0)  # fmt: skip
        labels = dict(zip(of.labels, rest, strict=False))
        return ColumnProfile(name=of.name, kind="label", n=n, nulls=nulls, labels=labels,
                             other=rest[-1])  # fmt: skip


def seat(profile: ColumnProfile) -> Seat:
    """Where the values of a column with this reference go."""
    return Seat(profile, np.array(profile.edges, dtype=np.float64),
                {label: i for i, label in enumerate(profile.labels)})  # fmt: skip


def said(task: Task, classes: Sequence[str], scores: NDArray[np.float64]) -> list[Any] | NDArray[np.float64]:
    """What was answered, as a column: the probability of the second class, the value, or, of many
    classes, the most probable one; NaN or None where there is no answer."""
    if task != "multiclass":
        return scores[:, 0]
    known = np.isfinite(scores).all(axis=1) & (scores.shape[1] == len(classes))
    best = np.where(known, np.nan_to_num(scores).argmax(axis=1), -1)
    return [None if i < 0 else classes[i] for i in best.tolist()]


class Intake:
    """Integers per bucket of time: merging replicas, hours or days is adding.

    `answered`: how what the package answers was spread on held-out rows, to count that too (with
    the package's spec). Beside the buckets of `grain` seconds, which are joined as they age, whole
    spans of `span` seconds are kept as they are, with the sums of their numbers, for the detectors.
    """

    def __init__(
        self, reference: TableProfile, columns: Collection[str], grain: float, *,
        answered: tuple[ColumnProfile, PackageSpec] | None = None, span: float = DAY,
    ) -> None:  # fmt: skip
        self._grain, self._span = grain, span
        self._seats = [seat(p) for p in reference.columns if p.name in columns and p.values]
        self._spec: PackageSpec | None = None
        if answered is not None and answered[0].name not in (s.profile.name for s in self._seats):
            self._seats.append(seat(answered[0]))
            self._spec = answered[1]
        self._ends = np.cumsum([0, *(s.size for s in self._seats)]).tolist()
        self._buckets: dict[float, Counts] = {}
        self._spans: dict[float, tuple[Counts, NDArray[np.float64]]] = {}

    @property
    def columns(self) -> frozenset[str]:
        """Those that are counted."""
        return frozenset(one.profile.name for one in self._seats)

    def add(self, answers: Answers, chosen: NDArray[np.bool_]) -> None:
        """Count the request and feature columns, and the answers, of the chosen rows; of more than
        SAMPLE of them, so many evenly spaced ones: shares stay what they are, the cost is bounded."""
        places = np.flatnonzero(chosen)
        if not len(places) or not self._seats:
            return
        if len(places) > SAMPLE:
            places = places[np.linspace(0, len(places) - 1, SAMPLE).astype(np.intp)]
        bucket = np.floor(answers.at[places] / self._grain) * self._grain
        starts, at = np.unique(bucket, return_inverse=True)
        sums = np.zeros((len(starts), self._ends[-1]), dtype=np.int64)
        totals = np.zeros((len(starts), len(self._seats)))
        for i, (one, values) in enumerate(zip(self._seats, self._columns(answers, places), strict=True)):
            counts = np.bincount(at * one.size + one.codes(values), minlength=len(starts) * one.size)
            sums[:, self._ends[i] : self._ends[i + 1]] = counts.reshape(len(starts), one.size)
            totals[:, i] = np.bincount(at, one.total(values), minlength=len(starts))
        for start, part, total in zip(starts.tolist(), sums, totals, strict=True):
            self._buckets[start] = self._buckets.get(start, np.int64(0)) + part
            day = math.floor(start / self._span) * self._span
            before = self._spans.get(day, (np.int64(0), np.float64(0)))
            self._spans[day] = before[0] + part, before[1] + total

    def _columns(self, answers: Answers, places: NDArray[np.intp]) -> list[Any]:
        asked = self._seats if self._spec is None else self._seats[:-1]
        columns: list[Any] = answers.values([s.profile.name for s in asked], places.tolist())
        if self._spec is not None:
            columns = [*columns, said(self._spec.task, self._spec.classes, answers.scores[places])]
        return columns

    def forget(self, before: float, now: float) -> None:
        """Drop buckets from before `before`; join older ones, so that their number stays bounded
        and none is longer than an eighth of its age."""
        self._spans = {start: c for start, c in self._spans.items() if start + self._span > before}
        if len(self._buckets) <= 2 * YOUNG:
            return
        joined: dict[float, Counts] = {}
        for start, counts in self._buckets.items():
            if start >= before:
                size = self._grain
                while now - start > YOUNG * size:
                    size *= 8
                place = max(math.floor(start / size) * size, before)
                joined[place] = joined.get(place, np.int64(0)) + counts
        self._buckets = joined

    def window(self, since: float, until: float) -> dict[str, Pair]:
        """Column -> (reference, this window), over buckets that start in [since, until)."""
        parts = [c for start, c in self._buckets.items() if since <= start < until]
        return self._pairs(np.sum(parts, axis=0)) if parts else {}

    def spans(self, since: float, until: float) -> Iterator[tuple[float, dict[str, Pair]]]:
        """(start, window) of every whole span that starts at `since` or later and is over by
        `until`, in order of time."""
        for start in sorted(self._spans):
            if since <= start and start + self._span <= until:
                yield start, self._pairs(*self._spans[start])

    def _pairs(self, counts: Counts, totals: NDArray[np.float64] | None = None) -> dict[str, Pair]:
        sums = [0.0] * len(self._seats) if totals is None else totals.tolist()
        return {
            one.profile.name: (one.profile, one.profiled(counts[start:stop].tolist(), total))
            for one, start, stop, total in zip(self._seats, self._ends, self._ends[1:], sums, strict=False)
        }


def _numbers(values: Sequence[Any] | NDArray[Any]) -> NDArray[np.float64]:
    if isinstance(values, np.ndarray):
        return values
    return np.array([_number(v) for v in values], dtype=np.float64)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def drift(
    window: dict[str, Pair], frame: Frame, days: Mapping[str, Sequence[ColumnProfile]] | None = None
) -> Iterator[Evidence]:
    """How far each column has moved since training, and the farthest of them.

    "drift": population stability index; its interval is the index minus and plus what chance
    alone explains, at the level of the frame over all columns together. "nulls", "unseen": rise of
    the share of missing values, and of values outside what training saw, above the worst of the
    reference `days` where there are any: rows of a day share its weather, so that chance alone, row
    by row, explains too little. Each as ``measure`` (the worst column), ``measure`` by slice
    ``column=name``, and ``measure:name``.
    """
    filled = {c: pair for c, pair in window.items() if pair[1].n}
    each = 1 - (1 - frame.level) / max(len(filled), 1)
    for measure in ("drift", "nulls", "unseen"):
        found = {
            column: (*_moved(measure, before, now, each, (days or {}).get(column, ())), now.n)
            for column, (before, now) in filled.items()
            if now.values or measure == "nulls"
        }
        for column, (value, low, high, n) in found.items():
            seen = frame.number(f"{measure}:{column}", value, n, low, high)
            yield seen
            yield replace(seen, measure=measure, slice=f"column={column}")
        if found:
            value, low, high, n = max(found.values(), key=lambda moved: moved[1])
            yield frame.number(measure, value, n, low, high)


def _moved(
    measure: str, before: ColumnProfile, now: ColumnProfile, level: float, days: Sequence[ColumnProfile]
) -> tuple[float, float, float]:
    if measure == "drift":
        far = distance(before, now)
        noise = psi_noise(len(before.counts), before.values, now.values, 1 - level)
        return far.psi, far.psi - noise, far.psi + noise
    count = _missing if measure == "nulls" else _outside
    worst = max(map(count, (before, *days)), key=lambda seen: seen[0] / (seen[1] or 1))
    (k, n), (j, m) = count(now), worst
    return k / n - j / (m or 1), *newcombe((k, n), (j, m), level)


def _missing(profile: ColumnProfile) -> tuple[int, int]:
    return profile.nulls, profile.n


def _outside(profile: ColumnProfile) -> tuple[int, int]:
    if profile.kind == "label":
        return profile.other, profile.values
    return (profile.bins[0] + profile.bins[-1] if profile.edges else 0), profile.values
