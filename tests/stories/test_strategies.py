"""One story per strategy, on a running service: who answers whom, and how each release ends."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import msgspec
import polars as pl
import pytest
from msgspec.structs import replace as changed
from sklearn.datasets import load_breast_cancer

from fairlead.api import client
from fairlead.api.cli import main
from fairlead.api.load import Client
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.decision import replay
from fairlead.core.manifest import FeedbackText, StepText
from fairlead.core.prediction import Prediction
from fairlead.core.ref import Ref, canonical
from fairlead.core.release import Phase, Release
from fairlead.core.traffic import Route, TrafficPlan
from fairlead.project import Project

CONNECTIONS = 8
MANIFEST = """
service: tumours
data: {source: tumours.csv, target: diagnosis}
train: {params: {max_iter: 10}}
release: {plan: canary, shares: [0.5], hold: 0s, patience: 1h, max_errors: 0.01, slow_ms: 900, max_slower: 0,
          days: 0.00002, goal: thanks, sticky_by: patient}
"""
TRAIN = """
from sklearn.ensemble import HistGradientBoostingClassifier

def train(data, params):
    return HistGradientBoostingClassifier(random_state=0, **params).fit(data.X, data.y)
"""


class World:
    """A running service, three packages that are fine, and one that fails on large tumours."""

    def __init__(self, project: Project, rows: list[dict[str, Any]]) -> None:
        self.project, self.rows = project, rows
        self.fine: list[Ref] = []
        self.bad: Ref | None = None
        self._sent = 0

    @property
    def live(self) -> Ref:
        here = self.project.records.service("tumours")
        assert here is not None and here.package is not None
        return here.package

    def others(self) -> list[Ref]:
        return [p for p in self.fine if p != self.live]

    def plan(self, **words: Any) -> TrafficPlan:
        """The manifest's plan with other words; no feedback is awaited."""
        section = changed(self.project.manifest.release, **words)
        return plan_of(section, release_checks(section, "binary", feedback=False))

    def route(self) -> Route:
        route = self.project.router.published()
        assert route is not None
        return route

    def ask(self, count: int = 200, patients: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Send so many rows of the table; every one must be answered."""
        bodies = []
        for i in range(count):
            row = self.rows[self._sent % len(self.rows)]
            self._sent += 1
            named = {"patient": patients[i % len(patients)]} if patients else {}
            bodies.append(msgspec.json.encode(row | named))
        return asyncio.run(send(client.found(self.project.root).port, bodies))

    def until(self, release: Release, talk: Callable[[], object] | None = None) -> Release:
        """Send traffic until a release is over."""
        end = time.monotonic() + 30
        while not (now := self.project.records.release(release.id)).phase.final:
            assert time.monotonic() < end, f"{release.plan.name} did not end in time"
            (talk or self.ask)()
        return now

    def settled(self) -> None:
        """Wait until the gateway obeys what is decided, with every package loaded."""
        here = client.found(self.project.root)

        def obeyed() -> bool:
            service, route, status = self.project.records.service("tumours"), self.route(), here.get("/status")
            shares = [(a["package"], a["weight"]) for a in status["arms"]]
            decided = -1 if service is None else service.epoch
            return decided == status["epoch"] and shares == [(str(a.package), a.weight) for a in route.arms]

        wait(obeyed)

    def log(self, since: float, whole: int) -> list[Prediction]:
        """The prediction log of a service that answered so many callers since."""

        def read() -> list[Prediction]:
            return list(self.project.log.predictions(since=since, service="tumours"))

        wait(lambda: sum(p.live for p in read()) >= whole)
        return read()


async def send(port: int, bodies: list[bytes]) -> list[dict[str, Any]]:
    async with Client("127.0.0.1", port, CONNECTIONS) as caller:
        answers = await caller.post("/predict", bodies)
    assert [a.body for a in answers if a.status != 200] == []
    return [json.loads(a.body) for a in answers]


def wait(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def table() -> pl.DataFrame:
    data = load_breast_cancer()
    columns = [str(n).replace(" ", "_") for n in data.feature_names]
    frame = pl.DataFrame(data.data, schema=columns).select(columns[:8])
    radius = pl.col("mean_radius")
    size = pl.when(radius > 15).then(pl.lit("large")).when(radius > 12).then(pl.lit("middle"))
    labels = pl.Series("diagnosis", [str(data.target_names[t]) for t in data.target])
    return frame.with_columns(size.otherwise(pl.lit("small")).alias("size"), labels)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root, frame = tmp_path_factory.mktemp("tumours"), table()
    frame.write_csv(root / "tumours.csv")
    (root / "fairlead.yaml").write_text(MANIFEST)
    (root / "train.py").write_text(TRAIN)
    with Project.open(root) as project:
        here = World(project, frame.drop("diagnosis").to_dicts())
        prepare(here, frame)
        command = [sys.executable, "-m", "fairlead", "serve", "--project", str(root), "--port", "0"]
        with (root / "serve.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            facts = root / ".fairlead" / "run" / "serve.json"
            wait(lambda: facts.exists() and bool(json.loads(facts.read_bytes())["ready"]))
            yield here
        finally:
            process.terminate()
            process.wait(20)


def prepare(here: World, frame: pl.DataFrame) -> None:
    """Three packages of the whole table; one of a table without large tumours."""
    project = here.project
    dataset, _ = project.snapshot()
    for rounds in (10, 12, 14):
        model = project.train(params={"max_iter": rounds})
        here.fine.append(project.package(model.ref).ref)
    project.start_release(here.fine[0], force="the first of a story")
    project.tick()
    frame.filter(pl.col("size") != "large").write_csv(project.root / "small.csv")
    few, _ = project.snapshot(project.root / "small.csv", accept_breaking=True)
    strict = changed(project.manifest.train, unseen="error")
    project.manifest, whole = changed(project.manifest, train=strict), project.manifest
    here.bad = project.package(project.train(dataset=few.ref).ref).ref
    project.manifest = whole
    assert dataset.ref != few.ref


def begin(here: World, packages: Ref | Sequence[Ref], plan: TrafficPlan) -> Release:
    return here.project.start_release(packages, plan, force="a story")


def test_replace_switches_everybody_at_once(world: World) -> None:
    candidate = world.others()[0]
    release = world.until(begin(world, candidate, world.plan(plan="replace")))
    assert (release.phase, release.winner) == (Phase.PROMOTED, candidate)
    world.settled()
    assert {a["package"] for a in world.ask()} == {str(candidate)}


def test_blue_green_previews_keeps_the_old_warm_and_returns_at_once(world: World) -> None:
    old, candidate = world.live, world.others()[0]
    began = begin(world, candidate, world.plan(plan="blue_green", pin=("tester",), hold="1s",
                                               sticky_by="patient"))  # fmt: skip
    world.settled()
    service = client.found(world.project.root)
    body = msgspec.json.encode(world.rows[0])
    assert service.post("/predict", body, {"x-unit": "tester"})["package"] == str(candidate)
    assert {a["package"] for a in world.ask()} == {str(old)}, "nobody else meets the preview"
    assert world.until(began).winner == candidate
    world.settled()
    assert {a["package"] for a in world.ask()} == {str(candidate)}
    assert service.get("/status")["packages"][str(old)]["state"] == "ready", "the old one is warm"
    took = [returned(world)]
    while min(took) > 0.1 and len(took) < 8:  # a busy machine gets another chance
        world.until(begin(world, candidate, world.plan(plan="replace")))
        world.settled()
        took.append(returned(world))
    assert world.live == old
    assert min(took) <= 0.1, f"{took} seconds from the command to the last answer by the bad one"


def returned(world: World) -> float:
    """Roll back under traffic: seconds until the last answer by what served before."""
    bad, answers, stop = str(world.live), list[tuple[float, str]](), threading.Event()
    port, body = client.found(world.project.root).port, msgspec.json.encode(world.rows[0])

    async def talk() -> None:
        async with Client("127.0.0.1", port, CONNECTIONS) as caller:
            while not stop.is_set():
                for answer in await caller.post("/predict", [body] * CONNECTIONS):
                    assert answer.status == 200
                    answers.append((time.monotonic(), json.loads(answer.body)["package"]))

    thread = threading.Thread(target=lambda: asyncio.run(talk()))
    thread.start()
    try:
        wait(lambda: len(answers) > 50)
        began = time.monotonic()
        world.project.rollback("the tester found something")
        wait(lambda: answers[-1][1] != bad and str(world.live) != bad)
    finally:
        stop.set()
        thread.join(10)
    return max(at for at, package in answers if package == bad) - began


def test_the_two_packages_before_stay_warm(world: World) -> None:
    before: list[Ref] = []
    for _ in range(2):
        before.append(world.live)
        fresh = next(p for p in world.others() if p not in before)
        world.until(begin(world, fresh, world.plan(plan="replace")))
    world.settled()
    states = client.found(world.project.root).get("/status")["packages"]
    assert {str(p) for p in before} <= {p for p, s in states.items() if s["state"] == "ready"}
    assert set(world.route().standby) == set(before)


def test_canary_takes_a_bad_candidate_back_and_no_caller_suffers(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    old = world.live
    assert world.bad is not None
    since = time.time()
    answers: list[dict[str, Any]] = []
    began = begin(world, world.bad, world.plan())
    release = world.until(began, lambda: answers.extend(world.ask(40)))
    assert release.phase is Phase.ROLLED_BACK and "errors" in release.reason
    assert any(a.get("fallback") for a in answers), "the baseline answered for it"
    errors = [p.error for p in world.log(since, len(answers)) if p.package == world.bad]
    assert any("size" in e for e in errors)
    told(world, release, capsys)
    world.settled()
    assert {a["package"] for a in world.ask()} == {str(old)}


def told(here: World, release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    """What the commands say of a release that was rolled back: as data, and as a page."""
    root, page = str(here.project.root), here.project.root / "release.html"
    capsys.readouterr()
    assert main(["release", "watch", release.id, "--json", "-C", root]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    view = json.loads(line)
    curve = next(g for g in view["growths"] if g["check"] == "errors")["marks"]
    assert curve[-1]["harm"] > 3 > curve[0]["harm"] == 0 and view["needed"] is None
    assert main(["release", "report", release.id, "--html", str(page), "-C", root]) == 0
    capsys.readouterr()
    assert "replays byte for byte" in page.read_text() and "rolled back" in page.read_text()


def test_shadow_judges_what_nobody_sees(world: World) -> None:
    old, candidate, since = world.live, world.others()[0], time.time()
    seen: list[dict[str, Any]] = []
    began = begin(world, candidate, world.plan(plan="shadow"))
    release = world.until(began, lambda: seen.extend(world.ask()))
    assert release.phase is Phase.KEPT and world.live == old
    assert {a["package"] for a in seen} == {str(old)}
    twins = [p for p in world.log(since, len(seen)) if p.package == candidate]
    assert len(twins) > 200 and not any(p.live for p in twins)
    assert {p.id for p in twins} <= {a["id"] for a in seen}


def thank(here: World, answers: Sequence[dict[str, Any]], thanks: dict[Ref, int]) -> None:
    """So many of ten callers of each package are thankful."""
    counts: dict[str, int] = defaultdict(int)
    notes = []
    for answer in answers:
        counts[answer["package"]] += 1
        happy = counts[answer["package"]] % 10 < thanks[Ref.parse(answer["package"])]
        notes.append({"prediction": answer["id"], "name": "thanks", "value": float(happy)})
    body = msgspec.json.encode({"feedback": notes})
    assert client.found(here.project.root).post("/feedback", body) == {"accepted": len(notes)}


def test_an_experiment_keeps_its_units_and_the_goal_picks_the_winner(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    old, (one, two), since = world.live, world.others(), time.time()
    capsys.readouterr()
    assert main(["release", "start", one.digest[:12], two.digest[:12], "--plan", "ab_test", "--force",
                 "a story", "--json", "-C", str(world.project.root)]) == 0  # fmt: skip
    began = world.project.records.release(json.loads(capsys.readouterr().out)["id"])
    assert began.candidates == (one, two) and began.plan.sticky_by == "patient"
    world.settled()
    epoch, asked = world.route().epoch, 0

    def talk() -> None:
        nonlocal asked
        known, fresh = [f"p{i}" for i in range(100)], [f"q{asked}-{i}" for i in range(300)]
        answers = world.ask(400, known + fresh)
        asked += len(answers)
        thank(world, answers, {old: 4, one: 2, two: 7})

    release = world.until(began, talk)
    assert (release.phase, release.winner) == (Phase.PROMOTED, two)
    exposed = [p for p in world.log(since, asked) if p.epoch == epoch and p.live]
    assert len(exposed) > 500
    met: dict[str, set[Ref]] = defaultdict(set)
    for p in exposed:
        met[p.unit].add(p.package)
    assert all(len(packages) == 1 for packages in met.values())
    assert {min(met[f"p{i}"]).digest for i in range(100)} == {p.digest for p in (old, one, two)}
    assert {(p.package, p.propensity) for p in exposed} == {(old, 0.5), (one, 0.25), (two, 0.25)}


def test_customers_who_buy_less_take_a_candidate_back(world: World) -> None:
    old, candidate = world.live, world.others()[0]
    plan = world.plan(feedback={"bought": FeedbackText(wait=False)}, hold="1h")
    began, round_ = begin(world, candidate, plan), count()
    world.settled()

    def talk() -> None:
        turn = next(round_)
        fresh = [f"c{turn}-{i}" for i in range(100)]
        answers = world.ask(300, fresh)
        buys = {old: 4, candidate: 1}
        notes = [{"prediction": a["id"], "name": "bought", "value": True} for i, a in enumerate(answers)
                 if i % 10 < buys[Ref.parse(a["package"])]]  # fmt: skip
        client.found(world.project.root).post("/feedback", msgspec.json.encode({"feedback": notes}))

    release = world.until(began, talk)
    assert release.phase is Phase.ROLLED_BACK and release.reason.startswith("event:bought"), release.reason
    decision = world.project.records.decisions(candidate)[-1]
    assert decision.unit == "patient" and canonical(replay(decision)) == canonical(decision)
    world.settled()


def test_a_bandit_follows_the_reward_and_keeps_its_floor(world: World) -> None:
    old, (better, worse), since = world.live, world.others(), time.time()
    began = begin(world, (better, worse), world.plan(plan="bandit", days=1.0))
    shares: list[tuple[float, float]] = []
    asked, end = 0, time.monotonic() + 20
    while (not shares or shares[-1][0] < 0.45) and time.monotonic() < end:
        answers = world.ask(400)
        asked += len(answers)
        thank(world, answers, {old: 5, better: 9, worse: 1})
        shares.append((world.route().arms[1].weight, world.route().arms[2].weight))
    world.settled()
    asked += len(world.ask())
    world.project.abort(began.id, "the story is told")
    assert shares[0][0] < 0.1 and shares[-1][0] >= 0.45, shares
    assert min(min(pair) for pair in shares) >= 0.025, "half of the floor of 5 % each"
    drawn = [p for p in world.log(since, asked) if p.live and p.package == better]
    assert {p.propensity for p in drawn} >= {0.025, shares[-1][0]}
    world.settled()
    assert {a["package"] for a in world.ask()} == {str(old)}


def test_a_plan_by_hand_goes_its_own_way(world: World) -> None:
    candidate, since = world.others()[0], time.time()
    steps = (StepText(mirror=0.5), StepText(share=0.3))
    asked = 0

    def talk() -> None:
        nonlocal asked
        asked += len(world.ask())

    release = world.until(begin(world, candidate, world.plan(steps=steps)), talk)
    assert (release.phase, release.winner) == (Phase.PROMOTED, candidate)
    log = world.log(since, asked)
    rows = [p for p in log if p.package == candidate]
    assert [p.live for p in rows[:50]] == [False] * 50, "first it is only mirrored"
    assert 0.3 in {p.propensity for p in rows if p.live}
    callers = sum(p.live and p.epoch == rows[0].epoch for p in log)
    twins = sum(not p.live for p in rows)
    assert 0.4 < twins / callers < 0.6, "half of the requests are mirrored"
