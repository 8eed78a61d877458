"""Replay as a gate: bad candidates meet recorded requests before anybody meets them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec
from fairlead.core.check import Action, Outcome
from fairlead.core.decision import Decision
from fairlead.core.encoding import compile_row
from fairlead.core.feature import FeatureView
from fairlead.core.journal import HEADER, Batch, Note, frame
from fairlead.core.manifest import CheckText, GateSection
from fairlead.core.replay import FLIPS, SAME, SHIFT, UNANSWERED, Replay
from fairlead.flavors import sklearn
from fairlead.flow import gate, replay

if TYPE_CHECKING:
    from tests.flow.conftest import Lab

START = 1_699_000_000.0
"""Before the clock of the laboratory, which ticks from 1.7e9 on."""


class Past:
    """A service that has answered: its package, its log as journals, and the rows it was asked."""

    def __init__(self, lab: "Lab", baseline: Artifact, rows: pl.DataFrame) -> None:
        self.lab, self.baseline = lab, baseline
        self.package = lab.package(baseline)
        spec = self.package.spec
        assert isinstance(spec, PackageSpec)
        root = lab.root / "predictions"
        self.log = PredictionFiles(root, lambda _: spec)
        (root / "journal").mkdir(parents=True)
        (root / "journal" / "gw01-000000.log").write_bytes(HEADER + b"".join(self.ask(rows, spec)))

    def ask(self, rows: pl.DataFrame, spec: PackageSpec) -> Iterator[bytes]:
        """Answer rows as the gateway would: the answers and the truth as a journal holds them."""
        scorer = sklearn.scorer(self.lab.root / "packages" / self.package.ref.digest, spec.flavor,
                                spec.task, len(spec.classes))  # fmt: skip
        encode, n = compile_row(spec.encoding), rows.height
        sent = list(rows.select(spec.contract.names).iter_rows(named=True))
        scores = scorer(np.array([encode(r) for r in sent], dtype=np.float32))
        ids = [f"01{i:08d}gw01" for i in range(n)]
        for i in range(0, n, 50):
            part = slice(i, i + 50)
            size = len(ids[part])
            yield frame(Batch(
                service="late", package=str(self.package.ref), at=START + i * 300.0, epoch=1,
                live=True, propensity=1.0, ids=ids[part], units=ids[part],
                bodies=[msgspec.json.encode(r) for r in sent[part]], features=[None] * size,
                outputs=scores[part].astype(float).tolist(), errors=[""] * size,
                fallback=[False] * size, latencies=[0.002] * size))  # fmt: skip
        for prediction, late in zip(ids, rows["late"].to_list(), strict=True):
            yield frame(Note(prediction=prediction, name="label", value=late, at=START + 1e6))

    def gate(self, model: Artifact, **more: Any) -> Decision:
        self.lab.manifest = replace(self.lab.manifest, gate=GateSection(margin=0.05, **more))
        return gate.gate(model, self.baseline, self.lab.manifest, log=self.log, **self.lab.doors)

    def replay(self, model: Artifact, last: int = 1_000) -> Replay:
        doors = {k: v for k, v in self.lab.doors.items() if k != "actor"}
        made = replay.replay(model, self.baseline, "late", last=last, log=self.log,
                             unseen=gate.unseen(self.lab.records, self.baseline), **doors)  # fmt: skip
        assert made is not None
        return made


@pytest.fixture
def past(lab: "Lab", flights: pl.DataFrame) -> Past:
    return Past(lab, lab.train(lab.commit(flights)), flights.tail(1_000))


def outcomes(decision: Decision) -> dict[str, Outcome]:
    names = (FLIPS, UNANSWERED, "gain:replay:auc")
    return {v.check.name: v.outcome for v in decision.because if v.check.measure in names}


def whole(made: Replay) -> dict[str, float]:
    return {e.measure: e.value for e in made.evidence if not e.slice}


def test_a_harmless_candidate_passes_and_the_report_is_whole(
    past: Past, lab: "Lab", flights: pl.DataFrame
) -> None:
    candidate = lab.train(lab.commit(flights), params={"max_iter": 28})
    decision = past.gate(candidate)
    assert decision.proceed, [v.reason for v in decision.because]
    said = outcomes(decision)
    assert said["answers recorded requests"] is not Outcome.FAIL
    assert said["decisions that flip"] is Outcome.PASS
    made = past.replay(candidate)
    found = whole(made)
    assert found[SAME] == 1, "the replay gives the logged answers again, so it can be believed"
    assert found[FLIPS] < 0.1 and abs(found[SHIFT]) < 0.05
    assert made.labelled == 0, "they were made after these requests: they may have learnt from them"
    assert {"replay:latency_p50_ms", "replay:latency_p99_ms"} <= found.keys()
    assert {f"carrier={c}" for c in ("AA", "B6", "DL", "UA")} <= {e.slice for e in made.evidence}
    newest = past.replay(candidate, last=100)
    assert (newest.requests, newest.since, newest.until) == (100, START + 900 * 300, START + 950 * 300)
    own = past.gate(candidate, checks=(CheckText(measure=FLIPS, max=0.5, by="carrier"),), replay=200)
    assert [v.check.name for v in own.because if v.check.slice == "carrier=B6"] == [
        "bound of replay:flips [carrier=B6]"]  # fmt: skip
    assert FLIPS not in {v.check.measure for v in past.gate(candidate, replay=0).because}
    assert isinstance(candidate.spec, ModelSpec)
    view = FeatureView(name="weather", source="weather.csv", entity="carrier", columns=("gust",))
    newer = past.replay(replace(candidate, spec=replace(candidate.spec, views=(view,))))
    assert newer.requests == 0 and "'weather.gust'" in newer.notes[0]


def test_flips_in_one_group_are_caught_before_traffic(
    past: Past, lab: "Lab", flights: pl.DataFrame
) -> None:
    """Its training table calls one carrier's flights late when they are not: offline it looks fine."""
    turned = (pl.col("carrier") == "UA") ^ pl.col("late")
    candidate = lab.train(lab.commit(flights.with_columns(late=turned)))
    decision = past.gate(candidate, max_flips=0.4)
    failed = {n for n, o in outcomes(decision).items() if o is Outcome.FAIL}
    assert "decisions that flip [carrier=UA]" in failed
    assert not failed & {f"decisions that flip [carrier={c}]" for c in ("AA", "B6", "DL")}
    assert Action.ROLLBACK in decision.actions


def test_a_unit_error_is_caught_before_traffic(past: Past, lab: "Lab", flights: pl.DataFrame) -> None:
    """Trained on kilometres for miles; requests go on arriving in miles."""
    lab.gate(past.baseline)  # says which rows it was held out from
    metric = lab.commit(flights.with_columns(pl.col("distance") * 1.609344))
    decision = past.gate(lab.train(metric), max_flips=0.1)
    assert outcomes(decision)["decisions that flip"] is Outcome.FAIL
    assert not decision.proceed
    noted = [v for v in decision.because if v.check.measure == "gain:replay:auc"]
    assert noted[0].check.name == "no worse on recorded requests (4 days: noted)"
    assert noted[0].check.on_fail == {Action.ALERT}
    found = {e.measure: e for r in lab.records.runs()[-1:] for e in r.evidence if not e.slice}
    assert (found[SHIFT].high or 0.0) < -0.05, "all flights look shorter"


def test_refused_requests_are_named(past: Past, lab: "Lab", flights: pl.DataFrame) -> None:
    careless = lab.train(lab.commit(flights.filter(pl.col("carrier") != "UA")), unseen="error")
    decision = past.gate(careless)
    refused = [v for v in decision.because if v.check.measure == UNANSWERED]
    assert refused[0].outcome is Outcome.FAIL
    assert "'carrier' cannot take 'UA'" in refused[0].check.name
    stricter = lab.train(lab.commit(flights.with_columns(gate=pl.col("seats") % 7)))
    made = past.replay(stricter)
    assert [(c.column, c.requests) for c in made.causes] == [("gate", 1_000)]
    assert "'gate' is missing" in made.causes[0].message
