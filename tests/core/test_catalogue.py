"""Ready-made checks and plans: what a manifest that says little asks for."""

import pytest
from msgspec.structs import replace as changed

from fairlead.core.artifact import Task
from fairlead.core.catalogue import gate_checks, plan_of, release_checks
from fairlead.core.check import Action, Amount, Balance, Bound, Harm, NoWorse, PairedLoss, Parity
from fairlead.core.evidence import Evidence
from fairlead.core.latency import QUANTILES
from fairlead.core.manifest import CheckText, FeedbackText, GateSection, ReleaseSection, StepText
from fairlead.core.ref import Ref
from fairlead.core.schema import Change
from fairlead.core.traffic import DAY, Adaptive, Fixed
from fairlead.errors import Invalid

ME = Ref("model", "m", "1" * 64)
CHECKS = release_checks(ReleaseSection(), "binary")
LIVE, MIRRORED = {"requests", "errors", "slow", "slower"}, {"errors", "slow", "twins:flips", "twins:shift", "brier_pair"}


def fact(measure: str, value: float, slice: str = "") -> Evidence:
    return Evidence(subject=ME, measure=measure, value=value, n=100, slice=slice)


@pytest.mark.parametrize(
    ("task", "primary"), [("binary", "auc"), ("multiclass", "accuracy"), ("regression", "r2")]
)
def test_a_gate_asks_for_the_measure_of_the_task(task: Task, primary: str) -> None:
    alone = gate_checks(GateSection(), task, [], compared=False)
    assert [c.measure for c in alone] == ["gain_trivial", "latency_p99_ms", "unanswered"]
    beside = gate_checks(GateSection(margin=0.02), task, [], compared=True)
    main = next(c for c in beside if c.measure == f"gain:{primary}")
    assert main.rule == NoWorse(margin=0.02)
    assert main.on_unknown == {Action.HOLD}
    assert "breaking_changes" in {c.measure for c in beside}


def test_small_tables_need_not_prove_a_second_measure() -> None:
    second = next(c for c in gate_checks(GateSection(), "binary", [], compared=True)
                  if c.measure == "gain:skill")  # fmt: skip
    assert second.on_unknown == {Action.ALERT}
    assert second.on_fail == {Action.ROLLBACK}


def test_a_check_of_the_manifest_takes_the_place_of_the_ready_made_one() -> None:
    section = GateSection(checks=(CheckText(measure="auc", no_worse=0.05),), margin=0.01)
    rules = [c.rule for c in gate_checks(section, "binary", [], compared=True)
             if c.measure == "gain:auc"]  # fmt: skip
    assert rules == [NoWorse(margin=0.05)]


def test_parity_is_asked_for_sensitive_columns_unless_the_manifest_speaks() -> None:
    ready = gate_checks(GateSection(), "binary", [], compared=False, sensitive=("sex",))
    parity = [c for c in ready if isinstance(c.rule, Parity)]
    assert {c.measure: (c.rule.gap is None) for c in parity if isinstance(c.rule, Parity)} == {
        "positive_rate": True, "true_positive_rate": True, "precision": True,
        "false_positive_rate": False, "calibration": False}  # fmt: skip
    assert all(c.slice == "sex" and c.on_unknown == {Action.ALERT} for c in parity)
    deep = gate_checks(GateSection(), "binary", [], compared=False, sensitive=("sex", "race", "age"), crossed=3)
    assert {c.slice for c in deep if isinstance(c.rule, Parity)} >= {"sex+race", "sex+race+age"}
    both = gate_checks(GateSection(), "binary", [], compared=False, sensitive=("sex", "race"))
    assert {c.slice for c in both if isinstance(c.rule, Parity)} == {"sex", "race", "sex+race"}
    said = GateSection(checks=(CheckText(measure="accuracy", parity=0.0, by="sex"),))
    spoken = gate_checks(said, "binary", [], compared=False, sensitive=("sex",))
    assert [c.measure for c in spoken if isinstance(c.rule, Parity)] == ["accuracy"]


def test_a_bound_by_group_is_one_check_per_measured_group() -> None:
    text = CheckText(measure="auc", min=0.6, by="carrier", min_n=50)
    facts = [fact("auc", 0.7, "carrier=AA"), fact("auc", 0.5, "carrier=UA"), fact("auc", 0.6, "sex=f")]
    own = [c for c in gate_checks(GateSection(checks=(text,)), "binary", facts, compared=False)
           if c.measure == "auc"]  # fmt: skip
    assert [c.slice for c in own] == ["carrier=AA", "carrier=UA"]
    assert all(c.rule == Bound(low=0.6) and c.min_n == 50 for c in own)
    silent = gate_checks(GateSection(checks=(text,)), "binary", [], compared=False)
    assert [c.slice for c in silent if c.measure == "auc"] == ["carrier=?"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CheckText(measure="auc"), "asks 0 things"),
        (CheckText(measure="auc", min=0.5, no_worse=0.1), "asks 2 things"),
        (CheckText(measure="positive_rate", parity=0.8), "between whom"),
    ],
)
def test_a_check_that_says_too_little_or_too_much_is_refused(text: CheckText, says: str) -> None:
    section = GateSection(checks=(CheckText(measure="auc", max=0.9), text))
    with pytest.raises(Invalid, match=says) as caught:
        gate_checks(section, "binary", [], compared=False)
    assert caught.value.pointer.startswith("/gate/checks/1")


def test_columns_that_moved_are_named_one_by_one_and_still_ones_together() -> None:
    still = [fact("drift:a", 0.0), fact("drift:b", 0.05)]
    one = [c for c in gate_checks(GateSection(), "binary", still, compared=True)
           if c.measure.startswith("drift:")]  # fmt: skip
    assert [(c.measure, c.name) for c in one] == [("drift:b", "same values as before (2 columns)")]
    moved = [*still, fact("drift:c", 2.0), fact("scale:c", 0.4536), fact("drift:d", 0.3),
             fact("scale:d", 1.7)]  # fmt: skip
    names = [c.name for c in gate_checks(GateSection(), "binary", moved, compared=True)
             if c.measure.startswith("drift:")]  # fmt: skip
    assert len(names) == 2
    assert "kilograms for pounds" in names[0]
    assert names[1].endswith(", 1.7 times as large")


@pytest.mark.parametrize(
    ("scale", "says"),
    [(1.609344, "(kilometres for miles?)"), (0.621371, "(the reverse of kilometres for miles?)"),
     (1000.0, "(thousandths?)"), (1.01, "same period")],
)  # fmt: skip
def test_a_ratio_of_units_is_recognised(scale: float, says: str) -> None:
    facts = [fact("drift:x", 1.0), fact("scale:x", scale)]
    check = next(c for c in gate_checks(GateSection(), "binary", facts, compared=True)
                 if c.measure == "drift:x")  # fmt: skip
    assert check.name.endswith(says)


def test_each_breaking_change_is_named() -> None:
    changes = [Change(column="a", size="wider", text="x"), Change(column="b", size="breaking", text="is new")]
    checks = gate_checks(GateSection(), "binary", [], changes, compared=True)
    assert [c.name for c in checks if c.measure.startswith("breaks:")] == ["schema: b is new"]
    assert "breaking_changes" not in {c.measure for c in checks}


def test_a_release_watches_errors_slowness_and_paired_loss() -> None:
    section = ReleaseSection(slow_ms=50, max_errors=0.004, min_pairs=300, margin=0.02)
    checks = {c.measure: c for c in release_checks(section, "regression")}
    assert {m: c.rule for m, c in checks.items()} == {
        "requests": Balance(), "errors": Harm(negligible=0.004), "slow": Harm(negligible=0.01),
        "slower": Harm(over=tuple(QUANTILES), slower=1.1, negligible=0.01),
        "twins:flips": Bound(high=1.0), "twins:shift": Bound(),
        "brier_pair": PairedLoss(margin=0.02, tolerate=0.02),
    }  # fmt: skip
    assert checks["brier_pair"].min_n == 300
    assert checks["slow"].name == "slower than 50 ms"
    silent = release_checks(ReleaseSection(max_slower=0), "binary", feedback=False)
    assert {c.measure for c in silent} == {"requests", "errors", "slow", "twins:flips", "twins:shift"}
    assert not {c.measure for c in release_checks(ReleaseSection(min_pairs=0), "binary")} & {"brier_pair"}


def test_feedback_becomes_guardrails_of_the_steps_that_somebody_meets() -> None:
    section = ReleaseSection(plan="shadow_canary", feedback={
        "bought": FeedbackText(), "refund": FeedbackText(better="less", loss=0.5, wait=False),
        "spent": FeedbackText(kind="amount", cap=500.0), "label": FeedbackText()})  # fmt: skip
    checks = {c.name: c for c in release_checks(section, "binary")}
    assert checks["no less bought"].rule == Harm(welcome=True, exclude=1.25)
    assert checks["no more refund"].rule == Harm(exclude=1.5) and not checks["no more refund"].on_unknown
    assert checks["no less spent"].rule == Amount(cap=500.0)
    assert (checks["wrong by its label"].measure, checks["wrong by its label"].rule) == ("event:label", Harm(exclude=1.2))
    first, second, *_ = plan_of(section, tuple(checks.values())).steps
    asked = {"event:bought", "event:refund", "amount:spent", "event:label"}
    assert not asked & {c.measure for c in first.checks} and asked <= {c.measure for c in second.checks}


def test_a_limit_for_flips_holds_a_shadow_until_it_is_kept() -> None:
    told, held = (release_checks(ReleaseSection(max_flips=limit), "binary", sliced=True) for limit in (1, 0.02))
    for checks, asks in ((told, frozenset()), (held, {Action.HOLD})):
        flips = [c for c in checks if c.measure == "twins:flips"]
        assert [c.slice for c in flips] == ["", "*"] and all(c.on_unknown == asks for c in flips)


def test_plans_by_name() -> None:
    section = ReleaseSection(shares=(0.1, 0.5), hold="2m", patience="3h", sticky_by="user", alpha=0.01)
    made = plan_of(section, CHECKS)
    assert [s.share for s in made.steps] == [Fixed(0.1), Fixed(0.5)]
    assert {(s.hold, s.patience) for s in made.steps} == {(120.0, 10_800.0)}
    assert (made.sticky_by, made.odds.alpha, made.promote) == ("user", 0.01, True)
    assert {c.measure for c in made.steps[0].checks} == LIVE
    both = plan_of(ReleaseSection(plan="shadow_canary"), CHECKS)
    assert [(s.mirror, s.share) for s in both.steps] == [
        (1.0, Fixed(0.0)), (0.0, Fixed(0.05)), (0.0, Fixed(0.25)), (0.0, Fixed(0.5))]  # fmt: skip
    assert {c.measure for c in both.steps[0].checks} == MIRRORED
    assert both.promote
    shadow = plan_of(ReleaseSection(plan="shadow"), CHECKS)
    assert (len(shadow.steps), shadow.promote) == (1, False)
    blue = plan_of(ReleaseSection(plan="blue_green"), CHECKS)
    assert [(s.mirror, s.share) for s in blue.steps] == [(1.0, Fixed(0.0)), (0.0, Fixed(1.0))]
    assert plan_of(ReleaseSection(plan="replace"), CHECKS).steps[0].share == Fixed(1.0)


def test_experiments_by_name() -> None:
    section = ReleaseSection(plan="ab_test", shares=(0.4,), days=3, goal="sale", sticky_by="user")
    split = plan_of(section, CHECKS)
    assert (split.name, split.goal, split.sticky_by, split.promote) == ("ab_test", "sale", "user", True)
    assert (split.steps[0].share, split.steps[0].hold) == (Fixed(0.4), 3 * DAY)
    assert {c.measure for c in split.steps[0].checks} == LIVE
    learner = plan_of(changed(section, plan="bandit", days=40), CHECKS)
    assert (learner.name, learner.goal, learner.steps[0].hold) == ("bandit", "sale", 40 * DAY)
    assert learner.steps[0].share == Adaptive(reward="sale")
    assert {c.measure for c in learner.steps[0].checks} == LIVE - {"requests"}
    assert learner.steps[0].patience >= learner.steps[0].hold


def test_steps_by_hand_take_the_checks_their_traffic_can_answer() -> None:
    steps = (StepText(mirror=0.5, hold="1h"), StepText(share=0.2), StepText(pin=("boss",)))
    made = plan_of(ReleaseSection(steps=steps), CHECKS)
    measures = [{c.measure for c in s.checks} for s in made.steps]
    assert measures == [MIRRORED, LIVE, set()]
    assert made.steps[0].hold == 3600.0


@pytest.mark.parametrize(
    ("section", "pointer"),
    [
        (ReleaseSection(hold="10"), "/release/hold"),
        (ReleaseSection(patience="soon"), "/release/patience"),
        (ReleaseSection(steps=(StepText(share=0.1), StepText(hold="x"))), "/release/steps/1/hold"),
        (ReleaseSection(shares=(0.5, 0.2)), "/release/shares"),
        (ReleaseSection(shares=()), "/release/shares"),
        (ReleaseSection(plan="ab_test", shares=()), "/release/shares"),
        (ReleaseSection(plan="bandit"), "/release/goal"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(section: ReleaseSection, pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        plan_of(section, CHECKS)
    assert caught.value.pointer == pointer
    assert "release." in str(caught.value)
    assert caught.value.hint


def test_without_a_time_a_moved_column_is_told_but_refuses_nothing() -> None:
    facts = [fact("shift:a", 2.0), fact("scale:a", 1000.0)]
    check = next(c for c in gate_checks(GateSection(), "binary", facts, compared=True)
                 if c.measure == "shift:a")  # fmt: skip
    assert check.on_fail == {Action.ALERT}
    assert check.name == "a: other values than before, 1000 times as large (thousandths?)"


def test_features_that_are_looked_up_must_be_served_as_computed_offline() -> None:
    assert not {c.measure for c in CHECKS} & {"skew", "recomputed"}
    made = {c.measure: c for c in release_checks(ReleaseSection(), "binary", featured=True)}
    assert "recomputed" not in made and made["skew"].on_unknown == set()
    assert made["skew"].on_fail == {Action.ALERT, Action.HOLD} and made["skew"].rule == Bound(high=0.001)
    waits = ReleaseSection(min_recomputed=500, max_skew=0.0, plan="shadow_canary")
    plan = plan_of(waits, release_checks(waits, "binary", featured=True))
    assert all({"skew", "recomputed"} <= {c.measure for c in step.checks} for step in plan.steps)
    asked = {c.measure: c for c in plan.steps[0].checks}
    assert asked["recomputed"].on_unknown == asked["recomputed"].on_fail == {Action.HOLD}
    assert asked["recomputed"].rule == Bound(low=500) and asked["skew"].rule == Bound(high=0.0)
