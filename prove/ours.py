"""Ours: Fairlead's evidence for thousands of runs at once, and the product itself as its judge.

`core.release.advance` takes a millisecond or so, and a million looks are needed, so evidence is
computed for all runs at once by the same formula. `audit` then takes runs out of the crowd and
shows their counts to the product: advance, apply and replay must decide the very same thing.
"""

from collections.abc import Callable, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from fairlead.core.arms import ENOUGH, GROWTH
from fairlead.core.check import Check, Odds
from fairlead.core.decision import replay
from fairlead.core.evidence import EvidenceSet, Fact, Tally
from fairlead.core.ref import Ref, canonical
from fairlead.core.release import Phase, Release, advance, apply
from fairlead.core.sequential import alternatives
from fairlead.core.traffic import Fixed, Step, TrafficPlan
from prove.traffic import NEVER, Floats, Ints, Traffic, first

__all__ = ["ACT", "NEW", "OLD", "Mixture", "audit", "closing", "harm", "pooled", "safe", "tallies"]

NEW, OLD = Ref("package", "model", "b2"), Ref("package", "model", "a1")

Bools = NDArray[np.bool_]
Counts = Ints | Floats

ODDS = Odds(alpha=0.05, beta=0.05)
ACT = log(1 / ODDS.alpha)

SAMPLE = 12
"""Runs per situation that the product judges: half of them acted, where so many did."""


class Mixture:
    """Evidence of event shares (statistics.md 3.1) for many runs: windows in, log e out."""

    def __init__(self, runs: int, ratio: float = 1.0, *, below: bool = False) -> None:
        steps, weights = alternatives("safe" if below else "harm", ratio)
        self._steps = steps[:, None]
        self._sum = weights[:, None] + np.zeros((1, runs))
        self._ratio = ratio

    def add(self, xc: Counts, nc: Counts, xt: Counts, nt: Counts) -> Floats:
        """Close one window per run; all (runs,). Returns log e."""
        self._sum += self._factor(xc, nc, xt, nt)
        return _mixed(self._sum)

    def peek(self, xc: Counts, nc: Counts, xt: Counts, nt: Counts, closed: Bools) -> Floats:
        """log e with one window that still grows; it ends here in the runs where it is `closed`."""
        factor = self._factor(xc, nc, xt, nt)
        log_e = _mixed(self._sum + factor)
        self._sum += np.where(closed, factor, 0.0)
        return log_e

    def _factor(self, xc: Counts, nc: Counts, xt: Counts, nt: Counts) -> Floats:
        both = (nc > 0) & (nt > 0)
        odds = np.where(both, nc, 0) / np.maximum(nt, 1) * self._ratio
        gain = np.log1p(odds) - np.log1p(odds * np.exp(self._steps))
        return np.asarray(np.where(both, xc * self._steps + (xc + xt) * gain, 0.0))


def _mixed(logs: Floats) -> Floats:
    top = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).sum(axis=0)))


def closing(traffic: Traffic) -> Bools:
    """Whether the observer closes its window after a look (runs, looks): `core.arms`."""
    runs, looks = traffic.nc.shape
    closed = np.zeros((runs, looks), dtype=np.bool_)
    seen, grown = np.zeros((2, runs)), np.zeros((2, runs))
    for look in range(looks):
        grown += traffic.nc[:, look], traffic.nt[:, look]
        closed[:, look] = (grown >= np.maximum(ENOUGH, GROWTH * seen)).all(axis=0)
        seen += np.where(closed[:, look], grown, 0)
        grown = np.where(closed[:, look], 0, grown)
    return closed


def harm(traffic: Traffic, ratio: float = 1.0) -> Floats:
    """log e of harm at every look (runs, looks), in the windows of an observer."""
    return _path(traffic, Mixture(len(traffic.xc), ratio))


def safe(traffic: Traffic, exclude: float = 2.0) -> Floats:
    """log e of safety at every look (runs, looks), in the windows of an observer."""
    return _path(traffic, Mixture(len(traffic.xc), exclude, below=True))


def _path(traffic: Traffic, mixture: Mixture) -> Floats:
    runs, looks = traffic.nc.shape
    closed, path = closing(traffic), np.zeros((runs, looks))
    window = np.zeros((4, runs))
    for look in range(looks):
        window += [part[:, look] for part in (traffic.xc, traffic.nc, traffic.xt, traffic.nt)]
        path[:, look] = mixture.peek(window[0], window[1], window[2], window[3], closed[:, look])
        window = np.where(closed[:, look], 0, window)
    return path


def pooled(paths: Sequence[Floats], weights: Sequence[float] = ()) -> Floats:
    """The average of e-values, as logarithms."""
    given = np.array(weights or [1.0] * len(paths))
    shares = np.log(given / given.sum())
    return np.asarray(np.logaddexp.reduce(np.stack([p + s for p, s in zip(paths, shares, strict=True)]), axis=0))


def tallies(traffic: Traffic, run: int, looks: int, measure: str) -> list[Fact]:
    """What an observer reports of one run after so many looks: one tally per arm and window."""
    one = slice(run, run + 1)
    cut = Traffic(traffic.xc[one, :looks], traffic.nc[one, :looks], traffic.xt[one, :looks],
                  traffic.nt[one, :looks], traffic.rows)  # fmt: skip
    ends = closing(cut)[0]
    starts = np.flatnonzero(np.concatenate([[True], ends[:-1]]))

    def sums(part: Ints) -> list[int]:
        return [int(n) for n in np.add.reduceat(part[0], starts)]

    return [
        Tally(subject=subject, measure=measure, at=float(at), events=x, n=n)
        for subject, events, exposures in ((NEW, cut.xc, cut.nc), (OLD, cut.xt, cut.nt))
        for at, x, n in zip(starts, sums(events), sums(exposures), strict=True)
    ]


def audit(
    checks: tuple[Check, ...], facts: Callable[[int, int], list[Fact]], log_harm: Floats,
    log_safe: Floats | None = None, *, sample: int = SAMPLE,
) -> int:  # fmt: skip
    """Let the product judge a sample of runs where they act, and one look before that.

    `facts(run, looks)`; `log_harm`, `log_safe` (runs, looks): what this package computed.
    Returns the number of decisions compared; AssertionError when one differs.
    """
    acted = first(log_harm >= ACT)
    chosen = [*np.flatnonzero(acted < NEVER)[: sample // 2].tolist()]
    chosen += np.flatnonzero(acted == NEVER)[: sample - len(chosen)].tolist()
    compared = 0
    for run in chosen:
        at = int(min(acted[run], log_harm.shape[1] - 1))
        for look in {max(at - 1, 0), at}:
            bad = log_harm[run, look] >= ACT
            good = log_safe is not None and log_safe[run, look] >= ACT
            end = _phase(checks, EvidenceSet(facts(run, look + 1)))
            assert (end is Phase.ROLLED_BACK) == bad, (run, look, end)
            assert log_safe is None or (end is Phase.PROMOTED) == (good and not bad), (
                run,
                look,
                end,
            )
            compared += 1
    return compared


def _phase(checks: tuple[Check, ...], seen: EvidenceSet) -> Phase:
    step = Step(share=Fixed(0.1), mirror=1.0, patience=1e9, checks=checks)
    release = Release(id="r", service="model", candidates=(NEW,), baseline=OLD, started_at=0.0,
                      entered_at=0.0, plan=TrafficPlan(name="prove", steps=(step,), odds=ODDS))  # fmt: skip
    decision = advance(release, seen, 60.0)
    assert canonical(replay(decision)) == canonical(decision)
    return apply(release, decision, seen).phase
