"""Fairness through public doors: the gate's evidence, the log of what serves, and explanations of answers."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.core.artifact import PackageSpec
from fairlead.core.check import Outcome, judge
from fairlead.core.manifest import (
    CheckText,
    DataSection,
    GateSection,
    Manifest,
    MonitorText,
    TrainSection,
)
from fairlead.core.monitor import monitors
from fairlead.core.prediction import Prediction
from fairlead.errors import Invalid, Missing
from fairlead.flow import explain as explaining
from fairlead.flow.fairness import assess, held_out
from fairlead.flow.package import restore
from tests.flow.test_gate import verdict
from tests.flow.test_observe import World

if TYPE_CHECKING:
    from tests.flow.conftest import Lab


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.file.close()


def people(lab: "Lab", *checks: CheckText) -> None:
    data = replace(lab.manifest.data, sensitive=("sex", "carrier"))
    lab.manifest = replace(lab.manifest, data=data, gate=GateSection(checks=checks))


def test_groups_and_intersections_are_compared_the_clearest_trouble_first(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    people(lab)
    biased = flights.with_columns(late=pl.col("late") & (pl.col("sex") == "m"))
    model = lab.train(lab.commit(biased))
    with pytest.raises(Missing, match="never judged"):
        held_out(model, lab.records)
    assert verdict(lab.gate(model), "positive_rate", "sex+carrier").outcome is Outcome.FAIL
    found = assess(model.ref, held_out(model, lab.records), lab.manifest)
    by = {(c.measure, c.by): c for c in found.compared}
    assert found.compared[0].outcome == "fail"
    rate = by["positive_rate", "sex"]
    assert (rate.outcome, rate.form, [g.name for g in rate.groups]) == ("fail", "ratio", ["f", "m"])
    women, men = rate.groups
    assert women.beside < 0.2 and men.beside == men.beside_low == 1.0
    assert by["calibration", "sex"].form == "difference"
    assert len(by["positive_rate", "sex+carrier"].groups) == 8
    assert women.n + men.n == 600 and sum(g.n for g in by["false_positive_rate", "sex"].groups) < 550


def test_a_check_of_ones_own_replaces_those_of_its_column_and_holds_when_unsure(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    people(lab, CheckText(measure="false_positive_rate", gap=0.001, by="sex"))
    model = lab.train(lab.commit(flights))
    decision = lab.gate(model)
    assert {v.check.measure for v in decision.because if v.check.slice == "sex"} == {"false_positive_rate"}
    mine = verdict(decision, "false_positive_rate", "sex")
    assert mine.outcome is Outcome.UNKNOWN and not decision.proceed
    shown = {c.measure: c.outcome for c in assess(model.ref, held_out(model, lab.records), lab.manifest).compared
             if c.by == "sex"}  # fmt: skip
    assert (shown["false_positive_rate"], shown["positive_rate"]) == ("not enough data", "not judged")


def test_a_forbidden_column_among_those_that_contribute_most_is_refused(
    lab: "Lab", flights: pl.DataFrame
) -> None:
    people(lab, CheckText(measure="rank:distance", min=2), CheckText(measure="rank:seats", min=2))
    told = flights.with_columns(late=pl.col("distance") > 800)
    decision = lab.gate(lab.train(lab.commit(told)))
    assert verdict(decision, "rank:distance").outcome is Outcome.FAIL
    assert verdict(decision, "rank:seats").outcome is Outcome.PASS


def test_a_sensitive_column_is_stored_though_the_model_does_not_read_it() -> None:
    data = DataSection(source="x", target="y", sensitive=("sex",), slices=("town",), ignore=("sex", "id", "town"))
    assert data.dropped == ("id",)
    with pytest.raises(Invalid, match="no column is called sensitive"):
        assess(World.__new__, (), Manifest(service="s", data=replace(data, sensitive=()), train=TrainSection()))  # type: ignore[arg-type]


def test_production_compares_groups_and_intersections_and_a_monitor_judges(world: World) -> None:
    observer = world.observer(slices=("carrier", "sex"), crossed=("carrier+sex",))
    for carrier, sex, chosen in (("UA", "f", 30), ("UA", "m", 60), ("AA", "f", 50), ("AA", "m", 55)):
        body = f'{{"x":0.1,"carrier":"{carrier}","sex":"{sex}"}}'.encode()
        outputs = [[0.9 if i % 100 < chosen else 0.1] for i in range(400)]
        ids = world.ask(world.old, 400, at=1000.0, bodies=[body] * 400, outputs=outputs)
        world.tell(ids, "yes", at=1001.0)
    seen = observer.watch(1100.0, 300.0)
    alone, crossed = (seen.get(world.old, "parity:positive_rate", by) for by in ("sex", "carrier+sex"))
    assert alone is not None and crossed is not None
    assert alone.value == pytest.approx(40 / 57.5) and crossed.value == pytest.approx(30 / 60)
    assert alone.high is not None and alone.high < 0.8 and alone.n == 800
    found = seen.get(world.old, "parity:true_positive_rate", "sex")
    assert found is not None and found.value == pytest.approx(40 / 57.5)
    watch, = monitors({"equal": MonitorText(measure="parity:positive_rate", slice="sex", min=0.8)})
    assert judge(watch.check, seen, world.old, None).outcome is Outcome.FAIL


def test_an_answer_is_explained_once_and_kept_with_its_id(lab: "Lab", flights: pl.DataFrame) -> None:
    package = lab.package(lab.train(lab.commit(flights)))
    row = flights.drop("late", "at").tail(1).to_dicts()[0]
    asked = Prediction(id="p1", service="flights", package=package.ref, at=0.0, unit="", latency=0.001,
                       inputs=row, output={"label": "true", "score": 0.5}, live=True, propensity=1.0, epoch=1)  # fmt: skip
    folder = restore(package, lab.root / "packages", lab.blobs)

    assert isinstance(package.spec, PackageSpec)
    explained = partial(explaining.explain, asked, package.spec, folder, **lab.doors)
    with pytest.raises(Invalid, match="keeps no seats"):
        explained(hidden={"seats"})
    made = explained()
    assert made.base + sum(c.amount for c in made.contributions) == pytest.approx(made.total)
    assert [abs(c.amount) for c in made.contributions] == sorted((abs(c.amount) for c in made.contributions), reverse=True)
    assert explained() == made == explaining.stored(asked, lab.records, lab.blobs)
    assert [e.verb for e in lab.records.events(subject="prediction/p1")] == ["prediction.explained"]
