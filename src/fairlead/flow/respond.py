"""Responding: carry out what a decision asks for: tell somebody, go back, or train again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.core.cause import Cause, featureless, told
from fairlead.core.check import Action, Outcome, Verdict
from fairlead.core.decision import Decision
from fairlead.core.event import Event
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.monitor import PROOF, Monitor, Watch, due, level, look, proves, remembered
from fairlead.core.ref import digest
from fairlead.core.release import Release
from fairlead.errors import FairleadError
from fairlead.flow.observe import Observer
from fairlead.ports import Change, Clock, Records

__all__ = ["Patrol", "Responder"]

ACTOR = "fairlead"

CULPRITS = 3
"""Slices and causes an alert names, the worst first."""

MISSING = ("nulls", PROOF)
"""Measures that a feature store which does not answer moves."""

NEXT = {
    Action.ROLLBACK: "check with `fairlead status` that the previous package serves, then fix the model",
    Action.HOLD: "look at `fairlead status`; `fairlead release resume` goes on",
    Action.RETRAIN: "follow the retraining with `fairlead status`; it passes the same gate and release",
    Action.ALERT: "look at `fairlead status`; `fairlead run` trains on fresh data, "
    "`fairlead release rollback` goes back",
}


class Responder:
    """Acts for one service. `rollback`, `retrain` and `hold` take the reason in words.

    First the alert and its decision are written down, then it acts: what happened after a crash
    in between is in the log, and the next look acts again.
    """

    def __init__(
        self, records: Records, clock: Clock, service: str, *,
        rollback: Callable[[str], object], retrain: Callable[[str], object],
        hold: Callable[[str], object],
    ) -> None:  # fmt: skip
        self._records = records
        self._clock = clock
        self._service = service
        self._acts = ((Action.HOLD, hold), (Action.ROLLBACK, rollback), (Action.RETRAIN, retrain))
        self._told: set[tuple[str, str]] | None = None

    def monitor(
        self, monitor: Monitor, decision: Decision, evidence: EvidenceSet, causes: Sequence[Cause] = (),
        views: Mapping[str, Sequence[str]] = {},
    ) -> list[Event]:  # fmt: skip
        """Carry out the decision of a monitor; what was written down. `causes`: columns that moved;
        `views`: the watched columns of each feature view, which may have moved as one."""
        verdict = decision.because[0]
        slices = [e for e in evidence.slices(verdict.subject, monitor.check.measure)
                  if not e.slice.startswith("age=")]  # fmt: skip
        about: dict[str, Any] = {"monitor": monitor.name}
        why = told(causes, views)[:CULPRITS] or [verdict.reason]
        if monitor.check.measure.partition(":")[0] in MISSING:
            why += filter(None, [featureless(evidence, verdict.subject, views)])
        about["cause"] = "; ".join(why)
        if causes:
            about["causes"] = [msgspec.to_builtins(c) for c in causes]
        return self._respond(decision, verdict, slices, about)

    def cleared(self, monitor: Monitor, verdict: Verdict) -> Event:
        """Write down that what a monitor raised is over."""
        return self._commit("alert.cleared", {"monitor": monitor.name, "cause": verdict.reason})

    def release(self, release: Release, decision: Decision) -> list[Event]:
        """Alert or retrain because of a failed check of a release; once per check."""
        made: list[Event] = []
        for verdict in decision.because:
            key = (release.id, verdict.check.name)
            asked = verdict.check.on_fail & {Action.ALERT, Action.RETRAIN}
            if verdict.outcome is Outcome.FAIL and asked and key not in self._known():
                self._known().add(key)
                only = Decision(subject=verdict.subject, actions=asked, because=(verdict,),
                                at=decision.at)  # fmt: skip
                about = {"release": release.id, "check": verdict.check.name}
                made += self._respond(only, verdict, (), about)
        return made

    def _known(self) -> set[tuple[str, str]]:
        """Checks of releases that were told of before, by this process or an earlier one."""
        if self._told is None:
            events = self._records.events(subject=self._subject)
            self._told = {(e.body["release"], e.body["check"]) for e in events
                          if e.verb == "alert.raised" and "release" in e.body}  # fmt: skip
        return self._told

    def _respond(
        self, decision: Decision, verdict: Verdict, slices: Sequence[Evidence], about: dict[str, Any]
    ) -> list[Event]:
        steps = [NEXT[a] for a in NEXT if a in decision.actions]
        body = {"cause": verdict.reason} | about | {
            "package": str(verdict.subject),
            "measure": verdict.check.measure,
            "seen": [_told(e) for e in verdict.seen],
            "slices": [_told(e) for e in sorted(slices, key=_worst, reverse=True)[:CULPRITS]],
            "actions": sorted(a.value for a in decision.actions),
            "next": steps[0] if steps else "", "decision": digest(decision),
        }  # fmt: skip
        made = [self._commit("alert.raised", body, decision)]
        for action, act in self._acts:
            if action in decision.actions:
                made += self._act(action, act, body["cause"])
        return made

    def _act(self, action: Action, act: Callable[[str], object], reason: str) -> list[Event]:
        try:
            act(reason)
        except FairleadError as error:
            body = {"action": action.value, "cause": reason, "reason": str(error),
                    "next": error.hint}  # fmt: skip
            return [self._commit("respond.failed", body)]
        return []

    def _commit(self, verb: str, body: dict[str, Any], decision: Decision | None = None) -> Event:
        return self._records.commit(
            Change(at=self._clock.now(), actor=ACTOR, verb=verb, subject=self._subject,
                   body={"service": self._service, **body},
                   decisions=() if decision is None else (decision,))
        )  # fmt: skip

    @property
    def _subject(self) -> str:
        return f"service/{self._service}"


class Patrol:
    """Looks at every monitor when it is due; its memory is the audit log."""

    def __init__(
        self, observer: Observer, responder: Responder, records: Records, service: str,
        monitors: Sequence[Monitor], *, per_quarter: float = 1.0,
    ) -> None:  # fmt: skip
        self._observer = observer
        self._responder = responder
        self._records = records
        self._service = service
        self._monitors = monitors
        self._level = level(monitors, per_quarter)
        self._watches = remembered(records.events(subject=f"service/{service}"))

    def turn(self, now: float) -> list[Event]:
        """Look at what is due and respond; what was written down. One reading of the log serves
        all monitors of the same window."""
        self._observer.pull(now)
        here = self._records.service(self._service)
        if here is None or here.package is None:
            return []
        made: list[Event] = []
        seen: dict[float, EvidenceSet] = {}
        for monitor in self._monitors:
            watch = self._watches.get(monitor.name, Watch())
            if not due(monitor, watch, now):
                continue
            if monitor.window not in seen:
                seen[monitor.window] = self._observer.watch(now, monitor.window, self._level)
            found = look(monitor, watch, seen[monitor.window], here.package, now)
            self._watches[monitor.name] = found.watch
            if found.cleared:
                made.append(self._responder.cleared(monitor, found.verdict))
            if found.decision is not None:
                moved = self._observer.causes() if proves(monitor) else ()
                made += self._responder.monitor(monitor, found.decision, seen[monitor.window], moved,
                                                self._observer.views())  # fmt: skip
        return made


def _told(seen: Evidence) -> dict[str, Any]:
    fields = {"measure": seen.measure, "slice": seen.slice, "value": seen.value, "n": seen.n,
              "low": seen.low, "high": seen.high, "since": seen.since, "until": seen.until,
              "example": seen.example or None}  # fmt: skip
    return {k: v for k, v in fields.items() if v is not None and v != ""}


def _worst(seen: Evidence) -> float:
    return seen.value if seen.low is None else seen.low
