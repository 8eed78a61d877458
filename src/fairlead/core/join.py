"""Joins: which label counts for a prediction, whatever order labels arrive in (promises.md R15).

The rule: of all labels for one prediction, the one with the latest `at` wins; of equal ones, the
one whose canonical bytes are largest. So the joined state depends on the set of labels only, and
every number computed from it is the same to the last bit for any order, any repetition.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.prediction import Feedback
from fairlead.core.ref import canonical

__all__ = ["BOOL", "NUMBER", "TEXT", "Conflict", "Joined", "Labels", "Truth", "Value", "join",
           "keys_of"]  # fmt: skip

Value = float | str | bool

NUMBER, BOOL, TEXT = 0, 1, 2

_KINDS: dict[type, int] = {bool: BOOL, str: TEXT}


class Conflict(Struct, frozen=True, kw_only=True):
    """A prediction that was given different labels: the one that counts, then the others."""

    prediction: str
    name: str
    values: tuple[Value, ...]


class Joined(Struct, frozen=True, kw_only=True):
    """`labels`: (prediction, name) -> the feedback that counts. `duplicates`: repetitions of a
    label already known. `unknown`: predictions that nobody made."""

    labels: dict[tuple[str, str], Feedback]
    conflicts: tuple[Conflict, ...]
    duplicates: int
    unknown: tuple[str, ...]


def join(feedback: Iterable[Feedback], known: Iterable[str] | None = None) -> Joined:
    """Apply the rule to any feedback. `known`: ids of predictions (None: all are known)."""
    groups: dict[tuple[str, str], list[Feedback]] = {}
    for note in feedback:
        groups.setdefault((note.prediction, note.name), []).append(note)
    labels, conflicts, duplicates = {}, [], 0
    for key in sorted(groups):
        notes = sorted(groups[key], key=_rank, reverse=True)
        labels[key] = notes[0]
        values = {canonical(n.value): n.value for n in notes}
        duplicates += len(notes) - len(values)
        if len(values) > 1:
            conflicts.append(
                Conflict(prediction=key[0], name=key[1], values=tuple(values.values()))
            )
    made = None if known is None else set(known)
    unknown = [p for p in dict.fromkeys(p for p, _ in labels) if made is not None and p not in made]
    return Joined(labels=labels, conflicts=tuple(conflicts), duplicates=duplicates,
                  unknown=tuple(unknown))  # fmt: skip


def _rank(note: Feedback) -> tuple[float, bytes]:
    return note.at, canonical(note.value)


def keys_of(ids: Sequence[str]) -> NDArray[np.uint64]:
    """64-bit keys of prediction ids: 8 bytes each instead of 80 (BLAKE2b; ten million ids
    collide with a chance of 3 in a million)."""
    data = b"".join(blake2b(i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(data, dtype=np.uint64)


class Truth(Struct, frozen=True, eq=False):
    """Resolved labels: keys in ascending order, each once, with when its label became known.

    `code`: the number itself, 0 or 1 for a boolean, the position in `words` for a text; `kind`:
    NUMBER, BOOL or TEXT.
    """

    key: NDArray[np.uint64]
    at: NDArray[np.float64]
    code: NDArray[np.float64]
    kind: NDArray[np.int8]
    words: tuple[str, ...]
    conflicts: int

    def place(self, keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """For each key its position here, -1 when it has no label."""
        if not len(self.key):
            return np.full(len(keys), -1, dtype=np.intp)
        at = np.minimum(np.searchsorted(self.key, keys), len(self.key) - 1)
        return np.where(self.key[at] == keys, at, -1)


class Labels:
    """The rule of `join` for millions of labels of one name: 25 bytes each.

    `truth` is a function of the set of labels added, not of their order.
    """

    def __init__(self) -> None:
        self._words: dict[str, int] = {}
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._truth: Truth | None = None
        self._size = self._kept = 0

    def __len__(self) -> int:
        """Labels added, repetitions included."""
        return self._size

    def add(self, notes: Sequence[Feedback]) -> None:
        """Take labels in, in any order."""
        if not notes:
            return
        kinds = [_KINDS.get(type(n.value), NUMBER) for n in notes]
        codes = [float(self._words.setdefault(n.value, len(self._words)))
                 if isinstance(n.value, str) else float(n.value) for n in notes]  # fmt: skip
        self._parts.append((
            keys_of([n.prediction for n in notes]),
            np.array([n.at for n in notes], dtype=np.float64),
            np.array(codes, dtype=np.float64),
            np.array(kinds, dtype=np.int8),
        ))  # fmt: skip
        self._size += len(notes)
        self._truth = None

    def forget(self, before: float) -> None:
        """Drop labels given before `before`; looks only when labels have doubled since."""
        if self._size < 2 * self._kept + 1024:
            return
        columns = self._columns()
        young = columns[1] >= before
        self._parts, self._truth = [tuple(column[young] for column in columns)], None
        self._size = self._kept = int(young.sum())

    def truth(self) -> Truth:
        """The label that counts for each prediction."""
        if self._truth is None:
            self._truth = self._resolve()
        return self._truth

    def _columns(self) -> tuple[NDArray[Any], ...]:
        none: tuple[NDArray[Any], ...] = (np.empty(0, np.uint64), np.empty(0), np.empty(0),
                                          np.empty(0, np.int8))  # fmt: skip
        columns = tuple(np.concatenate(c) for c in zip(none, *self._parts, strict=True))
        self._parts = [columns]
        return columns

    def _resolve(self) -> Truth:
        words = tuple(self._words)
        key, at, code, kind = self._columns()
        order = np.argsort(key, kind="stable")
        last = np.append(key[order][1:] != key[order][:-1], bool(len(key)))
        ends = np.flatnonzero(last)
        starts = np.append(0, ends[:-1] + 1)[: len(ends)]
        winners = order[ends]
        conflicts = 0
        for group in np.flatnonzero(ends > starts):
            rivals = order[starts[group] : ends[group] + 1]
            said = {i: canonical(_value(code[i], kind[i], words)) for i in rivals.tolist()}
            winners[group] = max(said, key=lambda i: (at[i], said[i]))
            conflicts += len(set(said.values())) > 1
        return Truth(key[winners], at[winners], code[winners], kind[winners], words, conflicts)




def _value(code: float, kind: int, words: Sequence[str]) -> Value:
    if kind == TEXT:
        return words[int(code)]
    return bool(code) if kind == BOOL else float(code)
