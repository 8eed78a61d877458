"""A project in production: feedback, the online store, the turn of the loop."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.adapters.sources import tables
from fairlead.core.event import Event
from fairlead.core.feature import FeatureView
from fairlead.core.monitor import monitors
from fairlead.core.prediction import Feedback
from fairlead.core.profile import TableProfile
from fairlead.core.ref import Ref
from fairlead.errors import Invalid
from fairlead.flow import features, loop, package
from fairlead.flow.observe import Observer
from fairlead.flow.respond import Patrol, Responder
from fairlead.flow.retrain import Retrainer
from fairlead.project.acting import Acting
from fairlead.project.making import Making

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Living"]


class Living(Making, Acting):
    """Verbs of the loop: feed, observe, judge, respond, retrain."""

    def feed(self, since: float = 0.0, until: float = inf) -> int:
        """Push the facts of every view source with since < time <= until into the online store."""
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
            self._observer = Observer(self.log, self.records, self.name,
                                      slow=self.manifest.release.slow_ms / 1000,
                                      reference=self._reference)  # fmt: skip
        return self._observer

    def tick(self) -> list[Event]:
        """One turn of the loop: move the running release, then judge what monitors are due."""
        if self._patrol is None:
            self._patrol = self._wire()
        responder, patrol = self._patrol
        events = loop.tick(self.records, self.router, self.clock, self.observer().observe,
                           responder.release, service=self.name)  # fmt: skip
        return [*events, *patrol.turn(self.clock.now())]

    def retrainer(self) -> Retrainer:
        """Asks for retrainings, and carries them out one at a time; remembers what it has read."""
        if self._retrainer is None:
            self._retrainer = Retrainer(self, self.records, self.clock, self.name,
                                        self.manifest.retrain)  # fmt: skip
        return self._retrainer

    def _wire(self) -> tuple[Responder, Patrol]:
        responder = Responder(self.records, self.clock, self.name, notifier=self.notifier,
                              rollback=self.rollback, retrain=self.retrainer().request)  # fmt: skip
        patrol = Patrol(self.observer(), responder, self.records, self.name,
                        monitors(self.manifest.monitors))  # fmt: skip
        return responder, patrol

    def _read_source(self, source: str, views: Sequence[FeatureView]) -> "pl.DataFrame":
        moments = {v.time for v in views if v.source == source} - {""}
        return tables.read(self.root / source, moments=moments).frame

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
