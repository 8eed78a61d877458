"""Arms: how often each package of a release failed or was slow, counted so that tests may trust it.

Windows never span two epochs (within one the shares are constant), and one closes when its smallest
arm has enough exposures, never because of what happened to them. Where a unit (a customer) always
meets the same package, one unit counts once per window and until its first event: its requests are
not independent (statistics.md 3.4).

Answers slower than the baseline's quantiles are counted when a check of the plan asks for them
(`core.latency`): from the start where the baseline answered enough before the release, else from
the moment it has. Answers that nobody waited for (mirrored ones) are always later: they tell
nothing of latency.
"""

from collections.abc import Iterator, Sequence
from math import inf, nextafter

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.check import Harm
from fairlead.core.evidence import Fact, Tally
from fairlead.core.latency import FEWEST, QUANTILES, SLOWER, allowed, frozen
from fairlead.core.ledger import FAILED, FALLBACK, LIVE, Ledger, Rows
from fairlead.core.ref import Ref
from fairlead.core.release import Release

__all__ = ["Arms"]

ENOUGH = 20
"""Exposures of the smallest arm that close a window: its share of exposure is then known well."""

GROWTH = 0.02
"""Or so much of what was seen before, so that a release of any length has some 200 windows."""

AGAIN = 10
"""Rows that stand for one exposure when a window closes."""

MEASURES = ("errors", "slow")

MIRRORED, DRAWN, CERTAIN = 0, 1, 2
"""Kinds of exposure: answers nobody saw; live by the dice; live without dice (pinned units, and
everything while the candidates have no share)."""


class Count(Struct):
    """One arm in one window: rows, and n and events per measure; `requests`: rows, or units new in
    this epoch, that the dice gave it."""

    n: list[int]
    events: list[int]
    rows: int = 0
    requests: int = 0


class Window(Struct):
    """Counts by (package, kind). `met`: units that were exposed in it, while it is open."""

    at: float
    epoch: int
    counts: dict[tuple[int, int], Count] = {}
    met: dict[tuple[int, int, int], set[int]] = {}


class Arms:
    """The counters of one release, moved forward by `update`, read by `facts`."""

    def __init__(self, release: Release, slow: float, start: int) -> None:
        self._slow = slow
        self._slower = _slower(release)
        self._measures = MEASURES + (_PARTS if self._slower else ())
        self._thresholds: tuple[float, ...] = ()
        self._allowed: tuple[float, ...] = ()
        self._baseline = release.baseline
        self._own = -1
        self._refs = {str(r): r for r in (*release.candidates, release.baseline) if r is not None}
        self._next = start
        self._windows: list[Window] = []
        self._open: dict[int, Window] = {}
        self._seen: dict[tuple[int, int], int] = {}
        self._gone: dict[tuple[int, int], set[int]] = {}
        self._counted: dict[tuple[int, int], set[int]] = {}

    def update(self, ledger: Ledger, first_epoch: int) -> None:
        """Count the rows added since the last update, from `first_epoch` on."""
        self._own = ledger.index(str(self._baseline))
        if self._slower and not self._thresholds:
            self._freeze(ledger, first_epoch)
        self._take(ledger, ledger.end, first_epoch)

    def _freeze(self, ledger: Ledger, first_epoch: int) -> None:
        """Fix the thresholds when the baseline has answered enough: before the release, or in it.
        Rows of the release that have a part in them are not held against them."""
        rows = ledger.rows(ledger.first)
        own = (rows.package == self._own) & ((rows.flags & (LIVE | FALLBACK | FAILED)) == LIVE)
        before = np.flatnonzero(own & (rows.epoch < first_epoch))
        chosen = before if len(before) >= FEWEST else np.flatnonzero(own)[:FEWEST]
        if len(chosen) < FEWEST:
            return
        if len(before) < FEWEST:
            self._take(ledger, ledger.first + int(chosen[-1]) + 1, first_epoch)
        self._thresholds = frozen(rows.latency[chosen])
        self._allowed = allowed(self._thresholds, self._slower)

    def _take(self, ledger: Ledger, end: int, first_epoch: int) -> None:
        """Count the rows before a position that were not counted yet."""
        rows = ledger.rows(self._next, end)
        self._next = max(self._next, end)
        mine = [ledger.index(name) for name in self._refs]
        for epoch in np.unique(rows.epoch[rows.epoch >= first_epoch]).tolist():
            here = rows.where((rows.epoch == epoch) & np.isin(rows.package, mine))
            for package in mine:
                self._add(epoch, package, here.where(here.package == package))
            self._close(epoch)

    def _add(self, epoch: int, package: int, rows: Rows) -> None:
        own = (rows.flags & FALLBACK) == 0
        live = (rows.flags & LIVE) > 0
        kind = np.where(live, np.where(rows.propensity < 1, DRAWN, CERTAIN), MIRRORED)
        for one in (MIRRORED, DRAWN, CERTAIN):
            part = rows.where(own & (kind == one))
            if len(part):
                window = self._open.get(epoch) or self._begin(epoch, float(part.at.min()))
                self._count(window, (package, one), part)

    def _begin(self, epoch: int, at: float) -> Window:
        taken = {w.at for w in self._windows}
        while at in taken:
            at = nextafter(at, inf)
        window = Window(at=at, epoch=epoch)
        self._windows.append(window)
        self._open[epoch] = window
        return window

    def _count(self, window: Window, arm: tuple[int, int], rows: Rows) -> None:
        blank = [0] * len(self._measures)
        count = window.counts.setdefault(arm, Count(blank.copy(), blank.copy()))
        failed = (rows.flags & FAILED) > 0
        limits = (self._slow, *(self._thresholds if arm[0] == self._own else self._allowed))
        events = (failed, *(failed | (rows.latency > limit) for limit in limits))
        loose = rows.unit == 0
        count.rows += len(rows)
        if arm[1] == DRAWN:
            count.requests += int(loose.sum()) + self._fresh(window.epoch, arm, rows.unit[~loose])
        for m, happened in enumerate(events):
            count.n[m] += int(loose.sum())
            count.events[m] += int((happened & loose).sum())
            if not loose.all():
                self._count_units(window, arm, m, rows.unit[~loose], happened[~loose])

    def _count_units(self, window: Window, arm: tuple[int, int], measure: int,
                     units: NDArray[np.uint64], happened: NDArray[np.bool_]) -> None:  # fmt: skip
        """A unit is exposed once per window, and no more after its first event."""
        gone = self._gone.setdefault((arm[0], measure), set())
        met = window.met.setdefault((*arm, measure), set())
        here = set(units.tolist()) - gone
        struck = set(units[happened].tolist()) - gone
        count = window.counts[arm]
        count.n[measure] += len(here - met)
        count.events[measure] += len(struck)
        met |= here
        gone |= struck

    def _fresh(self, epoch: int, arm: tuple[int, int], units: NDArray[np.uint64]) -> int:
        """How many units this arm had not met in this epoch."""
        before = self._counted.setdefault((epoch, arm[0]), set())
        new = set(units.tolist()) - before
        before |= new
        return len(new)

    def _close(self, epoch: int) -> None:
        """Close the window of this epoch when all its arms have enough exposures, or, where few
        units ask again and again, enough rows."""
        window = self._open.get(epoch)
        if window is None or len(window.counts) < 2:
            return
        for arm, count in window.counts.items():
            enough = max(ENOUGH, GROWTH * self._seen.get(arm, 0))
            if count.n[0] < enough and count.rows < AGAIN * enough:
                return
        for arm, count in window.counts.items():
            self._seen[arm] = self._seen.get(arm, 0) + count.n[0]
        window.met = {}
        del self._open[epoch]

    def facts(self, ledger: Ledger, epoch: int) -> list[Fact]:
        """Tallies "errors", "slow" and what the plan asks for ("slower:p99") of all windows, and
        "requests" (drawn ones) of this epoch.

        In an epoch in which no candidate answers by the dice, mirrored answers are compared with
        all live ones of the baseline.
        """
        facts: list[Fact] = []
        names = {ledger.index(name): ref for name, ref in self._refs.items()}
        drawn = {w.epoch for w in self._windows for package, kind in w.counts
                 if kind == DRAWN and names[package] != self._baseline}  # fmt: skip
        for window in self._windows:
            for package, ref in names.items():
                other = (DRAWN, CERTAIN) if ref == self._baseline else (MIRRORED,)
                live = window.epoch in drawn
                kinds, measures = ((DRAWN,), self._measures) if live else (other, MEASURES)
                counts = [c for k in kinds if (c := window.counts.get((package, k)))]
                facts += _tallies(ref, measures, window, counts, epoch)
        return facts


_PARTS = tuple(f"{SLOWER}:{name}" for name in QUANTILES)


def _slower(release: Release) -> float:
    """How many times as long as the baseline a check of the plan allows; 0 when none asks."""
    rules = [c.rule for step in release.plan.steps for c in step.checks if c.measure == SLOWER]
    if release.baseline is None:
        return 0.0
    return max((r.slower for r in rules if isinstance(r, Harm) and r.over), default=0.0)


def _tallies(
    ref: Ref, measures: Sequence[str], window: Window, counts: Sequence[Count], epoch: int
) -> Iterator[Tally]:
    for m, measure in enumerate(measures):
        n = sum(c.n[m] for c in counts)
        if n:
            yield Tally(subject=ref, measure=measure, at=window.at,
                        events=sum(c.events[m] for c in counts), n=n)  # fmt: skip
    requests = sum(c.requests for c in counts)
    if window.epoch == epoch and requests:
        yield Tally(subject=ref, measure="requests", at=window.at, events=0, n=requests)
