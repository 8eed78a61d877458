"""Intake: histograms of columns that add up, whatever the reading, the age and the rate."""

from typing import Any

import numpy as np
import pytest

from fairlead.core.answers import Answers, matrix
from fairlead.core.intake import SAMPLE, Intake, drift
from fairlead.core.profile import TableProfile, profile_labels, profile_numbers, quantile_edges
from fairlead.core.ref import Ref
from fairlead.core.vitals import Frame

DICE = np.random.default_rng(3)
TRAINED = DICE.normal(size=4000)
PROFILE = TableProfile(n=4000, columns=(
    profile_numbers("x", TRAINED, quantile_edges(TRAINED)),
    profile_labels("late", {"true": 1000, "false": 3000}),
    profile_labels("unused", {"a": 4000}),
))  # fmt: skip
FRAME = Frame(subject=Ref("package", "p", "1" * 64), since=0.0, until=1e9)


def answers(at: list[float], **columns: list[Any]) -> Answers:
    n = len(at)
    return Answers(
        service="s", package="p", ids=[""] * n, units=[""] * n, at=np.array(at), errors=[""] * n,
        epoch=np.ones(n, np.int64), live=np.ones(n, np.bool_), propensity=np.ones(n),
        fallback=np.zeros(n, np.bool_), latency=np.zeros(n), scores=matrix([[0.5]] * n),
        values=lambda names, places: [[columns[name][i] for i in places] for name in names],
    )  # fmt: skip


def add(intake: Intake, at: list[float], x: list[Any], late: list[Any]) -> None:
    intake.add(answers(at, x=x, late=late), np.ones(len(at), np.bool_))


def test_counts_nulls_labels_and_numbers() -> None:
    intake = Intake(PROFILE, {"x", "late"}, 60.0)
    add(intake, [1.0] * 6, [0.0, None, "odd", 99.0, -99.0, 1], [True, False, "maybe", None, True, 1])
    seen = intake.window(0.0, 60.0)
    assert set(seen) == {"x", "late"}
    x, late = seen["x"][1], seen["late"][1]
    assert (x.n, x.nulls, x.bins[0], x.bins[-1]) == (6, 2, 1, 1)
    assert (late.n, late.nulls, late.labels, late.other) == (6, 1, {"true": 2, "false": 1}, 2)


def test_any_grouping_of_rows_gives_the_same_window() -> None:
    at = DICE.uniform(0, 3600, 500).tolist()
    x, late = DICE.normal(size=500).tolist(), DICE.choice([True, False], 500).tolist()
    whole, parts = Intake(PROFILE, {"x", "late"}, 60.0), Intake(PROFILE, {"x", "late"}, 60.0)
    add(whole, at, x, late)
    for i in range(0, 500, 7):
        add(parts, at[i : i + 7], x[i : i + 7], late[i : i + 7])
    assert whole.window(600.0, 1800.0) == parts.window(600.0, 1800.0)
    assert whole.window(600.0, 1800.0)["x"][1].n == sum(600 <= a < 1800 for a in at)


def test_old_buckets_are_joined_and_nothing_is_lost() -> None:
    intake = Intake(PROFILE, {"x"}, 60.0)
    for hour in range(24 * 28):
        now = 3600.0 * hour
        intake.add(answers([now + 60 * i for i in range(60)], x=[0.0] * 60), np.ones(60, np.bool_))
        intake.forget(now - 28 * 86400, now + 3600)
    assert len(intake._buckets) < 400, "40,320 minutes were counted"
    end = 24 * 28 * 3600.0
    assert intake.window(0.0, end)["x"][1].n == 24 * 28 * 60
    for hours in (1, 24, 24 * 7):
        n = intake.window(end - 3600 * hours, end)["x"][1].n
        assert n == pytest.approx(60 * hours, rel=0.15)
    intake.forget(end - 86400, end)
    assert intake.window(0.0, end)["x"][1].n == pytest.approx(1440, rel=0.15)


def test_a_flood_is_thinned_evenly() -> None:
    intake = Intake(PROFILE, {"x"}, 60.0)
    n = 20 * SAMPLE
    intake.add(answers([1.0] * n, x=[0.0] * (n // 2) + [None] * (n // 2)), np.ones(n, np.bool_))
    seen = intake.window(0.0, 60.0)["x"][1]
    assert (seen.n, seen.null_rate) == (SAMPLE, 0.5)


def test_a_column_without_values_is_missing_not_drifting() -> None:
    intake = Intake(PROFILE, {"x", "late"}, 60.0)
    add(intake, [1.0] * 100, [None] * 100, [True] * 25 + [False] * 75)
    facts = {e.measure: e for e in drift(intake.window(0.0, 60.0), FRAME) if not e.slice}
    assert facts["nulls:x"].value == 1.0 and facts["nulls"].value == 1.0
    assert "drift:x" not in facts and "drift:late" in facts
    low = facts["drift"].low
    assert low is not None and low < 0, "chance alone explains it"
