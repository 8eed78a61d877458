"""Proofs: what counts as the same answer."""

import numpy as np
import pytest

from fairlead.core.artifact import Task
from fairlead.core.proof import compare


def scores(*values: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def test_a_small_difference_of_probabilities_is_the_same_answer() -> None:
    proof = compare(scores(0.2, 0.7), scores(0.200005, 0.699995), "binary")
    assert proof.exact
    assert proof.worst == pytest.approx(5e-6, rel=0.05)
    assert "2 rows agree within" in str(proof)


def test_a_large_one_is_not_and_is_counted() -> None:
    proof = compare(scores(0.2, 0.7, 0.9), scores(0.2, 0.69, 0.95), "binary")
    assert (proof.exact, proof.off) == (False, 2)
    assert str(proof) == "2 of 3 rows differ, by up to 0.05"


def test_a_decision_may_differ_only_at_the_threshold() -> None:
    flipped = compare(scores(0.500004), scores(0.499999), "binary")
    assert (flipped.off, flipped.flips, flipped.exact) == (0, 1, False)
    assert compare(scores(0.5000005), scores(0.499999), "binary").exact
    assert compare(scores(0.500004), scores(0.499999), "binary", threshold=0.3).exact


def test_classes_are_decided_by_the_largest_score() -> None:
    ours = np.array([[0.400004, 0.399996, 0.2]], dtype=np.float32)
    theirs = np.array([[0.399998, 0.400002, 0.2]], dtype=np.float32)
    assert compare(ours, theirs, "multiclass").flips == 1
    tie = np.array([[0.4, 0.4, 0.2]], dtype=np.float32)
    assert compare(tie, theirs, "multiclass").exact


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_numbers_are_compared_free_of_their_unit(scale: float) -> None:
    ours = np.linspace(-1, 1, 50, dtype=np.float32)[:, None] * np.float32(scale)
    assert compare(ours, ours * np.float32(1 + 2e-6), "regression").exact
    assert not compare(ours, ours * np.float32(1 + 2e-4), "regression").exact


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_number_and_no_row_prove_nothing(task: Task) -> None:
    bad = np.array([[0.1, 0.9], [np.nan, 0.5]], dtype=np.float32)
    assert not compare(bad, bad, task).exact
    assert not compare(scores(0.1), scores(0.1, 0.2), task).exact
    assert not compare(scores(), scores(), task).exact


def test_constant_regressions_must_be_equal() -> None:
    assert compare(scores(0, 0), scores(0, 0), "regression").exact
    assert not compare(scores(0, 0), scores(0, 1e-9), "regression").exact
