import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression

from fairlead.core.encoding import Encoding, Moment, Number
from fairlead.flavors import sklearn as flavors
from fairlead.flavors.explain import Explainer
from tests.core.test_shapley import exact

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 4)).astype(np.float32)
HOLES = np.where(RNG.random(X.shape) < 0.1, np.nan, X).astype(np.float32)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int64)
FOUR = Encoding(tuple(Number(f"c{i}") for i in range(4)))


def explainer(estimator: Any, folder: Path, task: Any = "binary", rows: Any = X, y: Any = Y,
              encoding: Encoding = FOUR) -> Explainer:  # fmt: skip
    classes = 0 if task == "regression" else len(set(y.tolist()))
    estimator.fit(rows, y)
    flavor = flavors.export(estimator, rows, task, classes, folder)[0]
    return Explainer(folder, flavors.scorer(folder, flavor, task, classes), encoding, rows[:20])


TREES = {
    "boosted": (HistGradientBoostingClassifier(max_iter=8, random_state=0), "binary", "log-odds"),
    "gradient": (GradientBoostingClassifier(n_estimators=8, random_state=0), "binary", "log-odds"),
    "forest": (RandomForestClassifier(6, random_state=0), "binary", "score"),
    "regression": (RandomForestRegressor(4, max_depth=5, random_state=0), "regression", "score"),
}


@pytest.mark.parametrize("kind", TREES)
def test_trees_are_explained_exactly_and_contributions_add_up(kind: str, tmp_path: Path) -> None:
    estimator, task, space = TREES[kind]
    made = explainer(estimator, tmp_path, task, y=Y if task == "binary" else X[:, 0] * X[:, 1])
    assert (made.method, made.space) == ("trees", space)
    for row in X[100:104]:
        found = made(row)
        assert found.amounts == pytest.approx(exact(made.answers, row, X[:20]), abs=1e-9)
        assert found.base + found.amounts.sum() == pytest.approx(made.answers(row[None])[0], abs=1e-9)


def test_missing_values_go_the_way_the_model_sends_them(tmp_path: Path) -> None:
    made = explainer(HistGradientBoostingRegressor(max_iter=10, random_state=0), tmp_path, "regression",
                     HOLES, X[:, 0] + (np.isnan(HOLES[:, 1])) * 3.0)  # fmt: skip
    assert made.method == "trees"
    row = HOLES[np.isnan(HOLES[:, 1])][0]
    assert made(row).amounts == pytest.approx(exact(made.answers, row, HOLES[:20]), abs=1e-9)
    assert made(row).amounts.argmax() == 1


def test_parts_of_one_column_are_one_player(tmp_path: Path) -> None:
    moment = Encoding((Moment("when"),))
    made = explainer(HistGradientBoostingClassifier(max_iter=5, random_state=0), tmp_path, encoding=moment)
    found = made(X[100])
    assert made.players == ("when",)
    assert found.amounts[0] == pytest.approx(made.answers(X[100:101])[0] - found.base)


def test_a_linear_model_is_exact_in_log_odds(tmp_path: Path) -> None:
    estimator = LogisticRegression(C=0.1)
    made = explainer(estimator, tmp_path)
    assert (made.method, made.space) == ("permutations", "log-odds")
    found, weights = made(X[100]), estimator.coef_[0]
    assert found.amounts == pytest.approx(weights * (X[100] - X[:20].mean(axis=0)), abs=1e-4)
    assert found.error < 1e-5


@pytest.mark.skipif(importlib.util.find_spec("shap") is None, reason="shap is not installed")
@pytest.mark.filterwarnings("ignore")
def test_contributions_are_those_of_shap(tmp_path: Path) -> None:
    import shap

    estimator = HistGradientBoostingClassifier(max_iter=20, random_state=0)
    made = explainer(estimator, tmp_path)
    theirs = shap.TreeExplainer(estimator, X[:20], feature_perturbation="interventional")
    for row, known in zip(X[100:110], theirs.shap_values(X[100:110]), strict=True):
        assert made(row).amounts == pytest.approx(known, abs=1e-4)
