"""Units: when each unit of a release came in, its first event, and what it spent.

The unit is what the dice assigned: the request itself, or the sticky unit (a customer), whose
requests are not independent. A unit comes in anew with every epoch, since its package may have
changed; its first event in the release ends it everywhere, so nobody counts twice.
"""

from collections.abc import Iterator
from math import log

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.cohort import Cohort
from fairlead.core.evidence import Moments
from fairlead.core.join import TEXT, Truth
from fairlead.core.ledger import Rows
from fairlead.core.ref import Ref

__all__ = ["Entries", "answered", "cohorts", "entries", "spent"]

Vector = NDArray[np.float64]

FIRST, STEP = 60.0, 1.5
"""Cohorts and ages begin in spans of a minute, and every span is half as long again as the last:
fine where shares and hazards change fast, and few enough for a record."""


class Entries(Struct, frozen=True, eq=False):
    """n units in one epoch each: `package` as in the ledger; `at`: when they came in; `event`: when
    it happened, infinite when it did not; `left`: until when one would have known."""

    epoch: NDArray[np.int64]
    package: NDArray[np.int16]
    at: Vector
    event: Vector
    left: Vector


def answered(rows: Rows, truth: Truth) -> tuple[Vector, Vector]:
    """Of each row, when its feedback told of an event (true, or a number above 0), and when it told
    that none will come; infinite where it did not."""
    never = np.full(len(rows), np.inf)
    if not len(truth.key):
        return never, never
    place = truth.place(rows.key)
    known = (place >= 0) & (truth.kind[place] != TEXT)
    yes, at = known & (truth.code[place] > 0), truth.at[place]
    return np.where(yes, at, never), np.where(known & ~yes, at, never)


def entries(rows: Rows, event: Vector, none: Vector) -> Entries:
    """The units behind rows that the dice gave out. `event`, `none`: as `answered` tells them. That
    none will come counts for a request; a sticky unit may still come back."""
    who = _who(rows)
    order = np.lexsort((rows.at, who, rows.epoch))
    starts = _starts(rows.epoch[order], who[order])
    if not len(starts):
        return Entries(rows.epoch, rows.package, rows.at, event, none)
    loose = (rows.unit == 0)[order][starts]
    happened = np.minimum.reduceat(event[order], starts)
    over = np.where(loose, np.minimum.reduceat(none[order], starts), np.inf)
    _, unit = np.unique(who[order][starts], return_inverse=True)
    first = np.full(int(unit.max()) + 1, np.inf)
    np.minimum.at(first, unit, happened)
    ended, at = first[unit], rows.at[order][starts]
    kept = (at < ended) | (happened == ended)
    left = np.where(happened > ended, np.minimum(over, ended), over)
    return Entries(rows.epoch[order][starts][kept], rows.package[order][starts][kept], at[kept],
                   happened[kept], left[kept])  # fmt: skip


def cohorts(found: Entries, candidate: int, baseline: int, now: float) -> Iterator[Cohort]:
    """What is known by `now`, as cohorts of units that came in at about the same time.

    Ages are numbers of spans (`FIRST`, `STEP`); whoever is still waiting left at their age.
    """
    for epoch in np.unique(found.epoch).tolist():
        here = found.epoch == epoch
        born = _span(found.at - float(found.at[here].min()))
        for place in np.unique(born[here]).tolist():
            yield _cohort(found, here & (born == place), (candidate, baseline), now)


def _cohort(found: Entries, chosen: NDArray[np.bool_], arms: tuple[int, int], now: float) -> Cohort:
    at, event, left = found.at[chosen], found.event[chosen], np.minimum(found.left[chosen], now)
    struck = event <= left
    age = _span(np.where(struck, event, left) - at)
    package = found.package[chosen]
    ages = np.arange(int(age.max()) + 1)
    ours, theirs = ((package == arm) for arm in arms)
    events, lost = (
        {float(a): (int(x), int(y)) for a, x, y in zip(
            ages, np.bincount(age[ours & kind], minlength=len(ages)),
            np.bincount(age[theirs & kind], minlength=len(ages)), strict=True) if x or y}
        for kind in (struck, ~struck)
    )  # fmt: skip
    return Cohort(entered=(int(ours.sum()), int(theirs.sum())), events=events, left=lost)


def spent(rows: Rows, truth: Truth, measure: str, subject: Ref, cap: float) -> Iterator[Moments]:
    """One Moments per epoch: what each unit's feedback added up to, as a part of `cap`, where it is
    cut off. Units without feedback spent nothing."""
    value = np.zeros(len(rows))
    if len(truth.key):
        place = truth.place(rows.key)
        known = (place >= 0) & (truth.kind[place] != TEXT)
        value = np.where(known, np.maximum(truth.code[place], 0.0), 0.0)
    who = _who(rows)
    order = np.lexsort((who, rows.epoch))
    starts = _starts(rows.epoch[order], who[order])
    if not len(starts):
        return
    totals = np.minimum(np.add.reduceat(value[order], starts) / cap, 1.0)
    epochs = rows.epoch[order][starts]
    for epoch in np.unique(epochs).tolist():
        x = totals[epochs == epoch]
        yield Moments(subject=subject, measure=measure, at=float(epoch), n=len(x),
                      total=float(x.sum()), squares=float((x * x).sum()))  # fmt: skip


def _who(rows: Rows) -> NDArray[np.uint64]:
    return np.where(rows.unit == 0, rows.key, rows.unit)


def _starts(epoch: NDArray[np.int64], who: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Where a new unit begins, of rows sorted by epoch and unit."""
    if not len(who):
        return np.empty(0, dtype=np.intp)
    new = (epoch[1:] != epoch[:-1]) | (who[1:] != who[:-1])
    return np.flatnonzero(np.append(True, new))


def _span(seconds: Vector) -> NDArray[np.int64]:
    """The number of the span in which so many seconds lie."""
    grown = np.maximum(seconds, 0.0) / FIRST * (STEP - 1) + 1
    return np.asarray(np.floor(np.log(grown) / log(STEP)), dtype=np.int64)
