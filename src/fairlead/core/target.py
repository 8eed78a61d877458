"""Targets: which task a column poses, and how its values become the names and numbers of classes."""

from collections.abc import Iterable
from typing import Any

from fairlead.core.artifact import Task
from fairlead.core.schema import Dtype
from fairlead.errors import Invalid

__all__ = ["FEW", "MOST", "classes_of", "label", "task_of"]

MOST = 100
"""Classes a task may have."""

FEW = 10
"""A whole number with at most this many values is taken for a class."""

YES = frozenset({"true", "yes", "y", "t", "1", "positive", "pos"})
NO = frozenset({"false", "no", "n", "f", "0", "negative", "neg"})


def label(value: Any) -> str:
    """The name of a class: ``true``/``false`` for booleans, ``1`` for 1 and 1.0, else the text.

    Feedback and table meet here: 1, 1.0, True and "1" of a source name what they say, exactly.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def task_of(target: str, dtype: Dtype, distinct: int) -> Task:
    """The task that a column of this type with so many different values poses.

    Raises Invalid for a constant, a datetime, or text with more than 100 values.
    """
    number = dtype in ("int", "float")
    if distinct < 2:
        raise Invalid(f"target {target!r} has {distinct} different values in these rows",
                      hint="there is nothing to predict: choose another column or more rows")  # fmt: skip
    if dtype == "datetime":
        raise Invalid(f"target {target!r} is a datetime",
                      hint="predict a number, such as the days until it")  # fmt: skip
    if distinct == 2:
        return "binary"
    if dtype == "float" or (number and distinct > FEW):
        return "regression"
    if distinct > MOST:
        raise Invalid(f"target {target!r} has {distinct:,} different values",
                      hint=f"at most {MOST} classes: group rare ones, or choose a number")  # fmt: skip
    return "multiclass"


def classes_of(target: str, task: Task, values: Iterable[Any]) -> tuple[str, ...]:
    """Class names in order: numbers by size, a yes after its no, else alphabetically.

    So classes[1] of a binary task is the larger number, `true`, `yes`, ... Raises Invalid when
    the values do not make such a task.
    """
    if task == "regression":
        return ()
    found = sorted(set(values), key=_order)
    names = tuple(dict.fromkeys(label(v) for v in found))
    if (task == "binary") != (len(names) == 2) or len(names) > MOST:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise Invalid(f"target {target!r} has {len(names)} classes ({shown}), the task is {task}",
                      hint="set data.task in fairlead.yaml to fit, or choose other rows")  # fmt: skip
    return names


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, bool | int | float):
        return 0, float(value), ""
    word = str(value).strip().lower()
    return 1 + (word in YES) - (word in NO), 0.0, str(value)
