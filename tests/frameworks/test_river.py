"""River: what learns row by row becomes the same graph, and goes on as if it had never been written down."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.artifact import ModelSpec, Task
from fairlead.errors import Corrupt, Invalid
from fairlead.flavors import river as door
from fairlead.flavors.state import read
from fairlead.flow.reproduce import reproduce
from tests.flow.conftest import Lab, flights, lab  # noqa: F401  the last two are fixtures

pytest.importorskip("river")
pytestmark = pytest.mark.frameworks
LEARNT = 2_000


def logistic() -> Any:
    from river import linear_model, optim, preprocessing

    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optimizer=optim.Adam())


def plain() -> Any:
    from river import linear_model

    return linear_model.LogisticRegression(l2=0.01)


def linear() -> Any:
    from river import linear_model, preprocessing

    return preprocessing.StandardScaler() | linear_model.LinearRegression(l1=0.01)


def tree() -> Any:
    from river.tree import HoeffdingTreeClassifier

    return HoeffdingTreeClassifier(leaf_prediction="mc", grace_period=50)


def regressor() -> Any:
    from river.tree import HoeffdingTreeRegressor

    return HoeffdingTreeRegressor(leaf_prediction="mean", grace_period=50)


def rows() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    rng = np.random.default_rng(3)
    made = rng.normal(5, 3, (3_000, 5)).astype(np.float32)
    made[rng.random(made.shape) < 0.05] = np.nan
    known = np.nan_to_num(made).astype(np.float64)
    return made, 2 * known[:, 0] - known[:, 1]


def learn(model: Any, X: NDArray[np.float32], y: list[Any]) -> None:
    for row, truth in zip(X.tolist(), y, strict=True):
        model.learn_one({i: v for i, v in enumerate(row) if v == v}, truth)


CASES: list[tuple[Callable[[], Any], Task, int]] = [
    (logistic, "binary", 2), (plain, "binary", 2), (linear, "regression", 0), (tree, "binary", 2),
    (tree, "multiclass", 3), (regressor, "regression", 0),
]  # fmt: skip


def target(task: Task, y: NDArray[np.float64]) -> list[Any]:
    cuts = {"binary": y > 5, "multiclass": np.digitize(y, (2, 8)), "regression": y}
    return list(cuts[task].tolist())


@pytest.mark.parametrize(("make", "task", "classes"), CASES)
def test_its_graph_answers_as_it_does(make: Callable[[], Any], task: Task, classes: int, tmp_path: Path) -> None:
    (X, y), model = rows(), make()
    learn(model, X[:LEARNT], target(task, y[:LEARNT]))
    flavor, proof, why = door.export(model, X, task, classes, tmp_path)
    assert (flavor, why) == ("onnx", "") and proof.exact and proof.rows == 3_000 and proof.worst < 1e-6
    said = door.answers(model, X, task, classes)
    assert len(np.unique(said, axis=0)) >= 3, "it learnt something"
    if make in (tree, regressor):
        assert model.n_nodes >= 5


@pytest.mark.parametrize(("make", "task", "classes"), CASES[:-1])
def test_what_was_written_down_goes_on_as_it_would_have(
    make: Callable[[], Any], task: Task, classes: int, tmp_path: Path
) -> None:
    (X, y), model = rows(), make()
    learn(model, X[:LEARNT], target(task, y[:LEARNT]))
    door.remember(model, tmp_path)
    again = door.recall(tmp_path)
    for each in (model, again):
        learn(each, X[LEARNT:], target(task, y[LEARNT:]))
    first, second = (door.answers(m, X, task, classes) for m in (model, again))
    assert np.array_equal(first, second)


def test_what_answers_otherwise_row_by_row_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from river.tree import HoeffdingTreeClassifier

    (X, y), model = rows(), HoeffdingTreeClassifier()
    learn(model, X, target("binary", y))
    with pytest.raises(Invalid, match="LeafNaiveBayesAdaptive, which has no exact ONNX form") as refusal:
        door.export(model, X, "binary", 2, tmp_path)
    assert 'leaf_prediction="mc"' in refusal.value.hint


def test_a_state_of_elsewhere_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / door.STATE).write_bytes(b"FLST1\nnonsense")
    with pytest.raises(Corrupt):
        door.recall(tmp_path)


def test_a_project_learns_on_with_river(lab: Lab, flights: pl.DataFrame) -> None:  # noqa: F811
    lab.code("""
        from river.linear_model import LogisticRegression
        from river.preprocessing import StandardScaler

        def train(data, params):
            model = data.last or StandardScaler() | LogisticRegression()
            for row, late in zip(data.X[data.fresh].tolist(), data.y[data.fresh], strict=True):
                model.learn_one({i: v for i, v in enumerate(row) if v == v}, bool(late))
            return model
    """)
    lab.manifest = replace(lab.manifest, train=replace(lab.manifest.train, warm_start=True))
    first = lab.train(lab.commit(flights.head(2_000)))
    second = lab.train(lab.commit(flights), last=first)
    assert second.parents[1] == first.ref and isinstance(second.spec, ModelSpec)
    learnt = [read(lab.blobs.get(spec.files[door.STATE]), "river") for spec in (first.spec, second.spec)
              if isinstance(spec, ModelSpec)]  # fmt: skip
    assert [m["LogisticRegression"].optimizer.n_iterations for m in learnt] == [1_600, 2_400]
    assert reproduce(second, **lab.doors).same
    package = lab.package(second).spec
    assert "model.onnx" in getattr(package, "files", {}) and door.STATE not in getattr(package, "files", {})
