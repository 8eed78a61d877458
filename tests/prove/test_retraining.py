"""The proof of retraining: nobody beats its oracle, the table stands as drawn, streams are not peeked at."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from examples.electricity.prequential import DAY, Rule, Stream, learn, walk
from prove import retraining
from prove.retraining import PAGE, RUNS, Case, measure, oracle, row, world


def test_the_oracle_knows_when_to_pay() -> None:
    still = np.zeros(retraining.LENGTH)
    assert oracle(still, 5.0) == 0.0
    jumped = np.where(np.arange(retraining.LENGTH) >= 800, 1.0, 0.0)
    assert oracle(jumped, 5.0) == pytest.approx(5.0), "once, at the jump"
    late = np.where(np.arange(retraining.LENGTH) >= retraining.LENGTH - 16, 1.0, 0.0)
    assert oracle(late, 5.0) == pytest.approx(2.0), "two days are not worth it"


@pytest.mark.parametrize("kind", ["sudden", "recurring"])
def test_the_rule_keeps_its_bar_and_nobody_beats_the_oracle(kind: str) -> None:
    least, paid = measure(Case(kind, 5, 4000), 2)
    assert all(cost >= least for cost, _ in paid.values())
    assert paid["cost rule"][0] <= 1.7 * least < min(paid["weekly"][0], paid["never"][0])


@pytest.mark.slow
def test_a_line_of_the_published_table_is_drawn_again() -> None:
    line, kept = row(Case("recurring", 5, 1000), RUNS)
    assert kept and line in PAGE.read_text()


def test_a_world_that_comes_back_stands_on_two_feet() -> None:
    path = world("recurring", np.random.default_rng(0))
    assert set(path.tolist()) == {0.0, 1.0} and 5 <= np.count_nonzero(np.diff(path)) <= 7


class Majority:
    """The most frequent class; what it learnt from is in `saw`."""

    saw: list[NDArray[Any]] = []

    def __init__(self, X: NDArray[np.float32], y: NDArray[np.int64]) -> None:
        Majority.saw.append(X[:, 0])
        self.best = int(np.bincount(y).argmax())

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.full(len(X), self.best)


def stream(days: int, flips: int) -> Stream:
    """Ten rows a day whose class turns on one day; truths come a day and a half later."""
    at = np.arange(days * 10) * DAY / 10
    y = np.where(at < flips * DAY, 0, 1).astype(np.int64)
    return Stream(np.arange(len(at), dtype=np.float32)[:, None], y, at, at + 1.5 * DAY)


def test_no_row_is_learnt_from_before_its_truth_is_known() -> None:
    Majority.saw.clear()
    made = learn(stream(40, 99), 20, Rule(window=10), Majority)
    assert Majority.saw[0].min() == 100 and made.held.max() == 185, "asked by 18.5, known by 20"


def test_the_loop_retrains_after_the_flip_and_the_frozen_model_does_not() -> None:
    turned = stream(60, 30)
    frozen = walk(turned, 20, Rule(window=20), Majority)
    loop = walk(turned, 20, Rule(window=8, every=8, cost=20, cooldown=2), Majority)
    assert frozen.accuracy == 0.25 and frozen.retrainings == 0
    assert loop.accuracy > 0.6 and 1 <= loop.won <= loop.retrainings <= 6
