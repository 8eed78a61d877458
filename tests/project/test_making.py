"""A retraining from the log, through the doors of a project: rows of its own, lineage, the same again."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead import jobs
from fairlead.core.artifact import Artifact, DatasetSpec, ModelSpec, PackageSpec
from fairlead.core.journal import HEADER, Batch, Note, frame
from fairlead.errors import Invalid
from fairlead.project import Project
from fairlead.settings import Settings

START = 1_700_000_000.0
N = 600
MANIFEST = """
service: loans
data: {source: loans.csv, target: status, time: asked}
train: {code: train.py}
retrain: {source: log, window: 30d}
"""
TRAIN = """
from sklearn.tree import DecisionTreeClassifier

def train(data, params):
    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(data.X, data.y)
"""


class Here:
    """Compute without a process: the same job, in this interpreter."""

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        if jobs.main(job):
            raise Invalid(f"{job[0]} failed")


def loans(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    income = rng.normal(50, 10, n)
    asked = pl.Series(1_600_000_000 + np.arange(n) * 600) * 1_000_000
    status = np.where(income + rng.normal(0, 5, n) > 50, "paid", "lost")
    return pl.DataFrame({"asked": asked.cast(pl.Datetime("us", "UTC")), "income": income,
                         "region": rng.choice(["n", "s"], n), "status": status})  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "fairlead.yaml").write_text(MANIFEST)
    (tmp_path / "train.py").write_text(TRAIN)
    loans(N, 0).write_csv(tmp_path / "loans.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    with threadpool_limits(1), Project.open(tmp_path, Settings(actor="ann")) as project:
        project.compute = Here()
        yield project
    sys.modules.pop("train", None)


def asked(project: Project, package: Artifact, rows: pl.DataFrame) -> None:
    """Requests and their labels, as a gateway would have left them."""
    assert isinstance(package.spec, PackageSpec)
    ids = [f"01{i:08d}gw01" for i in range(rows.height)]
    sent = list(rows.select(package.spec.contract.names).iter_rows(named=True))
    parts = [frame(Batch(service="loans", package=str(package.ref), at=START + 60.0 * i, epoch=1, live=True,
                         propensity=1.0, ids=[p], units=[p], bodies=[msgspec.json.encode(row)], features=[None],
                         outputs=[[0.7]], errors=[""], fallback=[False], latencies=[0.002]))
             for i, (p, row) in enumerate(zip(ids, sent, strict=True))]  # fmt: skip
    parts += [frame(Note(prediction=p, name="label", value=status, at=START + 60.0 * i + 3_000))
              for i, (p, status) in enumerate(zip(ids, rows["status"], strict=True))]  # fmt: skip
    journal = project.state / "predictions" / "journal"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / "gw01-000000.log").write_bytes(HEADER + b"".join(parts))


def test_a_model_of_the_log_is_an_ordinary_model(project: Project) -> None:
    project.snapshot()
    package = project.package(project.train().ref)
    asked(project, package, loans(N, 1))
    until = START + 60.0 * N
    table = project.fresh(0.0, until)
    assert isinstance(table.spec, DatasetSpec) and table.ref.name == "loans.log"
    assert table.parents == (package.ref,)
    assert table.spec.rows == N - 50, "the truths of the last 50 minutes were not known yet"
    event = [e for e in project.records.events() if e.verb == "data.harvested"][-1]
    assert event.body["left_out"] == {"no truth": 50} and event.body["first"] == "0100000000gw01"
    assert project.fresh(0.0, until).ref == table.ref, "the same rows are the same version"
    model = project.train(dataset=table.ref, until=until)
    assert isinstance(model.spec, ModelSpec)
    told = msgspec.json.decode(project.blobs.get(project.records.run(model.run).job))
    assert told["columns"] == ["income", "region"], "neither ids nor moments are learnt from"
    body = next(e.body for e in project.records.events(subject=str(model.ref)))
    assert (body["rows"], body["held_out"]) == (440 - 50, 110), "and none known only after the first held out"
    assert project.reproduce(model.ref).same
    reached = project.impact(package)
    assert model.ref in {a.ref for a in reached.artifacts} and reached.predictions == N
