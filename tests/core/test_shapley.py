from collections.abc import Callable
from functools import cache
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.shapley import gradients, permutations

Rows = NDArray[np.float32]


def exact(answer: Callable[[Rows], NDArray[np.float64]], row: Rows, background: Rows) -> list[float]:
    """Shapley values by their definition: every coalition, every background row."""
    n = len(row)

    @cache
    def worth(coalition: frozenset[int]) -> float:
        mixed = background.copy()
        mixed[:, list(coalition)] = row[list(coalition)]
        return float(answer(mixed).mean())

    found = []
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        found.append(sum(
            factorial(k) * factorial(n - k - 1) / factorial(n) * (worth(frozenset((*c, i))) - worth(frozenset(c)))
            for k in range(n) for c in combinations(rest, k)))  # fmt: skip
    return found


def mixed(rows: Rows) -> NDArray[np.float64]:
    x = rows.astype(np.float64)
    return np.asarray(x[:, 0] + x[:, 1] * x[:, 2] - np.abs(x[:, 3]))


def test_sampled_orders_come_near_and_say_how_near() -> None:
    rng = np.random.default_rng(0)
    background, row = rng.normal(size=(400, 4)).astype(np.float32), np.array([1, 2, -1, 3], np.float32)
    found = permutations(mixed, row, background, np.arange(4), seed=1)
    assert np.abs(found.amounts - exact(mixed, row, background)).max() <= 1.5 * found.error
    assert 0 < found.error < 0.3
    assert found.base + found.amounts.sum() == pytest.approx(mixed(row[None])[0])


def test_a_sum_over_columns_is_explained_exactly() -> None:
    rng = np.random.default_rng(0)
    background, row = rng.normal(size=(50, 3)).astype(np.float32), np.array([1, 2, 3], np.float32)
    weights = np.array([0.5, -2.0, 1.0])

    def linear(rows: Rows) -> NDArray[np.float64]:
        return np.asarray(rows.astype(np.float64) @ weights)

    found = permutations(linear, row, background, np.arange(3), seed=1)
    assert found.amounts == pytest.approx(weights * (row - background.mean(axis=0)), abs=1e-6)
    assert found.error < 1e-6


def test_columns_of_one_player_move_together() -> None:
    background, row = np.zeros((8, 3), np.float32), np.ones(3, np.float32)
    found = permutations(lambda x: x.prod(axis=1).astype(np.float64), row, background, np.array([0, 1, 1]), 0)
    assert found.amounts == pytest.approx([0.5, 0.5])


def curved(rows: Rows) -> NDArray[np.float64]:
    x = rows.astype(np.float64)
    return np.asarray(x[:, 0] * x[:, 1] + 3 * x[:, 2] + np.sin(2 * x[:, 3]) + np.maximum(x[:, 4], 0))


def test_gradients_along_the_way_are_the_integrals_and_add_up() -> None:
    """The integrals of this function are known: a product is shared by half, a sum falls apart."""
    rng = np.random.default_rng(0)
    background, x = rng.normal(size=(12, 5)).astype(np.float32), np.array([1, 2, -1, 1.5, 2], np.float32)
    found = gradients(curved, x, background, np.array([0, 1, 2, 2, 3]))
    b = background.astype(np.float64)
    wanted = [(x[0] - b[:, 0]) * (x[1] + b[:, 1]) / 2, (x[1] - b[:, 1]) * (x[0] + b[:, 0]) / 2,
              3 * (x[2] - b[:, 2]) + np.sin(2 * x[3]) - np.sin(2 * b[:, 3]),
              x[4] - np.maximum(b[:, 4], 0)]  # fmt: skip
    np.testing.assert_allclose(found.amounts, np.mean(wanted, axis=1), atol=0.02)
    assert found.base + found.amounts.sum() == pytest.approx(curved(x[None])[0], abs=1e-9)
    assert found.error < 0.02 * np.abs(found.amounts).sum()


def test_gradients_take_missing_values_and_say_what_steps_cannot_reach() -> None:
    rng = np.random.default_rng(1)
    background, x = rng.normal(size=(6, 5)).astype(np.float32), np.array([1, np.nan, -1, 1.5, 2], np.float32)
    background[0, 2] = np.nan
    filled = gradients(lambda rows: curved(np.nan_to_num(rows)), x, background, np.arange(5))
    assert np.isfinite(filled.amounts).all() and filled.error < 0.05 * np.abs(filled.amounts).sum()
    corner = gradients(lambda rows: np.asarray((rows[:, 0] > 0.3) & (rows[:, 1] > 0.3), dtype=np.float64),
                       np.ones(2, np.float32), np.zeros((1, 2), np.float32), np.arange(2))  # fmt: skip
    assert corner.error == pytest.approx(1.0), "no slope leads there"
