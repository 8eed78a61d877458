"""The world changes in four ways, in a written log and by a clock in a file; the loop answers each as it should."""

import fcntl
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from msgspec import json
from numpy.typing import NDArray

from fairlead.adapters.clock import SharedClock
from fairlead.controller import Controller
from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import compile_row
from fairlead.core.event import Event
from fairlead.core.journal import HEADER, Batch, Note, frame
from fairlead.flavors.onnx import Scorer
from fairlead.project import Project
from fairlead.settings import Settings

MANIFEST = """
service: pumps
data: {source: pumps.csv, target: broken, time: at, slices: [site]}
train: {code: train.py}
gate: {latency_ms: 1000}
release: {plan: replace}
monitors:
  concept: {measure: missed, max: 0.05, window: 7d, min_n: 500, then: [alert, retrain], cooldown: 30d}
  nulls: {measure: nulls, max: 0.05, then: [alert, hold]}
"""
TRAIN = """
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.pipeline import make_pipeline

def train(data, params):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(data.X, data.y)
"""
DAY, ROWS, START = 86_400.0, 400, 1_700_000_000.0 // 86_400 * 86_400
LEARNT, QUIET, CHANGED = 60, 2, 9

LEARNING = MANIFEST.replace("max: 0.05, window: 7d", "max: 0.2, window: 7d").replace("1000", "1000, replay: 0") + """
retrain: {source: log, window: 1d}
"""

Day = dict[str, NDArray[np.float64] | list[str] | list[bool]]
Change = Callable[[Day, np.random.Generator], None]


def day(rng: np.random.Generator, flip: bool = False) -> Day:
    """Requests of one day and what became of them; every day a little different from the others."""
    mood = rng.normal(0, 0.03)
    speed, heat = rng.normal(100 + mood * 10, 10, ROWS), rng.normal(60, 5 + mood, ROWS)
    site = rng.choice(["east", "west"], ROWS)
    risk = (speed - 100) / 5 * (-1 if flip else 1) + (heat - 60) / 10
    return {"speed": speed, "heat": heat, "site": site.tolist(),
            "broken": (risk + rng.logistic(size=ROWS) > 0).tolist()}  # fmt: skip


class Pumps:
    """The project with its clock, and a gateway that is this class."""

    def __init__(self, root: Path) -> None:
        self.clock = SharedClock(root / "clock")
        self.project = Project.open(root, Settings(clock=root / "clock", actor="tester"))
        self.turn, self.rights = self.project.tick, list[bool]()
        self.load()
        folder = root / ".fairlead" / "predictions" / "journal"
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / "gw01-000000.log").open("wb", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.write(HEADER)
        self.rng, self.asked = np.random.default_rng(11), 0

    def load(self) -> None:
        """Answer with what serves now."""
        here = self.project.records.service("pumps")
        assert here is not None and here.package is not None
        self.package = here.package
        spec = self.project.records.artifact(here.package).spec
        assert isinstance(spec, PackageSpec)
        self.encode = compile_row(spec.encoding)
        self.score = Scorer(self.project.state / "packages" / here.package.digest / "model.onnx")

    def live(self, days: int, change: Change | None = None, flip: bool = False) -> list[Event]:
        """So many days of traffic, labels an hour later, a turn of the loop every three hours."""
        made: list[Event] = []
        for _ in range(days):
            rows, start = day(self.rng, flip), self.clock.now()
            if change is not None:
                change(rows, self.rng)
            for part in np.array_split(np.arange(ROWS), 8):
                self.ask(rows, part)
                self.clock.set(self.clock.now() + DAY / 8)
                made += self.turn()
            assert self.clock.now() == start + DAY
        return made

    def ask(self, rows: Day, places: NDArray[np.int64]) -> None:
        names, now = ("speed", "heat", "site"), self.clock.now()
        columns = [pl.Series(rows[n], nan_to_null=True).to_list() for n in names]
        sent = [{n: c[i] for n, c in zip(names, columns, strict=True)} for i in places.tolist()]
        scores = self.score(np.array([self.encode(row) for row in sent], dtype=np.float32))
        self.rights += ((scores[:, 0] > 0.5) == np.asarray(rows["broken"])[places]).tolist()
        ids = [f"01{self.asked + i:08d}" for i in range(len(sent))]
        self.asked += len(sent)
        self.file.write(frame(Batch(
            service="pumps", package=str(self.package), at=now, epoch=1, live=True, propensity=1.0,
            ids=ids, units=ids, bodies=[json.encode(row) for row in sent], features=[None] * len(ids),
            outputs=scores.tolist(), errors=[""] * len(ids), fallback=[False] * len(ids),
            latencies=[0.001] * len(ids),
        )))  # fmt: skip
        for name, place in zip(ids, places, strict=True):
            told = Note(prediction=name, name="label", value=bool(rows["broken"][place]), at=now + 3600)
            self.file.write(frame(told))


def raised(events: list[Event]) -> dict[str, Event]:
    """The first alert of each monitor."""
    found: dict[str, Event] = {}
    for event in events:
        if event.verb == "alert.raised":
            found.setdefault(event.body["monitor"], event)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("pumps"), np.random.default_rng(1)
    days = [pl.DataFrame(day(rng)).with_columns(at=pl.from_epoch(
        pl.Series(START + d * DAY + np.arange(ROWS) * (DAY / ROWS)).cast(pl.Int64))) for d in range(LEARNT)]
    pl.concat(days).write_csv(root / "pumps.csv")
    (root / "fairlead.yaml").write_text(MANIFEST)
    (root / "train.py").write_text(TRAIN)
    SharedClock.create(root / "clock", START + LEARNT * DAY)
    with Project.open(root, Settings(clock=root / "clock", actor="tester")) as project:
        project.snapshot()
        model = project.train()
        assert project.gate(model.ref).proceed
        project.start_release(project.package(model.ref).ref)
        project.tick()
    return root


@pytest.fixture
def pumps(trained: Path, tmp_path: Path) -> Iterator[Pumps]:
    shutil.copytree(trained, tmp_path / "here")
    made = Pumps(tmp_path / "here")
    try:
        early = raised(made.live(QUIET))
        assert early == {}, f"nothing happened yet, but {[e.body['cause'] for e in early.values()]}"
        yield made
    finally:
        made.file.close()
        made.project.close()


def test_covariate_shift_is_named_and_costs_nothing(pumps: Pumps) -> None:
    def hotter(rows: Day, _: np.random.Generator) -> None:
        rows["heat"] = np.asarray(rows["heat"]) + 3  # broken was drawn by the old heat: add its risk
        rng = np.random.default_rng(5)
        risk = (np.asarray(rows["speed"]) - 100) / 5 + (np.asarray(rows["heat"]) - 60) / 10
        rows["broken"] = (risk + rng.logistic(size=ROWS) > 0).tolist()

    found = raised(pumps.live(CHANGED, hotter))
    assert set(found) == {"drift"}
    assert found["drift"].body["causes"][0]["column"] == "heat"
    began = START + (LEARNT + QUIET) * DAY
    assert abs(found["drift"].body["causes"][0]["since"] - began) <= DAY
    assert found["drift"].body["actions"] == ["alert"]


def test_concept_shift_moves_no_column_and_retrains(pumps: Pumps) -> None:
    found = raised(pumps.live(CHANGED, flip=True))
    assert {"concept", "quality"} <= set(found) and "drift" not in found and "estimate" not in found
    assert found["concept"].at < START + (LEARNT + QUIET + 2) * DAY
    assert {s["slice"] for s in found["quality"].body["slices"]} == {"site=east", "site=west"}
    wanted = [e for e in pumps.project.records.events() if e.verb == "retrain.requested"]
    assert [e.body["reason"] for e in wanted] == [found["concept"].body["cause"]]


def test_a_unit_error_is_called_by_its_name(pumps: Pumps) -> None:
    def metric(rows: Day, _: np.random.Generator) -> None:
        rows["speed"] = np.asarray(rows["speed"]) * 1.609344

    found = raised(pumps.live(5, metric))
    assert "kilometres for miles" in found["drift"].body["cause"]
    assert found["drift"].at < START + (LEARNT + QUIET + 4.5) * DAY
    assert "unseen" in found, "most values lie where training saw none"


def test_a_missing_sensor_is_seen_within_hours_and_holds(pumps: Pumps) -> None:
    def dead(rows: Day, rng: np.random.Generator) -> None:
        rows["heat"] = np.where(rng.random(ROWS) < 0.6, np.nan, rows["heat"])

    found = raised(pumps.live(1, dead))
    assert found["nulls"].at <= START + (LEARNT + QUIET + 0.5) * DAY
    assert found["nulls"].body["slices"][0]["slice"] == "column=heat"
    assert found["nulls"].body["actions"] == ["alert", "hold"]


@pytest.mark.slow
def test_the_loop_itself_learns_the_changed_world_from_its_own_log(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(trained, tmp_path / "here")
    (root / "fairlead.yaml").write_text(LEARNING)
    monkeypatch.setenv("FAIRLEAD_CLOCK", str(root / "clock"))
    pumps = Pumps(root)
    controller, retrainer = Controller(pumps.project), pumps.project.retrainer()
    records, over, busy = pumps.project.records, threading.Event(), ("wanted", "under way", "its candidate")

    def turn() -> list[Event]:
        """As the process does, and until a training that it began is over."""
        before, end = max(e.seq for e in records.events()), time.monotonic() + 60
        controller.turn()
        while retrainer.standing(pumps.clock.now()).startswith(busy):
            assert time.monotonic() < end, "the training did not end in time"
            time.sleep(0.1)
            controller.turn()
        pumps.load()
        return list(records.events(before))

    pumps.turn = turn
    try:
        old, _ = pumps.package, pumps.live(QUIET)
        events = pumps.live(3, flip=True)
    finally:
        over.set()
        controller.run(over)  # it ends what it began
        pumps.file.close()
        pumps.project.close()
    told = ["alert.raised", "retrain.requested", "retrain.started", "data.harvested", "retrain.trained",
            "gate.passed", "retrain.released", "retrain.won"]  # fmt: skip
    own = [e for e in events if e.verb in (*told, "release.promoted") and e.body.get("monitor", "concept") == "concept"]
    assert [e.verb for e in own if e.verb != "release.promoted"] == told, own
    assert len(own) > len(told) and {e.actor for e in own} == {"fairlead"}
    harvested = next(e for e in own if e.verb == "data.harvested")
    assert harvested.body["rows"] > 300 and pumps.package != old
    assert np.mean(pumps.rights[QUIET * ROWS :][:ROWS]) < 0.4 and np.mean(pumps.rights[-200:]) > 0.65
