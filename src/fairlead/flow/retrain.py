"""Retraining: fresh rows become an ordinary candidate, at most so often, and not for ever in vain."""

from collections.abc import Iterable
from typing import Any, Protocol

from msgspec import Struct

from fairlead.core.artifact import Artifact
from fairlead.core.decision import Decision
from fairlead.core.duration import allowance, seconds
from fairlead.core.event import Event
from fairlead.core.manifest import RetrainSection
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.errors import FairleadError, Forbidden
from fairlead.ports import Change, Clock, Records

__all__ = ["GIVE_UP", "Retrainer", "Verbs"]

GIVE_UP = 3
"""Retrainings in a row that win nothing; then only a person starts the next one."""

ACTOR = "fairlead"

STOPPED = "retraining"
"""The alert by which it says that it stopped; whoever resolves it lets it go on."""


class Verbs(Protocol):
    """What retraining does is what a person would do, by the same verbs."""

    def fresh(self, since: float, until: float) -> Artifact:
        """The table to train on, as it is now (the same one when nothing is new)."""

    def train(self, *, dataset: Ref | None = None, since: float = 0.0,
              until: float = float("inf")) -> Artifact: ...  # fmt: skip
    def gate(self, model: Ref) -> Decision: ...
    def package(self, model: Ref) -> Artifact: ...
    def start_release(self, package: Ref) -> Release: ...


class History(Struct):
    """What the audit log says of the retrainings of a service."""

    wanted: str = ""
    starts: list[float] = []
    running: bool = False
    lost: int = 0
    release: str = ""
    stopped: bool = False
    alert: int = 0

    def add(self, event: Event) -> None:
        """Fold one event in; those of other things change nothing."""
        match event.verb.removeprefix("retrain."):
            case "alert.raised" if event.body.get("monitor") == STOPPED:
                self.alert = event.seq
            case "alert.resolved" if self.stopped and event.body["alert"] == self.alert:
                self.stopped, self.lost = False, 0
            case "requested":
                self.wanted = event.body["reason"]
            case "started":
                self.wanted, self.running = "", True
                self.starts.append(event.at)
            case "asked" | "refused" | "failed" as ended:
                self.running, self.lost = False, self.lost + (ended != "asked")
            case "released":
                self.running, self.release = False, event.body["release"]
            case "won":
                self.lost, self.release = 0, ""
            case "lost":
                self.lost, self.release = self.lost + 1, ""
            case "stopped":
                self.stopped, self.wanted = True, ""


class Retrainer:
    """Retrains one service on request. Every step is an event, and the events are its memory.

    Anyone may `request`; one process at a time takes a `turn`. A request waits for the cooldown
    and for a release under way. A candidate that the gate refuses, that fails, or whose release is
    rolled back is a loss; after GIVE_UP losses in a row it stops and raises an alert, until a
    person has resolved that.
    """

    def __init__(
        self, verbs: Verbs, records: Records, clock: Clock, service: str, section: RetrainSection
    ) -> None:
        self._verbs = verbs
        self._records = records
        self._clock = clock
        self._service = service
        self._window = seconds(section.window) if section.window else 0.0
        self._cooldown = seconds(section.cooldown)
        self._most = allowance(section.most)
        self._history = History()
        self._seq = 0
        self._busy = False

    def request(self, reason: str) -> None:
        """Ask for a retraining; asking again while one is wanted or under way changes nothing."""
        history = self._read()
        if not (history.wanted or history.running or history.release or history.stopped):
            self._commit("requested", reason=reason)

    def waits(self, now: float) -> str:
        """Why a wanted retraining does not start now; "" when it may, or when none is wanted."""
        history = self._read()
        here = self._records.service(self._service)
        if not history.wanted:
            return ""
        if history.running:
            return "one is under way"
        if here is not None and here.release:
            return f"release {here.release} is under way"
        rest = history.starts[-1] + self._cooldown - now if history.starts else 0.0
        if rest > 0:
            return f"cooldown for another {rest:,.0f} s"
        most, span = self._most
        rest = history.starts[-most] + span - now if len(history.starts) >= most else 0.0
        return f"the budget of {most} is spent for another {rest:,.0f} s" if rest > 0 else ""

    @property
    def started_at(self) -> float:
        """When the last retraining began; 0 before the first."""
        return max(self._read().starts, default=0.0)

    def standing(self, now: float) -> str:
        """Where it stands, in words; "" when nothing was ever wanted."""
        history = self._read()
        if history.stopped:
            return f"stopped itself: {history.lost} in a row won nothing"
        if history.running:
            return "under way"
        if history.release:
            return f"its candidate is in release {history.release}"
        if history.wanted:
            rest = self.waits(now)
            return f"wanted: {history.wanted}" + (f" ({rest})" if rest else "")
        return f"{len(history.starts)} so far, none wanted" if history.starts else ""

    def pending(self, now: float) -> bool:
        """Whether a `turn` would do anything: begin a retraining, or settle how one ended.

        Ask only while no turn is running: a retraining under way is then one that was killed.
        """
        history = self._read()
        ended = bool(history.release) and self._records.release(history.release).phase.final
        wanted = bool(history.wanted) and not self.waits(now)
        return (history.running and not self._busy) or ended or wanted

    def turn(self, now: float) -> list[Event]:
        """Settle the last retraining, then begin the wanted one if it may; what was written down.

        Blocks while it trains: call it from a thread or a job that may take its time.
        """
        self._read()
        before = self._seq
        self._settle()
        history = self._read()
        if history.wanted and not self.waits(now):
            self._retrain(history.wanted, now)
        self._read()
        return [e for e in self._records.events(before, self._subject) if e.verb.startswith("retrain.")]

    def _settle(self) -> None:
        """See how the last retraining ended, and stop when nothing is ever won."""
        history = self._read()
        if history.running and not self._busy:
            self._commit("failed", step="unknown", reason="its process ended in the middle")
        if history.release:
            phase = self._records.release(history.release).phase
            if phase.final:
                won = phase is Phase.PROMOTED
                self._commit("won" if won else "lost", release=history.release, phase=phase.value)
        if self._read().lost >= GIVE_UP and not history.stopped:
            self._commit("stopped", losses=history.lost)
            self._say_so(history.lost)

    def _say_so(self, losses: int) -> None:
        here = self._records.service(self._service)
        body = {
            "service": self._service, "monitor": STOPPED, "actions": [],
            "package": str(here.package) if here else "",
            "cause": f"{losses} retrainings in a row won nothing, so it stopped itself",
            "next": "look at the refusals in the audit log; resolving this alert lets it go on",
        }  # fmt: skip
        self._records.commit(Change(at=self._clock.now(), actor=ACTOR, verb="alert.raised",
                                    subject=self._subject, body=body))  # fmt: skip

    def _retrain(self, reason: str, now: float) -> None:
        since = now - self._window if self._window else 0.0
        self._commit("started", reason=reason, since=since, until=now)
        self._busy, step = True, "snapshot"
        try:
            dataset = self._verbs.fresh(since, now)
            step = "train"
            model = self._verbs.train(dataset=dataset.ref, since=since, until=now)
            self._commit("trained", dataset=str(dataset.ref), model=str(model.ref))
            step = "gate"
            decision = self._verbs.gate(model.ref)
            if not decision.proceed:
                why = [v.reason for v in decision.because if v.outcome]
                self._commit("refused", model=str(model.ref), reasons=why)
                return
            step = "package"
            package = self._verbs.package(model.ref)
            step = "release"
            release = self._verbs.start_release(package.ref)
            self._commit("released", package=str(package.ref), release=release.id)
        except Forbidden as error:
            self._commit("asked", step=step, reason=str(error), next=error.hint)
        except FairleadError as error:
            self._commit("failed", step=step, reason=str(error), next=error.hint)
        finally:
            self._busy = False

    def _read(self) -> History:
        events: Iterable[Event] = self._records.events(self._seq, self._subject)
        for event in events:
            self._seq = event.seq
            self._history.add(event)
        return self._history

    def _commit(self, verb: str, *, actor: str = ACTOR, **body: Any) -> None:
        self._records.commit(
            Change(at=self._clock.now(), actor=actor, verb=f"retrain.{verb}", subject=self._subject,
                   body={"service": self._service, **body})
        )  # fmt: skip

    @property
    def _subject(self) -> str:
        return f"service/{self._service}"
