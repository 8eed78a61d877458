"""LightGBM and XGBoost: the ONNX trees answer as the library does, row for row, or the library's own form does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.encoding import Encoding, Number
from fairlead.core.proof import compare
from fairlead.core.weights import check_form
from fairlead.errors import Corrupt, FairleadError, Invalid
from fairlead.flavors import boosters, frameworks

lgb: Any = pytest.importorskip("lightgbm")
xgb: Any = pytest.importorskip("xgboost")
pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore:.*")]

Matrix = NDArray[np.float32]
WIDTH, CATEGORY, LEARNT = 5, 3, 3_000
CLASSES = {"binary": 2, "multiclass": 3, "regression": 0}
KINDS = ["q", "q", "q", "c", "q"]


@pytest.fixture(scope="module")
def rows() -> Matrix:
    """4,000 rows with gaps, and a column of 12 categories; beside them what no training row had."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4_000, WIDTH)).astype(np.float32)
    x[:, CATEGORY] = rng.integers(0, 12, len(x))
    for column in (0, CATEGORY):
        x[rng.random(len(x)) < 0.1, column] = np.nan
    odd = x[-400:].copy()
    odd[:200, CATEGORY] = rng.choice([-1, -5, 99, 1000, 3], 200)
    odd[200:250, 4], odd[250:300, 1], odd[300:] = 3e38, np.nan, np.nan
    return np.concatenate([x, odd])


@pytest.fixture(scope="module")
def signal(rows: Matrix) -> NDArray[np.float64]:
    x = np.nan_to_num(rows.astype(np.float64))
    made: NDArray[np.float64] = x[:, 0] + (x[:, CATEGORY] % 3 == 1) + np.clip(x[:, 1] * x[:, 2], -5, 5)
    return made


def target(task: str, signal: NDArray[np.float64]) -> NDArray[Any]:
    return {"binary": signal > 0.5, "multiclass": np.digitize(signal, [0, 1]), "regression": signal}[task] * 1


def lightgbm(task: str, x: Matrix, y: NDArray[Any], **more: Any) -> Any:
    kind = lgb.LGBMRegressor if task == "regression" else lgb.LGBMClassifier
    fit: dict[str, Any] = {"categorical_feature": [CATEGORY]} if more.pop("categories", False) else {}
    if more.pop("stops", False):
        fit |= {"eval_set": [(x[-500:], y[-500:])], "callbacks": [lgb.early_stopping(2, verbose=False)]}
    return kind(**{"n_estimators": 30, "verbose": -1, "n_jobs": 1, **more}).fit(x, y, **fit)


def xgboost(task: str, x: Matrix, y: NDArray[Any], **more: Any) -> Any:
    kind = xgb.XGBRegressor if task == "regression" else xgb.XGBClassifier
    own: dict[str, Any] = {"enable_categorical": True, "feature_types": KINDS} if more.pop("categories", False) else {}
    fit: dict[str, Any] = {}
    if more.pop("stops", False):
        own, fit = own | {"early_stopping_rounds": 2}, {"eval_set": [(x[-500:], y[-500:])], "verbose": False}
    return kind(**{"n_estimators": 30, "max_depth": 4, "n_jobs": 1, **own, **more}).fit(x, y, **fit)


VARIANTS: list[tuple[Any, dict[str, Any]]] = [
    (lightgbm, {}), (lightgbm, {"categories": True}), (lightgbm, {"stops": True}), (lightgbm, {"boosting_type": "dart"}),
    (lightgbm, {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.6}),
    (xgboost, {}), (xgboost, {"categories": True}), (xgboost, {"stops": True}), (xgboost, {"num_parallel_tree": 3, "subsample": 0.5}),
]  # fmt: skip


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize(("make", "more"), VARIANTS)
def test_trees_become_onnx_that_answers_alike(
    make: Any, more: dict[str, Any], task: Any, rows: Matrix, signal: NDArray[np.float64], tmp_path: Path
) -> None:
    model = make(task, rows[:LEARNT], target(task, signal)[:LEARNT], **more)
    flavor, proof, why = frameworks.export(model, rows[LEARNT:], task, CLASSES[task], tmp_path)
    assert (flavor, why) == ("onnx", "") and proof.exact
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize(("make", "more", "why"), [
    (lightgbm, {"linear_tree": True}, "linear trees"), (lightgbm, {"zero_as_missing": True}, "zero_as_missing"),
    (xgboost, {"booster": "dart", "rate_drop": 0.2}, "dart"),
])  # fmt: skip
def test_what_onnx_cannot_say_is_kept_in_the_librarys_own_form(
    make: Any, more: dict[str, Any], why: str, task: Any, rows: Matrix, signal: NDArray[np.float64], tmp_path: Path
) -> None:
    model = make(task, rows[:LEARNT], target(task, signal)[:LEARNT], **more)
    held = np.nan_to_num(np.clip(rows[LEARNT:], -1e6, 1e6))
    flavor, proof, said = frameworks.export(model, held, task, CLASSES[task], tmp_path)
    assert flavor == make.__name__ and proof.exact and proof.worst == 0 and why in said
    frameworks.demand(tmp_path)
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name, data in files.items():
        check_form(name, data[:16])
    again = frameworks.scorer(files, flavor, task, CLASSES[task])
    expected = frameworks.answers(model, held, task, CLASSES[task])
    np.testing.assert_array_equal(np.concatenate([again(r[None]) for r in held[:50]]), expected[:50])


@pytest.mark.parametrize("make", [lightgbm, xgboost])
def test_a_threshold_between_two_float32_decides_alike(make: Any, tmp_path: Path) -> None:
    """Values one step of float32 apart, on both sides of every threshold."""
    base = np.random.default_rng(1).normal(size=600).astype(np.float32)
    x = np.sort(np.concatenate([base, np.nextafter(base, np.float32(9))]))[:, None]
    y = (np.arange(len(x)) % 2).astype(int)
    model = make("binary", x, y, n_estimators=5, **({"min_child_samples": 1, "max_bin": 2000} if make is lightgbm else {"tree_method": "exact", "max_depth": 10}))
    flavor, proof, _ = frameworks.export(model, x, "binary", 2, tmp_path)
    assert flavor == "onnx" and proof.exact


@pytest.mark.parametrize("make", [lightgbm, xgboost])
def test_a_bare_booster_is_taken_as_well(make: Any, rows: Matrix, signal: NDArray[np.float64], tmp_path: Path) -> None:
    model = make("binary", rows[:LEARNT], target("binary", signal)[:LEARNT])
    bare = model.booster_ if make is lightgbm else model.get_booster()
    assert frameworks.export(bare, rows[LEARNT:], "binary", 2, tmp_path)[1].exact


@pytest.mark.parametrize("make", [lightgbm, xgboost])
def test_a_planted_threshold_is_noticed(make: Any, rows: Matrix, signal: NDArray[np.float64], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof compares: a converter that is wrong is not believed, and the own form is kept."""
    library = boosters.LIBRARIES[make.__name__]
    sound = library.exact

    def wrong(made: Any) -> Any:
        attributes, links = sound(made)
        attributes["nodes_values"] = [v + 0.01 for v in attributes["nodes_values"]]
        return attributes, links

    monkeypatch.setattr(library, "exact", wrong)
    model = make("binary", rows[:LEARNT], target("binary", signal)[:LEARNT])
    flavor, proof, why = frameworks.export(model, rows[LEARNT:], "binary", 2, tmp_path)
    assert flavor == make.__name__ and proof.exact and "its ONNX form is not exact" in why


@pytest.mark.parametrize("make", [lightgbm, xgboost])
def test_shapley_values_are_exact(make: Any, rows: Matrix, signal: NDArray[np.float64], tmp_path: Path) -> None:
    model = make("binary", rows[:LEARNT], target("binary", signal)[:LEARNT], n_estimators=5, max_depth=3)
    frameworks.export(model, rows[LEARNT:], "binary", 2, tmp_path)
    encoding = Encoding(tuple(Number(f"x{i}") for i in range(WIDTH)))
    explainer = frameworks.explainer(tmp_path, frameworks.scorer(tmp_path, "onnx", "binary", 2), encoding, rows[:50], 0)
    assert (explainer.method, explainer.space) == ("trees", "log-odds")
    found = explainer(rows[LEARNT])
    assert sum(found.amounts) + found.base == pytest.approx(explainer.answers(rows[LEARNT : LEARNT + 1])[0], abs=1e-4)


@pytest.mark.parametrize(("model", "said"), [
    (lambda x, y: lgb.LGBMClassifier(), "not fitted"), (lambda x, y: xgb.XGBClassifier(), "not fitted"),
    (lambda x, y: lightgbm("binary", x[:, :2], y), "reads 2 columns"),
    (lambda x, y: xgboost("binary", x, y, missing=-9.0), "takes -9.0 for missing"),
    (lambda x, y: xgboost("binary", x, y, objective="binary:logitraw").get_booster(), "no probabilities"),
    (lambda x, y: xgboost("binary", np.nan_to_num(x), y, booster="gblinear"), "gblinear"),
    (lambda x, y: lightgbm("multiclass", x, y * 2), r"learned the classes \[0, 2\]"),
])  # fmt: skip
def test_what_cannot_answer_is_refused_in_words(model: Any, said: str, rows: Matrix, signal: NDArray[np.float64], tmp_path: Path) -> None:
    made = model(rows[:LEARNT], target("binary", signal)[:LEARNT])
    with pytest.raises(Invalid, match=said):
        frameworks.export(made, rows[LEARNT:], "binary", 2, tmp_path)


@pytest.mark.parametrize("flavor", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("data", [b"", b"\x80\x04.", b"PK\x03\x04", b"tree", b"tree\nversion=v4\n", b"{L", b'{"a":1}', b"{L" + b"\xff" * 40])
def test_what_is_no_model_is_refused(flavor: Any, data: bytes) -> None:
    with pytest.raises(FairleadError) as error:
        frameworks.scorer({boosters.LIBRARIES[flavor].FILE: data}, flavor, "binary", 2)
    assert error.type is Corrupt


@pytest.mark.parametrize("make", [lightgbm, xgboost])
def test_the_next_training_goes_on_from_the_booster(make: Any, rows: Matrix, signal: NDArray[np.float64], tmp_path: Path) -> None:
    y = target("binary", signal)[:LEARNT]
    model = make("binary", rows[:LEARNT], y)
    frameworks.remember(model, tmp_path)
    last = frameworks.recall(tmp_path)
    expected = frameworks.answers(model, rows[LEARNT:], "binary", 2)
    assert compare(expected, frameworks.answers(last, rows[LEARNT:], "binary", 2), "binary").worst == 0
