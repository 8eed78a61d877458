"""Amounts: capped, added over replicas, compared with an interval that may be looked at at any time."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.amounts import FEWEST, Amounts, amounts, cap, gap
from fairlead.core.check import Check, NoWorse, Outcome, judge
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.ref import Ref

NEW = Ref("package", "shop", "b2")


def spent(rng: np.random.Generator, n: int, scale: float = 1.0) -> NDArray[np.float64]:
    """One in five buys, for a heavy-tailed amount."""
    return (rng.random(n) < 0.2) * rng.lognormal(0, 1.5, n) * scale


def test_parts_add_up_and_the_cap_cuts() -> None:
    x = spent(np.random.default_rng(0), 5000)
    top = cap(x)
    assert (x > top).mean() < 0.001 <= (x >= top).mean() + 1e-12
    whole = amounts(x, top)
    parts = amounts(x[:1234], top) + Amounts() + amounts(x[1234:], top)
    assert parts.n == whole.n and parts.total == pytest.approx(whole.total)
    assert whole.total <= x.sum() and whole.squares == pytest.approx(
        (np.minimum(x, top) ** 2).sum()
    )


def test_few_units_say_nothing_so_the_check_does_not_know() -> None:
    rng = np.random.default_rng(1)
    few, many = (amounts(spent(rng, n), 50.0) for n in (FEWEST - 1, 100_000))
    assert gap(few, many, planned=100_000) is None and gap(many, few, planned=100_000) is None


def test_the_interval_is_that_of_gbstats() -> None:
    """SequentialTwoSidedTTest of gbstats 0.8.0, tuning parameter 5000, absolute difference."""
    found = gap(
        Amounts(10_000, 12_000.0, 40_000.0), Amounts(9_000, 10_000.0, 33_000.0), planned=5000
    )
    assert found == pytest.approx((0.0888888888888888, 0.017280572759133195, 0.1604972050186444))


def outcome(scale: float) -> list[Outcome]:
    """Twenty looks at growing numbers of users, 100 runs; the last outcome that is not UNKNOWN."""
    rng = np.random.default_rng(2)
    top = cap(spent(rng, 50_000))
    check = Check(name="revenue", measure="gain:revenue", rule=NoWorse(margin=0.05))
    ends = []
    for _ in range(100):
        ours, theirs, end = Amounts(), Amounts(), Outcome.UNKNOWN
        for _ in range(20):
            ours += amounts(spent(rng, 3000, scale), top)
            theirs += amounts(spent(rng, 3000), top)
            found = gap(ours, theirs, planned=120_000)
            facts = [] if found is None else [
                Evidence(subject=NEW, measure="gain:revenue", value=found[0], n=ours.n,
                         low=found[1], high=found[2])]  # fmt: skip
            seen = judge(check, EvidenceSet(facts), NEW, None).outcome
            end = seen if end is Outcome.UNKNOWN else end
        ends.append(end)
    return ends


def test_false_alarms_are_rare_and_a_fifth_less_is_found() -> None:
    harmless, harmful = outcome(1.0), outcome(0.8)
    assert harmless.count(Outcome.FAIL) <= 5
    assert harmless.count(Outcome.PASS) >= 50
    assert harmful.count(Outcome.FAIL) >= 60
    assert harmful.count(Outcome.PASS) <= 10
