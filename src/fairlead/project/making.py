"""What a project makes: dataset versions, features, models, packages."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from fairlead.adapters.sources import tables
from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, name_of
from fairlead.core.decision import Decision
from fairlead.core.feature import FeatureView
from fairlead.core.ref import Ref
from fairlead.core.run import Value
from fairlead.core.schema import SchemaDiff, widen
from fairlead.errors import Invalid, Missing
from fairlead.flow import data, features, gate, package, train
from fairlead.flow.harvest import harvest
from fairlead.flow.rows import ROW
from fairlead.ports import Change
from fairlead.project.house import House, Progress, quiet

__all__ = ["Making"]


class Making(House):
    """Verbs that make something immutable and write down that they did."""

    _before: Mapping[str, list[Artifact]] | None = None
    """The versions, by name, that tables are committed upon; None: the newest that were recorded."""

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
            known_at=section.known_at, ignore=section.dropped, accept_breaking=accept_breaking,
        )  # fmt: skip

    def append(self, source: Path) -> tuple[Artifact, SchemaDiff]:
        """Commit the rows of `source` behind those of the newest version. Raises Missing."""
        self.caller("make")
        newest = self.dataset()
        spec = _dataset(newest)
        moments = {self.manifest.data.time, self.manifest.data.known_at} - {""}
        read = tables.read(source, target=self.manifest.data.target, moments=moments,
                           contract=spec.contract)  # fmt: skip
        grown, change = data.append(read.frame, self.blobs, spec, ignore=self.manifest.data.dropped)
        return self._keep(self.name, grown, change, source.name, (newest.ref,)), change

    def harvest(self, since: float = 0.0, until: float = inf) -> Artifact:
        """Commit the labelled predictions of since <= time < until as a dataset version of its own,
        ``<service>.log``, joined with the features as they were served.

        It descends from the packages that answered. Raises what `flow.harvest` raises.
        """
        section, views = self.manifest.data, self.views()
        contract = _dataset(self.dataset()).contract
        until = min(until, self.clock.now())
        found = harvest(self.log, self.name, contract, views, since=since, cut=until,
                        known_at=section.known_at, acted_on=self.manifest.retrain.acted_on)  # fmt: skip
        served = [o for view in views for o in view.outputs]
        rows = found.frame.drop(served)
        entity = contract.entity if contract.entity in rows.columns else ""
        spec, _ = data.snapshot(rows, self.blobs, target=contract.target, time=contract.time, entity=entity)
        promised = tuple(c for c in contract.columns if c.name in rows.columns)
        base = msgspec.structs.replace(contract, columns=promised, entity=entity)
        spec = msgspec.structs.replace(spec, contract=widen(base, spec.contract))
        ref = name_of(f"{self.name}.log", spec)
        made = Artifact(ref=ref, spec=spec, parents=found.packages, created_at=self.clock.now())
        ids = found.frame.get_column(ROW)
        self._record("data.harvested", made, {
            "rows": spec.rows, "since": since, "until": until, "left_out": found.left_out,
            "first": ids[0], "last": ids[-1]})  # fmt: skip
        if not views:
            return made
        joined = features.keep(found.frame, made, views, self.blobs, self.clock.now())
        self._record("features.served", joined, {"rows": spec.rows, "views": [v.name for v in views]})
        return joined

    def fresh(self, since: float, until: float) -> Artifact:
        """What a retraining learns from, as `retrain.source` says: the table, or the log."""
        if self.manifest.retrain.source == "log":
            return self.harvest(since, until)
        return self.snapshot()[0]

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

    def materialize(self, dataset: Artifact, on_progress: Progress = quiet) -> Artifact:
        """Join a dataset with the feature views as of each row's time; itself when there are none.

        The sources of the views become dataset versions too, so that lineage reaches their rows.
        """
        views = self.views()
        if not views:
            return dataset
        on_progress("joining features")
        spec = _dataset(dataset)
        sources = {s: dataset if s == self.manifest.data.source else self._source(s, views)
                   for s in {v.source for v in views}}  # fmt: skip
        frames = {s: data.read(_dataset(a), self.blobs) for s, a in sources.items()}
        frame = features.materialize(data.read(spec, self.blobs), views, frames, self.manifest.data.time)
        made = features.keep(frame, dataset, views, self.blobs, self.clock.now())
        parents = (*made.parents, *(a.ref for a in sources.values()))
        made = msgspec.structs.replace(made, parents=parents)
        self._record("features.materialized", made, {"rows": frame.height, "views": [v.name for v in views]})
        return made

    def train(
        self, *, dataset: Ref | None = None, params: Mapping[str, Value] | None = None,
        since: float = 0.0, until: float = inf, on_progress: Progress = quiet,
    ) -> Artifact:  # fmt: skip
        """Train the project's model on a dataset (the newest by default), rows since <= time < until.

        Raises Invalid with the end of the traceback when train.py fails.
        """
        self.caller("make")
        table = self.dataset(dataset)
        if not isinstance(table.spec, FeaturesSpec):
            table = self.materialize(table, on_progress)
        return train.train(
            table, self.manifest.data, self.manifest.train, name=self.name, root=self.root,
            records=self.records, blobs=self.blobs, compute=self.compute, clock=self.clock,
            jobs=self.state / "jobs", actor=self.actor, params=params, since=since, until=until,
            unseen=self.manifest.train.unseen, on_progress=on_progress,
            last=gate.baseline_of(self.records, self.name),
        )  # fmt: skip

    def gate(self, model: Ref, on_progress: Progress = quiet) -> Decision:
        """Measure a model beside what serves now, judge it, record the decision."""
        return self._judge(model, gate.baseline_of(self.records, self.name, model), on_progress)

    def _judge(self, model: Ref, baseline: Artifact | None, on_progress: Progress) -> Decision:
        return gate.gate(
            self.records.artifact(model), baseline,
            self.manifest, records=self.records, blobs=self.blobs, compute=self.compute,
            clock=self.clock, jobs=self.state / "jobs", actor=self.actor, log=self.log,
            on_progress=on_progress,
        )  # fmt: skip

    def package(self, model: Ref, on_progress: Progress = quiet) -> Artifact:
        """Make a model into a package and prove it in a clean process."""
        return package.package(
            self.records.artifact(model), name=self.name, records=self.records, blobs=self.blobs,
            compute=self.compute, clock=self.clock, packages=self.state / "packages",
            jobs=self.state / "jobs", actor=self.actor, on_progress=on_progress,
        )  # fmt: skip

    def _commit(
        self, name: str, path: Path, *, target: str = "", time: str = "", entity: str = "",
        known_at: str = "", ignore: Sequence[str] = (), accept_breaking: bool = False,
    ) -> tuple[Artifact, SchemaDiff]:  # fmt: skip
        self.caller("make")
        made = self.records.artifacts("dataset", name) if self._before is None else self._before.get(name, [])
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
        time = next((v.time for v in views if v.source == source and v.time), "")
        return self._commit(f"{self.name}.{Path(source).stem}", self.root / source, time=time)[0]


def _dataset(artifact: Artifact) -> DatasetSpec:
    if not isinstance(artifact.spec, DatasetSpec):
        raise Invalid(f"{artifact.ref.short} is not a dataset", hint="`fairlead data log` lists them")
    return artifact.spec
