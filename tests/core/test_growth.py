"""How evidence grew: a picture of the record, whose last point is the verdict."""

from itertools import pairwise

import pytest

from fairlead.core.check import Check, Harm, Odds, PairedLoss, Rule, Verdict, judge, judge_all
from fairlead.core.evidence import EvidenceSet, Fact, Moments, Tally
from fairlead.core.growth import grown, needed
from fairlead.core.ref import Ref

OLD, NEW = Ref("package", "fraud", "a1"), Ref("package", "fraud", "b2")
ODDS = Odds()


def tallies(events: int, baseline: int, windows: int = 30, measure: str = "errors") -> list[Fact]:
    """So many events in every third window of 100 and 900 answers."""
    return [Tally(subject=s, measure=measure, at=float(at), events=k if at % 3 == 0 else 0, n=n)
            for at in range(windows) for s, k, n in ((NEW, events, 100), (OLD, baseline, 900))]  # fmt: skip


def verdict(rule: Rule, facts: list[Fact], measure: str = "errors", min_n: int = 1) -> Verdict:
    return judge(Check(name="c", measure=measure, rule=rule, min_n=min_n), EvidenceSet(facts), NEW, OLD)


PARTS = [*tallies(3, 9, measure="errors:a"), *tallies(1, 9, measure="errors:b")]
PAIRS: list[Fact] = [Moments(subject=NEW, measure="errors", at=float(i), n=50, total=25.5, squares=13.5)
                     for i in range(9)]  # fmt: skip


@pytest.mark.parametrize(("rule", "facts"), [
    (Harm(), tallies(2, 9)), (Harm(negligible=0.002), tallies(0, 0)), (Harm(welcome=True), tallies(2, 9)),
    (Harm(over=("a", "b")), PARTS), (PairedLoss(), PAIRS), (PairedLoss(votes=True), PAIRS),
])  # fmt: skip
def test_a_curve_starts_at_nothing_and_ends_at_the_verdict(rule: Rule, facts: list[Fact]) -> None:
    judged = verdict(rule, facts)
    (growth,) = grown([judged], ODDS)
    first, last = growth.marks[0], growth.marks[-1]
    assert (first.requests, first.harm, first.safe) == (0, 0.0, 0.0)
    assert (last.harm, last.safe) == (judged.log_e_harm, judged.log_e_safe)
    assert last.requests == (450 if isinstance(rule, PairedLoss) else 30_000)
    assert growth.low <= growth.value <= growth.high
    places = [m.requests for m in growth.marks]
    assert places == sorted(set(places)) and len(places) > 9


def test_what_has_seen_too_little_for_a_verdict_has_a_curve_already() -> None:
    waiting = verdict(Harm(), tallies(2, 9), min_n=10**6)
    assert waiting.log_e_harm is None
    assert grown([waiting], ODDS)[0].marks[-1].requests == 30_000
    assert grown([verdict(Harm(), [])], ODDS) == ()


def test_quiet_time_makes_a_smooth_curve_of_safety() -> None:
    (growth,) = grown([verdict(Harm(negligible=0.002), tallies(0, 0))], ODDS)
    safe = [m.safe for m in growth.marks]
    assert safe == sorted(safe)
    assert max(b - a for a, b in pairwise(safe)) < 0.1 * safe[-1]


def test_the_end_is_foreseen_where_evidence_grows_and_not_where_it_does_not() -> None:
    checks = (Check(name="e", measure="errors", rule=Harm(negligible=0.002)),)

    def ahead(windows: int) -> float | None:
        facts = tallies(0, 0, windows)
        return needed(grown(judge_all(checks, EvidenceSet(facts), NEW, OLD), ODDS), ODDS)

    early, late, enough = ahead(10), ahead(15), ahead(40)
    assert early is not None and late is not None and early > late > 0
    assert 10_000 + early == pytest.approx(15_000 + late, rel=0.35), "both foresee the same end"
    assert enough == 0
    even = judge_all((Check(name="e", measure="errors", rule=Harm(exclude=1.01)),),
                     EvidenceSet(tallies(1, 9, 60)), NEW, OLD)  # fmt: skip
    assert needed(grown(even, ODDS), ODDS) is None
