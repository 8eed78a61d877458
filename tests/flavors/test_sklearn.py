"""scikit-learn models become ONNX where that is exact, skops where it is safe, and errors elsewhere."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.core.artifact import Task
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import sklearn as flavor

Matrix = NDArray[np.float32]
LOADERS: dict[Task, Any] = {
    "binary": load_breast_cancer, "multiclass": load_wine, "regression": load_diabetes
}  # fmt: skip
CLASSES: dict[Task, int] = {"binary": 2, "multiclass": 3, "regression": 0}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def table(task: Task, *, gaps: bool = False) -> tuple[Matrix, Any]:
    x, y = LOADERS[task](return_X_y=True)
    x = x.astype(np.float32)
    if gaps:
        x[np.random.default_rng(0).random(x.shape) < 0.05] = np.nan
    return x, y


def fitted(model: Any, x: Matrix, y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is not the subject here
        return model.fit(x, y)


def hist(**more: Any) -> Any:
    return HistGradientBoostingClassifier(max_iter=15, **more)


EXACT: list[tuple[Task, bool, Any]] = [
    ("binary", False, hist()),
    ("binary", True, hist()),
    ("multiclass", False, hist()),
    ("regression", False, HistGradientBoostingRegressor(max_iter=15)),
    ("binary", False, make_pipeline(StandardScaler(), LogisticRegression())),
    ("binary", False, make_pipeline(StandardScaler(), hist())),
    ("binary", True, make_pipeline(SimpleImputer(), hist())),
    ("binary", False, CalibratedClassifierCV(hist(), cv=2)),
    ("multiclass", False, CalibratedClassifierCV(hist(), cv=2)),
    ("multiclass", False, StackingClassifier([("a", hist()), ("b", GaussianNB())], cv=2)),
    ("binary", False, RandomForestClassifier(15, random_state=0)),
    ("multiclass", False, ExtraTreesClassifier(15, random_state=0)),
    ("binary", False, GradientBoostingClassifier(n_estimators=15)),
    ("regression", False, RandomForestRegressor(15, random_state=0)),
    ("regression", False, make_pipeline(StandardScaler(), Ridge())),
    ("binary", False, make_pipeline(
        ColumnTransformer([("s", StandardScaler(), [0, 1])], remainder="passthrough"), hist())),
]  # fmt: skip


@pytest.mark.parametrize(("task", "gaps", "model"), EXACT, ids=lambda v: type(v).__name__)
def test_what_converts_exactly_becomes_onnx(
    task: Task, gaps: bool, model: Any, tmp_path: Path
) -> None:
    x, y = table(task, gaps=gaps)
    made, proof, why = flavor.export(fitted(model, x, y), x, task, CLASSES[task], tmp_path)
    assert (made, why) == ("onnx", "")
    assert proof.exact
    assert proof.rows == len(x)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    again = flavor.scorer(tmp_path, made, task, CLASSES[task])(x)
    expected = flavor.answers(model, x, task, CLASSES[task])
    assert again.shape == (len(x), 3 if task == "multiclass" else 1)
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-5)


def test_an_inexact_form_falls_back_to_skops(tmp_path: Path) -> None:
    """Forests of scikit-learn read missing values, their ONNX form sends them elsewhere."""
    x, y = table("binary", gaps=True)
    model = RandomForestClassifier(15, random_state=0).fit(x, y)
    made, proof, why = flavor.export(model, x, "binary", 2, tmp_path)
    assert made == "skops"
    assert proof.exact
    assert "not exact" in why and "rows differ" in why
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.skops", "types.json"]
    again = flavor.scorer(tmp_path, made, "binary", 2)(x)
    np.testing.assert_array_equal(again[:, 0], model.predict_proba(x)[:, 1].astype(np.float32))


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("binary", DummyClassifier()),
        ("regression", TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_has_no_onnx_form_falls_back_to_skops(task: Task, model: Any, tmp_path: Path) -> None:
    x, y = table(task)
    made, proof, why = flavor.export(model.fit(x, y), x, task, CLASSES[task], tmp_path)
    assert (made, proof.exact) == ("skops", True)
    assert "has no ONNX form" in why


def double(x: Any) -> Any:
    return x * 2


def test_own_functions_inside_a_model_are_refused(tmp_path: Path) -> None:
    x, y = table("binary")
    model = fitted(make_pipeline(FunctionTransformer(double), LogisticRegression()), x, y)
    with pytest.raises(Invalid, match="double") as caught:
        flavor.export(model, x, "binary", 2, tmp_path)
    assert "move own functions" in caught.value.hint
    assert not list(tmp_path.glob("types.json"))


def test_a_skops_file_opens_with_its_pinned_types_only(tmp_path: Path) -> None:
    x, y = table("binary", gaps=True)
    flavor.export(RandomForestClassifier(5).fit(x, y), x, "binary", 2, tmp_path)
    types = tmp_path / "types.json"
    pinned = json.loads(types.read_bytes())
    types.write_text(json.dumps([*pinned, "os.system"]))
    with pytest.raises(Corrupt, match=r"trusts os\.system"):
        flavor.scorer(tmp_path, "skops", "binary", 2)
    types.write_text("[]")
    assert pinned == ["sklearn.tree._tree.Tree"]
    with pytest.raises(Corrupt, match="cannot be opened"):
        flavor.scorer(tmp_path, "skops", "binary", 2)
    (tmp_path / "model.skops").write_bytes(b"\x80\x05cos\nsystem\n")
    with pytest.raises(Corrupt, match="cannot be opened"):
        flavor.scorer(tmp_path, "skops", "binary", 2)
    types.unlink()
    with pytest.raises(Missing, match=r"types\.json"):
        flavor.scorer(tmp_path, "skops", "binary", 2)


def test_classes_that_training_did_not_meet_get_a_score_of_nothing(tmp_path: Path) -> None:
    x, y = table("multiclass")
    for model in (hist(), RandomForestClassifier(5, random_state=0)):
        made, _, _ = flavor.export(model.fit(x, y * 2), x, "multiclass", 6, tmp_path)
        assert made == "onnx"
        scores = flavor.scorer(tmp_path, made, "multiclass", 6)(x)
        assert scores.shape == (len(x), 6)
        assert not scores[:, [1, 3, 5]].any()
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda x, y: fitted(RidgeClassifier(), x, y), "gives no probabilities"),
        (lambda x, y: hist().fit(x, y + 1), r"learned the classes \[1, 2\]"),
        (lambda x, y: hist().fit(x[:, :3], y), "reads 3 columns, data.X has 30"),
        (lambda x, y: "a model", "str, which gives no probabilities"),
    ],
)
def test_unusable_models_are_refused_with_a_lesson(make: Any, says: str, tmp_path: Path) -> None:
    x, y = table("binary")
    with pytest.raises(Invalid, match=says) as caught:
        flavor.export(make(x, y), x, "binary", 2, tmp_path)
    assert caught.value.hint


def test_answers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    x, y = table("regression")
    model = LinearRegression().fit(x, y)
    model.coef_[0] = np.nan
    with pytest.raises(Invalid, match="442 of 442 held-out rows"):
        flavor.export(model, x, "regression", 0, tmp_path)
