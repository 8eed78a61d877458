"""Off-policy estimates: what another policy would have earned on requests that were logged.

A bandit logs with which chance it chose what it chose. Rewards of choices that the new policy
would make more often weigh more. That works only where the log holds enough of them, so every
estimate is refused when its support is thin: a wrong number with an interval is worse than none.
"""

from math import sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from fairlead.core.intervals import z_score
from fairlead.errors import Invalid

__all__ = ["Estimate", "Logged", "Refusal", "doubly_robust", "gain", "snips", "value"]

THIN = 0.01
"""Effective rows per row (sum w)^2 / (n sum w^2) below which a few rows would decide everything."""

FEWEST = 100
"""Effective rows below which the interval, a normal one, is not to be trusted."""

STRAY = 4.0
"""Standard errors by which the mean weight may differ from 1, which it is when support is full."""

Vector = NDArray[np.float64]


class Estimate(Struct, frozen=True, kw_only=True):
    """Mean reward per request with its interval; `n` logged rows, worth `effective` of their own."""

    value: float
    low: float
    high: float
    n: int
    effective: float


class Refusal(Struct, frozen=True):
    """Why the log cannot answer the question, in words."""

    reason: str


class Logged(Struct, frozen=True, kw_only=True, eq=False):
    """n requests that dice gave to one of k packages, and what each of them earned.

    `reward`, `propensity` (the chance with which it was given to `chosen`), `chosen` (package
    number): (n,). `active`: which packages the dice could choose, bool (n, k). `decisions`: what
    each of them decides, NaN for nothing, float64 (n, k). `context`: a score that tells requests
    apart (n,).
    """

    reward: Vector
    propensity: Vector
    chosen: NDArray[np.intp]
    active: NDArray[np.bool_]
    decisions: Vector
    context: Vector

    def wanted(self, package: int) -> Vector:
        """With which chance a policy that decides as `package` always does makes the logged choice.

        Whoever decides alike earns alike, so the policy gives a request to any active package that
        decides as it would, with equal chances. Only the logged propensity of the logged choice is
        needed then: how the dice stood for the others (a candidate that still loaded had none)
        does not matter.
        """
        alike = self.decisions == self.decisions[:, [package]]
        alike[:, package] = True
        alike &= self.active
        here = alike[np.arange(len(self.chosen)), self.chosen]
        return np.asarray(here / np.maximum(alike.sum(axis=1), 1))

    def guesses(self, package: int) -> tuple[Vector, Vector]:
        """Rewards expected of the logged choice, and of what `package` decides.

        Mean reward of the same decision at a similar score, learnt from the other half of the
        requests (cross-fitting), so that no request guesses itself.
        """
        rows = np.arange(len(self.reward))
        made = self.decisions[rows, self.chosen]
        cuts = np.quantile(self.context, np.linspace(0.1, 0.9, 9))
        band = np.searchsorted(cuts, self.context)
        names, codes = np.unique(
            np.concatenate([made, self.decisions[:, package]]), return_inverse=True)  # fmt: skip
        now, then = (10 * codes[part] + band for part in (slice(None, len(rows)), slice(len(rows), None)))
        guess, expected = np.empty(len(rows)), np.empty(len(rows))
        for half in (0, 1):
            learn, use = rows % 2 != half, rows % 2 == half
            mean = _means(now[learn], self.reward[learn], 10 * len(names))
            guess[use], expected[use] = mean[now[use]], mean[then[use]]
        return guess, expected


def value(logged: Logged, package: int, *, level: float = 0.95) -> tuple[
    Estimate | Refusal, Estimate | Refusal]:  # fmt: skip
    """(SNIPS, doubly robust): what a request earns when `package` decides all of them."""
    wanted = logged.wanted(package)
    guess, expected = logged.guesses(package)
    return (snips(logged.reward, logged.propensity, wanted, level=level),
            doubly_robust(logged.reward, logged.propensity, wanted, guess, expected, level=level))  # fmt: skip


def gain(logged: Logged, package: int, other: int, *, level: float = 0.95) -> Estimate | Refusal:
    """What a request earns more under `package` than under `other`: doubly robust, in pairs.

    Both estimates are means over the same requests, so their difference is one too, and what is
    common to both takes no part in its interval.
    """
    terms, weights = [], []
    for one in (package, other):
        r, w = _rows(logged.reward, logged.propensity, logged.wanted(one))
        refusal = _refused(w)
        if refusal is not None:
            return refusal
        guess, expected = logged.guesses(one)
        terms.append(expected + w * (r - guess))
        weights.append(w)
    return _mean(terms[0] - terms[1], min(weights, key=_effective), level)


def _means(cell: NDArray[np.intp], reward: Vector, cells: int) -> Vector:
    """Mean reward by cell; over all where a cell is empty."""
    n = np.bincount(cell, minlength=cells)
    total = np.bincount(cell, reward, minlength=cells)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), reward.mean()))


def snips(
    reward: ArrayLike, logged: ArrayLike, wanted: ArrayLike, *, level: float = 0.95
) -> Estimate | Refusal:
    """Self-normalised inverse propensities: sum(w r) / sum(w), w = wanted / logged.

    Per logged row (n,): `reward`; `logged`, the chance with which the logged choice was made;
    `wanted`, the chance with which the policy in question would make that same choice.
    Interval: delta method. Raises Invalid for chances outside (0, 1] or arrays that do not fit.
    """
    r, w = _rows(reward, logged, wanted)
    refusal = _refused(w)
    if refusal is not None:
        return refusal
    value = float((w * r).sum() / w.sum())
    error = sqrt(float((w * w * (r - value) ** 2).sum())) / float(w.sum())
    return _estimate(value, error, w, level)


def doubly_robust(
    reward: ArrayLike, logged: ArrayLike, wanted: ArrayLike, guess: ArrayLike, guess_all: ArrayLike,
    *, level: float = 0.95,
) -> Estimate | Refusal:  # fmt: skip
    """Mean of guess_all + w (r - guess): right when the chances or the guesses are right.

    As `snips`; `guess`: the reward a model expects of the logged choice; `guess_all`: what it
    expects of the policy in question (its choices weighed by their chances). The model must not
    have learnt from these rows. Interval: from the variance of the terms. Raises Invalid.
    """
    r, w = _rows(reward, logged, wanted)
    q, v = (np.asarray(a, dtype=np.float64) for a in (guess, guess_all))
    if q.shape != r.shape or v.shape != r.shape:
        raise Invalid(f"{len(r)} rewards, but guesses of shape {q.shape} and {v.shape}",
                      hint="give one guess of each kind per logged row")  # fmt: skip
    refusal = _refused(w)
    if refusal is not None:
        return refusal
    return _mean(v + w * (r - q), w, level)


def _mean(terms: Vector, w: Vector, level: float) -> Estimate:
    return _estimate(float(terms.mean()), float(terms.std(ddof=1)) / sqrt(len(terms)), w, level)


def _rows(reward: ArrayLike, logged: ArrayLike, wanted: ArrayLike) -> tuple[Vector, Vector]:
    r, p, e = (np.asarray(a, dtype=np.float64) for a in (reward, logged, wanted))
    if r.ndim != 1 or p.shape != r.shape or e.shape != r.shape:
        raise Invalid(f"rewards {r.shape}, logged {p.shape} and wanted {e.shape} do not fit",
                      hint="give one number of each kind per logged row")  # fmt: skip
    if not (np.isfinite(r).all() and (p > 0).all() and (p <= 1).all()
            and (e >= 0).all() and (e <= 1).all()):  # fmt: skip
        raise Invalid("a reward is not finite, or a chance is not between 0 and 1",
                      hint="log the propensity of every choice; it is never 0")  # fmt: skip
    return r, e / p


def _refused(w: Vector) -> Refusal | None:
    n, total = len(w), float(w.sum())
    if total == 0:
        return Refusal("no logged choice is one that this policy would make")
    effective = _effective(w)
    if effective < max(THIN * n, FEWEST):
        return Refusal(f"{n:,} logged rows are worth only {effective:,.0f}: "
                       "this policy rarely makes the choices that were logged")  # fmt: skip
    mean, error = total / n, float(w.std(ddof=1)) / sqrt(n)
    if abs(mean - 1) > STRAY * error + 1e-9:
        return Refusal(f"weights average {mean:.3f} instead of 1: this policy makes choices that "
                       "were never logged, or propensities are wrong")  # fmt: skip
    return None


def _effective(w: Vector) -> float:
    return float(w.sum() ** 2 / (w * w).sum())


def _estimate(value: float, error: float, w: Vector, level: float) -> Estimate:
    half = z_score(level) * error
    return Estimate(value=value, low=value - half, high=value + half, n=len(w),
                    effective=_effective(w))  # fmt: skip
