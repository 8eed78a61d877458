"""Off-policy estimates: unbiased where the log supports them, refused where it does not."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.offpolicy import Estimate, Logged, Refusal, doubly_robust, gain, snips, value
from fairlead.errors import Invalid

Floats = NDArray[np.float64]
TRUE = np.array([0.1, 0.25, 0.4])  # mean reward of three choices, times 1 + x


def log_of(rng: np.random.Generator, n: int, wanted: Floats, logging: Floats) -> dict[str, Floats]:
    """Rows logged by one policy; a model of the reward that is wrong by a third."""
    x = rng.random(n)
    choice = rng.choice(3, n, p=logging)
    reward = (rng.random(n) < TRUE[choice] * (1 + x)).astype(np.float64)
    model = TRUE[None, :] * 2 * np.ones((n, 1))
    return {"reward": reward, "logged": logging[choice], "wanted": wanted[choice],
            "guess": model[np.arange(n), choice], "guess_all": model @ wanted}  # fmt: skip


def both(rows: dict[str, Floats]) -> list[Estimate | Refusal]:
    return [snips(rows["reward"], rows["logged"], rows["wanted"]), robust(rows)]


def robust(rows: dict[str, Floats]) -> Estimate | Refusal:
    return doubly_robust(*(rows[k] for k in ("reward", "logged", "wanted", "guess", "guess_all")))


WANTED, LOGGING = np.array([0.1, 0.1, 0.8]), np.array([0.6, 0.3, 0.1])
TRUTH = float(TRUE @ WANTED * 1.5)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(600):
        for i, found in enumerate(both(log_of(rng, 3000, WANTED, LOGGING))):
            assert isinstance(found, Estimate)
            covered[i] += found.low <= TRUTH <= found.high
    assert covered.min() / 600 >= 0.93 and covered.max() / 600 <= 0.975


def test_the_logging_policy_itself_is_its_own_mean() -> None:
    rows = log_of(np.random.default_rng(1), 2000, LOGGING, LOGGING)
    found = both(rows)[0]
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(float(rows["reward"].mean()))
    assert found.n == 2000 and found.effective == pytest.approx(2000)


def test_right_guesses_make_doubly_robust_sharper() -> None:
    rng = np.random.default_rng(2)
    rows = log_of(rng, 5000, WANTED, LOGGING)
    plain, guessed = both(rows)
    assert isinstance(plain, Estimate) and isinstance(guessed, Estimate)
    rows["guess"] = rows["reward"]
    sharp = robust(rows)
    assert isinstance(sharp, Estimate) and sharp.high - sharp.low < guessed.high - guessed.low


def test_thin_support_is_refused_with_a_reason() -> None:
    rng = np.random.default_rng(3)
    never = log_of(rng, 5000, np.array([0.1, 0.1, 0.8]), np.array([0.6, 0.4, 0.0]))
    rare = log_of(rng, 5000, np.array([0.0, 0.0, 1.0]), np.array([0.7, 0.295, 0.005]))
    other = log_of(rng, 5000, np.array([0.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.0]))
    for rows, word in ((never, "never logged"), (rare, "worth only"), (other, "no logged choice")):
        for found in both(rows):
            assert isinstance(found, Refusal) and word in found.reason


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r | {"logged": r["logged"] * 0},
        lambda r: r | {"wanted": r["wanted"] + 1},
        lambda r: r | {"reward": r["reward"] * np.nan},
        lambda r: r | {"reward": r["reward"][:-1]},
        lambda r: r | {"guess": r["guess"][:-1]},
    ],
)
def test_rows_that_make_no_sense_are_invalid(
    spoil: Callable[[dict[str, Floats]], dict[str, Floats]],
) -> None:
    rows = spoil(log_of(np.random.default_rng(4), 500, WANTED, LOGGING))
    with pytest.raises(Invalid) as refusal:
        robust(rows)
    assert refusal.value.hint


OLD, ARM, FRESH = range(3)


def bandit(rng: np.random.Generator, n: int) -> tuple[Logged, dict[int, float]]:
    """Two packages share the traffic by dice; for a tenth of the time the second one still loads.
    A third one, nobody ever met, decides like one of them on every request. Also the true values."""
    x = rng.random(n)
    decisions = np.stack([x > 0.5, x > 0.3, x > np.where(rng.random(n) < 0.5, 0.5, 0.3)], axis=1)
    loading = np.arange(n) < n // 10
    share = np.where(loading, 0.0, np.where(np.arange(n) < n // 2, 0.1, 0.6))
    chosen = (rng.random(n) < share).astype(np.intp)
    earns = 0.2 + 0.5 * decisions * x[:, None]
    took = earns[np.arange(n), chosen]
    kept = ~loading  # no dice, no experiment
    logged = Logged(
        reward=(rng.random(n) < took).astype(np.float64)[kept], chosen=chosen[kept],
        propensity=np.where(chosen == 1, share, 1 - share)[kept],
        active=np.tile([True, True, False], (int(kept.sum()), 1)),
        decisions=decisions.astype(np.float64)[kept], context=x[kept],
    )  # fmt: skip
    return logged, dict(enumerate(earns[kept].mean(axis=0).tolist()))


def test_a_package_nobody_met_is_valued_by_what_its_decisions_earned() -> None:
    rng, covered, paired = np.random.default_rng(6), np.zeros((3, 2)), 0
    for _ in range(100):
        logged, truth = bandit(rng, 4000)
        for package in (OLD, ARM, FRESH):
            for i, found in enumerate(value(logged, package)):
                assert isinstance(found, Estimate)
                covered[package, i] += found.low <= truth[package] <= found.high
        more = gain(logged, ARM, OLD)
        assert isinstance(more, Estimate)
        paired += more.low <= truth[ARM] - truth[OLD] <= more.high
    assert covered.min() >= 89 and paired >= 89  # of 100, at 95 %


def test_a_gain_is_surer_than_two_values() -> None:
    logged, _ = bandit(np.random.default_rng(7), 8000)
    more, one, other = gain(logged, FRESH, OLD), value(logged, FRESH)[1], value(logged, OLD)[1]
    assert isinstance(more, Estimate) and isinstance(one, Estimate) and isinstance(other, Estimate)
    assert more.high - more.low < one.high - one.low + other.high - other.low
    same = gain(logged, OLD, OLD)
    assert isinstance(same, Estimate) and (same.low, same.value, same.high) == (0, 0, 0)


def test_decisions_that_nobody_ever_made_are_refused() -> None:
    logged, _ = bandit(np.random.default_rng(8), 4000)
    logged.decisions[:, FRESH] = 1 - logged.decisions[:, OLD]
    for found in (*value(logged, FRESH), gain(logged, FRESH, OLD)):
        assert isinstance(found, Refusal) and "never logged" in found.reason
