"""Delayed labels: each event is held against those of its own cohort that are still at risk."""

from itertools import product
from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.check import Check, Harm, Outcome, judge
from fairlead.core.cohort import Cohort, at_risk, merged, tallies
from fairlead.core.evidence import EvidenceSet
from fairlead.core.ref import Ref
from fairlead.core.sequential import log_e_harm

NEW, OLD = Ref("package", "fraud", "b2"), Ref("package", "fraud", "a1")
PAIRS = st.tuples(st.integers(0, 5), st.integers(0, 5))
AGES = st.dictionaries(st.sampled_from([1.0, 2.0, 3.0, 4.0]), PAIRS)
COHORTS = st.builds(Cohort, entered=st.tuples(st.integers(50, 90), st.integers(50, 90)),
                    events=AGES, left=AGES)  # fmt: skip


def test_the_number_at_risk_falls_with_events_and_with_those_lost() -> None:
    cohort = Cohort(
        entered=(10, 90), events={3.0: (1, 4), 1.0: (2, 0)}, left={1.0: (0, 6), 2.0: (1, 1)}
    )
    assert list(at_risk([cohort])) == [(2, 10, 0, 90), (0, 8, 0, 84), (1, 7, 4, 83)]


@given(COHORTS, COHORTS, COHORTS)
def test_replicas_merge_in_any_order(a: Cohort, b: Cohort, c: Cohort) -> None:
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))
    assert merged(a, Cohort(entered=(0, 0))) == merged(Cohort(entered=(0, 0)), a)


@given(st.lists(COHORTS, max_size=3))
def test_nobody_is_counted_twice(cohorts: list[Cohort]) -> None:
    windows = list(at_risk(cohorts))
    assert sum(w[0] for w in windows) == sum(x for c in cohorts for x, _ in c.events.values())
    assert all(x <= n and y <= m for x, n, y, m in windows)


@pytest.mark.parametrize("hazard", [0.1, 0.4])
def test_expectation_is_at_most_one_by_enumeration(hazard: float) -> None:
    """Two ages, 3 units against 4; whoever had an event is no longer at risk."""

    def binomial(n: int, k: int) -> float:
        return comb(n, k) * hazard**k * (1 - hazard) ** (n - k)

    mean = 0.0
    for a, b in product(range(4), range(5)):
        for c, d in product(range(4 - a), range(5 - b)):
            chance = binomial(3, a) * binomial(4, b) * binomial(3 - a, c) * binomial(4 - b, d)
            cohort = Cohort(entered=(3, 4), events={1.0: (a, b), 2.0: (c, d)})
            mean += chance * exp(log_e_harm(list(at_risk([cohort]))))
    assert 0.5 < mean <= 1 + 1e-9


def test_a_ramp_with_late_labels_is_no_harm_and_real_harm_is_found() -> None:
    rng = np.random.default_rng(3)
    assert ramp(rng, ratio=1.0) is not Outcome.FAIL
    assert ramp(rng, ratio=1.6) is Outcome.FAIL


def ramp(rng: np.random.Generator, ratio: float) -> Outcome:
    """Labels after 12 hours on average, while the share grows from 5 to 50 % within 18 hours."""
    cohorts, converted, asked = [], np.zeros(2), np.zeros(2)
    for hour, share in enumerate(np.repeat([0.05, 0.25, 0.5], 6).tolist()):
        entered = (int(8000 * share), int(8000 * (1 - share)))
        risk, events = list(entered), {}
        for age in range(18 - hour):
            x = tuple(
                int(rng.binomial(n, h)) for n, h in zip(risk, (0.004 * ratio, 0.004), strict=True)
            )
            events[float(age)] = (x[0], x[1])
            risk = [n - k for n, k in zip(risk, x, strict=True)]
            converted += x
        asked += entered
        cohorts.append(Cohort(entered=entered, events=events))
    if ratio == 1.0:
        so_far = converted / asked
        assert so_far[0] < 0.85 * so_far[1]  # the trap: younger requests look different
    check = Check(name="bad labels", measure="bad", rule=Harm())
    seen = EvidenceSet(tallies(cohorts, "bad", NEW, OLD))
    verdict = judge(check, seen, NEW, OLD)
    log_e = log_e_harm(list(at_risk(cohorts)))
    assert verdict.log_e_harm == pytest.approx(log_e, abs=1e-6)
    assert (log_e >= log(20)) is (verdict.outcome is Outcome.FAIL)
    return verdict.outcome
