from collections.abc import Callable
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.shapley import permutations

Rows = NDArray[np.float32]


def exact(answer: Callable[[Rows], NDArray[np.float64]], row: Rows, background: Rows) -> list[float]:
    """Shapley values by their definition: every coalition, every background row."""
    n = len(row)

    def worth(coalition: tuple[int, ...]) -> float:
        mixed = background.copy()
        mixed[:, list(coalition)] = row[list(coalition)]
        return float(answer(mixed).mean())

    found = []
    for i in range(n):
        rest = [j for j in range(n) if j != i]
        found.append(sum(
            factorial(k) * factorial(n - k - 1) / factorial(n) * (worth((*c, i)) - worth(c))
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
