"""Releases by hand: what is refused, what is recorded, and where a rollback goes."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace as changed

from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, DatasetSpec, ModelSpec, PackageSpec
from fairlead.core.check import Action, Bound, Check, Harm, Outcome, Verdict
from fairlead.core.decision import Decision
from fairlead.core.encoding import Encoding
from fairlead.core.event import Event, verify
from fairlead.core.evidence import EvidenceSet
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.core.schema import Schema
from fairlead.core.traffic import Fixed, TrafficPlan, ab_test, canary, shadow
from fairlead.core.traffic import replace as at_once
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.flow import loop
from fairlead.flow.release import abort, pause, resume, rollback, start
from fairlead.ports import Change

GUARD = Check(name="errors", measure="errors", rule=Harm())
PLAN = canary((GUARD,))


class Hands:
    """Clock and records of one small service, and the verbs with short names."""

    def __init__(self) -> None:
        self.records, self.at = MemoryRecords(), 100.0

    def now(self) -> float:
        self.at += 1
        return self.at

    def package(self, letter: str, *, passed: bool | None = True) -> Ref:
        model = Ref("model", "fraud", letter * 64)
        spec = PackageSpec(model=model, flavor="onnx", task="binary", contract=Schema(columns=()),
                           encoding=Encoding(()), files={})  # fmt: skip
        ref = Ref("package", "fraud", letter * 64)
        verdict = Verdict(check=GUARD, subject=model, outcome=Outcome.FAIL, reason="auc fell")
        actions = frozenset() if passed else frozenset({Action.HOLD})
        judged = Decision(subject=model, actions=actions, because=(verdict,), at=self.now())
        self.records.commit(Change(
            at=self.now(), actor="ann", verb="package", subject=str(ref),
            artifacts=(Artifact(ref=ref, spec=spec, created_at=self.at),),
            decisions=() if passed is None else (judged,)))  # fmt: skip
        return ref

    def start(self, *packages: Ref, plan: TrafficPlan = PLAN, force: str = "") -> Release:
        return start(self.records, self, "fraud", packages, plan, actor="ann", force=force)

    def promote(self, package: Ref) -> None:
        made = self.start(package, plan=at_once())
        self.tick()
        assert self.records.release(made.id).phase is Phase.PROMOTED

    def tick(self) -> None:
        loop.tick(self.records, Nowhere(), self, lambda *_: EvidenceSet())

    def rollback(self, reason: str = "bad night") -> Release:
        return rollback(self.records, self, "fraud", reason, actor="bob")

    def serving(self) -> Ref | None:
        here = self.records.service("fraud")
        return None if here is None else here.package


class Nowhere:
    def publish(self, route: object) -> None: ...
    def published(self) -> None: ...


@pytest.fixture
def hands() -> Hands:
    return Hands()


def refused(hands: Hands, error: type[Exception], match: str, act: Callable[[], object]) -> str:
    """`act` is refused, and nothing was stored."""
    head = hands.records.head()
    with pytest.raises(error, match=match) as refusal:
        act()
    assert hands.records.head() == head
    return str(getattr(refusal.value, "hint", ""))


def test_a_start_is_one_event_that_tells_it_all(hands: Hands) -> None:
    hands.promote(hands.package("a"))
    new = hands.package("b")
    made = hands.start(new)
    *_, event = hands.records.events()
    assert (event.verb, event.actor, event.subject) == ("release.started", "ann", "release/fraud-2")
    assert event.body["from"] is None and event.body["to"]["phase"] == "running"
    assert event.body["plan"] == "canary" and event.body["baseline"].startswith("package/fraud@a")
    here = hands.records.service("fraud")
    assert here is not None and (here.release, here.epoch) == (made.id, event.body["epoch"])
    assert verify(hands.records.events(), hands.records.head()[1]) == hands.records.head()[0]


def test_one_release_at_a_time(hands: Hands) -> None:
    hands.promote(hands.package("a"))
    hands.start(hands.package("b"))
    other = hands.package("c")
    hint = refused(hands, Conflict, "fraud-2 of fraud is under way", lambda: hands.start(other))
    assert "abort" in hint


def test_what_cannot_be_released(hands: Hands) -> None:
    a = hands.package("a")
    hands.promote(a)
    ghost, data = Ref("package", "fraud", "0" * 64), Ref("dataset", "d", "1" * 64)
    b = hands.package("b")
    spec = DatasetSpec(parts=(), contract=Schema(columns=()))
    hands.records.commit(Change(at=1, actor="x", verb="snapshot", subject="d",
                                artifacts=(Artifact(ref=data, spec=spec, created_at=1),)))  # fmt: skip
    refused(hands, Missing, "no artifact", lambda: hands.start(ghost))
    refused(hands, Invalid, "not a package", lambda: hands.start(data))
    refused(hands, Invalid, "cannot release", lambda: hands.start(a))
    refused(hands, Invalid, "cannot release nothing", lambda: hands.start())
    refused(hands, Invalid, "cannot release", lambda: hands.start(b, b))


def test_two_packages_cannot_both_be_the_first(hands: Hands) -> None:
    a, b = hands.package("a"), hands.package("b")
    refused(hands, Invalid, "first release takes one", lambda: hands.start(a, b))


def test_several_packages_need_a_goal_to_win(hands: Hands) -> None:
    hands.promote(hands.package("a"))
    b, c = hands.package("b"), hands.package("c")
    refused(hands, Invalid, "which of 2 packages wins", lambda: hands.start(b, c))
    assert hands.start(b, c, plan=ab_test((), goal="sale")).candidates == (b, c)


@pytest.mark.parametrize(("passed", "why"), [(False, "auc fell"), (None, "never judged")])
def test_the_gate_is_obeyed_unless_somebody_says_why_not(
    hands: Hands, passed: bool | None, why: str
) -> None:
    package = hands.package("a", passed=passed)
    hint = refused(hands, Invalid, why, lambda: hands.start(package))
    assert "reason" in hint
    hands.start(package, force="the regulator asked for it")
    *_, event = hands.records.events()
    assert event.body["forced"] == "the regulator asked for it"
    assert why in event.body["refused"][package.short]


def test_the_newest_gate_decision_counts(hands: Hands) -> None:
    package = hands.package("a", passed=False)
    hands.package("a", passed=True)
    assert hands.start(package).phase is Phase.RUNNING


def test_the_first_package_is_watched_only_by_checks_that_need_no_baseline(hands: Hands) -> None:
    bound = Check(name="bad", measure="error_rate", rule=Bound(high=0.1))
    made = hands.start(hands.package("a"), plan=shadow((GUARD, bound), hold=60.0))
    assert [s.share for s in made.plan.steps] == [Fixed(1.0)] and made.plan.promote
    assert (made.here.checks, made.here.hold, made.baseline) == ((bound,), 60.0, None)
    hands.tick()
    hands.at += 30 * 86400
    hands.tick()
    assert hands.records.release(made.id).phase is Phase.RUNNING, "silence takes nobody's answer away"


def test_the_first_package_without_such_checks_is_promoted_at_the_next_tick(hands: Hands) -> None:
    made = hands.start(hands.package("a"))
    assert made.here.checks == () and hands.serving() is None
    hands.tick()
    assert hands.serving() == made.candidates[0]


def test_pause_and_resume_leave_the_traffic_alone(hands: Hands) -> None:
    hands.promote(hands.package("a"))
    made = hands.start(hands.package("b"))
    before = hands.records.service("fraud")
    paused = pause(hands.records, hands, made.id, actor="bob")
    assert paused.phase is Phase.PAUSED and hands.records.service("fraud") == before
    refused(hands, Conflict, "paused, not running",
            lambda: pause(hands.records, hands, made.id, actor="bob"))  # fmt: skip
    resumed = resume(hands.records, hands, made.id, actor="bob")
    assert (resumed.phase, resumed.entered_at) == (Phase.RUNNING, hands.at)
    verbs = [e.verb for e in hands.records.events(subject=f"release/{made.id}")]
    assert verbs == ["release.started", "release.paused", "release.resumed"]


def test_abort_ends_the_release_with_its_reason(hands: Hands) -> None:
    a = hands.package("a")
    hands.promote(a)
    made = hands.start(hands.package("b"))
    gone = abort(hands.records, hands, made.id, "smells", actor="bob")
    here = hands.records.service("fraud")
    assert (gone.phase, hands.serving(), here and here.release) == (Phase.ABORTED, a, "")
    *_, event = hands.records.events()
    assert (event.body["reason"], event.actor) == ("smells", "bob")
    refused(hands, Conflict, "aborted", lambda: abort(hands.records, hands, made.id, "x", actor="b"))
    refused(hands, Missing, "no release", lambda: abort(hands.records, hands, "no", "x", actor="b"))


def test_rollback_goes_back_one_package_and_never_to_a_bad_one(hands: Hands) -> None:
    a, b, c = (hands.package(x) for x in "abc")
    for package in (a, b, c):
        hands.promote(package)
    for expected in (b, a):
        back = hands.rollback()
        assert (back.candidates, back.here.share) == ((expected,), Fixed(1.0))
        assert hands.rollback() == back, "asking twice while it is under way changes nothing"
        hands.tick()
        assert hands.serving() == expected
    hint = refused(hands, Missing, "no earlier package", hands.rollback)
    assert "start a release" in hint
    events = [e for e in hands.records.events() if e.body.get("plan") == "rollback"]
    assert [e.body["reason"] for e in events] == ["bad night"] * 2


def test_a_package_that_was_repaired_may_be_gone_back_to(hands: Hands) -> None:
    a, b, c = (hands.package(x) for x in "abc")
    hands.promote(a)
    hands.promote(b)
    hands.rollback()
    hands.tick()
    hands.promote(b)
    hands.promote(c)
    assert hands.rollback().candidates == (b,)


def test_rollback_of_a_release_under_way_aborts_it(hands: Hands) -> None:
    a = hands.package("a")
    hands.promote(a)
    made = hands.start(hands.package("b"))
    back = hands.rollback()
    assert (back.id, back.phase, back.reason) == (made.id, Phase.ABORTED, "bad night")
    assert hands.serving() == a


def test_rollback_with_nothing_behind(hands: Hands) -> None:
    refused(hands, Missing, "nothing was ever released", hands.rollback)
    hands.start(hands.package("a"))
    refused(hands, Missing, "no earlier package", hands.rollback)


def test_a_rollback_asks_no_gate(hands: Hands) -> None:
    a = hands.package("a", passed=False)
    hands.start(a, force="first", plan=at_once())
    hands.tick()
    hands.promote(hands.package("b"))
    assert hands.rollback().candidates == (a,)


def test_two_people_start_at_once(hands: Hands) -> None:
    hands.promote(hands.package("a"))
    b, c = hands.package("b"), hands.package("c")

    class Slow(MemoryRecords):
        def commit(self, change: Change) -> Event:
            if change.verb == "release.started" and hands.records.service("fraud") == seen:
                hands.start(c)
            return hands.records.commit(change)

    seen = hands.records.service("fraud")
    slow = Slow()
    slow.__dict__.update(hands.records.__dict__)
    refused_before = len(hands.records.releases())
    with pytest.raises(Conflict):
        start(slow, hands, "fraud", (b,), PLAN, actor="eve")
    assert len(hands.records.releases()) == refused_before + 1
    assert hands.records.releases()[-1].candidates == (c,)


def test_model_refs_are_not_packages_even_by_shape(hands: Hands) -> None:
    model = Ref("model", "fraud", "9" * 64)
    spec = ModelSpec(flavor="onnx", task="binary", inputs=Schema(columns=()),
                     encoding=Encoding(()), files={})  # fmt: skip
    hands.records.commit(Change(at=1, actor="x", verb="train", subject="m",
                                artifacts=(Artifact(ref=model, spec=spec, created_at=1),)))  # fmt: skip
    assert "makes one" in refused(hands, Invalid, "not a package", lambda: hands.start(model))


def test_a_release_keeps_its_own_plan(hands: Hands) -> None:
    hands.promote(hands.package("a"))
    plan = changed(PLAN, sticky_by="user")
    assert hands.records.release(hands.start(hands.package("b"), plan=plan).id).plan == plan
