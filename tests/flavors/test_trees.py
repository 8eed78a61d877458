"""Our own ONNX trees answer as scikit-learn's histogram gradient boosting does, row for row."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.errors import Invalid
from fairlead.flavors import trees
from fairlead.flavors.forest import floor32
from fairlead.flavors.onnx import Scorer

Matrix = NDArray[np.float32]
WIDTH = 8


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def rows() -> Matrix:
    """6,000 rows: numbers with gaps, two columns of category codes, one with unseen and gaps."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(6_000, WIDTH)).astype(np.float32)
    x[rng.random(x.shape) < 0.08] = np.nan
    x[:, 0] = rng.integers(0, 60, len(x))
    x[:, 6] = rng.integers(-1, 5, len(x))
    x[rng.random(len(x)) < 0.1, 6] = np.nan
    return x


@pytest.fixture(scope="module")
def signal(rows: Matrix) -> NDArray[np.float64]:
    x = np.nan_to_num(rows.astype(np.float64))
    noise = np.random.default_rng(6).normal(size=len(x))
    made: NDArray[np.float64] = x[:, 2] + x[:, 3] * x[:, 4] + (x[:, 0] % 7 < 3) + (x[:, 6] == 2) + noise
    return made


def strange(rows: Matrix) -> Matrix:
    """The rows, and beside them values that no training row had."""
    odd = rows[:800].copy()
    odd[:100, 0], odd[100:200, 6], odd[200:300] = 777, -3, np.nan
    odd[300:400, 1:6], odd[400:500, 1:6] = 3e38, -3e38
    odd[500:600, 0], odd[600:700, 6] = 0.5, 1e30
    return np.concatenate([rows, odd])


def ours(estimator: Any, rows: Matrix) -> Matrix:
    return Scorer(trees.model(estimator, WIDTH).SerializeToString())(rows)


@pytest.mark.parametrize("categorical", [None, [0, 6]])
def test_binary(rows: Matrix, signal: NDArray[np.float64], categorical: list[int] | None) -> None:
    model = HistGradientBoostingClassifier(max_iter=60, categorical_features=categorical)
    model.fit(rows, signal > 0)
    asked = strange(rows)
    expected = model.predict_proba(asked)[:, 1:]
    np.testing.assert_allclose(ours(model, asked), expected, atol=1e-6)


@pytest.mark.parametrize("categorical", [None, [6, 0]])
def test_many_classes(
    rows: Matrix, signal: NDArray[np.float64], categorical: list[int] | None
) -> None:
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features=categorical)
    model.fit(rows, np.digitize(signal, [-1, 0, 1]))
    asked = strange(rows)
    np.testing.assert_allclose(ours(model, asked), model.predict_proba(asked), atol=1e-6)


@pytest.mark.parametrize(
    "loss", ["squared_error", "absolute_error", "poisson", "gamma", "quantile"]
)
def test_regressions(rows: Matrix, signal: NDArray[np.float64], loss: str) -> None:
    model = HistGradientBoostingRegressor(loss=loss, quantile=0.8, max_iter=30,
                                          categorical_features=[0])  # fmt: skip
    model.fit(rows, np.exp(signal / 3))
    asked = strange(rows)
    np.testing.assert_allclose(ours(model, asked)[:, 0], model.predict(asked), rtol=2e-6)


def test_rows_on_a_threshold_take_the_same_side(signal: NDArray[np.float64]) -> None:
    """Thresholds lie half way between float64 values: rounding them up would move float32 rows."""
    rng = np.random.default_rng(0)
    near = np.float32(1.0)
    values = [near]
    for _ in range(40):
        values.append(np.nextafter(values[-1], np.float32(2)))
    x = rng.choice(np.array(values, dtype=np.float32), (4_000, WIDTH))
    y = (x[:, 0] > values[20]) ^ (x[:, 1] > values[11])
    model = HistGradientBoostingClassifier(max_iter=30).fit(x, y)
    np.testing.assert_allclose(ours(model, x), model.predict_proba(x)[:, 1:], atol=1e-6)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False, width=32))
@settings(max_examples=300)
def test_floor32_decides_alike_for_every_float32(threshold: float, x: float) -> None:
    low = floor32(np.array([threshold]))[0]
    assert (np.float32(x) <= low) == (float(np.float32(x)) <= threshold)


def test_an_unknown_link_is_refused() -> None:
    class Cauchit:
        pass

    class Loss:
        link = Cauchit()

    class Odd:
        loss = "cauchy"
        _loss = Loss()

    with pytest.raises(Invalid, match="Cauchit"):
        trees.links(Odd())


def test_only_a_fitted_boosting_is_recognised() -> None:
    assert not trees.boosted(HistGradientBoostingClassifier())
    assert not trees.boosted("HistGradientBoostingClassifier")
