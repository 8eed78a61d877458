"""Forecasts agree with the checks they foretell, and with what their traffic allows."""

from math import inf, isinf

import numpy as np
import pytest

from fairlead.core import sequential
from fairlead.core.catalogue import plan_of, release_checks
from fairlead.core.check import Check, Harm
from fairlead.core.forecast import Known, forecast
from fairlead.core.manifest import ReleaseSection
from fairlead.core.traffic import Fixed, Step, TrafficPlan, replace
from fairlead.errors import Invalid

SECTION = ReleaseSection()
CANARY = plan_of(SECTION, release_checks(SECTION, "binary", feedback=False))


def test_the_same_question_has_one_answer() -> None:
    asked = [forecast(CANARY, rate=50, errors=0.005, runs=40, seed=s) for s in (1, 1, 2)]
    assert asked[0] == asked[1] != asked[2]


def test_evidence_of_all_runs_is_that_of_the_checks() -> None:
    """Two windows, the second one still growing, against the functions that judge releases."""
    rng = np.random.default_rng(3)
    known = Known(Harm(negligible=0.01), 5)
    windows: list[list[tuple[int, int, int, int]]] = [[] for _ in range(5)]
    for _ in range(2):
        nc, nt = (rng.integers(50, 900, (5, 1)) for _ in range(2))
        xc, xt = rng.binomial(nc, 0.03), rng.binomial(nt, 0.02)
        harm, safe = known.look((nc, nt), (xc, xt))
        known.close(np.zeros(5, dtype=np.int64))
        for i, run in enumerate(windows):
            run.append((int(xc[i, 0]), int(nc[i, 0]), int(xt[i, 0]), int(nt[i, 0])))
            assert harm[i, 0] == pytest.approx(sequential.log_e_harm(run), abs=1e-9)
            below = sequential.log_e_below([w[:2] for w in run], 0.01)
            wanted = sequential.log_mean([sequential.log_e_safe(run, 2.0), below])
            assert safe[i, 0] == pytest.approx(wanted, abs=1e-9)


def test_worse_harm_is_found_sooner_and_the_harmless_passes() -> None:
    found = [forecast(CANARY, rate=50, errors=0.005, ratio=r) for r in (1, 2, 5, 10)]
    assert found[0].passed > 0.9 and found[0].rolled_back <= 0.08
    assert all(one.rolled_back > 0.9 for one in found[1:])
    medians = [one.found.median for one in found]
    assert isinf(medians[0]) and medians[1] > medians[2] > medians[3] > 20
    for one in found:
        assert one.passed + one.rolled_back + one.late == pytest.approx(1)


def test_a_step_takes_its_hold_and_ends_with_its_patience() -> None:
    held = forecast(CANARY, rate=1000, errors=0.0, runs=20)
    assert [n.median for n in held.steps] == [600_000] * 3, "ten minutes of 1,000 a second"
    slow = forecast(CANARY, rate=0.001, errors=0.005, runs=20)
    assert (slow.late, slow.passed, slow.steps[0].median) == (1.0, 0.0, inf)


def test_evidence_adds_up_from_step_to_step() -> None:
    check = Check(name="errors", measure="errors", rule=Harm())
    steps = tuple(Step(share=Fixed(s), patience=1e6, checks=(check,)) for s in (0.1, 0.5))
    made = forecast(TrafficPlan(name="two", steps=steps), rate=10, errors=0.02)
    assert made.steps[1].median < made.steps[0].median / 50


def test_without_checks_nothing_is_waited_for() -> None:
    made = forecast(replace(), rate=10, errors=0.5, ratio=1.9, runs=10)
    assert (made.passed, made.steps[0].most) == (1.0, 1.0)


@pytest.mark.parametrize(("rate", "errors", "ratio"), [(0, 0.1, 1), (1, -0.1, 1), (1, 1, 1), (1, 0.1, 0)])
def test_traffic_that_cannot_be_is_refused(rate: float, errors: float, ratio: float) -> None:
    with pytest.raises(Invalid):
        forecast(CANARY, rate=rate, errors=errors, ratio=ratio)
