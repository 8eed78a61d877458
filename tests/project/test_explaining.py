"""Explanations that callers asked for: computed by the loop, some at a time, stored, told, never twice."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead import jobs
from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.journal import HEADER, Batch, frame
from fairlead.core.ref import Ref
from fairlead.core.release import Service
from fairlead.errors import Invalid
from fairlead.ports import Change
from fairlead.project import Project
from fairlead.settings import Settings

START, N, KILLER = 1_700_000_000.0, 1400, "666.25"
MANIFEST = """
service: loans
data: {source: loans.csv, target: status}
train: {code: train.py}
watch: {ready_made: false}
monitors:
  reliance: {measure: attribution, max: 0.05}
"""
TRAIN = """
from sklearn.tree import DecisionTreeClassifier

def train(data, params):
    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(data.X, data.y)
"""


class Here:
    """Compute without a process: the same job, in this interpreter; one with a KILLER in it ends at once."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        self.jobs.append(job[0])
        if (job[0] == "explain" and KILLER in (workdir / "job.json").read_text()) or jobs.main(job):
            raise Invalid(f"{job[0]} failed")


class Fixed:
    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at


def loans(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    income, debt = rng.normal(50, 10, n), rng.normal(20, 5, n)
    status = np.where(income - debt + rng.normal(0, 3, n) > 30, "paid", "lost")
    return pl.DataFrame({"income": income, "debt": debt, "status": status})


def ask(project: Project, package: Artifact, journal: int, **more: Any) -> list[str]:
    """Rows as a gateway would have left them: a batch of `rows` at `at`, `wanted` or not."""
    rows = more.pop("rows", [{"income": 40.0, "debt": 20.0}])
    ids = [f"01{journal:02d}{i:06d}gw01" for i in range(len(rows))]
    batch = Batch(**{
        "service": "loans", "package": str(package.ref), "at": START, "epoch": 1, "live": True,
        "propensity": 1.0, "ids": ids, "units": ids, "bodies": [msgspec.json.encode(r) for r in rows],
        "features": [None] * len(ids), "outputs": [[0.7]] * len(ids), "errors": [""] * len(ids),
        "fallback": [False] * len(ids), "latencies": [0.002] * len(ids), "wanted": [True] * len(ids), **more,
    })  # fmt: skip
    folder = project.state / "predictions" / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"gw01-{journal:06d}.log").write_bytes(HEADER + frame(batch))
    return ids


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loans")
    (root / "fairlead.yaml").write_text(MANIFEST)
    (root / "train.py").write_text(TRAIN)
    loans(N, 0).write_csv(root / "loans.csv")
    path = list(sys.path)
    with threadpool_limits(1), Project.open(root, Settings(actor="ann")) as project:
        project.compute = Here()
        project.snapshot()
        package = project.package(project.train().ref)
        service = Service(name="loans", package=package.ref, epoch=1)
        project.records.commit(Change(at=START, actor="ann", verb="service.made", subject="service/loans",
                                      services=((None, service),)))  # fmt: skip
    sys.path[:] = path
    sys.modules.pop("train", None)
    return root


@pytest.fixture
def project(world: Path, tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / "loans"
    shutil.copytree(world, root)
    with threadpool_limits(1), opened(root) as project:
        yield project


def opened(root: Path) -> Project:
    project = Project.open(root, Settings(actor="ann"))
    project.compute, project.clock = Here(), Fixed(START + 60)
    return project


def package_of(project: Project) -> Artifact:
    package = project.subject("")
    assert isinstance(package.spec, PackageSpec)
    return package


def test_what_callers_asked_for_is_explained_by_one_job_and_never_again(project: Project) -> None:
    package = package_of(project)
    rows = [{"income": float(i), "debt": 20.0} for i in (20, 45, 80)]
    plain = ask(project, package, 0, rows=rows, wanted=[])
    ids = ask(project, package, 1, rows=rows, wanted=[True, False, True])
    wanted = [ids[0], ids[2]]
    project.tick()
    answers = {i: project.why(i).answer for i in (*plain, *ids)}
    assert {i: project.explained(a).state for i, a in answers.items()} == (
        dict.fromkeys(answers, "unasked") | dict.fromkeys(wanted, "waiting"))  # fmt: skip
    project.log.seal()
    assert project.unexplained(1) == wanted[:1] and project.unexplained(100) == wanted[1:]
    assert project.explain_all(wanted) == 2
    assert isinstance(project.compute, Here) and project.compute.jobs == ["explain"]
    for one in wanted:
        found = project.explained(answers[one]).explanation
        assert found is not None and found.prediction == one and found.method == "trees"
        assert found.base + sum(c.amount for c in found.contributions) == pytest.approx(found.total)
        assert project.explain(one) == found
    assert project.compute.jobs == ["explain"], "it is told, not computed again"
    assert project.unexplained(100) == []
    with opened(project.root) as again:
        again.tick()
        assert again.unexplained(100) == [], "a controller that starts anew asks nothing twice"


def test_what_cannot_be_explained_is_told_and_takes_nothing_with_it(project: Project) -> None:
    package = package_of(project)
    assert isinstance(package.spec, PackageSpec)
    good, bad = ask(project, package, 0, rows=[{"income": 40.0, "debt": 20.0}, {"income": float(KILLER), "debt": 2.0}])
    unkept, = ask(project, package, 1, bodies=[b""])
    failed, = ask(project, package, 2, outputs=[None], errors=["it hung"])
    project.tick()
    ids = project.unexplained(100)
    assert sorted(ids) == sorted([good, bad, unkept, failed])
    assert project.explain_all([*ids, "01nobody"]) == 1
    told = {i: project.explained(project.why(i).answer) for i in ids}
    assert {i: t.state for i, t in told.items()} == {good: "explained", bad: "impossible", unkept: "impossible",
                                                     failed: "impossible"}  # fmt: skip
    assert "its inputs were not sampled" in told[unkept].reason and "it hung" in told[failed].reason
    assert told[bad].reason and project.unexplained(100) == []
    gone = msgspec.structs.replace(package, ref=Ref("package", "loans", "0" * 64))
    orphan, = ask(project, gone, 3)
    project.tick()
    assert project.unexplained(100) == [orphan] and project.explain_all([orphan]) == 0
    assert project.explained(project.log.find(orphan)[0]).state == "impossible"


def test_explanations_expire_with_their_predictions(project: Project) -> None:
    package = package_of(project)
    old, = ask(project, package, 0)
    young, = ask(project, package, 1, at=START + 90 * 86_400.0)
    assert project.explain_all([old, young]) == 2
    blobs = [e.body["blob"] for e in project.records.events() if e.verb == "prediction.explained"]
    project.manifest = msgspec.structs.replace(
        project.manifest, log=msgspec.structs.replace(project.manifest.log, retention="30d"))  # fmt: skip
    project.log.seal()
    for day in range(1, 92):
        project.clock = Fixed(START + day * 86_400.0)
        project.expire()
    assert [project.blobs.has(b) for b in blobs] == [False, True]


def test_a_feature_that_goes_dead_upstream_is_an_alert_of_attribution(project: Project) -> None:
    package, rows = package_of(project), loans(250, 7).drop("status")
    assert project.attribution_due() and project.measure_attribution() is None, "nobody asked yet"
    ask(project, package, 0, rows=rows.to_dicts(), wanted=[])
    calm = project.measure_attribution()
    assert calm is not None and calm.rows == 250 and calm.held_out > 250
    assert sum(s.mean for s in calm.now.values()) == pytest.approx(1.0)
    assert not project.attribution_due() and project.measure_attribution() is None
    assert not [e for e in project.tick() if e.verb.startswith("alert")]

    later = START + 1.2 * 86_400.0
    dead = rows.with_columns(debt=pl.lit(20.0))
    ask(project, package, 1, rows=dead.to_dicts(), wanted=[], at=later)
    project.clock = Fixed(later + 60)
    project.log.seal()
    seen = project.measure_attribution()
    assert seen is not None and seen.before == calm.before and seen.since == later + 60 - 86_400.0
    alert, = (e for e in project.tick() if e.verb == "alert.raised")
    assert (alert.body["monitor"], alert.body["measure"]) == ("reliance", "attribution")
    assert alert.body["slices"][0]["slice"] in ("column=debt", "column=income")
    assert isinstance(project.compute, Here) and project.compute.jobs == ["explain", "explain"]
