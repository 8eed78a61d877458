"""A decision can be computed again, byte for byte, from nothing but what it recorded."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from fairlead.core.check import (
    Action,
    Balance,
    Bound,
    Check,
    Harm,
    NoWorse,
    Odds,
    Outcome,
    PairedLoss,
    Parity,
)
from fairlead.core.decision import Decision, decide, replay
from fairlead.core.evidence import Evidence, EvidenceSet, Fact, Moments, Tally
from fairlead.core.ref import Ref, canonical
from fairlead.core.release import Release, advance
from fairlead.core.traffic import Fixed, Step, TrafficPlan
from fairlead.errors import Conflict

OLD, NEW, B = (Ref("package", "fraud", d) for d in ("a1", "b2", "c3"))
WARN = frozenset({Action.ALERT})
CHECKS = (
    Check(name="bound", measure="p99", rule=Bound(high=50.0, certain=True), on_unknown=WARN),
    Check(name="gain", measure="gain", rule=NoWorse(), on_fail=WARN, on_unknown=WARN),
    Check(name="parity", measure="rate", slice="sex", rule=Parity(), on_unknown=WARN),
    Check(name="errors", measure="errors", rule=Harm(negligible=0.001)),
    Check(name="latency", measure="slower", rule=Harm(over=("p50", "p99")), min_n=5),
    Check(name="sales", measure="sales", rule=Harm(welcome=True)),
    Check(name="pairs", measure="pairs", rule=PairedLoss(), min_n=3),
    Check(name="votes", measure="votes", rule=PairedLoss(votes=True)),
    Check(name="split", measure="requests", rule=Balance(share=0.5)),
)
COUNTED = ("errors", "slower:p50", "slower:p99", "sales", "requests")


@st.composite
def counts(draw: st.DrawFn) -> list[Fact]:
    facts: list[Fact] = []
    for subject in (OLD, NEW, B):
        for measure in COUNTED:
            for at in range(draw(st.integers(0, 3))):
                n = draw(st.integers(0, 3000))
                facts.append(Tally(subject=subject, measure=measure, at=float(at),
                                   events=draw(st.integers(0, n)), n=n))  # fmt: skip
    return facts


@st.composite
def values(draw: st.DrawFn) -> list[Fact]:
    facts: list[Fact] = []
    unit = st.floats(0, 1)
    for subject in draw(st.lists(st.sampled_from([NEW, B]), unique=True)):
        for measure, kind in (("pairs", unit), ("votes", st.sampled_from([0.0, 0.5, 1.0]))):
            x = draw(st.lists(kind, max_size=30))
            facts.append(Moments(subject=subject, measure=measure, at=0.0, n=len(x), total=sum(x),
                                 squares=sum(v * v for v in x)))  # fmt: skip
        for measure, cut in (("p99", ""), ("gain", ""), ("rate", "sex=f"), ("rate", "sex=m")):
            low, value, high = sorted(draw(st.tuples(unit, unit, unit)))
            facts.append(Evidence(subject=subject, measure=measure, value=value, n=draw(st.integers(0, 9)),
                                  low=low, high=high, slice=cut))  # fmt: skip
    return facts


def begin(*checks: Check, hold: float = 0.0, patience: float = 100.0) -> Release:
    step = Step(share=Fixed(0.5), mirror=1.0, hold=hold, patience=patience, checks=checks)
    plan = TrafficPlan(name="p", steps=(step,), odds=Odds(alpha=0.1, beta=0.02))
    return Release(id="r", service="fraud", candidates=(NEW, B), baseline=OLD, plan=plan,
                   started_at=5.0, entered_at=7.25)  # fmt: skip


@given(counts(), values(), st.integers(0, len(CHECKS)), st.floats(0, 300), st.booleans())
def test_a_release_decision_replays_to_the_same_bytes(
    tallies: list[Fact], numbers: list[Fact], many: int, now: float, lone: bool
) -> None:
    release = changed(begin(*CHECKS[:many], hold=50.0), baseline=None if lone else OLD)
    decision = advance(release, EvidenceSet([*tallies, *numbers]), now)
    assert replay(decision) == decision
    stored = canonical(decision)
    read = msgspec.json.decode(stored, type=Decision)
    assert canonical(read) == canonical(replay(read)) == canonical(replay(decision)) == stored


def test_a_gate_decision_replays_with_its_author() -> None:
    seen = Evidence(subject=NEW, measure="gain", value=-0.1, low=-0.2, high=-0.05, n=40)
    verdicts = advance(begin(CHECKS[1]), EvidenceSet([seen]), 8.0).because
    decision = changed(decide(NEW, verdicts, at=3.0), actor="ann")
    assert decision.actions == {Action.ALERT} and decision.stay is None
    assert replay(decision) == decision


def rolled_back() -> Decision:
    harm = [Tally(subject=s, measure="errors", at=float(at), events=k, n=500)
            for at in (0, 1) for s, k in ((NEW, 30), (B, 40), (OLD, 5))]  # fmt: skip
    return advance(begin(CHECKS[3]), EvidenceSet(harm), 8.0)


def test_a_record_that_was_tampered_with_does_not_replay() -> None:
    decision = rolled_back()
    assert decision.actions == {Action.ROLLBACK} and decision.drop == (NEW, B)
    first, *others = decision.because
    kinder = changed(first, windows={"errors": ((3, 500, 5, 500), (30, 500, 5, 500))})
    excused = changed(first, outcome=Outcome.PASS)
    for forged in (
        changed(decision, because=(kinder, *others)), changed(decision, because=(excused, *others)),
        changed(decision, odds=Odds(alpha=1e-9)), changed(decision, actions=frozenset()),
        changed(decision, drop=(B,)),
    ):  # fmt: skip
        assert replay(forged) != forged


def test_other_rules_are_not_pretended_to_be_ours() -> None:
    with pytest.raises(Conflict, match="version 0 of the rules"):
        replay(changed(rolled_back(), rules=0))


@pytest.mark.parametrize(("waited", "gone"), [(99.9, False), (100.0, True)])
def test_patience_is_part_of_the_record(waited: float, gone: bool) -> None:
    decision = advance(begin(CHECKS[3]), EvidenceSet(), 7.25 + waited)
    assert (Action.ROLLBACK in decision.actions) is gone
    assert decision.stay is not None and decision.stay.waited == pytest.approx(waited)
    assert replay(decision) == decision


def test_a_record_stays_small() -> None:
    """400 windows (a million requests); quiet neighbours are added together."""
    facts = [Tally(subject=s, measure="errors", at=float(at), events=int(at % 4 == 0), n=2500)
             for at in range(400) for s in (NEW, OLD)]  # fmt: skip
    decision = advance(begin(CHECKS[3]), EvidenceSet(facts), 8.0)
    assert len(decision.because[0].windows["errors"]) == 200
    assert len(canonical(decision)) < 6000
    assert decision.because[0].counters["candidate_n"] == 1_000_000
