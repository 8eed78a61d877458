"""Causes: why columns alarm, and which of them moved together, told as the one thing that happened."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from fairlead.core.evidence import EvidenceSet
from fairlead.core.ref import Ref
from fairlead.core.traffic import DAY

__all__ = ["Cause", "featureless", "told"]

APART = 2 * DAY
"""Columns that began to move within so many seconds of the first moved together: where a shift most
likely began is known to a day or two."""

SEVERAL = 3
"""Columns of the request that moved together are told as one from this number on; of a view, two."""

NAMED = 4
"""Columns of a group that are named."""

GONE = 0.02
"""Rise of the share of missing values, of all features together, that is told."""


class Cause(Struct, frozen=True, kw_only=True):
    """Why a column alarms: what moved, in words, and since when (UTC seconds)."""

    column: str
    text: str
    since: float

    def __str__(self) -> str:
        return f"{self.column} moved since {_day(self.since)}: {self.text}"


def told(causes: Sequence[Cause], views: Mapping[str, Sequence[str]]) -> list[str]:
    """Causes, the worst first, as sentences: one for those columns of a view, and of the request, that
    moved together. `views`: of each view the columns that are watched."""
    made: list[str] = []
    left = list(causes)
    while left:
        worst = left[0]
        view = next((v for v, columns in views.items() if worst.column in columns), "")
        own = [c for c in left if abs(c.since - worst.since) <= APART and (
            c.column in views[view] if view else not any(c.column in columns for columns in views.values()))]  # fmt: skip
        if len(own) < (2 if view else SEVERAL):
            own = [worst]
        made.append(str(worst) if own == [worst] else _together(own, view, views))
        left = [c for c in left if c not in own]
    return made


def featureless(facts: EvidenceSet, package: Ref, views: Mapping[str, Sequence[str]]) -> str:
    """A sentence, when every feature of all `views` is missing more often than in training: "" else."""
    outputs = [o for columns in views.values() for o in columns]
    risen = [facts.get(package, f"nulls:{o}") for o in outputs]
    least = min((e.low or 0.0 for e in risen if e is not None), default=0.0)
    if None in risen or least <= GONE:
        return ""
    return (f"no feature was served to at least {least:.0%} of the requests more than in training: the "
            "feature store was slow or down, or knows nothing of these entities")  # fmt: skip


def _together(own: Sequence[Cause], view: str, views: Mapping[str, Sequence[str]]) -> str:
    worst, day = own[0], _day(min(c.since for c in own))
    most = f"the most {worst.column}: {worst.text}"
    if view and len(own) == len(views[view]):
        return f"upstream: all {len(own)} columns of view {view} moved since {day}; {most}"
    names = _names(c.column for c in own)
    of = f"{len(own)} of {len(views[view])} columns of view {view}" if view else f"{len(own)} columns together"
    return f"upstream: {of} moved since {day} ({names}); {most}"


def _names(columns: Iterable[str]) -> str:
    names = list(columns)
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC).date()}"
