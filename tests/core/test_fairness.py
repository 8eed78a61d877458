from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.check import Check, Outcome, Parity, judge
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.fairness import crossings, disparities, disparity, parts
from fairlead.core.intervals import newcombe, wilson
from fairlead.core.metrics import METRICS, metric_interval
from fairlead.core.ref import Ref

MODEL = Ref("model", "m", "0" * 64)


def group(name: str, k: int, n: int, measure: str = "positive_rate") -> Evidence:
    low, high = wilson(k, n)
    return Evidence(subject=MODEL, measure=measure, value=k / n, n=n, low=low, high=high, slice=name)


def judged(rule: Parity, *groups: Evidence) -> Outcome:
    check = Check(name="c", measure=groups[0].measure, rule=rule, slice="sex")
    return judge(check, EvidenceSet(groups), MODEL, None).outcome


def test_two_groups_are_compared_by_mover_and_by_newcombe() -> None:
    a, b = group("sex=f", 30, 100), group("sex=m", 50, 100)
    ratio, gap = disparity([b, a]), disparity([b, a], gap=True)
    assert ratio is not None and gap is not None
    assert (ratio.least, ratio.most) == (a, b)
    assert ratio.value == pytest.approx(0.6) and 0.4 < ratio.low < 0.6 < ratio.high < 0.9
    assert (gap.low, gap.high) == pytest.approx(newcombe((50, 100), (30, 100)))


def test_there_are_three_outcomes_by_ratio_and_by_difference() -> None:
    alike = group("sex=f", 4900, 10_000), group("sex=m", 5000, 10_000)
    apart = group("sex=f", 3000, 10_000), group("sex=m", 5000, 10_000)
    few = group("sex=f", 12, 40), group("sex=m", 20, 40)
    for rule in (Parity(floor=0.8), Parity(gap=0.1)):
        assert [judged(rule, *g) for g in (alike, apart, few)] == [
            Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN]  # fmt: skip


def test_a_small_group_hides_no_disparity_between_large_ones() -> None:
    large = group("sex=f", 3000, 10_000), group("sex=m", 5000, 10_000)
    assert judged(Parity(), *large, group("sex=x", 19, 20)) is Outcome.FAIL
    alike = group("sex=f", 4900, 10_000), group("sex=m", 5000, 10_000)
    assert judged(Parity(), *alike, group("sex=x", 8, 20)) is Outcome.UNKNOWN
    within = group("sex=f", 4250, 10_000), group("sex=m", 5000, 10_000)
    assert judged(Parity(), *within) is Outcome.PASS
    assert judged(Parity(), *within, group("sex=x", 9, 20)) is Outcome.UNKNOWN


def test_many_groups_are_judged_more_strictly_than_two() -> None:
    pair = group("sex=0", 18, 50), group("sex=1", 36, 50)
    assert judged(Parity(), *pair) is Outcome.FAIL
    middle = [group(f"sex={i}", 28, 50) for i in range(2, 12)]
    assert judged(Parity(), *pair, *middle) is Outcome.UNKNOWN


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(60, 90)), min_size=2, max_size=5), st.booleans())
def test_the_order_of_groups_changes_nothing_and_the_ends_enclose_the_value(
    counts: list[tuple[int, int]], gap: bool
) -> None:
    groups = [group(f"sex={i}", k, n) for i, (k, n) in enumerate(counts)]
    one, two = disparity(groups, gap=gap), disparity(groups[::-1], gap=gap)
    assert one is not None and two is not None
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
    assert one.low - 1e-9 <= one.value <= one.high + 1e-9
    assert one.low >= 0 and one.high <= (1 if not gap else 2)


def test_rates_nobody_has_are_not_decided() -> None:
    found = disparity([group("sex=f", 0, 30), group("sex=m", 0, 30)])
    assert found is not None and (found.value, found.low, found.high) == (1.0, 0.0, 1.0)
    assert disparity([group("sex=f", 3, 30)]) is None


def test_columns_cross_in_pairs_and_come_apart_again() -> None:
    assert crossings(("sex", "race", "age")) == ("sex+race", "sex+age", "race+age")
    assert crossings(("sex", "race", "age"), 3)[3:] == ("sex+race+age",) and crossings(("sex", "race"), 1) == ()
    assert parts("sex+race", ("sex", "race")) == ("sex", "race")
    assert parts("a+b", ("a+b", "a")) == ("a+b",)


def test_disparities_keep_columns_and_their_intersections_apart() -> None:
    facts = [group(f"{c}={v}", k, 500) for c, (v, k) in product(("sex", "sex+race"), (("f", 100), ("m", 250)))]
    facts.append(group("sex+race=x", 50, 500))
    found = {e.slice: e for e in disparities(facts, ("sex", "sex+race"))}
    assert {e.measure for e in found.values()} == {"parity:positive_rate"}
    assert found["sex"].value == pytest.approx(0.4) and found["sex+race"].value == pytest.approx(0.2)


def test_calibration_is_covered_by_its_interval_in_small_groups() -> None:
    rng, metric, held = np.random.default_rng(3), METRICS["calibration"], 0
    for _ in range(1500):
        score = rng.beta(2, 3, 25)
        value, low, high = metric_interval(metric, rng.random(25) < score, score)
        assert low <= value <= high
        held += low <= 0 <= high
    assert 0.93 <= held / 1500 <= 0.975


def test_a_rate_says_how_many_rows_bear_on_it() -> None:
    y, score = [1, 1, 0, 0, 0], [0.9, 0.2, 0.8, 0.1, 0.3]
    bears = {n: METRICS[n].support(y, score) for n in ("positive_rate", "true_positive_rate",
             "false_positive_rate", "precision", "brier")}  # fmt: skip
    assert list(bears.values()) == [5, 2, 3, 2, 5]


def test_rates_by_group_are_those_of_fairlearn() -> None:
    frame = pytest.importorskip("fairlearn.metrics")
    from sklearn.metrics import precision_score

    rng = np.random.default_rng(4)
    y, score, sex = rng.integers(0, 2, 800), rng.random(800), rng.choice(["f", "m", "x"], 800)
    known = {"positive_rate": frame.selection_rate, "true_positive_rate": frame.true_positive_rate,
             "false_positive_rate": frame.false_positive_rate, "precision": precision_score}  # fmt: skip
    theirs = frame.MetricFrame(metrics=known, y_true=y, y_pred=score >= 0.5, sensitive_features=sex)
    for name in known:
        for who, value in theirs.by_group[name].items():
            mine = METRICS[name].value(y[sex == who], score[sex == who])
            assert mine == pytest.approx(value)
        values = [group(f"s={w}", round(v * 10**6), 10**6, name) for w, v in theirs.by_group[name].items()]
        found = disparity(values)
        assert found is not None and found.value == pytest.approx(theirs.ratio()[name], abs=1e-4)
