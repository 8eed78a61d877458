"""Tapes: the prediction log laid out in time, to be shown again up to any moment, or mixed anew."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from fairlead.core.answers import Answers, Cursor, Tail
from fairlead.core.join import keys_of
from fairlead.core.prediction import Feedback
from fairlead.ports import PredictionLog

__all__ = ["FEW", "Pool", "Tape", "load", "nothing", "pool", "stream", "take"]

DAY, HOUR = 86_400.0, 3_600.0
FEW = 5
"""Days from which on a day is a block; else an hour is."""

NAME = "tape"


class Tape:
    """A log that shows what had arrived by a moment, and nothing later."""

    def __init__(self, answers: Iterable[Answers] = (), notes: Sequence[Feedback] = ()) -> None:
        self._answers = [_sorted(a) for a in answers]
        self._shown = [0] * len(self._answers)
        self._notes = sorted(notes, key=lambda n: n.at)
        self._heard = 0
        self._fresh: list[Answers] = []
        self._told: list[Feedback] = []
        self._turn = 0

    def add(self, answers: Answers) -> None:
        """Answers that are shown at once."""
        if len(answers):
            self._fresh.append(answers)

    def until(self, now: float) -> int:
        """Show everything asked or told before `now`; how many live answers that is."""
        live = 0
        for i, answers in enumerate(self._answers):
            end = int(np.searchsorted(answers.at, now))
            if end > self._shown[i]:
                part = take(answers, np.arange(self._shown[i], end))
                self._fresh.append(part)
                live += int((part.live & ~part.fallback).sum())
                self._shown[i] = end
        while self._heard < len(self._notes) and self._notes[self._heard].at < now:
            self._told.append(self._notes[self._heard])
            self._heard += 1
        return live

    def tail(self, cursor: Cursor, since: float = 0.0) -> Tail:
        """What was shown since the last call: a tape has one reader."""
        self._turn += 1
        made = Tail(answers=tuple(self._fresh), feedback=tuple(self._told),
                    cursor={NAME: (0, self._turn)})  # fmt: skip
        self._fresh, self._told = [], []
        return made


class Pool(Struct, frozen=True, kw_only=True, eq=False):
    """Live answers of one package, in order of time, to be drawn from: n of each. `unit`: key of
    the sticky unit, 0 where the unit is the request itself. `block`: the day or hour of each."""

    at: NDArray[np.float64]
    latency: NDArray[np.float64]
    failed: NDArray[np.bool_]
    unit: NDArray[np.uint64]
    block: NDArray[np.int64]
    span: float

    def __len__(self) -> int:
        return len(self.at)

    @property
    def blocks(self) -> int:
        """How many days (or hours) it spans that had traffic."""
        return len(np.unique(self.block))


def load(log: PredictionLog, service: str, since: float, until: float) -> tuple[
    list[Answers], list[Feedback]]:  # fmt: skip
    """Everything between two moments; values of columns are left behind, they take the memory."""
    answers: list[Answers] = []
    notes: list[Feedback] = []
    cursor: Cursor = {}
    more = True
    while more:
        tail = log.tail(cursor, since)
        for part in tail.answers:
            inside = (part.at >= since) & (part.at < until)
            if part.service == service and inside.any():
                answers.append(take(part, np.flatnonzero(inside)))
        notes += [n for n in tail.feedback if n.at < until]
        cursor, more = tail.cursor, tail.more
    return answers, notes


def pool(answers: Iterable[Answers], package: str) -> Pool | None:
    """The live answers of a package as a pool; None when it gave none."""
    own = [take(a, np.flatnonzero(a.live & ~a.fallback)) for a in answers if a.package == package]
    own = [a for a in own if len(a)]
    if not own:
        return None
    at = np.concatenate([a.at for a in own])
    order = np.argsort(at, kind="stable")
    at = at[order]
    span = DAY if len(np.unique(at // DAY)) >= FEW else HOUR
    failed = np.array([bool(e) for a in own for e in a.errors])[order]
    keys = [0 if unit in ("", i) else 1 for a in own for i, unit in zip(a.ids, a.units, strict=True)]
    unit = np.where(keys, keys_of([u for a in own for u in a.units]), 0).astype(np.uint64)
    return Pool(at=at, latency=np.concatenate([a.latency for a in own])[order], failed=failed,
                unit=unit[order], block=(at // span).astype(np.int64), span=span)  # fmt: skip


def stream(source: Pool, rng: np.random.Generator, most: int, seconds: float) -> tuple[
    NDArray[np.intp], NDArray[np.float64]]:  # fmt: skip
    """(rows of the pool, when each is asked): its days drawn with replacement and put one after the
    other, until `most` rows or so many `seconds`.

    Whole days are drawn because requests of one day resemble each other (their weather, their
    outages); within a day nothing is moved (block bootstrap, Künsch 1989).
    """
    names, starts, sizes = np.unique(source.block, return_index=True, return_counts=True)
    rows: list[NDArray[np.intp]] = []
    times: list[NDArray[np.float64]] = []
    clock, count = 0.0, 0
    while count < most and clock < seconds:
        b = int(rng.integers(len(names)))
        part = np.arange(starts[b], starts[b] + sizes[b])
        rows.append(part)
        times.append(clock + source.at[part] - float(names[b]) * source.span)
        clock, count = clock + source.span, count + len(part)
    return np.concatenate(rows)[:most], np.concatenate(times)[:most]


def take(answers: Answers, places: NDArray[np.intp]) -> Answers:
    """Some of the answers, without the values of their columns."""
    chosen = places.tolist()
    return changed(
        answers, ids=[answers.ids[i] for i in chosen], units=[answers.units[i] for i in chosen],
        errors=[answers.errors[i] for i in chosen], at=answers.at[places],
        epoch=answers.epoch[places], live=answers.live[places],
        propensity=answers.propensity[places], fallback=answers.fallback[places],
        latency=answers.latency[places], scores=answers.scores[places], values=nothing,
        kept=None, wanted=None,
    )  # fmt: skip


def _sorted(answers: Answers) -> Answers:
    order = np.argsort(answers.at, kind="stable")
    return answers if (np.diff(order) == 1).all() else take(answers, order)


def nothing(names: Sequence[str], places: Sequence[int]) -> list[list[Any]]:
    """Values of columns that nobody kept."""
    return [[None] * len(places) for _ in names]
