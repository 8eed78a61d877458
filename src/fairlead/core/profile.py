"""Profiles: mergeable summaries of columns, so that a day is the sum of its hours and replicas."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import inf, nan, sqrt
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from fairlead.errors import Invalid, Missing

__all__ = ["ColumnProfile", "TableProfile", "histogram", "merge", "merge_tables", "profile_labels",
           "profile_numbers", "quantile_edges"]  # fmt: skip

_KEPT = 256
"""Smallest hashes kept to estimate distinct values: exact up to 255, then within about 6 %."""

_PIECE = 8192

_TOP = 100
"""Labels counted one by one when no list of labels is given."""


class ColumnProfile(Struct, frozen=True, kw_only=True):
    """What a column holds. `n` rows, of which `nulls` have no value.

    number: `low`, `high`, `mean` and `m2` (sum of squared deviations) of the values, and with
    `edges` also `bins`: counts below the first edge, between edges (left included), from the
    last edge on. label: `labels` counts by label and `other`, the values that are not listed.
    `hashes`: the smallest hashes of values, in order (see `distinct`).
    """

    name: str
    kind: Literal["number", "label"]
    n: int
    nulls: int
    low: float = inf
    high: float = -inf
    mean: float = 0.0
    m2: float = 0.0
    edges: tuple[float, ...] = ()
    bins: tuple[int, ...] = ()
    labels: dict[str, int] = {}
    other: int = 0
    hashes: tuple[int, ...] = ()

    @property
    def values(self) -> int:
        """How many rows have a value."""
        return self.n - self.nulls

    @property
    def null_rate(self) -> float:
        """Share of rows without a value; NaN of no rows."""
        return self.nulls / self.n if self.n else nan

    @property
    def sd(self) -> float:
        """Sample standard deviation of the values; NaN of fewer than two."""
        return sqrt(self.m2 / (self.values - 1)) if self.values > 1 else nan

    @property
    def distinct(self) -> int:
        """Number of different values: exact below 256, else the k-minimum-values estimate."""
        if len(self.hashes) < _KEPT:
            return len(self.hashes)
        return round((_KEPT - 1) * 2.0**64 / self.hashes[-1])

    @property
    def counts(self) -> tuple[int, ...]:
        """The histogram: `bins`, or the counts of `labels` (in order) and of `other`."""
        return self.bins if self.kind == "number" else (*self.labels.values(), self.other)


class TableProfile(Struct, frozen=True, kw_only=True):
    """The profiles of a table's columns, in order."""

    n: int
    columns: tuple[ColumnProfile, ...]

    def column(self, name: str) -> ColumnProfile:
        """The profile of that column. Raises Missing."""
        for column in self.columns:
            if column.name == name:
                return column
        names = ", ".join(c.name for c in self.columns)
        raise Missing(f"no profile of column {name!r}", hint=f"profiled columns: {names}")


def quantile_edges(values: ArrayLike, bins: int = 20) -> tuple[float, ...]:
    """Edges of a histogram with about equally filled bins, and bins outside the range seen.

    A value that fills a whole bin gets one of its own. () when there is no value.
    """
    clean = _finite(values)
    if not len(clean):
        return ()
    cuts = np.quantile(clean, np.linspace(0, 1, bins + 1), method="inverted_cdf")
    same, repeats = np.unique(cuts, return_counts=True)
    starts = same if repeats[-1] > 1 else same[:-1]
    ends = np.nextafter(np.append(same[repeats > 1], same[-1]), inf)
    return tuple(np.unique(np.concatenate([starts, ends])).tolist())


def histogram(values: NDArray[np.float64], edges: Sequence[float]) -> tuple[int, ...]:
    """How many values lie below the first edge, between edges, and from the last edge on; NaN in
    none. Counts what reaches each edge, piece by piece in the processor's cache: 5 ns a value."""
    reach = np.zeros(len(edges) + 1, dtype=np.int64)
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE]
        reach[0] += np.count_nonzero(piece == piece)
        for i, edge in enumerate(edges, 1):
            reach[i] += np.count_nonzero(piece >= edge)
    return tuple((reach - np.append(reach[1:], 0)).tolist())


def profile_numbers(
    name: str, values: ArrayLike, edges: Sequence[float] | None = None
) -> ColumnProfile:
    """Profile float64 (n,) values; NaN (and what is not finite) counts as null."""
    given = np.asarray(values, dtype=np.float64)
    clean = _finite(given)
    bins: tuple[int, ...] = ()
    if edges:
        bins = histogram(clean, edges)
    whole = ColumnProfile(name=name, kind="number", n=given.size, nulls=given.size - clean.size,
                          edges=tuple(edges or ()), bins=bins)  # fmt: skip
    if not len(clean):
        return whole
    mean = float(clean.mean())
    return ColumnProfile(name=name, kind="number", n=whole.n, nulls=whole.nulls, edges=whole.edges,
                         bins=bins, low=float(clean.min()), high=float(clean.max()), mean=mean,
                         m2=float(((clean - mean) ** 2).sum()), hashes=_number_hashes(clean))  # fmt: skip


def profile_labels(
    name: str, counts: Mapping[str, int], nulls: int = 0, known: Sequence[str] | None = None
) -> ColumnProfile:
    """Profile the counts of labels.

    `known`: the labels to count one by one, all others go to `other` (a window against its
    reference). None: the 100 most frequent.
    """
    if known is None:
        known = sorted(counts, key=lambda label: (-counts[label], label))[:_TOP]
    labels = {label: counts.get(label, 0) for label in known}
    total = sum(counts.values())
    return ColumnProfile(name=name, kind="label", n=total + nulls, nulls=nulls, labels=labels,
                         other=total - sum(labels.values()),
                         hashes=_smallest(_label_hash(label) for label in counts))  # fmt: skip


def merge(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    """The profile of the rows of both: in any order, in any grouping, the same.

    (To the last bit, except `mean` and `m2`, which round.) Raises Invalid when the two are not
    of the same column, kind and edges.
    """
    if (a.name, a.kind, a.edges) != (b.name, b.kind, b.edges):
        raise Invalid(f"the profiles of {a.name!r} ({a.kind}, {len(a.edges)} edges) and {b.name!r} "
                      f"({b.kind}, {len(b.edges)} edges) do not add up",
                      hint="profile both with the edges of one reference")  # fmt: skip
    values = a.values + b.values
    mean, m2 = 0.0, 0.0
    if a.kind == "number" and values:
        step = b.mean - a.mean
        mean = (a.values * a.mean + b.values * b.mean) / values
        m2 = a.m2 + b.m2 + step * step * a.values * b.values / values
    labels = {x: a.labels.get(x, 0) + b.labels.get(x, 0) for x in {**a.labels, **b.labels}}
    return ColumnProfile(name=a.name, kind=a.kind, n=a.n + b.n, nulls=a.nulls + b.nulls,
                         low=min(a.low, b.low), high=max(a.high, b.high), mean=mean, m2=m2,
                         edges=a.edges, bins=tuple(map(sum, zip(a.bins, b.bins, strict=True))),
                         labels=labels, other=a.other + b.other,
                         hashes=_smallest({*a.hashes, *b.hashes}))  # fmt: skip


def merge_tables(a: TableProfile, b: TableProfile) -> TableProfile:
    """The profile of the rows of both tables. Raises Invalid when their columns differ."""
    left, right = [c.name for c in a.columns], [c.name for c in b.columns]
    if left != right:
        raise Invalid(f"profiles of columns {left} and {right} do not add up",
                      hint="profile the same columns in the same order")  # fmt: skip
    columns = tuple(merge(x, y) for x, y in zip(a.columns, b.columns, strict=True))
    return TableProfile(n=a.n + b.n, columns=columns)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    given = np.asarray(values, dtype=np.float64)
    return given[np.isfinite(given)]


def _smallest(hashes: object) -> tuple[int, ...]:
    return tuple(sorted(set(hashes))[:_KEPT])  # type: ignore[call-overload]


def _label_hash(label: str) -> int:
    return int.from_bytes(blake2b(label.encode(), digest_size=8).digest(), "big")


def _number_hashes(values: NDArray[np.float64]) -> tuple[int, ...]:
    """splitmix64 (Steele, Lea, Flood 2014) of the bits of each value; 0.0 and -0.0 are one."""
    bits = (values + 0.0).view(np.uint64)
    mixed = bits + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    mixed.sort()  # 100 times faster than np.unique, which hashes
    fresh = np.append(True, mixed[1:] != mixed[:-1])
    return tuple(mixed[fresh][:_KEPT].tolist())
