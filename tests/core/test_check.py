"""Three outcomes: bad news is FAIL, silence is UNKNOWN, and only proof is PASS."""

from math import inf, log, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Rule,
    Verdict,
    judge,
    judge_all,
    worst,
)
from fairlead.core.decision import decide
from fairlead.core.evidence import Evidence, EvidenceSet, Fact, Moments, Tally
from fairlead.core.ref import Ref, canonical
from fairlead.core.sequential import log_e_discordant
from fairlead.errors import Invalid

NEW, OLD = Ref("package", "fraud", "b2"), Ref("package", "fraud", "a1")
PASS, UNKNOWN, FAIL = Outcome
RULES: list[Rule] = [Bound(high=0.02), Bound(low=0.0, certain=True), NoWorse(), Parity(), Harm(),
                     PairedLoss(), Balance(share=0.1)]  # fmt: skip


def number(value: float, n: int = 1000, **more: object) -> Evidence:
    return Evidence(subject=NEW, measure="m", value=value, n=n, **more)  # type: ignore[arg-type]


def outcome(rule: Rule, *facts: Fact, min_n: int = 1) -> Outcome:
    check = Check(name="c", measure="m", rule=rule, min_n=min_n)
    return judge(check, EvidenceSet(facts), NEW, OLD).outcome


def traffic(bad: int, n: int, bad_old: int, n_old: int, at: float = 0.0, m: str = "m") -> list[Fact]:
    return [Tally(subject=NEW, measure=m, at=at, events=bad, n=n),
            Tally(subject=OLD, measure=m, at=at, events=bad_old, n=n_old)]  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_silence_is_unknown_and_says_so(rule: Rule) -> None:
    verdict = judge(Check(name="c", measure="m", rule=rule), EvidenceSet(), NEW, OLD)
    assert verdict.outcome is UNKNOWN and verdict.reason.startswith("m: ")


@pytest.mark.parametrize("rule", RULES[:2])
@pytest.mark.parametrize("seen", [number(nan), number(0.01, n=9)])
def test_not_a_number_and_too_few_rows_are_unknown(rule: Rule, seen: Evidence) -> None:
    assert outcome(rule, seen, min_n=10) is UNKNOWN


@pytest.mark.parametrize(
    ("rule", "value", "low", "high", "expected"),
    [
        (Bound(low=0.1, high=0.2), 0.15, None, None, PASS),
        (Bound(low=0.1), 0.1, None, None, PASS),
        (Bound(high=0.2), 0.21, None, None, FAIL),
        (Bound(low=0.1), 0.05, None, None, FAIL),
        (Bound(high=0.2), 0.1, 0.0, 0.3, PASS),
        (Bound(high=0.2, certain=True), 0.1, 0.0, 0.3, UNKNOWN),
        (Bound(high=0.2, certain=True), 0.1, 0.05, 0.2, PASS),
        (Bound(high=0.2, certain=True), 0.3, 0.21, 0.4, FAIL),
        (Bound(high=0.2, certain=True), 0.1, nan, nan, UNKNOWN),
        (NoWorse(margin=0.01), 0.0, -0.01, 0.02, PASS),
        (NoWorse(margin=0.01), 0.0, -0.02, 0.02, UNKNOWN),
        (NoWorse(margin=0.01), -0.02, -0.04, -0.001, FAIL),
        (NoWorse(margin=0.01), -0.005, -0.009, -0.001, PASS),
        (NoWorse(), 0.1, nan, nan, UNKNOWN),
        (Bound(high=inf), 0.1, None, None, PASS),
    ],
)
def test_numbers(
    rule: Rule, value: float, low: float | None, high: float | None, expected: Outcome
) -> None:
    assert outcome(rule, number(value, low=low, high=high)) is expected


def test_a_check_of_a_slice_reads_that_slice() -> None:
    whole, part = number(0.01), number(0.5, slice="sex=f")
    check = Check(name="c", measure="m", rule=Bound(high=0.1), slice="sex=f")
    verdict = judge(check, EvidenceSet([whole, part]), NEW, OLD)
    assert verdict.outcome is FAIL and "[sex=f]" in verdict.reason


def test_parity_is_judged_by_the_interval_of_the_ratio() -> None:
    def group(name: str, value: float, half: float, n: int) -> Evidence:
        return number(value, n=n, low=value - half, high=value + half, slice=f"sex={name}")

    fair = [group("f", 0.49, 0.01, 9000), group("m", 0.5, 0.01, 9000)]
    unfair = [group("f", 0.3, 0.01, 9000), group("m", 0.5, 0.01, 9000)]
    small = [group("f", 0.3, 0.14, 40), group("m", 0.5, 0.15, 40)]
    assert [outcome(Parity(), *g) for g in (fair, unfair, small)] == [PASS, FAIL, UNKNOWN]
    assert outcome(Parity(), *unfair, min_n=10_000) is UNKNOWN
    assert outcome(Parity(), fair[0]) is UNKNOWN


def test_harm_is_found_safety_is_proven_and_little_traffic_is_neither() -> None:
    assert outcome(Harm(), *traffic(60, 1000, 100, 9000)) is FAIL
    assert outcome(Harm(), *traffic(100, 10_000, 900, 90_000)) is PASS
    assert outcome(Harm(), *traffic(1, 50, 5, 450)) is UNKNOWN
    assert outcome(Harm(), *traffic(60, 1000, 100, 9000), min_n=2000) is UNKNOWN


def test_an_incident_that_hits_both_arms_is_no_evidence_against_the_candidate() -> None:
    quiet = traffic(5, 1000, 45, 9000, at=0.0)
    storm = traffic(300, 1000, 2700, 9000, at=60.0)
    assert outcome(Harm(), *quiet, *storm) is not FAIL


def test_paired_losses_and_balance() -> None:
    def pairs(mean: float, n: int) -> Moments:
        x = (mean + 1) / 2
        return Moments(subject=NEW, measure="m", at=0, n=n, total=n * x, squares=n * (x * x + 0.001))

    assert outcome(PairedLoss(), pairs(0.2, 20_000)) is FAIL
    assert outcome(PairedLoss(margin=0.05), pairs(-0.01, 50_000)) is PASS
    assert outcome(PairedLoss(), pairs(0.0, 30)) is UNKNOWN
    assert outcome(Balance(share=0.1), *traffic(0, 1000, 0, 9000)) is PASS
    assert outcome(Balance(share=0.1), *traffic(0, 2000, 0, 8000)) is FAIL


def test_parts_of_one_guardrail_share_its_evidence_and_must_all_be_safe() -> None:
    """Six thresholds of latency are one guardrail: half the evidence of two is one of them."""
    rule, whole = Harm(over=("p50", "p99")), Harm()
    check = Check(name="latency", measure="slow", rule=rule)
    bad, good = (60, 1000, 100, 9000), (10_000, 20_000, 90_000, 180_000)
    facts = [*traffic(*bad, m="slow:p99"), *traffic(*good, m="slow:p50")]
    seen = judge(check, EvidenceSet(facts), NEW, OLD)
    alone = judge(Check(name="c", measure="slow:p99", rule=whole), EvidenceSet(facts), NEW, OLD)
    assert seen.outcome is FAIL and seen.reason.startswith("slow:p99: 60 of 1,000 against 100")
    assert seen.log_e_harm is not None and alone.log_e_harm is not None
    assert seen.log_e_harm == pytest.approx(alone.log_e_harm - log(2), abs=1e-3)
    safe = [*traffic(100, 10_000, 900, 90_000, m="slow:p99"), *traffic(*good, m="slow:p50")]
    assert judge(check, EvidenceSet(safe), NEW, OLD).outcome is PASS
    assert judge(check, EvidenceSet(safe[:2]), NEW, OLD).outcome is UNKNOWN  # p50 is silent
    assert len(judge_all((check,), EvidenceSet(facts), NEW, OLD)) == 1


def test_too_few_of_a_welcome_event_is_harm() -> None:
    rule = Harm(welcome=True)
    fewer, more, few = (40, 2000, 900, 18_000), (160, 2000, 900, 18_000), (2, 50, 20, 450)
    assert [outcome(rule, *traffic(*t)) for t in (fewer, more, few)] == [FAIL, PASS, UNKNOWN]
    with pytest.raises(Invalid, match="negligible"):
        Harm(welcome=True, negligible=0.01)


def test_votes_find_a_worse_classifier_in_fewer_pairs() -> None:
    """900 pairs: 30 only the baseline had right, 10 only the candidate."""
    total, squares = 30 + 860 / 2, 30 + 860 / 4
    pairs = Moments(subject=NEW, measure="m", at=0, n=900, total=total, squares=squares)
    assert outcome(PairedLoss(), pairs) is UNKNOWN
    assert outcome(PairedLoss(votes=True), pairs) is FAIL
    check = Check(name="c", measure="m", rule=PairedLoss(votes=True))
    verdict = judge(check, EvidenceSet([pairs]), NEW, OLD)
    assert verdict.log_e_harm == pytest.approx(log_e_discordant(10, 30), abs=1e-6)


def several(k: int) -> tuple[Check, ...]:
    return tuple(Check(name=f"c{i}", measure=f"m{i}", rule=Harm()) for i in range(k))


def verdicts(harms: list[tuple[int, int, int, int]]) -> tuple[Verdict, ...]:
    facts = [f for i, h in enumerate(harms) for f in traffic(*h, m=f"m{i}")]
    return judge_all(several(len(harms)), EvidenceSet(facts), NEW, OLD)


def test_several_guardrails_share_alpha() -> None:
    """What would fail alone must outweigh the silence of the others; the guilty one is named."""
    slight, none, gross = (19, 1000, 72, 9000), (8, 1000, 72, 9000), (80, 1000, 72, 9000)
    assert [v.outcome for v in verdicts([slight])] == [FAIL]
    pooled = verdicts([slight, *[none] * 7])
    assert FAIL not in {v.outcome for v in pooled}
    assert "waits for the evidence of all" in pooled[0].reason
    assert [v.outcome for v in verdicts([none, gross, *[none] * 6])].index(FAIL) == 1
    assert [v.outcome for v in verdicts([gross, gross, none])][:2] == [FAIL, FAIL]


def test_a_heavier_guardrail_gets_more_of_alpha() -> None:
    facts = [Tally(subject=s, measure=m, at=0.0, events=k, n=n) for m in ("errors", "slow")
             for s, k, n in ((NEW, 14 if m == "errors" else 5, 1000), (OLD, 45, 9000))]  # fmt: skip

    def judged(weight: float) -> Verdict:
        checks = (Check(name="errors", measure="errors", rule=Harm(), weight=weight),
                  Check(name="slow", measure="slow", rule=Harm()))  # fmt: skip
        first, second = judge_all(checks, EvidenceSet(facts), NEW, OLD)
        assert second.outcome is not FAIL
        return first

    assert (judged(1.0).outcome, judged(4.0).outcome) == (UNKNOWN, FAIL)
    assert judged(1.0).log_e_harm == judged(4.0).log_e_harm


def test_a_guardrail_without_data_still_counts_among_the_others() -> None:
    """Else each of eight could strike alone at the moment it is the only one with enough data."""
    slight = traffic(19, 1000, 72, 9000, m="m0")
    assert judge_all(several(1), EvidenceSet(slight), NEW, OLD)[0].outcome is FAIL
    assert judge_all(several(8), EvidenceSet(slight), NEW, OLD)[0].outcome is UNKNOWN


def test_a_check_that_may_not_roll_back_does_not_weigh_on_the_guardrails() -> None:
    quiet = Check(name="info", measure="none", rule=Harm(), on_fail=frozenset({Action.ALERT}))
    slight = EvidenceSet(traffic(19, 1000, 72, 9000, m="m0"))
    assert judge_all((*several(1), *[quiet] * 7), slight, NEW, OLD)[0].outcome is FAIL


def test_the_stated_error_is_the_threshold() -> None:
    facts = EvidenceSet(traffic(19, 1000, 72, 9000))
    check = Check(name="c", measure="m", rule=Harm())
    seen = judge(check, facts, NEW, OLD).log_e_harm
    assert seen is not None and log(20) < seen < log(1000)
    assert judge(check, facts, NEW, OLD, Odds(alpha=0.05)).outcome is FAIL
    assert judge(check, facts, NEW, OLD, Odds(alpha=0.001)).outcome is not FAIL


@given(st.lists(st.sampled_from(Outcome)), st.lists(st.sampled_from(Outcome)))
def test_verdicts_join_like_a_maximum(a: list[Outcome], b: list[Outcome]) -> None:
    def top(xs: list[Outcome]) -> Outcome:
        check = Check(name="c", measure="m", rule=Bound())
        return worst(Verdict(check=check, subject=NEW, outcome=x, reason="") for x in xs)

    assert top(a + b) == top(b + a) == max(top(a), top(b))


@pytest.mark.parametrize("rule", RULES)
def test_a_verdict_survives_json(rule: Rule) -> None:
    check = Check(name="c", measure="m", rule=rule)
    facts = EvidenceSet([number(0.5, low=0.4, high=0.6), *traffic(60, 1000, 100, 9000)])
    verdict = judge(check, facts, NEW, OLD)
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


def test_what_is_asked_has_one_canonical_spelling() -> None:
    asked = [frozenset(order) for order in (list(Action), reversed(Action))]
    spelled = {canonical(Check(name="c", measure="m", rule=Bound(), on_fail=a)) for a in asked}
    assert len(spelled) == 1 and b'["alert","hold","retrain","rollback"]' in spelled.pop()


def test_gate_monitor_and_canary_are_one_call() -> None:
    """The same two functions, three sources of evidence, three consequences."""
    gate = Check(name="gain", measure="m", rule=NoWorse(), on_fail=frozenset({Action.HOLD}))
    drift = Check(name="drift", measure="m", rule=Bound(high=0.2),
                  on_fail=frozenset({Action.RETRAIN, Action.ALERT}))  # fmt: skip
    canary = Check(name="errors", measure="m", rule=Harm())
    offline = EvidenceSet([number(-0.1, low=-0.2, high=-0.05)])
    blocked, drifted, harmed = (
        decide(NEW, judge_all((check,), facts, NEW, OLD), at=5.0)
        for check, facts in [(gate, offline), (drift, EvidenceSet([number(0.4)])),
                             (canary, EvidenceSet(traffic(60, 1000, 100, 9000)))]
    )  # fmt: skip
    assert (set(blocked.actions), blocked.proceed, blocked.at) == ({Action.HOLD}, False, 5.0)
    assert drifted.proceed and drifted.actions == {Action.RETRAIN, Action.ALERT}
    assert harmed.actions == {Action.ROLLBACK}
    silent = decide(NEW, judge_all((gate, canary), EvidenceSet(), NEW, OLD), at=0.0)
    assert silent.actions == {Action.HOLD} and not silent.proceed
