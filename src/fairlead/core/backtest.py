"""Backtests: what a release policy would have done, many times over, as shares with their intervals."""

from collections.abc import Sequence
from math import inf

from msgspec import Struct

from fairlead.core.intervals import wilson
from fairlead.core.release import Phase
from fairlead.core.traffic import TrafficPlan

__all__ = ["Again", "Backtest", "Policy", "Run", "Summary", "Trial", "summary"]


class Policy(Struct, frozen=True, kw_only=True):
    """A plan with its checks, and from how many seconds on an answer counts as slow."""

    name: str
    plan: TrafficPlan
    slow: float


class Run(Struct, frozen=True, kw_only=True):
    """How one release ended: its phase (RUNNING: the log ended first), after how many requests of
    the service and seconds, and why. `late`: rolled back because patience ran out, not for harm."""

    phase: Phase
    requests: int
    seconds: float
    reason: str = ""
    late: bool = False


class Again(Struct, frozen=True, kw_only=True):
    """A release of the past: how it `ended`, and how it would have ended under each policy."""

    release: str
    plan: str
    ended: Run
    under: tuple[Run, ...]


class Summary(Struct, frozen=True, kw_only=True):
    """Of `runs` releases: shares rolled back for harm, given up when patience ran out, and promoted,
    each with its 95 % interval (Wilson); median requests and seconds until the right end, which is
    the rollback of a harmful one (infinite when fewer than half got there)."""

    runs: int
    rolled_back: tuple[float, float, float]
    late: tuple[float, float, float]
    promoted: tuple[float, float, float]
    requests: float
    seconds: float


class Trial(Struct, frozen=True, kw_only=True):
    """Candidates planted into recorded traffic, and what each policy did with them.

    `harmful`: whether they should be rolled back. What is planted is harmless when it is the
    baseline itself under another name: whatever fires then is a false alarm.
    """

    planted: str
    harmful: bool
    under: tuple[Summary, ...]


class Backtest(Struct, frozen=True, kw_only=True):
    """Policies beside each other on the same past. `requests`: recorded ones that were drawn from,
    asked from `since` to `until`, in so many `blocks` (days, or hours where days are few)."""

    policies: tuple[Policy, ...]
    past: tuple[Again, ...]
    trials: tuple[Trial, ...]
    requests: int
    since: float
    until: float
    blocks: int
    seed: int
    notes: tuple[str, ...] = ()


def summary(runs: Sequence[Run], harmful: bool) -> Summary:
    """Shares of the outcomes, and how long the right one took."""
    n = len(runs)
    proven = [r for r in runs if r.phase is Phase.ROLLED_BACK and not r.late]
    promoted = [r for r in runs if r.phase is Phase.PROMOTED]
    ends = proven if harmful else promoted
    return Summary(
        runs=n, rolled_back=_share(len(proven), n), promoted=_share(len(promoted), n),
        late=_share(sum(r.late for r in runs), n),
        requests=_median([float(r.requests) for r in ends], n),
        seconds=_median([r.seconds for r in ends], n),
    )  # fmt: skip


def _share(k: int, n: int) -> tuple[float, float, float]:
    return (k / n, *wilson(k, n))


def _median(values: Sequence[float], n: int) -> float:
    """Of n values, those that are missing counted as infinite."""
    ranked = sorted([*values, *[inf] * (n - len(values))])
    return ranked[n // 2]
