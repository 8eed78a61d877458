"""The ledger: recent predictions of one service in memory, some fifty bytes each, oldest first."""

from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.answers import Answers
from fairlead.core.join import keys_of
from fairlead.core.target import label

__all__ = ["FAILED", "FALLBACK", "LIVE", "Ledger", "Rows"]

LIVE, FALLBACK, FAILED = 1, 2, 4
"""Flags: assigned to this package; standing in for another that failed; gave no answer."""


GROUPS = 64
"""Groups of one slice column that are told apart; rows of later ones belong to none."""


class Rows(Struct, frozen=True, eq=False):
    """n predictions as columns. `key`: of the id; `unit`: key of the sticky unit, 0 when the unit
    is the request itself; `package`: index into `Ledger.packages`; `latency`: seconds;
    `scores`: float64 [n, k], NaN where there is none. `groups`: int8 [n, c], of each slice column the
    place of the row's value in `Ledger.groups`, -1 for none."""

    key: NDArray[np.uint64]
    unit: NDArray[np.uint64]
    at: NDArray[np.float64]
    latency: NDArray[np.float32]
    epoch: NDArray[np.int64]
    package: NDArray[np.int16]
    flags: NDArray[np.uint8]
    propensity: NDArray[np.float32]
    scores: NDArray[np.float64]
    groups: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.key)

    def where(self, chosen: NDArray[Any]) -> "Rows":
        """The rows of a boolean mask, or of indices."""
        return Rows(*(getattr(self, name)[chosen] for name in self.__struct_fields__))


class Ledger:
    """Grows at the end, forgets at the front. Positions count from the first row ever added;
    nothing asked before `floor` is complete. `groups`: of each slice column its values so far."""

    def __init__(self, limit: int = 2_000_000, slices: Sequence[str] = ()) -> None:
        self.packages: list[str] = []
        self.groups: dict[str, dict[str, int]] = {name: {} for name in slices}
        self.first = 0
        self.floor = -inf
        self._limit = limit
        self._size = 0
        self._room = _blank(1024, 1, len(self.groups))

    @property
    def end(self) -> int:
        """The position behind the last row."""
        return self.first + self._size

    def index(self, package: str) -> int:
        """The number of a package in `Rows.package`; a new one for a new package."""
        if package not in self.packages:
            self.packages.append(package)
        return self.packages.index(package)

    def append(self, answers: Answers) -> None:
        """Add the answers of one package; the oldest rows go when there are too many."""
        new = _rows(answers, self.index(answers.package), self._grouped(answers))
        width = max(new.scores.shape[1], self._room.scores.shape[1])
        if self._size + len(new) > len(self._room) or width > self._room.scores.shape[1]:
            self._grow(self._size + len(new), width)
        for name in Rows.__struct_fields__:
            target, source = getattr(self._room, name), getattr(new, name)
            if name == "scores":
                target[self._size : self._size + len(new), : source.shape[1]] = source
            else:
                target[self._size : self._size + len(new)] = source
        self._size += len(new)
        if self._size > self._limit + self._limit // 4:
            self._forget(self._size - self._limit)

    def _grouped(self, answers: Answers) -> NDArray[np.int8]:
        found = np.full((len(answers), len(self.groups)), -1, dtype=np.int8)
        columns = answers.values(list(self.groups), range(len(answers))) if self.groups else []
        for i, (places, values) in enumerate(zip(self.groups.values(), columns, strict=True)):
            named = [None if v is None else label(v) for v in values]
            for name in dict.fromkeys(named):
                if name is not None and len(places) < GROUPS:
                    places.setdefault(name, len(places))
            found[:, i] = [-1 if name is None else places.get(name, -1) for name in named]
        return found

    def rows(self, start: int = 0, end: int | None = None) -> Rows:
        """Rows between two positions (a view; those already forgotten are missing)."""
        low = max(start - self.first, 0)
        high = self._size if end is None else max(min(end - self.first, self._size), low)
        return Rows(*(getattr(self._room, name)[low:high] for name in Rows.__struct_fields__))

    def since(self, at: float) -> Rows:
        """All rows from the first on that was asked at `at` or later (few earlier ones among
        them: gateways and clocks disagree a little)."""
        rows = self.rows()
        low = int(np.searchsorted(np.maximum.accumulate(rows.at), at)) if len(rows) else 0
        return self.rows(self.first + low)

    def forget(self, before: float) -> None:
        """Drop rows asked before `before` once they are a quarter of all, so that it is cheap."""
        if self._size and self._room.at[self._size // 4] < before:
            self._forget(self._size - len(self.since(before)))

    def _forget(self, count: int) -> None:
        kept = self.rows(self.first + count)
        self._room = Rows(*(getattr(kept, name).copy() for name in Rows.__struct_fields__))
        self._size -= count
        self.first += count
        self.floor = float(self._room.at[0]) if self._size else self.floor

    def _grow(self, size: int, width: int) -> None:
        room = _blank(max(size, 2 * len(self._room)), width, len(self.groups))
        for name in Rows.__struct_fields__:
            before = getattr(self._room, name)[: self._size]
            if name == "scores":
                getattr(room, name)[: self._size, : before.shape[1]] = before
            else:
                getattr(room, name)[: self._size] = before
        self._room = room


def _blank(size: int, width: int, columns: int) -> Rows:
    return Rows(
        np.empty(size, np.uint64), np.empty(size, np.uint64), np.empty(size, np.float64),
        np.empty(size, np.float32), np.empty(size, np.int64), np.empty(size, np.int16),
        np.empty(size, np.uint8), np.empty(size, np.float32), np.full((size, width), np.nan),
        np.empty((size, columns), np.int8),
    )  # fmt: skip


def _rows(answers: Answers, package: int, groups: NDArray[np.int8]) -> Rows:
    failed = np.array([bool(e) for e in answers.errors], dtype=np.bool_)
    flags = LIVE * answers.live + FALLBACK * answers.fallback + FAILED * failed
    keys = keys_of(answers.ids)
    return Rows(
        keys, _units(answers.ids, answers.units), answers.at, answers.latency.astype(np.float32),
        answers.epoch, np.full(len(keys), package, np.int16), flags.astype(np.uint8),
        answers.propensity.astype(np.float32), answers.scores, groups,
    )  # fmt: skip


def _units(ids: Sequence[str], units: Sequence[str]) -> NDArray[np.uint64]:
    sticky = [i for i, unit in enumerate(units) if unit and unit != ids[i]]
    keys = np.zeros(len(ids), dtype=np.uint64)
    if sticky:
        keys[sticky] = keys_of([units[i] for i in sticky])
    return keys
