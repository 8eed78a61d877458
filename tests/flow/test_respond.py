"""Responding: an alert is written down before anything is done, says what to do, and is not repeated."""

import fcntl
from pathlib import Path
from typing import Any

import pytest

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.check import Action, Bound, Check, Outcome, Verdict
from fairlead.core.decision import Decision
from fairlead.core.encoding import Encoding, Number
from fairlead.core.event import verify
from fairlead.core.journal import HEADER, Batch, Note, frame
from fairlead.core.manifest import MonitorText
from fairlead.core.monitor import monitors
from fairlead.core.ref import Ref
from fairlead.core.release import Release, Service
from fairlead.core.schema import Column, Schema
from fairlead.core.traffic import canary
from fairlead.errors import Missing
from fairlead.flow.observe import Observer
from fairlead.flow.respond import Patrol, Responder
from fairlead.ports import Change

SPEC = PackageSpec(
    model=Ref("model", "m", "0" * 64), flavor="onnx", task="binary", classes=("no", "yes"),
    contract=Schema(columns=(Column(name="x", dtype="float"),)), encoding=Encoding((Number("x"),)),
    files={},
)  # fmt: skip
PACKAGE = name_of("flights", SPEC)


class Hands:
    """What a responder acts with; every part remembers what it was told."""

    def __init__(self, root: Path, failing: bool = False) -> None:
        self.at = 1000.0
        self.done: list[str] = []
        self.failing = failing
        self.records = MemoryRecords()
        self.records.commit(Change(
            at=0.0, actor="t", verb="service.start", subject="service/flights",
            artifacts=(Artifact(ref=PACKAGE, spec=SPEC, created_at=0.0),),
            services=((None, Service(name="flights", package=PACKAGE, epoch=1)),),
        ))  # fmt: skip
        self.log = PredictionFiles(root, lambda _: SPEC)
        (root / "journal").mkdir()
        self.file = (root / "journal" / "gw01-000000.log").open("wb", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.write(HEADER)
        self.responder = self.make()

    def make(self) -> Responder:
        return Responder(self.records, self, "flights", rollback=self.rollback,
                         retrain=lambda reason: self.done.append(f"retrain: {reason}"),
                         hold=lambda reason: self.done.append(f"hold: {reason}"))  # fmt: skip

    def patrol(self, **texts: MonitorText) -> Patrol:
        observer = Observer(self.log, self.records, "flights")
        return Patrol(observer, self.responder, self.records, "flights", monitors(texts))

    def now(self) -> float:
        return self.at

    def rollback(self, reason: str) -> None:
        if self.failing:
            raise Missing("no earlier package", hint="release another one")
        self.done.append(f"rollback: {reason}")

    def ask(self, n: int, score: float, label: str, first: int) -> None:
        ids = [f"01{first + i:06d}" for i in range(n)]
        self.file.write(frame(Batch(
            service="flights", package=str(PACKAGE), at=self.at, epoch=1, live=True,
            propensity=1.0, ids=ids, units=ids, bodies=[b'{"x":1}'] * n, features=[None] * n,
            outputs=[[score]] * n, errors=[""] * n, fallback=[False] * n, latencies=[0.001] * n,
        )))  # fmt: skip
        for i in ids:
            self.file.write(frame(Note(prediction=i, name="label", value=label, at=self.at)))

    def verbs(self) -> list[str]:
        return [e.verb for e in self.records.events()][1:]


@pytest.fixture
def hands(tmp_path: Path) -> Any:
    made = Hands(tmp_path)
    yield made
    made.file.close()


QUALITY = MonitorText(measure="accuracy", min=0.8, window="1h", cooldown="2h",
                      then=("alert", "retrain"))  # fmt: skip


def test_lost_performance_raises_one_alert_and_asks_for_retraining(hands: Hands) -> None:
    patrol = hands.patrol(quality=QUALITY)
    hands.ask(500, 0.9, "yes", 0)
    assert patrol.turn(1000.0) == []
    hands.at = 6000.0
    hands.ask(500, 0.9, "no", 1000)
    (raised,) = patrol.turn(6000.0)
    assert raised.verb == "alert.raised"
    assert raised.body["package"] == str(PACKAGE) and raised.body["actions"] == ["alert", "retrain"]
    assert raised.body["seen"][0]["n"] == 500 and "gate" in raised.body["next"]
    assert hands.records.decisions(PACKAGE)[0].actions == {Action.ALERT, Action.RETRAIN}
    assert hands.done == [f"retrain: {raised.body['cause']}"]
    for now in (6100.0, 7000.0):
        assert patrol.turn(now) == []
    hands.at = 12_000.0
    hands.ask(500, 0.9, "yes", 2000)
    assert [e.verb for e in patrol.turn(12_000.0)] == ["alert.cleared"]
    assert verify(hands.records.events(), hands.records.head()[1]) == 3


def test_a_restarted_controller_keeps_the_cooldown(hands: Hands) -> None:
    hands.ask(500, 0.9, "no", 0)
    assert len(hands.patrol(quality=QUALITY).turn(1000.0)) == 1
    again = hands.patrol(quality=QUALITY)
    assert again.turn(2000.0) == []
    hands.at = 9000.0
    hands.ask(500, 0.9, "no", 1000)
    assert [e.verb for e in again.turn(9000.0)] == ["alert.raised"]


def test_a_rollback_that_fails_is_written_down(tmp_path: Path) -> None:
    hands = Hands(tmp_path, failing=True)
    hands.ask(500, 0.9, "no", 0)
    patrol = hands.patrol(quality=MonitorText(measure="accuracy", min=0.8, then=("rollback",)))
    patrol.turn(1000.0)
    hands.file.close()
    assert hands.verbs() == ["alert.raised", "respond.failed"]
    failed = list(hands.records.events())[-1].body
    assert (failed["action"], failed["next"]) == ("rollback", "release another one")


def test_no_service_no_patrol(hands: Hands, tmp_path: Path) -> None:
    hands.records = MemoryRecords()
    assert hands.patrol(quality=QUALITY).turn(1000.0) == []


def test_a_release_check_alerts_once_even_after_a_restart(hands: Hands) -> None:
    check = Check(name="share", measure="auc", rule=Bound(low=0.9),
                  on_fail=frozenset({Action.ALERT, Action.RETRAIN}))  # fmt: skip
    verdict = Verdict(check=check, subject=PACKAGE, outcome=Outcome.FAIL, reason="auc: 0.5")
    decision = Decision(subject=PACKAGE, actions=frozenset({Action.ALERT, Action.HOLD}),
                        because=(verdict,), at=1.0)  # fmt: skip
    release = Release(id="flights-2", service="flights", candidates=(PACKAGE,), baseline=None,
                      plan=canary(()), started_at=0.0, entered_at=0.0)  # fmt: skip
    assert [e.body["release"] for e in hands.responder.release(release, decision)] == ["flights-2"]
    assert hands.responder.release(release, decision) == []
    assert hands.make().release(release, decision) == []
    assert hands.done == ["retrain: auc: 0.5"]


def test_a_monitor_can_hold_the_running_release(hands: Hands) -> None:
    hands.ask(500, 0.9, "no", 0)
    patrol = hands.patrol(quality=MonitorText(measure="accuracy", min=0.8, then=("alert", "hold")))
    (raised,) = patrol.turn(1000.0)
    assert raised.body["actions"] == ["alert", "hold"] and "resume" in raised.body["next"]
    assert hands.done == [f"hold: {raised.body['cause']}"]
    assert all(not s["slice"].startswith("age=") for s in raised.body["slices"])
