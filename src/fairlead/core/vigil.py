"""The vigil: every column of a package watched window by window, with one false-alarm budget for all."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from math import exp, log

import numpy as np
from msgspec import Struct

from fairlead.core.catalogue import UNITS
from fairlead.core.cause import Cause
from fairlead.core.drift import Detector, Margin, breaches, restart, step, watch
from fairlead.core.evidence import Evidence
from fairlead.core.intake import Pair
from fairlead.core.profile import ColumnProfile, merge
from fairlead.core.vitals import Frame

__all__ = ["Vigil"]

FIRST = 7
"""Windows of its own that a column without enough reference windows is compared with."""

RECENT = (7, 3, 1)
"""Newest windows whose rows together tell how far a column moved: many tell a small shift well,
few a late one."""

MATERIAL = Margin(psi=0.04, nulls=0.02, unseen=0.02)
"""What is worth an alarm: some 0.2 standard deviations, or 2 % of the rows."""

UNIT = 0.02
"""How near the ratio of means comes, two days running, to a factor between units to be called by it."""

CERTAIN = 1e6
"""Evidence is shown up to so many times what an alarm needs."""


class Column(Struct, kw_only=True):
    """Where one column stands. `trend`: CUSUM of the logarithms of its evidence, whose last zero,
    at `since`, is where a shift most likely began; `recent`: the windows after that."""

    trained: ColumnProfile
    first: list[ColumnProfile]
    detector: Detector | None = None
    trend: float = 0.0
    since: float = 0.0
    recent: list[ColumnProfile] = []
    found: list[str] = []
    alarmed: bool = False


class Vigil:
    """The detectors of one package.

    `windows`: per column the reference windows; a column with fewer than FIRST is compared with its
    own first ones in production, and says nothing until it has them.
    """

    def __init__(self, windows: Mapping[str, Sequence[ColumnProfile]], margin: Margin = MATERIAL) -> None:
        self._windows, self._margin = windows, margin
        self._columns: dict[str, Column] = {}
        self.seen = float("-inf")

    def step(self, at: float, window: Mapping[str, Pair], every: float) -> None:
        """Take the window that starts at `at`; `every`: accepted windows between false alarms."""
        self.seen = at
        for name, (trained, profile) in window.items():
            if profile.n:
                self._step(self._column(name, trained), at, profile, log(max(len(window), 1) * every))

    def _column(self, name: str, trained: ColumnProfile) -> Column:
        if name not in self._columns:
            known = [w for w in self._windows.get(name, ()) if w.n]
            self._columns[name] = Column(trained=trained, first=known, recent=[], found=[],
                                         detector=watch(known) if len(known) >= FIRST else None)  # fmt: skip
        return self._columns[name]

    def _step(self, column: Column, at: float, window: ColumnProfile, bar: float) -> None:
        if column.detector is None:
            column.first.append(window)
            if len(column.first) >= FIRST:
                column.detector = watch(column.first)
            return
        before = column.detector
        after = column.detector = step(before, window)
        grown = after.log_m - (float(np.logaddexp(before.log_m, 0.0)) if before.log_parts else 0.0)
        column.trend = max(column.trend + grown, 0.0) if after.log_parts else 0.0
        if not column.trend or not column.recent:
            column.since, column.recent = at, []
        column.recent = [*column.recent, window][-RECENT[0] :]
        certain = after.log_m >= bar
        parts = (reduce(merge, column.recent[-newest:]) for newest in RECENT if certain)
        found = (breaches(after.reference, part, self._margin) for part in parts)
        column.found = next(filter(None, found), [])
        if column.alarmed and not breaches(after.reference, window, self._margin):
            column.detector, column.alarmed, column.trend, column.found = restart(after), False, 0.0, []
        elif column.found:
            column.alarmed = True

    def evidence(self, frame: Frame, every: float) -> Iterator[Evidence]:
        """"drift_evidence": of each column and of the worst, the evidence that it moved over that
        which an alarm needs; above 1 only where the shift is material too."""
        watched = {n: c for n, c in self._columns.items() if c.detector is not None and c.recent}
        bar = log(max(len(self._columns), 1) * every)
        found: list[Evidence] = []
        for name, column in watched.items():
            assert column.detector is not None
            value = exp(min(column.detector.log_m - bar, log(CERTAIN)))
            value = value if column.found else min(value, 1.0)
            rows = sum(w.n for w in column.recent)
            found.append(frame.number(f"drift_evidence:{name}", value, rows, value, value))
        for one in found:
            yield one
            name = one.measure.removeprefix("drift_evidence:")
            yield _named(one, frame, f"column={name}")
        if found:
            yield _named(max(found, key=lambda e: e.value), frame, "")

    def detectors(self) -> list[Detector]:
        """Those that have enough windows to speak."""
        return [c.detector for c in self._columns.values() if c.detector is not None]

    def causes(self) -> list[Cause]:
        """The columns that moved for certain and by enough, the worst first."""
        bad = [(c.detector.log_m, n, c) for n, c in self._columns.items()
               if c.alarmed and c.detector is not None]  # fmt: skip
        return [Cause(column=name, text="; ".join([*column.found, *_moved(column)]), since=column.since)
                for _, name, column in sorted(bad, key=lambda b: (-b[0], b[1]))]  # fmt: skip


def _named(seen: Evidence, frame: Frame, cut: str) -> Evidence:
    return Evidence(subject=frame.subject, measure="drift_evidence", value=seen.value, n=seen.n,
                    low=seen.low, high=seen.high, level=seen.level, slice=cut, since=frame.since,
                    until=frame.until)  # fmt: skip


def _moved(column: Column) -> Iterator[str]:
    """How much, in the column's own unit; and which units that would be the confusion of."""
    before, now = column.trained, column.recent[-1]
    if before.kind == "label" or not now.values:
        return
    sd = f", {(now.mean - before.mean) / before.sd:+.2f} sd" if before.sd > 0 else ""
    yield f"mean {before.mean:.4g} -> {now.mean:.4g}{sd}"
    ratios = [w.mean / before.mean if before.mean else 1.0 for w in column.recent[-2:]]
    for factor, words in UNITS.items():
        for real, text in ((factor, words), (1 / factor, f"the reverse of {words}")):
            if all(abs(ratio / real - 1) < UNIT for ratio in ratios):
                yield f"{ratios[-1]:.3g} times as large ({text}?)"
                return
