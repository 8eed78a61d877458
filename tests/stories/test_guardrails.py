"""Guardrails from a written prediction log to the decision of the loop: nothing between is made up."""

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.check import Action, Outcome
from fairlead.core.decision import replay
from fairlead.core.encoding import Encoding, Number
from fairlead.core.event import Event
from fairlead.core.journal import HEADER, Batch, frame
from fairlead.core.manifest import ReleaseSection
from fairlead.core.ref import Ref, canonical
from fairlead.core.release import Phase, Release, Service, advance, settle
from fairlead.core.schema import Column, Schema
from fairlead.core.traffic import Route, TrafficPlan
from fairlead.flow.loop import tick
from fairlead.flow.observe import Observer
from fairlead.flow.release import transition
from fairlead.ports import Change

SHARE = 0.1
SECTION = ReleaseSection(plan="canary", shares=(SHARE, 0.5), hold="0s", patience="30d", slow_ms=10_000)


def package(digit: str) -> PackageSpec:
    return PackageSpec(model=Ref("model", "m", digit * 64), flavor="onnx", task="binary", classes=("no", "yes"),
                       files={}, encoding=Encoding((Number("x"),)),
                       contract=Schema(columns=(Column(name="x", dtype="float"),)))  # fmt: skip


class Gate:
    """A router that remembers the last route."""

    def __init__(self) -> None:
        self.route: Route | None = None

    def publish(self, route: Route) -> None:
        self.route = route

    def published(self) -> Route | None:
        return self.route


class World:
    """A release on its first step, and a journal that this class writes as a gateway would."""

    def __init__(self, root: Path, plan: TrafficPlan) -> None:
        self.records, self.router, self.at, self.dice = MemoryRecords(), Gate(), 1000.0, np.random.default_rng(8)
        specs = {name_of("shop", s): s for s in (package("a"), package("b"))}
        self.old, self.new = specs
        made = tuple(Artifact(ref=r, spec=s, created_at=0.0) for r, s in specs.items())
        release = Release(id="shop-2", service="shop", candidates=(self.new,), baseline=self.old, plan=plan,
                          started_at=self.at, entered_at=self.at)  # fmt: skip
        here = settle(Service(name="shop", package=self.old, epoch=1), release)
        self.records.commit(Change(at=1.0, actor="t", verb="made", subject="x", artifacts=made,
                                   services=((None, Service(name="shop", package=self.old, epoch=1)),)))  # fmt: skip
        before = self.records.service("shop")
        self.records.commit(transition("started", self.at, "t", None, release, (before, here)))
        (root / "journal").mkdir()
        self.file = (root / "journal" / "gw01-000000.log").open("wb", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.write(HEADER)
        log = PredictionFiles(root, lambda ref: specs[Ref.parse(ref)])
        self.observer, self.count = Observer(log, self.records, "shop", slow=10.0), 0

    def now(self) -> float:
        return self.at

    @property
    def release(self) -> Release:
        return self.records.release("shop-2")

    def ask(self, ref: Ref, latency: NDArray[np.float64], epoch: int) -> None:
        n = len(latency)
        ids = [f"01{self.count + i:08d}" for i in range(n)]
        self.count += n
        more: dict[str, Any] = {"propensity": SHARE if ref == self.new else 1 - SHARE}
        self.file.write(frame(Batch(
            service="shop", package=str(ref), at=self.at, epoch=epoch, live=True, ids=ids, units=ids,
            bodies=[b'{"x":1}'] * n, features=[None] * n, outputs=[[0.5]] * n, errors=[""] * n,
            fallback=[False] * n, latencies=latency.tolist(), **more,
        )))  # fmt: skip

    def took(self, n: int, tail: float = 1.0) -> NDArray[np.float64]:
        """Seconds; the slowest 2 % take `tail` times as long."""
        z = self.dice.normal(size=n)
        return np.asarray(0.05 * np.exp(0.6 * z) * np.where(z > 2.05, tail, 1.0))

    def turn(self, new: int, old: int, tail: float = 1.0) -> list[Event]:
        """A minute of traffic, and the turn of the loop after it."""
        self.at += 60
        service = self.records.service("shop")
        assert service is not None
        self.ask(self.new, self.took(new, tail), service.epoch)
        self.ask(self.old, self.took(old), service.epoch)
        return tick(self.records, self.router, self, self.observer.observe)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    here = World(tmp_path, plan_of(SECTION, release_checks(SECTION, "binary")))
    here.ask(here.old, here.took(5000), epoch=1)
    yield here
    here.file.close()


def walk(world: World, tail: float, turns: int = 40) -> Release:
    for _ in range(turns):
        world.turn(300, 2700, tail)
        if world.release.step or world.release.phase.final:
            break
    return world.release


def test_a_longer_tail_takes_the_candidate_back_long_before_it_is_slow(world: World) -> None:
    release = walk(world, tail=1.6)
    assert release.phase is Phase.ROLLED_BACK
    assert release.reason.startswith(("slower:p99", "slower:p95")), release.reason
    (decision,) = world.records.decisions(world.new)
    assert canonical(replay(decision)) == canonical(decision)
    parts = {m: w for v in decision.because for m, w in v.windows.items() if m.startswith("slower:")}
    assert len(parts) == 6, "the six counts are in the record"


def test_the_same_latency_takes_the_step(world: World) -> None:
    release = walk(world, tail=1.0)
    assert (release.phase, release.step) == (Phase.RUNNING, 1)


def test_a_router_that_sends_more_than_told_stops_the_release_and_blames_nobody(world: World) -> None:
    for _ in range(12):
        assert world.turn(450, 2550) == []
    assert (world.release.phase, world.release.step) == (Phase.RUNNING, 0)
    decision = advance(world.release, world.observer.observe(world.release, world.at), world.at)
    outcomes = {v.check.measure: v.outcome for v in decision.because}
    assert outcomes == {"requests": Outcome.FAIL, "errors": Outcome.PASS, "slow": Outcome.PASS,
                        "slower": Outcome.PASS}  # fmt: skip
    assert decision.actions == {Action.ALERT, Action.HOLD}
