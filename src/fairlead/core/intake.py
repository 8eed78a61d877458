"""Intake: what goes into a package, column by column, counted on the bins of its training profile."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.answers import Answers
from fairlead.core.drift import distance, psi_noise
from fairlead.core.evidence import Evidence
from fairlead.core.intervals import newcombe
from fairlead.core.profile import ColumnProfile, TableProfile
from fairlead.core.target import label
from fairlead.core.vitals import Frame

__all__ = ["Intake", "drift"]

Counts = NDArray[np.int64]

YOUNG = 64
"""Buckets of one length; older ones are joined, eight at a time."""

SAMPLE = 4096
"""Rows of one reading of the log that are counted: 20,000 a second at five readings."""


class Seat(Struct, frozen=True):
    """A column's place in the vector of counts: its nulls, then its bins or labels and the rest."""

    profile: ColumnProfile
    start: int
    stop: int
    edges: NDArray[np.float64]
    labels: dict[str, int]


class Intake:
    """Integers per bucket of time: merging replicas, hours or days is adding."""

    def __init__(self, reference: TableProfile, columns: Collection[str], grain: float) -> None:
        self._grain = grain
        self._seats: list[Seat] = []
        self._buckets: dict[float, Counts] = {}
        end = 0
        for profile in reference.columns:
            if profile.name in columns and profile.values:
                size = 1 + max(len(profile.counts), 1)
                labels = {label: i for i, label in enumerate(profile.labels)}
                edges = np.array(profile.edges, dtype=np.float64)
                self._seats.append(Seat(profile, end, end + size, edges, labels))
                end += size
        self._width = end

    def add(self, answers: Answers, chosen: NDArray[np.bool_]) -> None:
        """Count the request and feature columns of the chosen rows; of more than SAMPLE of them,
        so many evenly spaced ones: shares stay what they are, and the cost is bounded."""
        places = np.flatnonzero(chosen)
        if not len(places) or not self._seats:
            return
        if len(places) > SAMPLE:
            places = places[np.linspace(0, len(places) - 1, SAMPLE).astype(np.intp)]
        bucket = np.floor(answers.at[places] / self._grain) * self._grain
        starts, at = np.unique(bucket, return_inverse=True)
        sums = np.zeros((len(starts), self._width), dtype=np.int64)
        columns = answers.values([s.profile.name for s in self._seats], places.tolist())
        for seat, values in zip(self._seats, columns, strict=True):
            size = seat.stop - seat.start
            counts = np.bincount(at * size + _codes(values, seat), minlength=len(starts) * size)
            sums[:, seat.start : seat.stop] = counts.reshape(len(starts), size)
        for start, part in zip(starts.tolist(), sums, strict=True):
            self._buckets[start] = self._buckets.get(start, np.int64(0)) + part

    def forget(self, before: float, now: float) -> None:
        """Drop buckets from before `before`; join older ones, so that their number stays bounded
        and none is longer than an eighth of its age."""
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

    def window(self, since: float, until: float) -> dict[str, tuple[ColumnProfile, ColumnProfile]]:
        """Column -> (reference, this window), over buckets that start in [since, until)."""
        parts = [c for start, c in self._buckets.items() if since <= start < until]
        if not parts:
            return {}
        total = np.sum(parts, axis=0)
        return {
            s.profile.name: (s.profile, _profile(s.profile, total[s.start : s.stop].tolist()))
            for s in self._seats
        }


def _codes(values: Sequence[Any], seat: Seat) -> NDArray[np.int64]:
    """0 for null, else 1 + the bin or label."""
    if seat.profile.kind == "label":
        last = len(seat.labels)
        return np.array([0 if v is None else 1 + seat.labels.get(label(v), last) for v in values],
                        dtype=np.int64)  # fmt: skip
    numbers = np.array([_number(v) for v in values], dtype=np.float64)
    finite = np.isfinite(numbers)
    return np.where(finite, 1 + np.searchsorted(seat.edges, numbers, side="right"), 0)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _profile(reference: ColumnProfile, counts: list[int]) -> ColumnProfile:
    nulls, rest = counts[0], counts[1:]
    n = sum(counts)
    if reference.kind == "number":
        return ColumnProfile(name=reference.name, kind="number", n=n, nulls=nulls,
                             edges=reference.edges, bins=tuple(rest))  # fmt: skip
    labels = dict(zip(reference.labels, rest, strict=False))
    return ColumnProfile(name=reference.name, kind="label", n=n, nulls=nulls, labels=labels,
                         other=rest[-1])  # fmt: skip


def drift(
    window: dict[str, tuple[ColumnProfile, ColumnProfile]], frame: Frame
) -> Iterator[Evidence]:
    """How far each column has moved since training, and the farthest of them.

    "drift": population stability index; its interval is the index minus and plus what chance
    alone explains, at the level of the frame over all columns together. "nulls", "unseen": rise of
    the share of missing values, and of values outside what training saw. Each as ``measure``
    (the worst column), ``measure`` by slice ``column=name``, and ``measure:name``.
    """
    filled = {c: pair for c, pair in window.items() if pair[1].n}
    each = 1 - (1 - frame.level) / max(len(filled), 1)
    for measure in ("drift", "nulls", "unseen"):
        found = {
            column: (*_moved(measure, before, now, each), now.n)
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
    measure: str, before: ColumnProfile, now: ColumnProfile, level: float
) -> tuple[float, float, float]:
    far = distance(before, now)
    if measure == "drift":
        noise = psi_noise(len(before.counts), before.values, now.values, 1 - level)
        return far.psi, far.psi - noise, far.psi + noise
    if measure == "nulls":
        return far.nulls, *newcombe((now.nulls, now.n), (before.nulls, before.n), level)
    ours, theirs = _outside(now), _outside(before)
    return far.unseen, *newcombe((ours, now.values), (theirs, before.values), level)


def _outside(profile: ColumnProfile) -> int:
    if profile.kind == "label":
        return profile.other
    return profile.bins[0] + profile.bins[-1] if profile.edges else 0
