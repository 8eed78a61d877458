"""Skew: how often features were served differently from what their facts say."""

from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

import numpy as np
from msgspec import UNSET, Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.answers import Answers
from fairlead.core.evidence import Evidence
from fairlead.core.intervals import wilson
from fairlead.core.vitals import Frame

__all__ = ["AT", "FEW", "ID", "Served", "Skew", "skews"]

AT, ID = "\0at", "\0id"
"""The moment and the id of a request, beside its columns: names no column can have."""

FEW = 20
"""Recomputed values of a feature from which on a release is judged by them."""

KEPT, EACH = 2_000, 40
"""Served rows that are remembered, and how many of a minute: at least fifty minutes of a busy service."""


LATE = 60
"""Minutes by which rows of another gateway may be older than those before; of more, a clock was set back."""


class Skew(Struct, frozen=True, kw_only=True):
    """Of `n` served values of a feature, how many were `wrong`, how many others were right before a
    `late` fact came, and how many were `missing` though the facts have them. `example`: the id of
    the newest wrong one."""

    feature: str
    n: int
    wrong: int
    late: int
    missing: int = 0
    example: str = ""


class Served:
    """The newest served rows, some of every minute."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._minute, self._room = -inf, 0

    def add(self, answers: Answers, chosen: NDArray[np.bool_], columns: Sequence[str]) -> None:
        """Remember `columns` (entities and features) of evenly spaced chosen rows."""
        places = np.flatnonzero(chosen)
        if not len(places):
            return
        minute = float(answers.at[places].max()) // 60
        if not 0 <= self._minute - minute <= LATE:
            self._minute, self._room = minute, EACH
        if len(places) > self._room:
            places = places[np.linspace(0, len(places) - 1, self._room).astype(np.intp)]
        self._room -= len(places)
        values = answers.values(columns, places.tolist())
        for i, place in enumerate(places.tolist()):
            row = {n: column[i] for n, column in zip(columns, values, strict=True)}
            self.rows.append(row | {AT: float(answers.at[place]), ID: answers.ids[place]})


def skews(found: Sequence[Skew], frame: Frame) -> Iterator[Evidence]:
    """"skew" (the worst feature, and by slice ``feature=name``) and "skew:name": the share of wrong
    values, with the id of one; "late", "unserved": the largest shares of values that were right before
    a late fact came, and of those that were not served though the facts have them; "recomputed": of how
    many values of the feature that has the fewest."""
    each = 1 - (1 - frame.level) / max(len(found), 1)
    made = [replace(frame.number(f"skew:{s.feature}", s.wrong / s.n, s.n, *wilson(s.wrong, s.n, each)),
                    example=s.example or UNSET) for s in found]  # fmt: skip
    for one in made:
        yield one
        yield replace(one, measure="skew", slice=f"feature={one.measure.removeprefix('skew:')}")
    if made:
        yield replace(max(made, key=lambda e: e.low or 0.0), measure="skew")
        least = min(s.n for s in found)
        yield frame.number("recomputed", least, least, least, least)
    for measure, count in (("late", "late"), ("unserved", "missing")) if found else ():
        k, n = max(((getattr(s, count), s.n) for s in found), key=lambda seen: seen[0] / seen[1])
        yield frame.number(measure, k / n, n, *wilson(k, n, each))
