"""Retraining: fresh rows become an ordinary candidate, at most so often, and not for ever in vain."""

from collections.abc import Iterable
from typing import Any, Protocol

from msgspec import Struct

from fairlead.core.artifact import Artifact
from fairlead.core.decision import Decision
from fairlead.core.duration import seconds
from fairlead.core.event import Event
from fairlead.core.manifest import RetrainSection
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.errors import FairleadError
from fairlead.ports import Change, Clock, Records

__all__ = ["GIVE_UP", "Retrainer", "Verbs"]

GIVE_UP = 3
"""Retrainings in a row that win nothing; then only a person starts the next one."""

ACTOR = "fairlead"


class Verbs(Protocol):
    """What retraining does is what a person would do, by the same verbs."""

    def snapshot(self) -> tuple[Artifact, Any]:
        """Commit the data as it is now; the dataset (the same one when nothing is new)."""

    def train(self, *, dataset: Ref | None = None, since: float = 0.0,
              until: float = float("inf")) -> Artifact: ...  # fmt: skip
    def gate(self, model: Ref) -> Decision: ...
    def package(self, model: Ref) -> Artifact: ...
    def start_release(self, package: Ref) -> Release: ...


class History(Struct):
    """What the audit log says of the retrainings of a service."""

    wanted: str = ""
    started_at: float | None = None
    running: bool = False
    lost: int = 0
    release: str = ""
    stopped: bool = False

    def add(self, event: Event) -> None:
        """Fold one event in."""
        match event.verb.removeprefix("retrain."):
            case "requested":
                self.wanted = event.body["reason"]
            case "started":
                self.wanted, self.started_at, self.running = "", event.at, True
            case "refused" | "failed":
                self.running, self.lost = False, self.lost + 1
            case "released":
                self.running, self.release = False, event.body["release"]
            case "won":
                self.lost, self.release = 0, ""
            case "lost":
                self.lost, self.release = self.lost + 1, ""
            case "stopped":
                self.stopped, self.wanted = True, ""
            case "resumed":
                self.stopped, self.lost = False, 0


class Retrainer:
    """Retrains one service on request. Every step is an event, and the events are its memory.

    Anyone may `request`; one process at a time takes a `turn`. A request waits for the cooldown
    and for a release under way. A candidate that the gate refuses, that fails, or whose release is
    rolled back is a loss; after GIVE_UP losses in a row it stops and says so, until `resume`.
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
        self._history = History()
        self._seq = 0
        self._busy = False

    def request(self, reason: str) -> None:
        """Ask for a retraining; asking again while one is wanted or under way changes nothing."""
        history = self._read()
        if not (history.wanted or history.running or history.release or history.stopped):
            self._commit("requested", reason=reason)

    def resume(self, actor: str) -> None:
        """Allow retraining again after it stopped itself."""
        if self._read().stopped:
            self._commit("resumed", actor=actor)

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
        rest = 0.0 if history.started_at is None else history.started_at + self._cooldown - now
        return f"cooldown for another {rest:,.0f} s" if rest > 0 else ""

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
            self._commit("stopped", losses=history.lost,
                         next="look at the refusals; `fairlead run` starts again by hand")  # fmt: skip

    def _retrain(self, reason: str, now: float) -> None:
        since = now - self._window if self._window else 0.0
        self._commit("started", reason=reason, since=since, until=now)
        self._busy, step = True, "snapshot"
        try:
            dataset, _ = self._verbs.snapshot()
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
        except FairleadError as error:
            self._commit("failed", step=step, reason=str(error), next=error.hint)
        finally:
            self._busy = False

    def _read(self) -> History:
        events: Iterable[Event] = self._records.events(self._seq, self._subject)
        for event in events:
            self._seq = event.seq
            if event.verb.startswith("retrain."):
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
