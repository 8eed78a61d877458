"""Project: wires settings to adapters to flow; the composition root of the control side."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from fairlead.adapters import manifest as manifests
from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.clock import open_clock
from fairlead.adapters.compute.local import LocalCompute
from fairlead.adapters.notify.log import LogNotifier
from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.sqlite import SqliteRecords
from fairlead.adapters.router.local import LocalRouter
from fairlead.adapters.sources import tables
from fairlead.core.artifact import Artifact, DatasetSpec, PackageSpec, name_of
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.decision import Decision
from fairlead.core.event import Event, verify
from fairlead.core.feature import FeatureView
from fairlead.core.manifest import Manifest, ReleaseSection
from fairlead.core.monitor import monitors
from fairlead.core.prediction import Feedback
from fairlead.core.profile import TableProfile
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.run import Value
from fairlead.core.schema import SchemaDiff
from fairlead.core.traffic import TrafficPlan
from fairlead.errors import Invalid, Missing
from fairlead.flow import data, features, gate, govern, loop, package, release, train
from fairlead.flow.observe import Observer
from fairlead.flow.respond import Patrol, Responder
from fairlead.flow.retrain import Retrainer
from fairlead.ports import (
    Blobs,
    Change,
    Clock,
    Compute,
    Notifier,
    Online,
    PredictionLog,
    Records,
    Router,
)
from fairlead.settings import MANIFEST, STATE, Settings, child_environment, settings

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Project", "read_table"]

Progress = Callable[[str], None]


def _quiet(text: str) -> None:
    """No progress wanted."""


class Project:
    """A folder with a `fairlead.yaml`, and everything Fairlead can do with it.

    Every verb reads the records and the blobs, does its work, and writes what it did into the
    records together with one audit event. Not shared between threads.
    """

    def __init__(
        self, root: Path, manifest: Manifest, *, records: Records, blobs: Blobs, online: Callable[[], SqliteOnline],
        log: PredictionLog, router: Router, clock: Clock, compute: Compute, notifier: Notifier,
        actor: str,
    ) -> None:  # fmt: skip
        self.root, self.manifest, self.actor = root, manifest, actor
        self.state = root / STATE
        self.records, self.blobs, self.log = records, blobs, log
        self._open_online = online
        self._online: SqliteOnline | None = None
        self.router, self.clock, self.compute, self.notifier = router, clock, compute, notifier
        self._closing = ExitStack()
        self._observer: Observer | None = None
        self._retrainer: Retrainer | None = None
        self._patrol: tuple[Responder, Patrol] | None = None

    @classmethod
    def open(cls, root: Path, chosen: Settings | None = None) -> Self:
        """Open the project in `root` with the embedded adapters, creating `.fairlead/` as needed.

        Raises Missing (no fairlead.yaml), Invalid (what is wrong in it, all of it).
        """
        chosen = chosen or settings()
        manifest = manifests.load(root / MANIFEST)
        state = root / STATE
        state.mkdir(mode=0o700, exist_ok=True)
        records = SqliteRecords(state / "records.db")
        project = cls(
            root, manifest, records=records, blobs=LocalBlobs(state / "blobs"),
            online=lambda: SqliteOnline(state / "online.db"),
            log=PredictionFiles(state / "predictions", lambda ref: _spec_of(records, ref)),
            router=LocalRouter(state / "run"), compute=LocalCompute(child_environment({})), actor=chosen.actor,
            clock=open_clock(chosen.clock),
            notifier=LogNotifier(state / "alerts.log"),
        )  # fmt: skip
        project._closing.callback(records.close)
        return project

    def close(self) -> None:
        """Let go of files and locks."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()

    @property
    def name(self) -> str:
        """Of the service, and of the artifacts made for it."""
        return self.manifest.service

    @property
    def online(self) -> Online:
        """The online store, for writing: opened when first needed, since one process may write.

        Raises Conflict when another process writes.
        """
        if self._online is None:
            self._online = self._open_online()
            self._closing.callback(self._online.close)
        return self._online

    # make

    def snapshot(
        self, source: Path | None = None, *, accept_breaking: bool = False
    ) -> tuple[Artifact, SchemaDiff]:
        """Commit the table of the manifest (or `source`) as a dataset version.

        Raises Invalid with every violation of the contract, unless `accept_breaking`.
        """
        section = self.manifest.data
        path = source or self.root / section.source
        return self._commit(
            self.name, path, target=section.target, time=section.time, entity=section.entity,
            known_at=section.known_at, ignore=section.ignore, accept_breaking=accept_breaking,
        )  # fmt: skip

    def append(self, source: Path) -> tuple[Artifact, SchemaDiff]:
        """Commit the rows of `source` behind those of the newest version. Raises Missing."""
        newest = self.dataset()
        spec = _dataset(newest)
        moments = {self.manifest.data.time, self.manifest.data.known_at} - {""}
        read = tables.read(source, target=self.manifest.data.target, moments=moments,
                           contract=spec.contract)  # fmt: skip
        grown, change = data.append(read.frame, self.blobs, spec, ignore=self.manifest.data.ignore)
        return self._keep(self.name, grown, change, source.name, (newest.ref,)), change

    def dataset(self, ref: Ref | None = None) -> Artifact:
        """A dataset version, the newest by default. Raises Missing."""
        if ref is not None:
            return self.records.artifact(ref)
        made = self.records.artifacts("dataset", self.name)
        if not made:
            raise Missing(f"{self.name} has no dataset yet", hint="`fairlead data commit` makes one")
        return made[-1]

    def checkout(self, ref: Ref, target: Path) -> int:
        """Write the rows of a dataset to a .csv or .parquet file; return how many."""
        return data.checkout(_dataset(self.records.artifact(ref)), self.blobs, target)

    def views(self) -> tuple[FeatureView, ...]:
        """The feature views of the manifest."""
        return features.views_of(self.manifest.features, self.manifest.data)

    def materialize(self, dataset: Artifact, on_progress: Progress = _quiet) -> Artifact:
        """Join a dataset with the feature views as of each row's time; itself when there are none.

        The sources of the views become dataset versions too, so that lineage reaches their rows.
        """
        views = self.views()
        if not views:
            return dataset
        on_progress("joining features")
        spec = _dataset(dataset)
        sources = {source: self._source(source, views) for source in {v.source for v in views}}
        frames = {s: data.read(_dataset(a), self.blobs) for s, a in sources.items()}
        frame = features.materialize(data.read(spec, self.blobs), views, frames, self.manifest.data.time)
        made = features.keep(frame, dataset, views, self.blobs, self.clock.now())
        parents = (*made.parents, *(a.ref for a in sources.values()))
        made = msgspec.structs.replace(made, parents=parents)
        self._record("features.materialized", made, {"rows": frame.height, "views": [v.name for v in views]})
        return made

    def train(
        self, *, dataset: Ref | None = None, params: Mapping[str, Value] | None = None,
        since: float = 0.0, until: float = inf, on_progress: Progress = _quiet,
    ) -> Artifact:  # fmt: skip
        """Train the project's model on a dataset (the newest by default), rows since <= time < until.

        Raises Invalid with the end of the traceback when train.py fails.
        """
        table = self.materialize(self.dataset(dataset), on_progress)
        return train.train(
            table, self.manifest.data, self.manifest.train, name=self.name, root=self.root,
            records=self.records, blobs=self.blobs, compute=self.compute, clock=self.clock,
            jobs=self.state / "jobs", actor=self.actor, params=params, since=since, until=until,
            unseen=self.manifest.train.unseen, on_progress=on_progress,
        )  # fmt: skip

    def gate(self, model: Ref, on_progress: Progress = _quiet) -> Decision:
        """Measure a model beside what serves now, judge it, record the decision."""
        return gate.gate(
            self.records.artifact(model), gate.baseline_of(self.records, self.name, model),
            self.manifest, records=self.records, blobs=self.blobs, compute=self.compute,
            clock=self.clock, jobs=self.state / "jobs", actor=self.actor, on_progress=on_progress,
        )  # fmt: skip

    def package(self, model: Ref, on_progress: Progress = _quiet) -> Artifact:
        """Make a model into a package and prove it in a clean process."""
        return package.package(
            self.records.artifact(model), name=self.name, records=self.records, blobs=self.blobs,
            compute=self.compute, clock=self.clock, packages=self.state / "packages",
            jobs=self.state / "jobs", actor=self.actor, on_progress=on_progress,
        )  # fmt: skip

    # act

    def plan(self, name: str = "") -> TrafficPlan:
        """The traffic plan of the manifest, or another one by name with the same numbers."""
        section = self.manifest.release
        if name:
            text = {**msgspec.structs.asdict(section), "plan": name, "steps": ()}
            try:
                section = msgspec.convert(text, ReleaseSection)
            except msgspec.ValidationError as error:
                raise Invalid(f"no plan {name!r}: {error}", hint="see `fairlead release start --help`") from None  # fmt: skip
        task = self.manifest.data.task
        return plan_of(section, release_checks(section, "binary" if task == "auto" else task))

    def start_release(
        self, package: Ref | Sequence[Ref], plan: TrafficPlan | None = None, *, force: str = ""
    ) -> Release:
        """Begin to release a package, or several beside each other (A/B/n, bandit).

        Raises Conflict when a release is under way, and what `flow.release.start` raises.
        """
        packages = (package,) if isinstance(package, Ref) else tuple(package)
        begun = release.start(self.records, self.clock, self.name, packages, plan or self.plan(),
                              actor=self.actor, force=force)  # fmt: skip
        return self._published(begun)

    def pause(self, release_id: str) -> Release:
        """Stop walking the plan; the traffic stays as it is."""
        return self._published(release.pause(self.records, self.clock, release_id, actor=self.actor))

    def resume(self, release_id: str) -> Release:
        """Walk the plan again."""
        return self._published(release.resume(self.records, self.clock, release_id, actor=self.actor))

    def abort(self, release_id: str, reason: str) -> Release:
        """End a release by hand; the baseline answers everything."""
        ended = release.abort(self.records, self.clock, release_id, reason, actor=self.actor)
        return self._published(ended)

    def rollback(self, reason: str) -> Release:
        """Return to the package that served before. Raises Missing when there is none."""
        back = release.rollback(self.records, self.clock, self.name, reason, actor=self.actor)
        return self._published(back)

    def _published(self, here: Release) -> Release:
        loop.publish(self.records, self.router, self.name)
        return here

    # live

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

    # write down

    def why(self, prediction_id: str) -> govern.Why:
        """Everything that led to one prediction, back to the rows. Raises Missing."""
        return govern.why(prediction_id, self.log, self.records, self.blobs,
                          known_at=self.manifest.data.known_at)  # fmt: skip

    def verify_audit(self) -> int:
        """Number of audit events of an unbroken chain. Raises Corrupt."""
        _, head = self.records.head()
        return verify(self.records.events(), head)

    def _commit(
        self, name: str, path: Path, *, target: str = "", time: str = "", entity: str = "",
        known_at: str = "", ignore: Sequence[str] = (), accept_breaking: bool = False,
    ) -> tuple[Artifact, SchemaDiff]:  # fmt: skip
        made = self.records.artifacts("dataset", name)
        before = _dataset(made[-1]) if made else None
        read = tables.read(path, target=target, moments={time, known_at} - {""},
                           contract=before.contract if before else None)  # fmt: skip
        spec, change = data.snapshot(read.frame, self.blobs, previous=before, target=target, time=time,
                                     entity=entity, ignore=ignore, accept_breaking=accept_breaking)  # fmt: skip
        grown = before is not None and spec.parts[: len(before.parts)] == before.parts
        parents = (made[-1].ref,) if grown else ()
        return self._keep(name, spec, change, path.name, parents), change

    def _keep(
        self, name: str, spec: DatasetSpec, change: SchemaDiff, source: str, parents: tuple[Ref, ...]
    ) -> Artifact:
        ref = name_of(name, spec)
        with suppress(Missing):
            return self.records.artifact(ref)
        made = Artifact(ref=ref, spec=spec, parents=parents, created_at=self.clock.now())
        self._record("data.committed", made, {"rows": spec.rows, "source": source, "change": change.size})
        return made

    def _record(self, verb: str, made: Artifact, body: dict[str, Any]) -> None:
        self.records.commit(Change(at=made.created_at, actor=self.actor, verb=verb,
                                   subject=str(made.ref), body=body, artifacts=(made,)))  # fmt: skip

    def _source(self, source: str, views: Sequence[FeatureView]) -> Artifact:
        """The rows behind some views as a dataset version of their own."""
        if source == self.manifest.data.source:
            return self.dataset()
        time = next((v.time for v in views if v.source == source and v.time), "")
        return self._commit(f"{self.name}.{Path(source).stem}", self.root / source, time=time)[0]

    def _read_source(self, source: str, views: Sequence[FeatureView]) -> "pl.DataFrame":
        moments = {v.time for v in views if v.source == source} - {""}
        return tables.read(self.root / source, moments=moments).frame

    def _reference(self, ref: Ref) -> TableProfile | None:
        folder = self.state / "packages" / ref.digest
        return package.profile_of(folder)


def read_table(path: Path, *, target: str = "", moments: Collection[str] = ()) -> tables.Table:
    """The rows of a CSV or Parquet file, and what to know about how they were read."""
    return tables.read(path, target=target, moments=moments)


def _spec_of(records: Records, ref: str) -> PackageSpec:
    spec = records.artifact(Ref.parse(ref)).spec
    if not isinstance(spec, PackageSpec):
        raise Invalid(f"{ref} is not a package", hint="the prediction log names packages")
    return spec


def _dataset(artifact: Artifact) -> DatasetSpec:
    if not isinstance(artifact.spec, DatasetSpec):
        raise Invalid(f"{artifact.ref.short} is not a dataset", hint="`fairlead data log` lists them")
    return artifact.spec


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
