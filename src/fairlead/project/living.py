"""A project in production: feedback, the online store, the turn of the loop."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.adapters.sources import tables
from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.duration import seconds
from fairlead.core.event import Event
from fairlead.core.evidence import Evidence
from fairlead.core.fairness import crossings
from fairlead.core.feature import FeatureView
from fairlead.core.monitor import Monitor, budget, monitors, ready_made, spacing
from fairlead.core.prediction import Feedback
from fairlead.core.profile import TableProfile
from fairlead.core.ref import Ref
from fairlead.core.reference import Reference
from fairlead.core.skew import Skew
from fairlead.core.traffic import DAY
from fairlead.core.veil import hidden
from fairlead.errors import FairleadError, Invalid, Missing
from fairlead.flow import features, loop, package, skew
from fairlead.flow.attribution import newest
from fairlead.flow.fairness import Fairness, assess, sensitive
from fairlead.flow.observe import Observer
from fairlead.flow.reference import reference_of
from fairlead.flow.respond import Patrol, Responder
from fairlead.flow.retrain import Retrainer
from fairlead.flow.scrub import Scrubber
from fairlead.flow.trigger import Trigger
from fairlead.project.acting import Acting
from fairlead.project.conversing import Conversing

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Living"]

log = logging.getLogger(__name__)


class Living(Conversing, Acting):
    """Verbs of the loop: feed, observe, judge, respond, retrain."""

    def feed(self, since: float = 0.0, until: float = inf) -> int:
        """Push the facts of every view source with since < time <= until into the online store."""
        self.caller("make")
        views, pushed = self.views(), 0
        for source in {v.source for v in views}:
            frame = self._read_source(source, views)
            for view in (v for v in views if v.source == source):
                chosen = _between(frame, view.time, since, until)
                batch = f"{source}:{since}:{until}"
                pushed += self.online.push(view, features.facts(view, chosen), batch)
        return pushed

    def ingest_feedback(self, path: Path) -> int:
        """Add labels from a table with the columns prediction, value and optionally name and at.

        Returns how many. Raises Invalid, naming the columns that are missing.
        """
        self.caller("make", "release")
        frame = tables.read(path, target="value").frame
        missing = {"prediction", "value"} - set(frame.columns)
        if missing:
            raise Invalid(f"{path.name} has no column {' or '.join(sorted(missing))}",
                          hint="columns: prediction, value, and optionally name, at")  # fmt: skip
        now = self.clock.now()
        return self.log.add([_note(row, now) for row in frame.iter_rows(named=True)])

    def observer(self) -> Observer:
        """What turns the prediction log into evidence; remembers how far it has read."""
        if self._observer is None:
            self._observer = self._observing()
        return self._observer

    def monitors(self) -> tuple[Monitor, ...]:
        """What is watched: the manifest's monitors and, unless it says otherwise, the ready-made."""
        own = self.manifest.monitors
        chats = self.manifest.chat is not None
        return monitors(ready_made(own, chats=chats) if self.manifest.watch.ready_made else own)

    def live_fairness(self, last: str) -> Fairness:
        """How what serves treated groups of people in the `last` ``30d``, by the logged columns.

        Raises Missing when nothing serves, Invalid when no column is sensitive.
        """
        sensitive(self.manifest)
        here, window = self.records.service(self.name), seconds(last)
        if here is None or here.package is None:
            raise Missing(f"{self.name} serves nothing", hint="leave out --live to see held-out people")
        keep = window + 28 * DAY
        found = self._observing(keep).watch(self.clock.now(), window)
        facts = [f for f in found if isinstance(f, Evidence)]
        return assess(here.package, facts, self.manifest, live=True)

    def tick(self) -> list[Event]:
        """One turn of the loop: move the running release, then judge what monitors are due,
        then ask for a retraining if something but an alert wants one."""
        if self._patrol is None:
            self._patrol = self._wire()
        responder, patrol, trigger = self._patrol
        events = loop.tick(self.records, self.router, self.clock, self.observer().observe,
                           responder.release, service=self.name)  # fmt: skip
        alerts = patrol.turn(self.clock.now())
        trigger.turn(self.clock.now())
        return [*events, *alerts]

    def retrainer(self) -> Retrainer:
        """Asks for retrainings, and carries them out one at a time; remembers what it has read."""
        if self._retrainer is None:
            self._retrainer = Retrainer(self, self.records, self.clock, self.name,
                                        self.manifest.retrain)  # fmt: skip
        return self._retrainer

    def _wire(self) -> tuple[Responder, Patrol, Trigger]:
        responder = Responder(self.records, self.clock, self.name, rollback=self.rollback,
                              retrain=self.retrainer().request, hold=self.hold)  # fmt: skip
        patrol = Patrol(self.observer(), responder, self.records, self.name, self.monitors(),
                        per_quarter=self._alarms())  # fmt: skip
        trigger = Trigger(self.observer(), self.retrainer(), self.records, self.name, self.manifest.retrain)
        return responder, patrol, trigger

    def scrubber(self) -> Scrubber:
        """What reads the packages of the route again, now and then."""
        return Scrubber(self._routed, self.state / "packages", self.records, self.blobs, self.clock, self.name)

    def _routed(self) -> list[Artifact]:
        """The packages that answer, are compared, or stand by."""
        route = self.router.published()
        named = () if route is None else (*(a.package for a in route.arms), *route.standby)
        return [self.records.artifact(ref) for ref in dict.fromkeys(named)]

    def _read_source(self, source: str, views: Sequence[FeatureView]) -> "pl.DataFrame":
        moments = {v.time for v in views if v.source == source} - {""}
        return tables.read(self.root / source, moments=moments).frame

    def _skew(self, spec: PackageSpec, rows: Sequence[Mapping[str, Any]]) -> Sequence[Skew]:
        """Features as served beside features as the tables of today say; nothing where a table
        cannot be read, or what was served is hidden."""
        covered = hidden(self.manifest.log)
        views = [v for v in spec.views if v.entity not in covered]
        try:
            sources = {v.source: self._read_source(v.source, views) for v in views}
            return [s for s in skew.compare(rows, views, sources) if s.feature not in covered]
        except FairleadError as error:
            log.warning("served features cannot be recomputed: %s", error)
            return ()

    def _alarms(self) -> float:
        return budget(self.manifest.watch.false_alarms)

    def _observing(self, keep: float = 28 * DAY) -> Observer:
        """A new observer, that remembers the last `keep` seconds."""
        return Observer(
            self.log, self.records, self.name, slow=self._slow(), keep=keep,
            reference=self._reference, held=self._held, slices=self._slices(),
            hidden=hidden(self.manifest.log), spacing=spacing(self.monitors(), self._alarms()),
            skew=self._skew, crossed=crossings(self.manifest.data.sensitive, self.manifest.data.crossed),
            attributed=lambda ref: newest(ref, self.records),
        )  # fmt: skip

    def _slow(self) -> float:
        """Seconds from which on an answer is slow; a chat may take as long as its first token may."""
        slow, chat = self.manifest.release.slow_ms / 1000, self.manifest.chat
        return slow if chat is None else max(slow, seconds(chat.first_token))

    def _slices(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.manifest.data.slices, *self.manifest.data.sensitive)))

    def _held(self, ref: Ref) -> Reference | None:
        return reference_of(self.state / "packages" / ref.digest)

    def _reference(self, ref: Ref) -> TableProfile | None:
        folder = self.state / "packages" / ref.digest
        return package.profile_of(folder)


def _between(frame: "pl.DataFrame", time: str, since: float, until: float) -> "pl.DataFrame":
    """Rows whose moment lies in (since, until]; all of a table without time, once, at the start."""
    import polars as pl

    if not time:
        return frame if since <= 0 else frame.clear()
    at = pl.col(time).dt.epoch("us") / 1e6
    return frame.filter((at > since) & (at <= until))


def _note(row: Mapping[str, Any], now: float) -> Feedback:
    at = row.get("at")
    moment = at.timestamp() if isinstance(at, datetime) else float(at) if at is not None else now
    return Feedback(prediction=str(row["prediction"]), name=str(row.get("name") or "label"),
                    value=row["value"], at=moment)  # fmt: skip
