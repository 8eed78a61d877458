"""Decisions: what to do, because of which verdicts. Gates, releases and monitors all end here."""

from msgspec import Struct

from fairlead.core.check import Action, Odds, Outcome, Verdict
from fairlead.core.ref import Ref

__all__ = ["Decision", "decide"]


class Decision(Struct, frozen=True, kw_only=True):
    """Actions asked for; none means proceed. `drop`: candidates that leave a release."""

    subject: Ref
    actions: frozenset[Action]
    because: tuple[Verdict, ...]
    drop: tuple[Ref, ...] = ()
    odds: Odds = Odds()
    at: float
    actor: str = "fairlead"

    @property
    def proceed(self) -> bool:
        return not self.actions & {Action.HOLD, Action.ROLLBACK}


def decide(subject: Ref, verdicts: tuple[Verdict, ...], at: float) -> Decision:
    """Unite what the failed checks ask for, and what the unknown ones ask for (to hold)."""
    actions: set[Action] = set()
    for verdict in verdicts:
        if verdict.outcome is Outcome.FAIL:
            actions |= verdict.check.on_fail
        elif verdict.outcome is Outcome.UNKNOWN:
            actions |= verdict.check.on_unknown
    return Decision(subject=subject, actions=frozenset(actions), because=verdicts, at=at)
