"""Unlabelled: what is expected before the truth is known, how it compares, and what the truth makes of it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec, Task
from fairlead.core.encoding import Encoding, Number
from fairlead.core.evidence import Evidence
from fairlead.core.intake import PREDICTION, Pair, seat
from fairlead.core.ledger import LIVE, Rows
from fairlead.core.profile import profile_numbers, quantile_edges
from fairlead.core.quality import Judged, cohorts, numbers
from fairlead.core.ref import Ref
from fairlead.core.reference import Held, Reference, answered, reference
from fairlead.core.schema import Schema
from fairlead.core.unlabelled import estimates, lost, missed
from fairlead.core.vitals import Frame

FRAME = Frame(subject=Ref("package", "p", "1" * 64), since=0.0, until=1e6)
Vector = NDArray[np.float64]


def spec(task: Task, classes: tuple[str, ...] = ()) -> PackageSpec:
    return PackageSpec(model=Ref("model", "m", "0" * 64), flavor="onnx", task=task, classes=classes,
                       contract=Schema(columns=()), encoding=Encoding((Number("x"),)), files={})  # fmt: skip


def rows(scores: Vector, at: Vector | None = None) -> Rows:
    n = len(scores)
    return Rows(np.arange(n, dtype=np.uint64), np.zeros(n, np.uint64), np.arange(n, dtype=np.float64) if at is None else at,
                np.full(n, 0.01, np.float32), np.ones(n, np.int64), np.zeros(n, np.int16),
                np.full(n, LIVE, np.uint8), np.ones(n, np.float32), scores, np.empty((n, 0), np.int8))  # fmt: skip


def judged(scores: Vector, y: Vector) -> Judged:
    return Judged(rows(scores), y, np.arange(len(y), dtype=np.float64) + 60)


def one(found: list[Evidence], measure: str) -> Evidence:
    (seen,) = [e for e in found if e.measure == measure and not e.slice]
    return seen


def inside(seen: Evidence, value: float) -> bool:
    assert seen.low is not None and seen.high is not None
    return seen.low <= value <= seen.high


def binary(rng: np.random.Generator, n: int, shift: float = 0.0, flip: float = 1.0) -> tuple[Vector, Vector]:
    z = rng.normal(shift, 1.5, n)
    return (1 / (1 + np.exp(-2 * z)))[:, None], (rng.random(n) < 1 / (1 + np.exp(-flip * z))).astype(float)


@pytest.fixture(scope="module")
def known() -> Reference:
    scores, y = binary(np.random.default_rng(1), 8000)
    return reference(Held(task="binary", classes=("no", "yes"), scores=scores, y=y), {}, {}, {})


BINARY = spec("binary", ("no", "yes"))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_binary_estimates_hold_the_truth_in_their_band(known: Reference, shift: float) -> None:
    scores, y = binary(np.random.default_rng(2), 4000, shift)
    found = list(estimates(rows(scores), known, BINARY, FRAME, {}))
    truth = {e.measure: e.value for e in numbers(judged(scores, y), FRAME, BINARY)}
    for measure in ("accuracy", "auc", "brier"):
        assert inside(one(found, f"estimated_{measure}"), truth[measure])
    (miss,) = missed(judged(scores, y), known, BINARY, FRAME, {})
    assert inside(miss, 0.0)


def test_only_the_truth_shows_another_meaning(known: Reference) -> None:
    scores, y = binary(np.random.default_rng(3), 4000, flip=0.2)
    found = list(estimates(rows(scores), known, BINARY, FRAME, {}))
    assert abs(one(found, "estimated_lost").value) < 0.02, "blind"
    (miss,) = missed(judged(scores, y), known, BINARY, FRAME, {})
    assert miss.low is not None and miss.low > 0.1
    labelled = [e for m in numbers(judged(scores, y), FRAME, BINARY) for e in lost(m, known, BINARY)]
    whole, auc = one(labelled, "lost"), one(labelled, "lost:auc")
    assert whole.value == auc.value and auc.low is not None and auc.low > 0.1
    assert one(labelled, "lost:brier").value > 0, "positive is worse, whichever way a metric points"


def test_many_classes_by_the_highest_score() -> None:
    rng = np.random.default_rng(4)

    def drawn(n: int, noise: float) -> tuple[Vector, Vector]:
        y = rng.integers(0, 3, n)
        logits = rng.normal(size=(n, 3)) * noise
        logits[np.arange(n), y] += 1.5
        scores = np.exp(logits)
        return scores / scores.sum(axis=1, keepdims=True), y.astype(float)

    scores, y = drawn(6000, 1.0)
    task = spec("multiclass", ("a", "b", "c"))
    learnt = reference(Held(task="multiclass", classes=task.classes, scores=scores, y=y), {}, {}, {})
    assert sum(learnt.answers.labels.values()) == 6000
    fresh, truth = drawn(3000, 1.0)
    found = list(estimates(rows(fresh), learnt, task, FRAME, {}))
    assert inside(one(found, "estimated_accuracy"), float(np.mean(fresh.argmax(axis=1) == truth)))
    (miss,) = missed(judged(fresh, truth), learnt, task, FRAME, {})
    assert inside(miss, 0.0)


def test_a_regression_reads_histograms() -> None:
    rng = np.random.default_rng(5)

    def drawn(n: int, shift: float) -> tuple[Vector, Vector, Vector]:
        x = rng.normal(shift, 1, n)
        return x, (3 * x)[:, None], 3 * x + rng.normal(size=n) * (0.5 + np.maximum(x, 0))

    x, scores, y = drawn(8000, 0.0)
    held = Held(task="regression", classes=(), scores=scores, y=y)
    seats = {"x": seat(profile_numbers("x", x, quantile_edges(x))), PREDICTION: seat(answered(held))}
    codes = {"x": seats["x"].codes(x), PREDICTION: seats[PREDICTION].codes(scores[:, 0])}
    learnt = reference(held, seats, codes, {})
    task = spec("regression")
    for shift in (0.0, 0.8):
        x, scores, y = drawn(6000, shift)
        window: dict[str, Pair] = {
            name: (s.profile, profile_numbers(name, v, s.profile.edges))
            for (name, s), v in zip(seats.items(), (x, scores[:, 0]), strict=True)
        }
        found = list(estimates(rows(scores), learnt, task, FRAME, window))
        assert one(found, "estimated_mae").value == pytest.approx(np.abs(scores[:, 0] - y).mean(), rel=0.1)
        assert (one(found, "estimated_lost").value > 0.03) == bool(shift)
        (miss,) = missed(judged(scores, y), learnt, task, FRAME, window)
        assert abs(miss.value) < 0.05


def test_without_a_calibration_nothing_is_said(known: Reference) -> None:
    none = Reference(rows=0, answers=known.answers, metrics={})
    assert list(estimates(rows(np.full((5, 1), 0.5)), none, BINARY, FRAME, {})) == []
    assert list(estimates(rows(np.full((5, 1), np.nan)), known, BINARY, FRAME, {})) == []


def test_cohorts_compare_at_equal_age() -> None:
    """Wrong answers are confirmed after two days: at the age of a day a cohort looks perfect, at a week not."""
    day, n = 86_400.0, 400
    at = np.linspace(0, 20 * day, n)
    y = (np.arange(n) % 2).astype(float)
    scores = np.where(np.arange(n) % 4 < 2, y, 1 - y)[:, None] * 0.8 + 0.1
    delay = np.where((scores[:, 0] >= 0.5) == y, 3600.0, 2 * day)
    frame = Frame(subject=FRAME.subject, since=10 * day, until=20 * day)
    found = {(e.slice, e.measure): e for e in cohorts(Judged(rows(scores, at), y, at + delay), frame, BINARY)}
    assert found["age=1d", "accuracy"].value == 1.0
    assert found["age=7d", "accuracy"].value == pytest.approx(0.5, abs=0.01)
    assert ("age=28d", "accuracy") not in found, "none is so old"
    assert found["age=7d", "accuracy"].until == 13 * day
