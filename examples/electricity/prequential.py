"""Walking through a stream day by day: answer, learn the truth, and retrain when a policy says so.

The rule that decides is the product's (`core.cost`); a candidate replaces the model when it makes no
more mistakes on the newest tenth of its rows, which it had not learnt from. Nothing is served here:
the loop of production takes some days more for the shadow of each candidate.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.cost import SPANS, Before, Spans, staying

DAY = 86_400.0

Vector = NDArray[np.float64]
Fit = Callable[[NDArray[np.float32], NDArray[np.int64]], Any]


class Stream(Struct, frozen=True, eq=False):
    """n rows in order of time: `X` [n, width], class `y`, when asked and when the truth was known
    (seconds since the first midnight)."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    asked: Vector
    known: Vector

    @property
    def days(self) -> int:
        return int(self.asked[-1] // DAY) + 1


class Rule(Struct, frozen=True, kw_only=True):
    """When to retrain, as in the section `retrain` of fairlead.yaml, in days and mistakes (0: not
    for that). `hold`: the newest share of rows that is held out; `gated`: whether a candidate must
    be no worse there."""

    window: int
    every: int = 0
    cost: float = 0.0
    cooldown: int = 1
    hold: float = 0.1
    gated: bool = True


class Walk(Struct, frozen=True, kw_only=True):
    """How it went: share of right answers, models trained after the first, those that won."""

    accuracy: float
    retrainings: int
    won: int


class Model(Struct, frozen=True, eq=False):
    """A fitted model, its held-out rows, and its loss there."""

    fitted: Any
    held: NDArray[np.intp]
    before: Before


def walk(stream: Stream, start: int, rule: Rule, fit: Fit) -> Walk:
    """Answer every row from day `start` on with what was known at its midnight."""
    model = learn(stream, start, rule, fit)
    wrong, since, count, won = np.zeros(len(stream.y)), start, 0, 0
    first, last = np.searchsorted(stream.asked, [start * DAY, stream.days * DAY])
    for day in range(start, stream.days):
        if day > start and wanted(stream, wrong, model, (since, day), rule):
            candidate = learn(stream, day, rule, fit)
            count, since = count + 1, day
            if not rule.gated or mistakes(stream, candidate, candidate) <= mistakes(stream, model, candidate):
                model, won = candidate, won + 1
        rows = slice(*np.searchsorted(stream.asked, [day * DAY, (day + 1) * DAY]))
        if rows.start < rows.stop:
            wrong[rows] = model.fitted.predict(stream.X[rows]) != stream.y[rows]
    return Walk(accuracy=float(1 - wrong[first:last].mean()), retrainings=count, won=won)


def learn(stream: Stream, day: int, rule: Rule, fit: Fit) -> Model:
    """A model of the rows of the window whose truth is known at the start of `day`."""
    recent = (stream.asked >= (day - rule.window) * DAY) & (stream.known <= day * DAY)
    rows = np.flatnonzero(recent & (stream.asked < day * DAY))
    cut = len(rows) - int(rule.hold * len(rows))
    fitted, held = fit(stream.X[rows[:cut]], stream.y[rows[:cut]]), rows[cut:]
    loss = float(np.mean(fitted.predict(stream.X[held]) != stream.y[held])) if len(held) else 0.0
    error = float(np.sqrt(loss * (1 - loss) / max(len(held), 1)))
    return Model(fitted, held, Before(loss=loss, error=error))


def mistakes(stream: Stream, model: Model, candidate: Model) -> int:
    """Of a model, on the rows that the candidate held out."""
    return int((model.fitted.predict(stream.X[candidate.held]) != stream.y[candidate.held]).sum())


def wanted(stream: Stream, wrong: Vector, model: Model, life: tuple[int, int], rule: Rule) -> bool:
    """Whether a retraining is due on the second day of `life`, the last having been on the first."""
    since, now = life
    if now - since < rule.cooldown:
        return False
    if rule.every and now - since >= rule.every:
        return True
    return bool(rule.cost) and staying(lived(stream, wrong, life), model.before, 1.0).cost >= rule.cost


def lived(stream: Stream, wrong: Vector, life: tuple[int, int]) -> Spans:
    """The spans of these days, judged by the truths that are known at their end."""
    since, now = life
    rows = slice(*np.searchsorted(stream.asked, [since * DAY, now * DAY]))
    place = ((stream.asked[rows] - since * DAY) // (DAY / SPANS)).astype(np.int64)
    known = stream.known[rows] <= now * DAY
    n = (now - since) * SPANS
    judged = np.bincount(place[known], minlength=n).astype(np.float64)
    loss = np.bincount(place[known], wrong[rows][known], minlength=n) / np.maximum(judged, 1)
    return Spans(answers=np.bincount(place, minlength=n).astype(np.float64), judged=judged, loss=loss,
                 variance=loss * (1 - loss))  # fmt: skip
