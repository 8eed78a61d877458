"""The narrator: audit events of the service become lines of the demo's timeline."""

import time

from fairlead.api.demo.ending import Ledger
from fairlead.api.demo.screen import Screen
from fairlead.core.event import Event
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.traffic import Adaptive, Fixed
from fairlead.ports import Records

__all__ = ["Narrator"]


class Narrator:
    """Hears every audit event once, in order, and says what a person wants to know.

    `busy`: a retraining is under way.
    """

    def __init__(self, records: Records, screen: Screen, ledger: Ledger) -> None:
        self._records, self._screen, self._ledger = records, screen, ledger
        self.busy = False

    def hear(self, event: Event) -> None:
        """Tell of an event, when it is worth telling."""
        handler = getattr(self, "_" + event.verb.replace(".", "_"), None)
        if handler is not None:
            handler(event)

    def _say(self, event: Event, title: str, text: str, mood: str = "plain") -> None:
        self._screen.say(event.at, title, text, mood)

    def _gate_passed(self, event: Event) -> None:
        self._say(event, "gate", f"passed: {len(event.body['checks'])} checks against the live model", "good")

    def _release_started(self, event: Event) -> None:
        steps = self._release(event).plan.steps
        shape = " → ".join("shadow" if s.mirror else _share(s.share) for s in steps)
        package = Ref.parse(event.body["to"]["candidates"][0])
        self._say(event, "release", f"{package.short}: {shape}", "watch")

    def _release_advanced(self, event: Event) -> None:
        release = self._release(event)
        self._say(event, "step", f"{release.id}: evidence suffices, step {event.body['to']['step'] + 1} of {len(release.plan.steps)}", "watch")

    def _release_rolled_back(self, event: Event) -> None:
        first, bad = self._ledger.tally.first_bad, self._ledger.tally.fallbacks
        wall = time.monotonic() - first[0] if first else 0.0
        reason = event.body.get("reason", "").split("; slow:")[0]
        text = f"{reason}; the fallback gave {bad} answers in its place"
        self._say(event, "rolled back", text, "bad")
        if "rolled_back" in self._ledger.steps:
            return
        days = (event.at - first[1]) / 86400 if first else 0.0
        self._ledger.rolled_back(event.at, wall, days, bad)

    def _release_promoted(self, event: Event) -> None:
        self._say(event, "promoted", f"{Ref.parse(event.body['to']['winner']).short} answers everything", "good")
        if "retrained" in self._ledger.steps:
            self._ledger.happened("promoted", event.at, "the retrained model answers everything")

    def _alert_raised(self, event: Event) -> None:
        self._ledger.alerts.append(event.at)
        self._say(event, "alert", f"{event.body['monitor']}: {event.body['cause']}", "watch")
        self._ledger.happened("alerted", event.at, f"{event.body['monitor']} monitor")

    def _retrain_started(self, event: Event) -> None:
        self.busy = True
        self._say(event, "retraining", "on fresh flights, as an ordinary candidate")

    def _retrain_released(self, event: Event) -> None:
        self.busy = False
        self._ledger.happened("retrained", event.at, "on fresh flights, passed the gate")

    def _retrain_refused(self, event: Event) -> None:
        self.busy = False
        self._say(event, "refused", "; ".join(event.body["reasons"]), "bad")

    def _retrain_failed(self, event: Event) -> None:
        self.busy = False
        self._say(event, "failed", f"{event.body['step']}: {event.body['reason']}", "bad")

    def _release(self, event: Event) -> Release:
        return self._records.release(event.subject.removeprefix("release/"))


def _share(share: Fixed | Adaptive) -> str:
    return f"{share.weight:.0%}" if isinstance(share, Fixed) else "adaptive"
