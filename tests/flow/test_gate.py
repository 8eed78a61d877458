"""The gate through its public door: candidates with real defects meet a real baseline."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.core.artifact import Artifact
from fairlead.core.check import Action, Outcome, Verdict
from fairlead.core.decision import Decision
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import CheckText, GateSection
from fairlead.core.release import Service
from fairlead.errors import Invalid
from fairlead.flow.gate import baseline_of
from fairlead.flow.rows import ROW
from fairlead.ports import Change

if TYPE_CHECKING:
    from tests.flow.conftest import Lab

FOREST = """
    from sklearn.ensemble import RandomForestClassifier

    def train(data, params):
        return RandomForestClassifier(20, max_depth=6, random_state=0).fit(data.X, data.y)
"""


def verdict(decision: Decision, measure: str, slice: str = "") -> Verdict:
    found = [v for v in decision.because if (v.check.measure, v.check.slice) == (measure, slice)]
    assert len(found) == 1, [v.check.measure for v in decision.because]
    return found[0]


def measured(lab: "Lab", model: Artifact) -> dict[tuple[str, str], Evidence]:
    runs = [r for r in lab.records.runs() if r.verb == "evaluate" and r.inputs[0] == model.ref]
    return {(e.measure, e.slice): e for e in runs[-1].evidence}


@pytest.fixture
def wide_margin(lab: "Lab") -> None:
    """600 held-out rows cannot prove a margin of 0.01."""
    lab.manifest = replace(lab.manifest, gate=GateSection(margin=0.03))


def test_a_first_model_passes_when_it_beats_a_constant(lab: "Lab", flights: pl.DataFrame) -> None:
    model = lab.train(lab.commit(flights))
    decision = lab.gate(model)
    assert decision.proceed
    assert decision.subject == model.ref
    assert {v.check.measure for v in decision.because} == {"gain_trivial", "latency_p99_ms", "unanswered"}
    assert lab.records.decisions(model.ref) == [decision]
    event = list(lab.records.events())[-1]
    assert (event.verb, event.subject) == ("gate.passed", str(model.ref))


def test_a_model_that_learnt_nothing_is_refused(lab: "Lab", flights: pl.DataFrame) -> None:
    rng = np.random.default_rng(0)
    noise = flights.with_columns(late=pl.Series(rng.random(flights.height) < 0.3))
    model = lab.train(lab.commit(noise))
    decision = lab.gate(model)
    assert not decision.proceed
    assert verdict(decision, "gain_trivial").outcome is Outcome.FAIL
    event = list(lab.records.events())[-1]
    assert event.verb == "gate.refused"
    assert "better than a constant" in event.body["reasons"][0]


@pytest.mark.usefixtures("wide_margin")
def test_a_worse_candidate_is_refused_and_an_equal_one_passes(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    table = lab.commit(flights)
    baseline = lab.train(table)
    worse = lab.gate(lab.train(table, params={"max_iter": 1, "max_depth": 1}), baseline)
    assert verdict(worse, "gain:auc").outcome is Outcome.FAIL
    assert not worse.proceed
    equal = lab.gate(lab.train(table, params={"max_iter": 28}), baseline)
    assert verdict(equal, "gain:auc").outcome is Outcome.PASS
    assert equal.proceed
    assert verdict(equal, "gain:auc").seen[0].against == baseline.ref


@pytest.mark.usefixtures("wide_margin")
def test_kilometres_for_miles_are_refused_by_name(lab: "Lab", flights: pl.DataFrame) -> None:
    table = lab.commit(flights)
    baseline = lab.train(table)
    metric = lab.commit(flights.with_columns(pl.col("distance") * 1.609344), previous=table)
    decision = lab.gate(lab.train(metric), baseline)
    failed = [v for v in decision.because if v.outcome is Outcome.FAIL]
    assert not decision.proceed
    assert [v.check.measure for v in failed if v.check.measure.startswith("drift:")] == ["drift:distance"]
    assert "1.609 times as large (kilometres for miles?)" in failed[0].check.name
    own = measured(lab, lab.records.artifact(decision.subject))["reference_gain:auc", ""]
    assert own.value < 0, "on rows in miles the candidate is worse"


@pytest.mark.usefixtures("wide_margin")
def test_a_grown_table_and_its_seasons_are_no_drift(lab: "Lab", flights: pl.DataFrame) -> None:
    bigger = pl.col("seats") + pl.int_range(pl.len())
    moving = flights.with_columns(bigger.alias("seats"))
    early = lab.commit(moving.head(2_400))
    baseline = lab.train(early)
    grown = lab.commit(moving, previous=early)
    candidate = lab.train(grown)
    decision = lab.gate(candidate, baseline)
    drift = [v for v in decision.because if v.check.measure.startswith("drift:")]
    assert [v.outcome for v in drift] == [Outcome.PASS]
    assert decision.proceed
    assert ("reference_gain:auc", "") not in measured(lab, candidate), "it has learnt from those rows"


@pytest.mark.usefixtures("wide_margin")
def test_without_a_time_other_units_raise_an_alert(lab: "Lab", flights: pl.DataFrame) -> None:
    lab.manifest = replace(lab.manifest, data=replace(lab.manifest.data, time=""))
    baseline = lab.train(lab.commit(flights.drop("at")))
    other = lab.commit(flights.drop("at").with_columns(pl.col("distance") * 1000))
    decision = lab.gate(lab.train(other), baseline)
    moved = verdict(decision, "shift:distance")
    assert moved.outcome is Outcome.FAIL
    assert "thousandths" in moved.check.name
    assert decision.proceed
    assert Action.ALERT in decision.actions


@pytest.mark.usefixtures("wide_margin")
def test_logs_with_gaps_are_compared_by_the_predictions_they_share(lab: "Lab", flights: pl.DataFrame) -> None:
    log = flights.with_columns(pl.format("01{}", pl.int_range(pl.len())).alias(ROW))
    labelled = (pl.col("distance") < 800) | (pl.int_range(pl.len()) % 4 == 0)  # far flights land later
    early, late = log.filter(labelled), log.head(2_900)
    baseline = lab.train(lab.commit(early))
    decision = lab.gate(lab.train(lab.commit(late)), baseline)
    same = [v for v in decision.because if v.check.measure.startswith(("drift:", "shift:"))]
    assert [v.outcome for v in same] == [Outcome.PASS] and same[0].seen[0].n > 1_500
    metric = lab.gate(lab.train(lab.commit(late.with_columns(pl.col("distance") * 1.609344))), baseline)
    assert "kilometres for miles" in verdict(metric, "drift:distance").check.name and not metric.proceed


@pytest.mark.usefixtures("wide_margin")
def test_what_a_log_and_a_table_differ_in_is_told_and_refuses_nobody(lab: "Lab", flights: pl.DataFrame) -> None:
    baseline = lab.train(lab.commit(flights))
    log = flights.with_columns(pl.format("01{}", pl.int_range(pl.len())).alias(ROW))
    some = log.filter((pl.col("seats") < 200) | (pl.int_range(pl.len()) % 4 == 0))
    decision = lab.gate(lab.train(lab.commit(some)), baseline)
    moved = verdict(decision, "shift:seats")
    assert moved.outcome is Outcome.FAIL and moved.check.on_fail == {Action.ALERT}
    assert decision.proceed, "the gaps of a log are nobody's fault"


def test_a_column_of_the_baseline_that_is_gone_leaves_the_question_open(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    baseline = lab.train(lab.commit(flights))
    candidate = lab.train(lab.commit(flights.drop("wind")))
    decision = lab.gate(candidate, baseline)
    assert verdict(decision, "gain:auc").outcome is Outcome.UNKNOWN
    assert not decision.proceed
    assert verdict(decision, "breaking_changes").outcome is Outcome.PASS, "callers lose nothing"


@pytest.mark.usefixtures("wide_margin")
def test_a_column_that_callers_do_not_send_yet_breaks_them(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    baseline = lab.train(lab.commit(flights.drop("seats")))
    decision = lab.gate(lab.train(lab.commit(flights)), baseline)
    broken = verdict(decision, "breaks:seats")
    assert broken.outcome is Outcome.FAIL
    assert "seats" in broken.check.name
    assert not decision.proceed


def test_groups_are_measured_and_parity_is_judged(lab: "Lab", flights: pl.DataFrame) -> None:
    section = replace(lab.manifest.data, sensitive=("sex",), slices=("carrier", "seats"))
    lab.manifest = replace(lab.manifest, data=section)
    biased = flights.with_columns(late=pl.col("late") & (pl.col("sex") == "m"))
    model = lab.train(lab.commit(biased))
    decision = lab.gate(model)
    parity = verdict(decision, "positive_rate", "sex")
    assert parity.outcome is Outcome.FAIL
    assert "sex=f" in parity.reason
    evidence = measured(lab, model)
    groups = {s for m, s in evidence if m == "accuracy" and s.startswith("carrier=")}
    assert groups == {f"carrier={c}" for c in ("AA", "B6", "DL", "UA")}
    bands = [e.n for (m, s), e in evidence.items() if m == "accuracy" and s.startswith("seats=")]
    assert len(bands) == 4
    assert sum(bands) == evidence["accuracy", ""].n


def test_numbers_are_those_of_the_held_out_rows(lab: "Lab", flights: pl.DataFrame) -> None:
    model = lab.train(lab.commit(flights))
    lab.gate(model)
    evidence = measured(lab, model)
    held = flights.tail(600)["late"].cast(pl.Float64).to_numpy()
    at_training = {e.measure: e for e in lab.records.run(model.run).evidence}
    for measure in ("auc", "log_loss", "accuracy"):
        assert evidence[measure, ""].value == pytest.approx(at_training[measure].value)
        assert evidence[measure, ""].n == 600
    skill, brier = evidence["skill", ""], evidence["brier", ""]
    assert skill.value == pytest.approx(1 - brier.value / held.var())
    assert evidence["gain_trivial", ""].value == pytest.approx(skill.value)
    assert evidence["latency_p50_ms", ""].value <= evidence["latency_p99_ms", ""].value < 50


@pytest.mark.usefixtures("wide_margin")
def test_checks_of_the_manifest_are_judged_too(lab: "Lab", flights: pl.DataFrame) -> None:
    checks = (
        CheckText(measure="auc", min=0.99),
        CheckText(measure="accuracy", min=0.5, by="carrier"),
        CheckText(measure="brier", no_worse=0.05),
    )
    lab.manifest = replace(lab.manifest, gate=GateSection(checks=checks, margin=0.03))
    table = lab.commit(flights)
    baseline, candidate = lab.train(table), lab.train(table, params={"max_iter": 28})
    decision = lab.gate(candidate, baseline)
    assert verdict(decision, "auc").outcome is Outcome.FAIL
    assert verdict(decision, "gain:brier").outcome is Outcome.PASS
    assert sum(v.check.measure == "accuracy" for v in decision.because) == 4
    assert not decision.proceed


def test_rows_that_a_strict_model_would_refuse_are_counted(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    late = flights.with_row_index().with_columns(
        pl.when(pl.col("index") >= 2_900).then(pl.lit("XX")).otherwise(pl.col("carrier")).alias("carrier")
    ).drop("index")  # fmt: skip
    model = lab.train(lab.commit(late), unseen="error")
    decision = lab.gate(model)
    assert measured(lab, model)["unanswered", ""].value == pytest.approx(100 / 600)
    assert verdict(decision, "unanswered").outcome is Outcome.FAIL


def test_multiclass_counts_a_class_it_never_met_as_wrong(lab: "Lab", flights: pl.DataFrame) -> None:
    fresh = flights.with_row_index().with_columns(
        late=pl.when(pl.col("index") >= 2_850).then(pl.lit("XX")).otherwise(pl.col("carrier"))
    ).drop("index", "carrier")  # fmt: skip
    known = fresh.head(2_400).with_columns(carrier=pl.col("late"))
    later = fresh.tail(600).with_columns(carrier=pl.col("late").replace("XX", "UA"))
    table = lab.commit(pl.concat([known, later]))
    baseline, candidate = lab.train(table), lab.train(table, params={"max_iter": 12})
    lab.gate(candidate, baseline)
    evidence = measured(lab, candidate)
    assert evidence["accuracy", ""].value == pytest.approx(450 / 600, abs=0.01)
    assert evidence["log_loss", ""].value > 5
    assert evidence["gain:accuracy", ""].n == 600


def test_a_model_in_skops_form_is_measured_beside_one_in_onnx(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    table = lab.commit(flights)
    baseline = lab.train(table)
    lab.code(FOREST)  # scikit-learn's forests read missing values, their ONNX form does not
    candidate = lab.train(table)
    assert "not exact" in list(lab.records.events())[-1].body["why"]
    lab.gate(candidate, baseline)
    evidence = measured(lab, candidate)
    assert evidence["gain:auc", ""].n == 600
    assert evidence["latency_p99_ms", ""].value > 0


def test_another_task_is_no_candidate(lab: "Lab", flights: pl.DataFrame) -> None:
    baseline = lab.train(lab.commit(flights))
    other = lab.train(lab.commit(flights.with_columns(late=pl.col("carrier"))))
    with pytest.raises(Invalid, match="answers multiclass, the baseline binary"):
        lab.gate(other, baseline)


def test_the_baseline_is_what_serves_now(lab: "Lab", flights: pl.DataFrame) -> None:
    model = lab.train(lab.commit(flights))
    assert baseline_of(lab.records, "late", model.ref) is None
    package = lab.package(model)
    serving = Service(name="late", package=package.ref, epoch=1)
    lab.records.store(Change(at=0.0, actor="", verb="", subject="", services=((None, serving),)))
    assert baseline_of(lab.records, "late", model.ref) is None, "it is no baseline of itself"
    newer = lab.train(lab.commit(flights.head(2_000)))
    found = baseline_of(lab.records, "late", newer.ref)
    assert found is not None
    assert found.ref == model.ref


def test_regressions_are_judged_free_of_their_unit(lab: "Lab", flights: pl.DataFrame) -> None:
    lab.code("""
        from sklearn.ensemble import HistGradientBoostingRegressor

        def train(data, params):
            return HistGradientBoostingRegressor(max_iter=40).set_params(**params).fit(data.X, data.y)
    """)
    rng = np.random.default_rng(3)
    delay = (pl.col("distance") * 1e4 + pl.Series(rng.normal(0, 1e6, flights.height)))
    table = lab.commit(flights.with_columns(late=delay))
    baseline = lab.train(table)
    decision = lab.gate(lab.train(table, params={"max_iter": 39}), baseline)
    assert verdict(decision, "gain:r2").outcome is Outcome.PASS
    assert verdict(decision, "gain_trivial").outcome is Outcome.PASS
    assert decision.proceed
