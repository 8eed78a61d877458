"""Features are served otherwise than they are computed offline: a promotion does not go on, and says why."""

import fcntl
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec import json
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead import jobs
from fairlead.adapters.clock import SharedClock
from fairlead.api.present.dossier import Dossier, dossier
from fairlead.api.present.rollout import seen
from fairlead.core.check import Outcome
from fairlead.core.decision import Decision, replay
from fairlead.core.event import Event
from fairlead.core.journal import HEADER, Batch, frame
from fairlead.core.ref import Ref, canonical
from fairlead.core.release import Phase, Release
from fairlead.errors import Invalid
from fairlead.project import Project
from fairlead.settings import Settings

MANIFEST = """
service: pumps
data: {source: pumps.csv, target: broken, time: at}
features:
  sensor: {source: heat.csv, entity: pump, time: at, columns: [heat, load]}
train: {code: train.py}
release: {plan: canary, shares: [0.5], hold: 10m, patience: 2h, max_slower: 0, min_recomputed: 200}
watch: {ready_made: false}
"""
TRAIN = """
from sklearn.linear_model import LogisticRegression

def train(data, params):
    return LogisticRegression(C=params.get("C", 1.0)).fit(data.X, data.y)
"""
NOW, MINUTE, PUMPS = 1_700_000_000.0, 60.0, [f"p{i}" for i in range(40)]


class Here:
    """Compute without a process: the same job, in this interpreter."""

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        if jobs.main(job):
            raise Invalid(f"{job[0]} failed")


class Pumps:
    """The project with its clock, and a gateway that is this class: it reads the real online store."""

    def __init__(self, root: Path) -> None:
        self.clock = SharedClock(root / "clock")
        self.project = Project.open(root, Settings(clock=root / "clock", actor="tester"))
        (self.view,) = self.project.views()
        folder = root / ".fairlead" / "predictions" / "journal"
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / "gw01-000000.log").open("wb", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.write(HEADER)
        self.asked, self.facts = 0, pl.read_csv(root / "heat.csv", try_parse_dates=True)

    def tell(self, *, fahrenheit: bool) -> None:
        """The feed of the feature store; some senders say Fahrenheit where the table has Celsius."""
        some = pl.col("pump").is_in(PUMPS[:10]) if fahrenheit else pl.lit(False)
        heat = pl.when(some).then(pl.col("heat") * 1.8 + 32).otherwise(pl.col("heat"))
        moment = pl.col("at").dt.epoch("us") / 1e6
        self.project.online.push(self.view, self.facts.with_columns(heat, at=moment).to_dicts())

    def live(self, minutes: int) -> list[Event]:
        made: list[Event] = []
        for _ in range(minutes):
            route = self.project.router.published()
            assert route is not None
            for arm in route.arms:
                self.ask(arm.package, round(600 * arm.weight), arm.weight, route.epoch)
            self.clock.set(self.clock.now() + MINUTE)
            made += self.project.tick()
        return made

    def ask(self, package: Ref, n: int, share: float, epoch: int) -> None:
        ids = [f"01{self.asked + i:08d}" for i in range(n)]
        self.asked += n
        now, pumps = self.clock.now(), [PUMPS[i % len(PUMPS)] for i in range(n)]
        known = {p: self.project.online.read(self.view, p, now) for p in set(pumps)}
        self.file.write(frame(Batch(
            service="pumps", package=str(package), at=now, epoch=epoch, live=True, propensity=share,
            ids=ids, units=ids, bodies=[json.encode({"pump": p, "speed": 99.0}) for p in pumps],
            features=[known[p] for p in pumps], outputs=[[0.4]] * n, errors=[""] * n,
            fallback=[False] * n, latencies=[0.001] * n,
        )))  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One package that serves, another that waits, and a table of facts that knows the hours to come."""
    root, rng = tmp_path_factory.mktemp("pumps"), np.random.default_rng(1)
    moments = pl.from_epoch(pl.Series(NOW + np.arange(-100, 5) * 3600.0).cast(pl.Int64))
    facts = [pl.DataFrame({"at": moments, "heat": rng.normal(60, 5, 105), "load": rng.normal(size=105)})
             .with_columns(pump=pl.lit(p)) for p in PUMPS]  # fmt: skip
    pl.concat(facts).write_csv(root / "heat.csv")
    rows = 600
    pl.DataFrame({
        "at": pl.from_epoch(pl.Series(np.sort(rng.uniform(NOW - 80 * 3600, NOW, rows))).cast(pl.Int64)),
        "pump": rng.choice(PUMPS, rows), "speed": (speed := rng.normal(100, 10, rows)),
        "broken": speed + rng.normal(0, 5, rows) > 100,
    }).write_csv(root / "pumps.csv")  # fmt: skip
    (root / "fairlead.yaml").write_text(MANIFEST)
    (root / "train.py").write_text(TRAIN)
    SharedClock.create(root / "clock", NOW)
    path = list(sys.path)
    with threadpool_limits(1), Project.open(root, Settings(clock=root / "clock", actor="tester")) as project:
        project.compute = Here()
        project.snapshot()
        for _ in range(2):
            sys.modules.pop("train", None)
            package = project.package(project.train().ref).ref
            (root / "train.py").write_text(TRAIN.replace("1.0", "0.5"))
            if project.records.service("pumps") is None:
                project.start_release(package, project.plan("replace"), force="the first")
                project.tick()
        (root / "candidate").write_text(str(package))
    sys.path[:] = path
    sys.modules.pop("train", None)
    return root


@pytest.fixture
def pumps(trained: Path, tmp_path: Path) -> Iterator[Pumps]:
    shutil.copytree(trained, tmp_path / "here")
    made = Pumps(tmp_path / "here")
    try:
        yield made
    finally:
        made.file.close()
        made.project.close()


def released(pumps: Pumps, minutes: int) -> list[Event]:
    candidate = Ref.parse((pumps.project.root / "candidate").read_text())
    assert pumps.project.start_release(candidate, force="a rehearsal").id == "pumps-2"
    pumps.project.tick()
    return pumps.live(minutes)


def ended(pumps: Pumps) -> tuple[Release, Decision]:
    release = pumps.project.records.release("pumps-2")
    assert release.phase.final, release
    return release, pumps.project.records.decisions(release.candidates[0])[-1]


def test_a_candidate_that_is_served_what_is_computed_offline_is_promoted(pumps: Pumps) -> None:
    pumps.tell(fahrenheit=False)
    events = released(pumps, 11)
    release, decision = ended(pumps)
    assert release.phase is Phase.PROMOTED
    skew = next(v for v in decision.because if v.check.measure == "skew")
    assert skew.outcome is Outcome.PASS and {e.slice for e in skew.seen} == {
        "feature=sensor.heat", "feature=sensor.load"}  # fmt: skip
    assert [e.verb for e in events if e.verb == "alert.raised"] == []


def test_served_features_that_differ_stop_a_promotion_and_are_named(pumps: Pumps) -> None:
    pumps.tell(fahrenheit=True)
    events = released(pumps, 15)
    assert not pumps.project.records.release("pumps-2").phase.final, "after ten minutes it was time"
    (alert,) = [e for e in events if e.verb == "alert.raised"]
    (worst,) = [e for e in alert.body["seen"] if e["value"] > 0]
    assert worst["slice"] == "feature=sensor.heat" and worst["value"] == pytest.approx(0.25, abs=0.08)
    (served,) = pumps.project.log.find(worst["example"])
    assert served.inputs["pump"] in PUMPS[:10] and served.features["sensor.heat"] > 100
    assert f"as in {served.id}" in alert.body["cause"]

    moved = [e for e in pumps.live(115) if e.subject == "release/pumps-2"]
    release, decision = ended(pumps)
    assert release.phase is Phase.ROLLED_BACK
    assert release.reason.startswith("skew [feature=sensor.heat, the most of 2]: 0.2")
    assert canonical(replay(decision)) == canonical(decision)
    page = dossier(Dossier(view=seen(release, decision, None, NOW), decisions=(decision,), events=tuple(moved)))
    assert "feature=sensor.load" in page and "replays byte for byte" in page


def test_what_the_tables_do_not_know_yet_is_waited_for_where_the_manifest_says_so(pumps: Pumps) -> None:
    pumps.tell(fahrenheit=False)
    table = pumps.project.root / "heat.csv"
    whole = table.read_text()
    pumps.facts.filter(pl.col("at").dt.epoch("s") < NOW).write_csv(table)
    released(pumps, 15)
    assert pumps.project.records.release("pumps-2").phase is Phase.RUNNING
    table.write_text(whole)
    pumps.live(11)
    assert ended(pumps)[0].phase is Phase.PROMOTED
