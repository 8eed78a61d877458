"""Retraining: the ordinary way, at most so often, never for ever in vain, and resumed from the log."""

from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.alert import Alerts
from fairlead.core.artifact import Artifact, DatasetSpec, name_of
from fairlead.core.check import Action, Bound, Check, Outcome, Verdict
from fairlead.core.decision import Decision
from fairlead.core.manifest import RetrainSection
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.core.schema import Schema
from fairlead.core.traffic import canary
from fairlead.errors import Forbidden, Invalid
from fairlead.flow.alert import resolve
from fairlead.flow.retrain import GIVE_UP, Retrainer
from fairlead.ports import Change

HOUR = 3600.0


class Verbs:
    """A project that trains at once; `gate_says` and `broken` decide how it goes."""

    def __init__(self) -> None:
        self.records = MemoryRecords()
        self.at = 1_000_000.0
        self.gate_says, self.broken = True, ""
        self.trained: list[tuple[float, float]] = []
        self.releases = 0

    def now(self) -> float:
        return self.at

    def retrainer(self, window: str = "2d", cooldown: str = "1h", most: str = "10 per 30d") -> Retrainer:
        section = RetrainSection(window=window, cooldown=cooldown, most=most)
        return Retrainer(self, self.records, self, "flights", section)

    def _made(self, kind: Any) -> Artifact:
        spec = DatasetSpec(parts=(), contract=Schema(columns=()))
        return Artifact(ref=replace(name_of("flights", spec), kind=kind), spec=spec, created_at=0.0)

    def fresh(self, since: float, until: float) -> Artifact:
        return self._made("dataset")

    def train(self, *, dataset: Ref | None = None, since: float = 0.0,
              until: float = 0.0) -> Artifact:  # fmt: skip
        assert dataset is not None and dataset.kind == "dataset"
        if self.broken == "train":
            raise Invalid("train.py failed", hint="put it right")
        if self.broken == "kill":
            raise KeyboardInterrupt
        self.trained.append((since, until))
        return self._made("model")

    def gate(self, model: Ref) -> Decision:
        outcome = Outcome.PASS if self.gate_says else Outcome.FAIL
        check = Check(name="auc", measure="auc", rule=Bound(low=0.7))
        verdict = Verdict(check=check, subject=model, outcome=outcome, reason="auc 0.6")
        actions = frozenset[Action]() if self.gate_says else frozenset({Action.HOLD})
        return Decision(subject=model, actions=actions, because=(verdict,), at=self.at)

    def package(self, model: Ref) -> Artifact:
        assert self.gate_says, "a refused model is never packaged"
        return self._made("package")

    def start_release(self, package: Ref) -> Release:
        if self.broken == "four eyes":
            raise Forbidden("this release needs 1 approval", hint="`fairlead approval show 7`")
        self.releases += 1
        release = Release(id=f"flights-{self.releases}", service="flights", candidates=(package,),
                          baseline=None, plan=canary(()), started_at=self.at, entered_at=self.at)  # fmt: skip
        self._store(None, release)
        return release

    def end(self, phase: Phase) -> None:
        before = self.records.release(f"flights-{self.releases}")
        self._store(before, replace(before, phase=phase))

    def _store(self, before: Release | None, after: Release) -> None:
        self.records.commit(Change(at=self.at, actor="t", verb="release.x", subject="r",
                                   releases=((before, after),)))  # fmt: skip


def verbs_of(retrainer: Retrainer, now: float) -> list[str]:
    return [e.verb.removeprefix("retrain.") for e in retrainer.turn(now)]


def test_a_request_becomes_a_release_of_a_model_of_fresh_rows() -> None:
    world = Verbs()
    retrainer = world.retrainer()
    assert retrainer.turn(world.at) == []
    retrainer.request("auc fell")
    retrainer.request("drift too")
    assert verbs_of(retrainer, world.at) == ["started", "trained", "released"]
    assert world.trained == [(world.at - 48 * HOUR, world.at)]
    assert verbs_of(retrainer, world.at) == []
    world.end(Phase.PROMOTED)
    assert verbs_of(retrainer, world.at) == ["won"]


def test_refusal_is_recorded_and_waits_for_the_cooldown() -> None:
    world = Verbs()
    world.gate_says = False
    retrainer = world.retrainer()
    retrainer.request("auc fell")
    events = retrainer.turn(world.at)
    assert events[-1].verb == "retrain.refused" and events[-1].body["reasons"] == ["auc 0.6"]
    retrainer.request("auc still low")
    assert retrainer.waits(world.at + 10) == "cooldown for another 3,590 s"
    assert verbs_of(retrainer, world.at + 10) == []
    world.gate_says = True
    assert verbs_of(world.retrainer(), world.at + HOUR) == ["started", "trained", "released"]


@pytest.mark.parametrize("how", ["refused", "failed", "lost"])
def test_a_loop_that_wins_nothing_stops_and_says_so(how: str) -> None:
    world = Verbs()
    world.gate_says = how != "refused"
    world.broken = "train" if how == "failed" else ""
    seen: list[str] = []
    for _ in range(GIVE_UP + 3):
        retrainer = world.retrainer()
        retrainer.request("auc fell")
        seen += verbs_of(retrainer, world.at)
        if how == "lost" and world.releases and "released" in seen[-1:]:
            world.end(Phase.ROLLED_BACK)
        world.at += HOUR
    assert seen.count("stopped") == 1 and seen.count("started") == GIVE_UP
    assert world.retrainer().standing(world.at) == "stopped itself: 3 in a row won nothing"
    (told,) = Alerts("flights", world.records.events()).open
    assert told.name == "retraining" and "won nothing" in told.cause
    resolve(world.records, world, "flights", told.id, actor="ann", reason="the labels were wrong")
    world.retrainer().request("again")
    world.gate_says, world.broken = True, ""
    assert verbs_of(world.retrainer(), world.at)[-1] == "released"


def test_a_release_under_way_is_waited_for() -> None:
    world = Verbs()
    retrainer = world.retrainer(cooldown="0s")
    retrainer.request("a")
    retrainer.turn(world.at)
    retrainer.request("b")
    assert verbs_of(retrainer, world.at) == [], "its own release is still under way"
    world.end(Phase.PROMOTED)
    assert verbs_of(retrainer, world.at) == ["won"]
    retrainer.request("c")
    assert verbs_of(retrainer, world.at)[-1] == "released"


def test_what_waits_for_an_approval_is_no_loss() -> None:
    world = Verbs()
    world.broken = "four eyes"
    retrainer = world.retrainer()
    for _ in range(GIVE_UP + 1):
        retrainer.request("auc fell")
        assert verbs_of(retrainer, world.at) == ["started", "trained", "asked"]
        world.at += 2 * HOUR
    assert not Alerts("flights", world.records.events()).open


def test_a_killed_training_is_a_recorded_loss() -> None:
    world = Verbs()
    world.broken = "kill"
    retrainer = world.retrainer()
    retrainer.request("a")
    with pytest.raises(KeyboardInterrupt):
        retrainer.turn(world.at)
    left = world.retrainer()
    assert left.pending(world.at)
    assert verbs_of(left, world.at) == ["failed"]
    assert not left.pending(world.at)


def test_pending_tells_when_a_turn_is_worth_a_process() -> None:
    world = Verbs()
    retrainer = world.retrainer()
    assert not retrainer.pending(world.at)
    retrainer.request("a")
    assert retrainer.pending(world.at)
    retrainer.turn(world.at)
    assert not retrainer.pending(world.at), "its release is under way"
    world.end(Phase.PROMOTED)
    assert retrainer.pending(world.at)
    retrainer.turn(world.at)
    retrainer.request("b")
    assert not retrainer.pending(world.at + 60), "cooldown"


def test_a_budget_bounds_retrainings_whatever_asks_for_them() -> None:
    world = Verbs()
    seen: list[float] = []
    for _ in range(80):
        retrainer = world.retrainer(cooldown="0s", most="3 per 2d")
        retrainer.request("drift")
        if "started" in verbs_of(retrainer, world.at):
            seen.append(world.at)
            world.end(Phase.PROMOTED)
        world.at += HOUR
    assert all(later - first >= 48 * HOUR for first, later in zip(seen, seen[3:], strict=False))
    assert len(seen) >= 5
    retrainer.request("drift")
    assert "the budget of 3 is spent" in retrainer.waits(seen[-1] + 60)
