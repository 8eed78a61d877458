"""Bars: a figure beside the goal of its promise, kept for the table at the end of `make test-faults`."""

import operator
import re
from typing import Any

import pytest
from msgspec import Struct

__all__ = ["Bar", "Broken", "Figure", "twin"]

_SIGNS = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


class Broken(AssertionError):
    """A promise is not kept: what a planted bug must lead to."""


class Figure(Struct, frozen=True, kw_only=True):
    """`seen` beside `goal`; `bug` names the planted one, "" for the real thing."""

    promise: str
    what: str
    seen: float | int
    goal: str
    bug: str
    kept: bool

    @property
    def worse(self) -> tuple[bool, float]:
        """Sorts the worst last."""
        return not self.kept, -self.seen if self.goal[0] == ">" else self.seen

    @property
    def shown(self) -> str:
        number = f"{self.seen:,.4g}" if isinstance(self.seen, float) else f"{self.seen:,}"
        return f"{number} {self.goal.partition(' ')[2].partition(' ')[2]}".rstrip()


class Bar:
    """`bar("back after a kill", 31.4, "<= 200 ms")` keeps the figure, and raises Broken above it.

    The goal is a sign (<=, >= or =), a number and, if any, the unit in which the figure is given.
    """

    def __init__(self, promise: str, bug: str, figures: list[Figure]) -> None:
        self._promise, self._bug, self._figures = promise, bug, figures

    def __call__(self, what: str, seen: float, goal: str) -> None:
        found = re.fullmatch(r"(<=|>=|=) ([\d.,]+)(.*)", goal)
        assert found, f"not a goal: {goal}"
        sign, number, _ = found.groups()
        kept = _SIGNS[sign](seen, float(number.replace(",", "")))
        figure = Figure(promise=self._promise, what=what, seen=seen, goal=goal, bug=self._bug, kept=kept)
        self._figures.append(figure)
        if not kept:
            raise Broken(f"{figure.promise} {what}: {figure.shown}, goal {goal}")


def twin(bug: str) -> Any:
    """A parameter `bug` of a test that must break a bar; `bug`: see planted.py."""
    return pytest.param(bug, id=f"twin-{bug.rpartition('.')[2]}",
                        marks=pytest.mark.xfail(raises=Broken, strict=True, reason=f"planted: {bug}"))  # fmt: skip
