"""Skew: how often features were served differently from what their facts say."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.answers import Answers
from fairlead.core.evidence import Evidence
from fairlead.core.intervals import wilson
from fairlead.core.vitals import Frame

__all__ = ["AT", "Served", "Skew", "skews"]

AT = "\0at"
"""The moment of a request, beside its columns: a name no column can have."""

KEPT, EACH = 2_000, 50
"""Served rows that are remembered, and how many of one reading of the log."""


class Skew(Struct, frozen=True, kw_only=True):
    """Of `n` served values of a feature, how many were `wrong`, how many others were right before a
    `late` fact came, and how many were `missing` though the facts have them."""

    feature: str
    n: int
    wrong: int
    late: int
    missing: int = 0


class Served:
    """The newest served rows, some of every reading."""

    def __init__(self) -> None:
        self.rows: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def add(self, answers: Answers, chosen: NDArray[np.bool_], columns: Sequence[str]) -> None:
        """Remember `columns` (entities and features) of evenly spaced chosen rows."""
        places = np.flatnonzero(chosen)
        if len(places) > EACH:
            places = places[np.linspace(0, len(places) - 1, EACH).astype(np.intp)]
        values = answers.values(columns, places.tolist()) if len(places) else []
        moments = answers.at[places].tolist()
        for i, at in enumerate(moments):
            self.rows.append({AT: at} | {n: column[i] for n, column in zip(columns, values, strict=True)})


def skews(found: Sequence[Skew], frame: Frame) -> Iterator[Evidence]:
    """"skew" (the worst feature, and by slice ``feature=name``) and "skew:name": the share of wrong
    values; "late", "unserved": the largest shares of values that were right before a late fact came,
    and of those that were not served though the facts have them."""
    each = 1 - (1 - frame.level) / max(len(found), 1)
    made = [frame.number(f"skew:{s.feature}", s.wrong / s.n, s.n, *wilson(s.wrong, s.n, each))
            for s in found]  # fmt: skip
    for one in made:
        yield one
        yield replace(one, measure="skew", slice=f"feature={one.measure.removeprefix('skew:')}")
    if made:
        yield replace(max(made, key=lambda e: e.low or 0.0), measure="skew")
    for measure, count in (("late", "late"), ("unserved", "missing")) if found else ():
        k, n = max(((getattr(s, count), s.n) for s in found), key=lambda seen: seen[0] / seen[1])
        yield frame.number(measure, k / n, n, *wilson(k, n, each))
