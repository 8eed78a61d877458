"""Attribution: what share of all that columns contribute each contributes, and whether that moved."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.evidence import Evidence
from fairlead.core.intervals import z_score
from fairlead.core.ref import Ref
from fairlead.core.shapley import ATTRIBUTION
from fairlead.core.vitals import Frame

__all__ = ["Attribution", "Share", "attribution", "matrix", "shares"]

Vector = NDArray[np.float64]


class Share(Struct, frozen=True, kw_only=True):
    """A column's mean share in what moves an answer, and the variance of that mean."""

    mean: float
    variance: float


class Attribution(Struct, frozen=True, kw_only=True):
    """What columns contributed to `rows` answers of a package in a span of time (`now`), and to answers
    to `held_out` rows (`before`)."""

    package: Ref
    since: float
    until: float
    rows: int
    held_out: int
    before: dict[str, Share]
    now: dict[str, Share]


def shares(players: Sequence[str], amounts: Vector) -> dict[str, Share]:
    """Of each column the mean over answers of its share in what moved the answer, of contributions
    [rows, players] of two rows at least. Shares of single answers are bounded: one answer that went far
    does not speak for all."""
    sizes = np.abs(amounts)
    whole = sizes.sum(axis=1, keepdims=True)
    found = np.divide(sizes, whole, out=np.zeros_like(sizes), where=whole > 0)
    means, variances = found.mean(axis=0), found.var(axis=0, ddof=1) / len(found)
    return {p: Share(mean=float(m), variance=float(v)) for p, m, v in zip(players, means, variances, strict=True)}


def attribution(seen: Attribution, frame: Frame) -> Iterator[Evidence]:
    """"attribution": by how much the share of a column moved, of each column (``attribution:column``, and
    ``column=name`` slices) and of the one that moved most. The intervals hold for all columns at once
    (Bonferroni)."""
    level = 1 - (1 - frame.level) / max(len(seen.now), 1)
    reach = _quantile(level, min(seen.rows, seen.held_out) - 1)
    single = 0.5 / min(seen.rows, seen.held_out)  # what half a row can do to a mean: skewed shares need it
    span = replace(frame, since=seen.since, until=seen.until)
    found: list[Evidence] = []
    for name, now in seen.now.items():
        before = seen.before[name]
        far, wide = abs(now.mean - before.mean), reach * sqrt(now.variance + before.variance) + single
        found.append(span.number(ATTRIBUTION + name, far, seen.rows, max(far - wide, 0.0), min(far + wide, 1.0)))
    yield from found
    for one in found:
        yield replace(one, measure="attribution", slice=f"column={one.measure.removeprefix(ATTRIBUTION)}")
    if found:
        yield replace(max(found, key=lambda e: e.low or 0.0), measure="attribution")


def _quantile(level: float, freedom: int) -> float:
    """The two-sided quantile of Student's t (Abramowitz and Stegun 26.7.5): held-out rows are few."""
    z, v = z_score(level), max(freedom, 1)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)


def matrix(players: Sequence[str], rows: Sequence[Mapping[str, float]]) -> Vector:
    """Contributions by column as [rows, players]."""
    return np.array([[row[p] for p in players] for row in rows], dtype=np.float64).reshape(len(rows), len(players))
