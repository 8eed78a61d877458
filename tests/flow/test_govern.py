"""Why: from any prediction back to rows, through the release, the gate, the run and the data."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec import json

from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec, Split, name_of
from fairlead.core.decision import Decision
from fairlead.core.encoding import Encoding, Number
from fairlead.core.evidence import EvidenceSet
from fairlead.core.feature import Aggregate, FeatureView
from fairlead.core.journal import HEADER, Batch, Note, frame
from fairlead.core.ref import Ref
from fairlead.core.run import Run
from fairlead.core.schema import Schema
from fairlead.core.traffic import canary
from fairlead.errors import Invalid, Missing
from fairlead.flow import data
from fairlead.flow.govern import why
from fairlead.flow.impact import impact
from fairlead.flow.loop import tick
from fairlead.flow.release import start
from fairlead.ports import Change

START = datetime(2013, 1, 1, tzinfo=UTC)
VIEW = FeatureView(name="recent", source="landed.csv", entity="carrier", time="landed_at",
                   window=10_800.0,
                   aggregates=(Aggregate(name="late_rate", operation="mean", column="late"),))  # fmt: skip


class World:
    """A model trained on 300 flights, released twice: `old` serves, `new` is a canary."""

    def __init__(self, root: Path) -> None:
        self.records, self.blobs, self.at = MemoryRecords(), LocalBlobs(root / "blobs"), 2e9
        table = pl.DataFrame({
            "distance": list(range(300)), "carrier": ["UA", "AA", "DL"] * 100,
            "at": [START + timedelta(hours=i) for i in range(300)], "late": [0, 1] * 150,
        })  # fmt: skip
        spec, _ = data.snapshot(table, self.blobs, target="late", time="at")
        self.dataset = Artifact(ref=name_of("flights", spec), spec=spec, created_at=1.0)
        names = ("distance", "carrier")
        asked = Schema(columns=tuple(spec.contract.column(n) for n in names))
        self.packages, made, runs = [], [self.dataset], []
        for i in range(2):
            run = Run(id=f"run{i}", verb="train", state="done", inputs=(self.dataset.ref,), seed=i,
                      code=self.blobs.put(b"def train"), params={"depth": 3}, started_at=1.0, ended_at=2.0)  # fmt: skip
            model = ModelSpec(flavor="onnx", task="binary", classes=("0", "1"), inputs=asked, files={},
                              encoding=Encoding((Number("distance"),)), split=Split(seed=i), views=(VIEW,))  # fmt: skip
            artifact = Artifact(ref=name_of("flights", model), spec=model, run=run.id,
                                parents=(self.dataset.ref,), created_at=2.0)  # fmt: skip
            package = PackageSpec(model=artifact.ref, flavor="onnx", task="binary", views=(VIEW,),
                                  classes=("0", "1"), contract=asked, encoding=model.encoding, files={})  # fmt: skip
            ref = name_of("flights", package)
            made += [artifact, Artifact(ref=ref, spec=package, parents=(artifact.ref,), created_at=3.0)]
            self.packages.append(ref)
            runs.append(run)
        decisions = tuple(Decision(subject=a.ref, actions=frozenset(), because=(), at=2.5)
                          for a in made if a.ref.kind == "model")  # fmt: skip
        self.records.commit(Change(at=3.0, actor="t", verb="x", subject="x", artifacts=tuple(made),
                                   runs=tuple(runs), decisions=decisions))  # fmt: skip
        specs = {str(a.ref): a.spec for a in made if isinstance(a.spec, PackageSpec)}
        self.log = PredictionFiles(root, specs.__getitem__)
        self.old, self.new = self.packages
        self.release(self.old)
        tick(self.records, self, self, lambda *_: EvidenceSet())
        self.at += 10
        self.release(self.new)
        self.epoch = self.records.service("flights").epoch  # type: ignore[union-attr]

    def release(self, package: Ref) -> None:
        start(self.records, self, "flights", (package,), canary(()), actor="ann")

    def now(self) -> float:
        return self.at

    def publish(self, route: object) -> None:
        pass

    def published(self) -> None:
        return None

    def batch(self, package: Ref, ids: list[str], **more: object) -> Batch:
        n = len(ids)
        given: dict[str, object] = {
            "service": "flights", "package": str(package), "at": self.at, "epoch": self.epoch,
            "live": True, "propensity": 0.95, "ids": ids, "units": ids,
            "bodies": [json.encode({"distance": 100, "carrier": "AA"})] * n,
            "features": [{"recent.late_rate": 0.25}] * n, "outputs": [[0.75]] * n,
            "errors": [""] * n, "fallback": [False] * n, "latencies": [0.002] * n,
        }  # fmt: skip
        return Batch(**(given | more))  # type: ignore[arg-type]

    def write(self, root: Path, *entries: Batch | Note) -> None:
        (root / "journal").mkdir(exist_ok=True)
        (root / "journal" / "gw01-000000.log").write_bytes(HEADER + b"".join(map(frame, entries)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_walks_back_to_the_rows(world: World, tmp_path: Path) -> None:
    note = Note(prediction="01a", name="label", value=1.0, at=world.at + 9)
    world.write(tmp_path, world.batch(world.old, ["01a"]),
                world.batch(world.new, ["01a"], live=False, outputs=[[0.1]]), note)  # fmt: skip
    found = why("01a", world.log, world.records, world.blobs)
    assert found.answer.output == {"label": "1", "score": 0.75}
    assert [p.package for p in found.others] == [world.new]
    assert [(s.name, s.value, s.view) for s in found.served] == [
        ("distance", 100, ""), ("carrier", "AA", ""), ("recent.late_rate", 0.25, "recent"),
    ]  # fmt: skip
    feature = found.served[-1]
    assert (feature.source, feature.entity, feature.key) == ("landed.csv", "carrier", "AA")
    assert found.package.ref == world.old
    assert found.model is not None and found.run is not None and found.run.id == "run0"
    assert [d.subject for d in found.gate] == [found.model.ref]
    assert found.datasets == (world.dataset,)
    assert [a.ref.kind for a in found.lineage] == ["package", "model", "dataset"]
    assert (found.routing.release, found.routing.role, found.routing.share) == ("flights-2", "baseline", 0.95)
    assert found.routing.event is not None and found.routing.event.actor == "ann"
    assert found.learnt is not None
    assert (found.learnt.rows, found.learnt.held_out) == (240, 60)
    assert found.learnt.since == START.timestamp()
    assert found.learnt.until == (START + timedelta(hours=239)).timestamp()
    nearest = found.learnt.nearest[0]
    assert (nearest["distance"], nearest["carrier"], nearest["_alike"]) == (100, "AA", 1.0)
    assert [f.value for f in found.feedback] == [1.0]
    assert found.gaps == ()


def test_explains_shadow_fallback_and_failed_attempt(world: World, tmp_path: Path) -> None:
    world.write(tmp_path, world.batch(world.new, ["01b"], outputs=[None], errors=["unseen"], propensity=0.05),
                world.batch(world.old, ["01b"], fallback=[True], propensity=0.05))  # fmt: skip
    answer = why("01b", world.log, world.records)
    assert answer.answer.fallback and answer.package.ref == world.old
    assert [p.error for p in answer.others] == ["unseen"]
    assert answer.learnt is None, "no blobs were given"
    attempt = why("01b", world.log, world.records, package=world.new)
    assert attempt.package.ref == world.new and attempt.routing.role == "candidate"
    assert attempt.answer.error == "unseen" and attempt.answer.output is None
    with pytest.raises(Missing, match="did not answer"):
        why("01b", world.log, world.records, package=Ref("package", "x", "9" * 64))
    with pytest.raises(Missing, match="no prediction"):
        why("01zz", world.log, world.records)


def test_a_steady_service_names_the_release_that_made_it_so(world: World, tmp_path: Path) -> None:
    world.write(tmp_path, world.batch(world.old, ["01c"], epoch=world.epoch - 1, propensity=1.0))
    routing = why("01c", world.log, world.records).routing
    assert (routing.release, routing.role, routing.phase) == ("flights-1", "only", "promoted")


def test_lost_data_is_a_gap_not_a_failure(world: World, tmp_path: Path) -> None:
    world.write(tmp_path, world.batch(world.old, ["01d"]))
    for blob in (tmp_path / "blobs").rglob("*"):
        if blob.is_file():
            blob.unlink()
    found = why("01d", world.log, world.records, world.blobs)
    assert found.learnt is None and "training rows cannot be read" in found.gaps[0]


def test_any_of_a_thousand_predictions_is_explained(world: World, tmp_path: Path) -> None:
    ids = [f"01{i:08d}" for i in range(1000)]
    batches = [world.batch(world.packages[i % 2], ids[i : i + 10]) for i in range(0, 1000, 10)]
    world.write(tmp_path, *batches)
    assert world.log.seal() == 1000
    taken = []
    for i, prediction in enumerate(ids):
        if i % 10 == 0:
            started = time.perf_counter()
            found = why(prediction, world.log, world.records)
            taken.append(time.perf_counter() - started)
            assert found.run is not None and found.datasets and found.gate and not found.gaps
    assert sorted(taken)[len(taken) // 2] < 0.05


def test_walks_forward_to_the_predictions(world: World, tmp_path: Path) -> None:
    """The same answers, sealed or not; rows the models never met, and values nobody was served."""
    world.write(
        tmp_path, world.batch(world.old, ["gw01a1", "gw01a2"]),
        world.batch(world.new, ["gw01a3"], bodies=[json.encode({"distance": 7, "carrier": "UA"})]),
        world.batch(world.new, ["gw01a1"], live=False),
        world.batch(world.new, ["gw01a4"], errors=["crashed"], outputs=[None]),
    )  # fmt: skip

    def ask(**narrowed: Any) -> list[tuple[Ref, int, int]]:
        found = impact(world.dataset, world.log, world.records, world.blobs, **narrowed)
        assert not found.gaps
        return [(r.package, r.answers, r.mirrored) for r in found.reached]

    whole = [(world.old, 2, 0), (world.new, 1, 2)]
    for _ in range(2):
        assert ask() == whole
        assert ask(served={"carrier": "UA"}) == [(world.new, 1, 0)]
        assert ask(served={"recent.late_rate": "0.25"}) == whole
        assert ask(served={"recent.late_rate": "0.5"}) == [] == ask(served={"nobody": "1"})
        assert ask(view="recent") == whole
        assert ask(view="weather") == []
        assert ask(since=world.at + 1) == [] == ask(until=world.at)
        assert ask(rows={"distance": "17"}) == whole
        assert ask(rows={"distance": "999"}) == [], "no model met such a row"
        (tmp_path / "journal" / "gw01-000001.log").write_bytes(HEADER)
        world.log.seal()
    assert not list((tmp_path / "journal").glob("gw01-000000*")), "the second round read segments"
    found = impact(world.dataset, world.log, world.records, world.blobs, rows={"distance": "17"})
    assert [(t.learnt, t.held_out, t.unused) for t in found.taught] == [(1, 0, 0)] * 2
    held = impact(world.dataset, world.log, world.records, world.blobs, rows={"distance": "290"})
    assert [(t.learnt, t.held_out) for t in held.taught] == [(0, 1)] * 2
    assert found.predictions == 3
    assert found.reached[0].newest == ("gw01a2", "gw01a1")
    only = impact(world.records.artifact(world.old), world.log, world.records, world.blobs)
    assert [r.package for r in only.reached] == [world.old]
    with pytest.raises(Invalid, match="is no table"):
        impact(world.records.artifact(world.old), world.log, world.records, world.blobs, rows={"a": "1"})
    with pytest.raises(Invalid, match="has no column 'b'"):
        impact(world.dataset, world.log, world.records, world.blobs, rows={"b": "1"})
