"""Decisions: what to do, because of which verdicts. Gates, releases and monitors all end here."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.core.check import Action, Odds, Outcome, Verdict, judge_again
from fairlead.core.ref import Ref
from fairlead.errors import Conflict

__all__ = ["RULES", "Decision", "Stay", "decide", "replay"]

RULES = 1
"""Version of the rules: raised whenever the same counters would give another verdict."""


class Stay(Struct, frozen=True, kw_only=True):
    """Seconds a release had stood on its step when it was judged, and those the step asks for."""

    waited: float
    hold: float
    patience: float


class Decision(Struct, frozen=True, kw_only=True):
    """Actions asked for; none means proceed. `drop`: candidates that leave a release.

    `stay`: of a release, how long it had waited (None of a gate or a monitor, which do not wait).
    `unit`: of a release, what was drawn by chance and counted: the request, or the column that
    names the unit. `rules`: version of the rules that judged.
    With the checks in `because` (hypotheses), `odds` and the counters this is all it rests on.
    """

    subject: Ref
    actions: frozenset[Action]
    because: tuple[Verdict, ...]
    drop: tuple[Ref, ...] = ()
    odds: Odds = Odds()
    at: float
    actor: str = "fairlead"
    stay: Stay | None = None
    unit: str = ""
    rules: int = RULES

    @property
    def proceed(self) -> bool:
        return not self.actions & {Action.HOLD, Action.ROLLBACK}


def decide(
    subject: Ref, verdicts: tuple[Verdict, ...], at: float, *,
    odds: Odds = Odds(), stay: Stay | None = None, unit: str = "",  # noqa: B008  immutable
) -> Decision:  # fmt: skip
    """Unite what the failed checks ask for, and what the unknown ones ask for (to hold).

    With `stay` the verdicts are those on the candidates of a release: one that is to be rolled
    back, or held when patience has run out, is dropped and asks for nothing more; when none is
    left the release rolls back, and until the hold has passed it holds.
    """
    if stay is None:
        return Decision(subject=subject, actions=frozenset(_asked(verdicts)), because=verdicts,
                        odds=odds, at=at)  # fmt: skip
    candidates = dict.fromkeys(v.subject for v in verdicts)
    drop: list[Ref] = []
    actions: set[Action] = set()
    for candidate in candidates:
        asked = _asked(v for v in verdicts if v.subject == candidate)
        late = Action.HOLD in asked and stay.waited >= stay.patience
        if Action.ROLLBACK in asked or late:
            drop.append(candidate)
            asked -= {Action.ROLLBACK, Action.HOLD}
        actions |= asked
    if drop and len(drop) == len(candidates):
        actions.add(Action.ROLLBACK)
    elif stay.waited < stay.hold:
        actions.add(Action.HOLD)
    return Decision(subject=subject, actions=frozenset(actions), because=verdicts,
                    drop=tuple(drop), odds=odds, at=at, stay=stay, unit=unit)  # fmt: skip


def replay(decision: Decision) -> Decision:
    """The decision once more, computed from its counters and settings alone.

    Its canonical JSON is that of the original, byte for byte, or the record was tampered with or
    made by other rules. Nothing outside the decision is read: no evidence, no clock, no state.
    Raises Conflict when another version of the rules made it: only that version can redo it.
    """
    if decision.rules != RULES:
        raise Conflict(f"made by version {decision.rules} of the rules, this is version {RULES}",
                       hint="replay it with the release of Fairlead that made it")  # fmt: skip
    because: list[Verdict] = []
    for subject in dict.fromkeys(v.subject for v in decision.because):
        own = [v for v in decision.because if v.subject == subject]
        because += judge_again(own, decision.odds)
    again = decide(decision.subject, tuple(because), decision.at, odds=decision.odds,
                   stay=decision.stay, unit=decision.unit)  # fmt: skip
    return changed(again, actor=decision.actor)


def _asked(verdicts: Iterable[Verdict]) -> set[Action]:
    asked: set[Action] = set()
    for verdict in verdicts:
        if verdict.outcome is Outcome.FAIL:
            asked |= verdict.check.on_fail
        elif verdict.outcome is Outcome.UNKNOWN:
            asked |= verdict.check.on_unknown
    return asked
