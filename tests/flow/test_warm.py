"""Warm starts: a model goes on from the one that serves, as an ordinary model that can be made again."""

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec
from fairlead.errors import Invalid
from fairlead.flow import warm
from fairlead.flow.reproduce import reproduce

if TYPE_CHECKING:
    from tests.flow.conftest import Lab

ON = """
    from sklearn.linear_model import SGDClassifier
    from sklearn.naive_bayes import GaussianNB

    def train(data, params):
        blank = GaussianNB() if params.get("bayes") else SGDClassifier(loss="log_loss", random_state=data.seed)
        model = data.last or blank
        return model.partial_fit(data.X[data.fresh], data.y[data.fresh], classes=[0, 1])
"""


@pytest.fixture
def rows(flights: pl.DataFrame) -> pl.DataFrame:
    """Without gaps, which these learners do not take, and in numbers of one size."""
    return flights.with_columns(pl.col("wind").fill_null(10.0), pl.col("distance") / 1000, pl.col("seats") / 100)


@pytest.fixture
def warming(lab: "Lab") -> "Lab":
    lab.code(ON)
    lab.manifest = replace(lab.manifest, train=replace(lab.manifest.train, warm_start=True))
    return lab


def spec(model: Artifact) -> ModelSpec:
    assert isinstance(model.spec, ModelSpec)
    return model.spec


def kept(model: Artifact) -> list[str]:
    return [name for name in spec(model).files if name.startswith(warm.STATE)]


def state(lab: "Lab", model: Artifact) -> Any:
    from fairlead.flavors import sklearn

    folder = lab.root / f"look-{model.ref.digest[:8]}"
    folder.mkdir()
    for name in kept(model):
        lab.blobs.fetch(spec(model).files[name], folder / name)
    return sklearn.recall(folder)


@pytest.mark.parametrize("params", [{}, {"bayes": True}])
def test_it_goes_on_with_the_rows_that_are_new(warming: "Lab", rows: pl.DataFrame, params: Any) -> None:
    lab = warming
    first = lab.train(lab.commit(rows.head(2_000)), params=params)
    second = lab.train(lab.commit(rows), params=params, last=first)
    assert second.parents[1] == first.ref and spec(second).encoding == spec(first).encoding
    learnt = [int(np.sum(getattr(e, "class_count_", e.__dict__.get("t_", 1) - 1)))
              for e in (state(lab, first), state(lab, second))]  # fmt: skip
    assert learnt == [1_600, 2_400], "every row once: 80 % of 2,000, then of 3,000"
    made = reproduce(second, **lab.doors)
    assert made.same, made.files
    package = lab.package(second).spec
    assert isinstance(package, PackageSpec)
    assert package.flavor == "onnx" and not any(n.startswith(warm.STATE) for n in package.files)


def test_without_a_state_it_starts_cold(lab: "Lab", rows: pl.DataFrame) -> None:
    before = lab.train(lab.commit(rows.head(2_000)))
    assert not kept(before) and warm.last_of(before) is None
    lab.code(ON)
    lab.manifest = replace(lab.manifest, train=replace(lab.manifest.train, warm_start=True))
    after = lab.train(lab.commit(rows), last=before)
    assert len(after.parents) == 1


def test_other_classes_are_no_warm_start(warming: "Lab", rows: pl.DataFrame) -> None:
    first = warming.train(warming.commit(rows))
    renamed = rows.with_columns(late=pl.when("late").then(pl.lit("yes")).otherwise(pl.lit("no")))
    with pytest.raises(Invalid, match="the classes are no, yes, those of"):
        warming.train(warming.commit(renamed), last=first)


def test_what_of_river_is_no_graph_is_refused_with_the_way_out(lab: "Lab", rows: pl.DataFrame) -> None:
    lab.code("""
        def train(data, params):
            kind = type("ALMAClassifier", (), {"__module__": "river.linear_model.alma"})
            return kind()
    """)
    with pytest.raises(Invalid, match="ALMAClassifier of river has no exact ONNX form here") as refusal:
        lab.train(lab.commit(rows))
    assert "StandardScaler() | LogisticRegression()" in refusal.value.hint


def test_recorded_jobs_of_before_can_still_be_read() -> None:
    from fairlead.flow.train import TrainJob

    fields = {f.name: f for f in msgspec.structs.fields(TrainJob)}
    assert not any(fields[name].required for name in ("remember", "last"))
