"""Traffic: what both arms of a release meet at every look, drawn once and shown to everybody."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

__all__ = ["HOUR", "Floats", "Ints", "Traffic", "draw", "first", "median", "share_of"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HOUR = 60
"""Looks in an hour, at one look a minute."""

NEVER = np.iinfo(np.int64).max
"""The look at which nothing ever happened."""


class Traffic(Struct, frozen=True, eq=False):
    """Events and exposures (runs, looks) of the candidate and the baseline; `rows` a look."""

    xc: Ints
    nc: Ints
    xt: Ints
    nt: Ints
    rows: int


def draw(
    seed: int, runs: int, looks: int, *, base: float | Floats = 0.005, ratio: float = 1.0,
    rows: int = 3000, share: float = 0.1,
) -> Traffic:  # fmt: skip
    """Each request goes to the candidate with chance `share`, and fails with chance `base` (per
    look), at the candidate `ratio` times as often."""
    rng = np.random.default_rng(seed)
    p = np.broadcast_to(base, looks)
    nc = rng.binomial(rows, share, (runs, looks))
    nt = rows - nc
    return Traffic(rng.binomial(nc, p * ratio), nc, rng.binomial(nt, p), nt, rows)


def first(acted: NDArray[np.bool_]) -> Ints:
    """The look (from 0) of the first action of every run (runs, looks); NEVER when there is none."""
    return np.where(acted.any(axis=1), acted.argmax(axis=1), NEVER)


def share_of(looks: Ints, within: int = NEVER) -> float:
    """Share of runs that acted at all, or within so many looks."""
    return float((looks < within).mean())


def median(looks: Ints, rows: int) -> float:
    """Median number of requests before the action; infinite when half of the runs never acted."""
    middle = float(np.median(looks.astype(np.float64)))
    return float("inf") if middle > 1e12 else (middle + 1) * rows
