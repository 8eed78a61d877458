"""Ours: Fairlead's evidence for thousands of runs at once, and the product itself as its judge.

`core.release.advance` takes a millisecond or so, and a million looks are needed, so evidence is
computed for all runs at once by the same formula. `audit` then takes runs out of the crowd and
shows their counts to the product: advance, apply and replay must decide the very same thing.
"""

from collections.abc import Callable, Sequence
from math import log

import numpy as np

from fairlead.core.check import Check, Odds
from fairlead.core.decision import replay
from fairlead.core.evidence import EvidenceSet, Fact, Tally
from fairlead.core.ref import Ref, canonical
from fairlead.core.release import Phase, Release, advance, apply
from fairlead.core.traffic import Fixed, Step, TrafficPlan
from prove.traffic import NEVER, Floats, Ints, Traffic, first

__all__ = ["ACT", "NEW", "OLD", "Mixture", "audit", "harm", "pooled", "safe", "tallies"]

NEW, OLD = Ref("package", "model", "b2"), Ref("package", "model", "a1")

ODDS = Odds(alpha=0.05, beta=0.05)
ACT = log(1 / ODDS.alpha)

SAMPLE = 12
"""Runs per situation that the product judges: half of them acted, where so many did."""


class Mixture:
    """Evidence of event shares (statistics.md 3.1) for many runs: windows in, log e out."""

    def __init__(self, runs: int, ratio: float = 1.0, *, below: bool = False) -> None:
        low, high, count = (1 / 3, 0.97, 30) if below else (1.05, 20.0, 40)
        center, sd = (-log(ratio), 0.35) if below else (log(2), 1.0)
        self._steps = np.linspace(log(low), log(high), count)[:, None]
        weights = np.exp(-0.5 * ((self._steps - center) / sd) ** 2)
        self._sum = np.log(weights / weights.sum()) + np.zeros((1, runs))
        self._ratio = ratio

    def add(self, xc: Ints, nc: Ints, xt: Ints, nt: Ints) -> Floats:
        """Add one window per run (runs,), or several (runs, m); return log e (runs,)."""
        windows = [np.asarray(a, dtype=np.float64).reshape(len(xc), -1) for a in (xc, nc, xt, nt)]
        both = (windows[1] > 0) & (windows[3] > 0)
        for m in range(both.shape[1]):
            x, n, y, k = (np.where(both[:, m], w[:, m], 0.0) for w in windows)
            odds = n / np.maximum(k, 1) * self._ratio
            self._sum += x * self._steps + (x + y) * (
                np.log1p(odds) - np.log1p(odds * np.exp(self._steps))
            )
        return self.log_e()

    def log_e(self) -> Floats:
        """log e as it stands (runs,)."""
        top = self._sum.max(axis=0)
        return np.asarray(top + np.log(np.exp(self._sum - top).sum(axis=0)))


def harm(traffic: Traffic, ratio: float = 1.0) -> Floats:
    """log e of harm at every look (runs, looks); one window a look."""
    return _path(traffic, Mixture(len(traffic.xc), ratio))


def safe(traffic: Traffic, exclude: float = 2.0) -> Floats:
    """log e of safety at every look (runs, looks)."""
    return _path(traffic, Mixture(len(traffic.xc), exclude, below=True))


def _path(traffic: Traffic, mixture: Mixture) -> Floats:
    columns = zip(traffic.xc.T, traffic.nc.T, traffic.xt.T, traffic.nt.T, strict=True)
    return np.stack([mixture.add(*window) for window in columns], axis=1)


def pooled(paths: Sequence[Floats]) -> Floats:
    """The average of e-values, as logarithms."""
    return np.asarray(np.logaddexp.reduce(np.stack(paths), axis=0) - log(len(paths)))


def tallies(traffic: Traffic, run: int, looks: int, measure: str) -> list[Fact]:
    """What an observer reports of one run after so many looks."""
    return [
        Tally(subject=subject, measure=measure, at=float(t), events=int(x[run, t]), n=int(n[run, t]))
        for subject, x, n in ((NEW, traffic.xc, traffic.nc), (OLD, traffic.xt, traffic.nt))
        for t in range(looks)
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
            assert log_safe is None or (end is Phase.PROMOTED) == (good and not bad), (run, look, end)
            compared += 1
    return compared


def _phase(checks: tuple[Check, ...], seen: EvidenceSet) -> Phase:
    step = Step(share=Fixed(0.1), mirror=1.0, patience=1e9, checks=checks)
    release = Release(id="r", service="model", candidates=(NEW,), baseline=OLD, started_at=0.0,
                      entered_at=0.0, plan=TrafficPlan(name="prove", steps=(step,), odds=ODDS))  # fmt: skip
    decision = advance(release, seen, 60.0)
    assert canonical(replay(decision)) == canonical(decision)
    return apply(release, decision, seen).phase
