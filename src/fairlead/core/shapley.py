"""Shapley values: how much each column moved one answer away from the average answer of a background.

The game: columns in a coalition have the value of the row, all others that of a background row
(interventional; Janzing, Minorics, Blöbaum 2020). Averaged over the background, the contributions
and the base add up to the answer.
"""

from collections.abc import Callable, Sequence
from math import factorial, sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

__all__ = ["ATTRIBUTION", "RANK", "Explained", "Trees", "gradients", "permutations"]

Vector = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.int64]
Rows = NDArray[np.float32]

ATTRIBUTION, RANK = "attribution:", "rank:"
"""Families of measures of a model: a column's share of all that columns contribute, and its place
among them (1: contributes most)."""

COARSE, FINE = 8, 64
"""Steps on the way from a background row to the explained one: so many at first, and at most."""
NEAR = 0.01
"""What the steps may leave unexplained, as a share of all that was moved either way."""
CELLS = 4_000_000
"""Flags held at once: about 50 MB of temporary memory."""


class Explained(Struct, frozen=True, eq=False):
    """`amounts` (players,) and `base` add up to the answer; `error`: half the width of a 95 %
    interval of the least certain amount, 0 when they are exact (of `gradients`: see there)."""

    base: float
    amounts: Vector
    error: float = 0.0


class Trees(Struct, frozen=True, kw_only=True, eq=False):
    """An ensemble as conditions on the way to its leaves; its answer is `base` plus the leaves met.

    Tests (t,): the matrix `column` they read, the `mode` ("<=", "<", ">=", ">", "==", "!="), the
    `threshold`, and whether a `missing` value passes. Conditions (e,): `test` and the `side` that
    must come out, in order of slots; a slot is all conditions of one leaf on one player, and slots
    are in order of leaves: `slot` (s,) its first condition, `leaf` (l,) the first slot of a leaf;
    `owner` (s,) its player of `players`, `weight` (l,) what the leaf adds.
    """

    column: Places
    mode: Sequence[str]
    threshold: Rows
    missing: Flags
    test: Places
    side: Flags
    slot: Places
    owner: Places
    leaf: Places
    weight: Vector
    base: float
    players: int

    def answers(self, rows: Rows) -> Vector:
        """The raw sums (n,)."""
        if not len(self.weight):
            return np.full(len(rows), self.base)
        met = [np.logical_and.reduceat(self._met(row[None]), self.leaf, axis=1)[0] for row in rows]
        return self.base + np.array(met, dtype=np.float64).reshape(len(rows), -1) @ self.weight

    def explain(self, row: Rows, background: Rows) -> Explained:
        """Exact for every row (width,): each leaf is met when all players of one set are in the
        coalition and none of another, a game with a closed form (Lundberg et al. 2020)."""
        amounts = np.zeros(self.players)
        base = float(self.answers(background).mean())
        if len(self.weight):
            mine, sizes = self._met(row[None]), np.diff(self.leaf, append=len(self.slot))
            step = max(CELLS // len(self.slot), 1)
            for start in range(0, len(background), step):
                amounts += self._share(mine, self._met(background[start : start + step]), sizes)
        return Explained(base, amounts / len(background))

    def _share(self, mine: Flags, theirs: Flags, sizes: Places) -> Vector:
        needs, bars = mine & ~theirs, ~mine & theirs
        of = [np.add.reduceat(f, self.leaf, axis=1, dtype=np.int64) for f in (needs, bars, mine | theirs)]
        whole = of[2] == sizes  # else no coalition at all meets the leaf
        give, take = _WEIGHTS[of[0], of[1]] * (self.weight * whole), _WEIGHTS[of[1], of[0]] * (self.weight * whole)
        spread = np.repeat(np.arange(len(sizes)), sizes)
        total = np.where(needs, give[:, spread], 0.0).sum(axis=0) - np.where(bars, take[:, spread], 0.0).sum(axis=0)
        return np.bincount(self.owner, total, minlength=self.players).astype(np.float64)

    def _met(self, rows: Rows) -> Flags:
        """[n, s]: whether a row keeps all conditions of a slot."""
        kept = self._passed(rows)[:, self.test] == self.side
        return np.logical_and.reduceat(kept, self.slot, axis=1)

    def _passed(self, rows: Rows) -> Flags:
        out = np.empty((len(rows), len(self.column)), dtype=np.bool_)
        for mode, compare in _COMPARE.items():
            places = np.flatnonzero(np.asarray(self.mode) == mode)
            if len(places):
                x = rows[:, self.column[places]]
                out[:, places] = compare(x, self.threshold[places]) | (np.isnan(x) & self.missing[places])
        return out


def permutations(
    answer: Callable[[Rows], Vector], row: Rows, background: Rows, owner: Places, seed: int
) -> Explained:
    """Shapley values of any function by sampled orders of the players (Castro et al. 2009).

    One order, and its reverse, per background row. What two orders disagree on is interaction, so
    the error is 0 for a function that is a sum over the players, and the values are exact.
    `owner` (width,): the player each matrix column belongs to.
    """
    rng, players = np.random.default_rng(seed), int(owner.max()) + 1
    there, back = np.zeros((len(background), players)), np.zeros((len(background), players))
    base = np.zeros(len(background))
    for i, other in enumerate(background):
        order = rng.permutation(players)
        place = np.argsort(order)[owner]
        steps = np.arange(players + 1)[:, None]
        walk = np.where(place < steps, row, other), np.where(players - 1 - place < steps, row, other)
        found = np.asarray(answer(np.concatenate(walk)), dtype=np.float64)
        base[i] = found[0]
        there[i, order] = np.diff(found[: players + 1])
        back[i, order[::-1]] = np.diff(found[players + 1 :])
    spread = ((there - back) ** 2 / 4).mean(axis=0)
    return Explained(float(base.mean()), ((there + back) / 2).mean(axis=0),
                     1.96 * sqrt(float(spread.max()) / len(background)))  # fmt: skip


def gradients(
    answer: Callable[[Rows], Vector], row: Rows, background: Rows, owner: Places
) -> Explained:
    """Integrated gradients (Sundararajan et al. 2017) averaged over the background (Erion et al.
    2021): the Aumann-Shapley values of a function that has a slope nearly everywhere.

    Each step of the straight way from a background row is divided among the players by moving one
    at a time over that step, the others at its middle (the midpoint rule, with central differences
    as wide as the step). Steps are halved until they leave at most NEAR unexplained; that rest is
    shared out in proportion, and is `error`. A missing value has no way: it jumps, each player's at
    a moment of its own.
    """
    total, base = (float(np.mean(answer(rows))) for rows in (row[None], background))
    steps, rest, amounts = COARSE // 2, np.inf, np.zeros(0)
    while steps < FINE and not abs(rest) <= NEAR * np.abs(amounts).sum():
        steps *= 2
        amounts = np.mean([_along(answer, row, other, owner, steps) for other in background], axis=0)
        rest = total - base - float(amounts.sum())
    sizes = np.abs(amounts)
    return Explained(base, amounts + rest * sizes / (sizes.sum() or 1.0), abs(rest))


def _along(
    answer: Callable[[Rows], Vector], row: Rows, other: Rows, owner: Places, steps: int
) -> Vector:
    """What each player moves (players,) on the way from `other` to `row`."""
    players = int(owner.max()) + 1
    jumps = np.isnan(row - other)
    moment = (owner + 0.5) / players

    def at(part: Vector) -> Rows:
        line = other + part[:, None].astype(np.float32) * (row - other)
        return np.where(jumps, np.where(part[:, None] > moment, row, other), line)

    edges = np.linspace(0.0, 1.0, steps + 1)
    before, middle, after = (at(e)[:, None] for e in (edges[:-1], (edges[:-1] + edges[1:]) / 2, edges[1:]))
    mine = np.arange(players)[:, None] == owner
    ends = np.stack([np.where(mine, after, middle), np.where(mine, before, middle)])
    found = np.asarray(answer(ends.reshape(-1, len(row)).astype(np.float32)), dtype=np.float64)
    up, down = found.reshape(2, steps, players)
    return np.asarray((up - down).sum(axis=0))


_COMPARE: dict[str, Callable[[Rows, Rows], Flags]] = {
    "<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip

DEEPEST = 128
"""Players on the way to one leaf."""


def _weights() -> Vector:
    """[a, b]: (a - 1)! b! / (a + b)!, what each of `a` needed players gets when `b` must stay out."""
    table = np.zeros((DEEPEST + 1, DEEPEST + 1))
    for a in range(1, DEEPEST + 1):
        for b in range(DEEPEST + 1):
            table[a, b] = factorial(a - 1) * factorial(b) / factorial(a + b)
    return table


_WEIGHTS = _weights()
