"""Retention: what must be kept however long, what somebody holds, and how much time truly passed."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from fairlead.core.event import Event
from fairlead.core.traffic import DAY

__all__ = ["ADDED", "HALF_YEAR", "HOLD", "LOG", "REMOVED", "Hold", "cutoff", "holds"]

HALF_YEAR = 183 * DAY
"""Seconds that logs of a high-risk system are kept at least (EU AI Act, Art. 19 and 26(6))."""

HOLD, ADDED, REMOVED = "hold", "hold.added", "hold.removed"
"""What events about legal holds are about, and their verbs."""
LOG = "log"
"""What a hold names to keep the prediction log alone."""


class Hold(Struct, frozen=True, kw_only=True):
    """Somebody forbids that this is deleted: an artifact (as text), or the log."""

    of: str
    by: str
    at: float
    reason: str


def holds(events: Iterable[Event]) -> dict[str, Hold]:
    """Holds that stand, by what they hold, from the events about `HOLD`."""
    found: dict[str, Hold] = {}
    for event in events:
        of = str(event.body.get("of", ""))
        if event.verb == ADDED:
            found[of] = Hold(of=of, by=event.actor, at=event.at, reason=str(event.body["reason"]))
        elif event.verb == REMOVED:
            found.pop(of, None)
    return found


def cutoff(moments: Sequence[float], span: float, now: float) -> float:
    """UTC seconds before which everything is older than `span` (seconds); 0 when nothing is.

    `moments`: times of the audit events in the order of the log. That order nobody can change, a
    clock anybody can: between two events at most one day counts, and none when the clock went back.
    So a clock set ten years ahead makes the log one day older, and every day more that it pretends
    needs an event that an auditor sees.
    """
    passed = 0.0
    for before, after in zip(moments[-2::-1], moments[:0:-1], strict=True):
        passed += min(max(after - before, 0.0), DAY)
        if passed >= span:
            return max(0.0, min(before + passed - span, moments[-1] - span, now - span))
    return 0.0
