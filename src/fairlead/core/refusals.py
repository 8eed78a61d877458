"""Refusals: requests that no package was asked, counted by reason, as a share of all that came."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from msgspec.structs import replace

from fairlead.core.evidence import Evidence
from fairlead.core.intervals import wilson
from fairlead.core.ledger import FALLBACK, LIVE, Rows
from fairlead.core.prediction import Refused
from fairlead.core.vitals import Frame

__all__ = ["Refusals"]

GRAIN = 60.0
"""Seconds whose refusals are counted together."""


class Refusals:
    """Counts by minute and code; a refusal that stands for others of a flood counts for all of them."""

    def __init__(self) -> None:
        self._minutes: dict[float, Counter[str]] = {}

    def add(self, refused: Iterable[Refused]) -> None:
        for one in refused:
            minute = math.floor(one.at / GRAIN) * GRAIN
            self._minutes.setdefault(minute, Counter())[one.code] += one.count

    def forget(self, before: float) -> None:
        """Drop minutes that were over before `before`."""
        self._minutes = {m: c for m, c in self._minutes.items() if m + GRAIN > before}

    def evidence(self, frame: Frame, rows: Rows) -> Iterator[Evidence]:
        """"refused": the share of requests that were, beside those that some package was asked (`rows`,
        of any time); and of each reason as ``refused:code``. Nothing of no requests."""
        first = ((rows.flags & LIVE) > 0) & ((rows.flags & FALLBACK) == 0)
        asked = int(np.count_nonzero(first & (rows.at >= frame.since) & (rows.at <= frame.until)))
        found: Counter[str] = Counter()
        for minute, counts in self._minutes.items():
            if frame.since <= minute <= frame.until:
                found.update(counts)
        n = asked + found.total()
        if not n:
            return
        for code, k in sorted(found.items()):
            one = frame.number(f"refused:{code}", k / n, n, *wilson(k, n, frame.level))
            yield one
            yield replace(one, measure="refused", slice=f"reason={code}")
        whole = found.total()
        yield frame.number("refused", whole / n, n, *wilson(whole, n, frame.level))
