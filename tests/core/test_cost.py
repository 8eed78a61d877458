"""The cost of staying: a sum while a model ages slowly, a rate when the world jumps, nothing by chance."""

import numpy as np
import pytest

from fairlead.core.cost import SPANS, Before, Spans, staying

BEFORE = Before(loss=0.1, error=0.005)
ROWS = 500


def spans(loss: np.ndarray[tuple[int], np.dtype[np.float64]], judged: float = ROWS) -> Spans:
    n = len(loss)
    return Spans(answers=np.full(n, float(ROWS)), judged=np.full(n, judged), loss=loss,
                 variance=loss * (1 - loss))  # fmt: skip


def drawn(chance: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int) -> Spans:
    return spans(np.random.default_rng(seed).binomial(ROWS, chance) / ROWS)


def test_a_model_as_good_as_on_held_out_rows_costs_nothing() -> None:
    paid = [staying(drawn(np.full(60 * SPANS, 0.1), seed), BEFORE, 1.0) for seed in range(50)]
    assert sum(s.cost > 400 for s in paid) <= 2, "400 wrong answers of 240,000"


def test_the_debt_is_the_excess_of_all_answers() -> None:
    exact = Before(loss=0.1)
    found = staying(spans(np.full(20 * SPANS, 0.2)), exact, 2.0)
    excess = 2.0 * 20 * SPANS * ROWS * 0.1
    assert 0.9 * excess < found.debt < excess
    some = staying(spans(np.full(20 * SPANS, 0.2), judged=50), exact, 2.0)
    assert 0.8 * excess < some.debt < found.debt, "a tenth of the labels is less certain"
    none = staying(spans(np.full(20 * SPANS, 0.2), judged=0), exact, 2.0)
    assert (none.debt, none.rate) == (0.0, 0.0)


def test_held_out_rows_bear_a_doubt_of_their_own() -> None:
    little = spans(np.full(60 * SPANS, 0.103))
    assert staying(little, Before(loss=0.1), 1.0).debt > 0 > staying(little, BEFORE, 1.0).debt


def test_a_steady_ageing_costs_by_its_sum_and_a_jump_by_its_rate() -> None:
    days = np.arange(40 * SPANS) / SPANS
    slow = staying(spans(0.1 + 0.002 * days), Before(loss=0.1), 1.0)
    assert slow.rate * slow.days / 2 == pytest.approx(slow.debt, rel=0.25)
    jumped = staying(spans(np.where(days < 39, 0.1, 0.2)), Before(loss=0.1), 1.0)
    assert jumped.cost == jumped.rate * 20 and jumped.cost > 10 * max(jumped.debt, 0)


def test_a_bad_night_is_not_a_bad_day() -> None:
    day = np.array([0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.25, 0.25])
    nights = np.tile(day, 30)
    for end in range(29 * SPANS, 30 * SPANS):
        assert staying(spans(nights[: end + 1]), BEFORE, 1.0).rate == 0.0


def test_a_young_model_has_no_rate_yet() -> None:
    young = staying(spans(np.full(SPANS - 1, 0.5)), BEFORE, 1.0)
    assert young.rate == 0.0 and young.debt > 0
    assert staying(spans(np.empty(0)), BEFORE, 1.0).cost == 0.0
