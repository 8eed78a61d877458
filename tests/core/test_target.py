"""Targets: the task a column poses and the names of its classes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.artifact import Task
from fairlead.core.schema import Dtype
from fairlead.core.target import classes_of, label, task_of
from fairlead.errors import Invalid


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([True, False], ("false", "true")),
        ([1, 0], ("0", "1")),
        ([1.0, 0.0], ("0", "1")),
        ([10, 9], ("9", "10")),
        ([-1, 1], ("-1", "1")),
        (["yes", "no"], ("no", "yes")),
        (["Y", "N"], ("N", "Y")),
        (["positive", "a"], ("a", "positive")),
        (["no", "maybe"], ("no", "maybe")),
        (["charged off", "paid"], ("charged off", "paid")),
        (["1", "0"], ("0", "1")),
    ],
)
def test_the_second_of_two_classes_is_the_positive_one(values: list[Any], classes: tuple[str, ...]) -> None:
    assert classes_of("y", "binary", values) == classes


def test_many_classes_are_in_order() -> None:
    assert classes_of("y", "multiclass", [10, 2, 1]) == ("1", "2", "10")
    assert classes_of("y", "multiclass", ["b", "a", "c"]) == ("a", "b", "c")
    assert classes_of("y", "regression", [1.5, 2.5]) == ()


@given(st.integers(-(10**15), 10**15))
def test_a_number_has_one_name_however_it_is_stored(value: int) -> None:
    assert label(value) == label(float(value)) == str(value)


@pytest.mark.parametrize(
    ("dtype", "distinct", "task"),
    [("bool", 2, "binary"), ("category", 2, "binary"), ("float", 2, "binary"), ("int", 3, "multiclass"),
     ("int", 10, "multiclass"), ("int", 11, "regression"), ("float", 3, "regression"),
     ("category", 100, "multiclass")],
)  # fmt: skip
def test_tasks(dtype: Dtype, distinct: int, task: Task) -> None:
    assert task_of("y", dtype, distinct) == task


@pytest.mark.parametrize(("dtype", "distinct"), [("bool", 1), ("int", 0), ("text", 101), ("datetime", 9)])
def test_no_task(dtype: Dtype, distinct: int) -> None:
    with pytest.raises(Invalid, match="'y'") as caught:
        task_of("y", dtype, distinct)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("task", "values"), [("binary", [1, 2, 3]), ("binary", ["a"]), ("multiclass", [1, 2]),
                         ("multiclass", list(range(101)))]
)  # fmt: skip
def test_classes_that_do_not_fit_the_task(task: Task, values: list[Any]) -> None:
    with pytest.raises(Invalid, match="the task is"):
        classes_of("y", task, values)
