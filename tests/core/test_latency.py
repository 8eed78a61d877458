"""Latency against frozen quantiles: one guardrail of six counts, from rows to the verdict."""

import numpy as np
import pytest
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from fairlead.core.answers import answers_of
from fairlead.core.arms import Arms
from fairlead.core.catalogue import latency_check
from fairlead.core.check import Outcome, Verdict, judge
from fairlead.core.evidence import EvidenceSet, Fact, Tally
from fairlead.core.journal import Batch
from fairlead.core.latency import FEWEST, QUANTILES, RECENT, SLOWER, frozen
from fairlead.core.ledger import Ledger
from fairlead.core.ref import Ref
from fairlead.core.release import Release
from fairlead.core.traffic import canary

OLD, NEW = Ref("package", "m", "a1"), Ref("package", "m", "b2")
RELEASE = Release(id="r", service="m", candidates=(NEW,), baseline=OLD, started_at=0.0,
                  entered_at=0.0, plan=canary((latency_check(),)))  # fmt: skip
Floats = NDArray[np.float64]


class Traffic:
    """A ledger that is filled by hand."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ledger = Ledger()
        self.count = 0

    def answer(self, package: Ref, latency: Floats, epoch: int, *, failed: bool = False,
               live: bool = True) -> None:  # fmt: skip
        n = len(latency)
        ids = [f"{self.count + i:08d}" for i in range(n)]
        self.count += n
        batch = Batch(
            service="m", package=str(package), at=float(self.count), epoch=epoch, live=live, ids=ids,
            units=ids, bodies=[b"{}"] * n, features=[None] * n, outputs=[[0.5]] * n,
            errors=["bad" if failed else ""] * n, fallback=[False] * n, propensity=0.5,
            latencies=latency.tolist(),
        )  # fmt: skip
        for answers in answers_of([batch]):
            self.ledger.append(answers)

    def took(self, n: int, *, tail: float = 1.0) -> Floats:
        """Lognormal seconds; the slowest 2 % take `tail` times as long."""
        z = self.rng.normal(size=n)
        return np.asarray(0.05 * np.exp(0.6 * z) * np.where(z > 2.05, tail, 1.0))


def counted(facts: list[Fact], part: str, subject: Ref) -> tuple[int, int]:
    mine = [f for f in facts if isinstance(f, Tally)
            and (f.measure, f.subject) == (f"{SLOWER}:{part}", subject)]  # fmt: skip
    return sum(t.events for t in mine), sum(t.n for t in mine)


def test_thresholds_are_quantiles_of_the_newest_answers_and_need_enough() -> None:
    assert frozen(np.ones(FEWEST - 1)) == ()
    assert frozen([9.0] * RECENT + [1.0] * RECENT) == (1.0,) * len(QUANTILES)
    assert frozen(np.arange(1001) / 1000) == pytest.approx(tuple(QUANTILES.values()))


def test_they_are_frozen_before_the_release_where_the_baseline_answered_enough() -> None:
    traffic, arms = Traffic(0), Arms(RELEASE, 9.0, 0)
    traffic.answer(OLD, traffic.took(5000), 1)
    for _ in range(4):
        traffic.answer(OLD, traffic.took(5000), 2)
        traffic.answer(NEW, traffic.took(5000), 2)
        arms.update(traffic.ledger, 2)
    facts = arms.facts(traffic.ledger, 2)
    for part, q in QUANTILES.items():
        for subject in (OLD, NEW):
            events, n = counted(facts, part, subject)
            assert n == 20_000 and events / n == pytest.approx(1 - q, abs=0.02)


def test_else_the_first_answers_of_the_release_freeze_them_and_are_not_counted() -> None:
    traffic, arms = Traffic(1), Arms(RELEASE, 9.0, 0)
    for _ in range(4):
        traffic.answer(OLD, traffic.took(400), 2)
        traffic.answer(NEW, traffic.took(400), 2)
        arms.update(traffic.ledger, 2)
    facts = arms.facts(traffic.ledger, 2)
    assert counted(facts, "p50", OLD)[1] == 1600 - FEWEST
    assert counted(facts, "p50", NEW)[1] == 800
    assert sum(f.n for f in facts if isinstance(f, Tally) and f.measure == "errors") == 3200
    again = Arms(RELEASE, 9.0, 0)  # the controller was restarted and reads everything at once
    again.update(traffic.ledger, 2)
    for part in QUANTILES:
        for subject in (OLD, NEW):
            assert counted(again.facts(traffic.ledger, 2), part, subject) == counted(
                facts, part, subject
            )


def test_nobody_asked_nobody_counts() -> None:
    plain = Release(id="r", service="m", candidates=(NEW,), baseline=OLD, started_at=0.0,
                    entered_at=0.0, plan=canary(()))  # fmt: skip
    traffic, arms = Traffic(2), Arms(plain, 9.0, 0)
    traffic.answer(OLD, traffic.took(2000), 1)
    traffic.answer(NEW, traffic.took(2000), 1)
    arms.update(traffic.ledger, 1)
    assert {f.measure for f in arms.facts(traffic.ledger, 1)} == {"errors", "slow", "requests"}


def verdict(tail: float, *, failed: bool = False) -> Verdict:
    traffic, arms = Traffic(3), Arms(RELEASE, 9.0, 0)
    traffic.answer(OLD, traffic.took(5000), 1)
    for _ in range(20):
        traffic.answer(OLD, traffic.took(1000), 2)
        traffic.answer(NEW, traffic.took(1000, tail=tail), 2, failed=failed)
        arms.update(traffic.ledger, 2)
    return judge(latency_check(), EvidenceSet(arms.facts(traffic.ledger, 2)), NEW, OLD)


def test_a_longer_tail_is_found_and_named_and_the_same_latency_passes() -> None:
    assert verdict(1.0).outcome is Outcome.PASS
    slow = verdict(1.3)
    assert slow.outcome is Outcome.FAIL and slow.reason.startswith(("slower:p99", "slower:p99.5"))
    assert len(slow.windows) == len(QUANTILES)


@pytest.mark.parametrize(("slower", "outcome"), [(1.0, Outcome.FAIL), (1.4, Outcome.PASS)])
def test_what_may_be_slower_may_be_slower_everywhere(slower: float, outcome: Outcome) -> None:
    check = latency_check(slower)
    release = changed(RELEASE, plan=canary((check,)))
    traffic, arms = Traffic(4), Arms(release, 9.0, 0)
    traffic.answer(OLD, traffic.took(5000), 1)
    for _ in range(20):
        traffic.answer(OLD, traffic.took(1000), 2)
        traffic.answer(NEW, traffic.took(1000) * 1.3, 2)
        arms.update(traffic.ledger, 2)
    assert judge(check, EvidenceSet(arms.facts(traffic.ledger, 2)), NEW, OLD).outcome is outcome


def test_mirrored_answers_are_always_late_and_tell_nothing_of_latency() -> None:
    traffic, arms = Traffic(5), Arms(RELEASE, 9.0, 0)
    traffic.answer(OLD, traffic.took(5000), 1)
    traffic.answer(NEW, traffic.took(1000) * 9, 2, live=False)
    traffic.answer(OLD, traffic.took(1000), 2)
    arms.update(traffic.ledger, 2)
    assert {f.measure for f in arms.facts(traffic.ledger, 2)} >= {"errors", "slow"}
    assert judge(latency_check(), EvidenceSet(arms.facts(traffic.ledger, 2)), NEW, OLD).windows == {
        f"{SLOWER}:{part}": () for part in QUANTILES}  # fmt: skip


def test_failing_fast_is_not_being_fast() -> None:
    assert verdict(1.0, failed=True).outcome is Outcome.FAIL
