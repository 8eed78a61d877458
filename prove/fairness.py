"""Fairness: how often the intervals hold, and how often a fair model of few people is blocked."""

import numpy as np
from numpy.typing import NDArray

from fairlead.core.check import Check, Outcome, Parity, judge
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.intervals import mover_ratio, newcombe, wilson
from fairlead.core.metrics import METRICS, metric_interval
from fairlead.core.ref import Ref
from prove.row import Row, counted, percent

__all__ = ["blocked", "coverage", "crossed"]

MODEL = Ref("model", "simulated", "0" * 64)
SIZES = (25, 50, 100, 400)
RATES = ((0.3, 0.3), (0.3, 0.4), (0.5, 0.6), (0.6, 0.8))
"""Chances of being selected in two groups."""

Floats = NDArray[np.float64]


def coverage(runs: int) -> Row:
    """Shares of runs whose 95 % interval holds the truth, by kind of figure, over sizes and rates."""
    rng = np.random.default_rng(61)
    held: dict[str, list[float]] = {"rates": [], "differences": [], "ratios": [], "calibration": []}
    for n in SIZES:
        for p, q in RATES:
            ks, js = rng.binomial(n, p, runs), rng.binomial(n, q, runs)
            found = np.array([_held(int(k), int(j), n, p, q) for k, j in zip(ks, js, strict=True)])
            for name, share in zip(held, found.mean(axis=0), strict=False):
                held[name].append(float(share))
            held["calibration"].append(_calibrated(rng, n, p, runs))
    means = {name: float(np.mean(shares)) for name, shares in held.items()}
    worst = min(min(shares) for shares in held.values())
    return Row(situation="fairness figures of groups of 25 to 400: 95 % intervals that hold the truth",
               bar="94 to 97 %", ours=f"{', '.join(f'{n} {percent(s)}' for n, s in means.items())}"
               f" (single setting: {percent(worst)} at least)",
               met=all(0.94 <= s <= 0.97 for s in means.values()), seed=61, runs=runs)  # fmt: skip


def _held(k: int, j: int, n: int, p: float, q: float) -> tuple[bool, bool, bool]:
    a, b = (k / n, *wilson(k, n)), (j / n, *wilson(j, n))
    ends = (wilson(k, n), p), (newcombe((k, n), (j, n)), p - q), (mover_ratio(a, b), p / q)
    rate, difference, ratio = (low <= truth <= high for (low, high), truth in ends)
    return rate, difference, ratio


def _calibrated(rng: np.random.Generator, n: int, p: float, runs: int) -> float:
    """Scores that are right on the average: how often the interval of their error holds 0."""
    held = 0
    for _ in range(runs):
        score = rng.beta(4 * p, 4 * (1 - p), n)
        _, low, high = metric_interval(METRICS["calibration"], rng.random(n) < score, score)
        held += low <= 0 <= high
    return held / runs


def blocked(runs: int) -> Row:
    """Two groups of 25 that are treated alike, 60 % selected: runs in which the gate says no."""
    rng = np.random.default_rng(62)
    selected = rng.binomial(25, 0.6, (runs, 2))
    ours = float(np.mean([_fails(row, 25) for row in selected]))
    points = float(np.mean(selected.min(axis=1) < 0.8 * selected.max(axis=1)))
    unfair = rng.binomial(400, [0.3, 0.6], (runs, 2))
    found = float(np.mean([_fails(row, 400) for row in unfair]))
    return Row(situation="a fair model, two groups of 25: blocked by parity", bar="≤ 1 %",
               ours=f"{counted(ours, runs)}; half the rate in one of two groups of 400 found {percent(found)}",
               others=f"four fifths of the point estimates {percent(points)}", met=ours <= 0.01,
               seed=62, runs=runs)  # fmt: skip


def crossed(runs: int) -> Row:
    """Ten groups (an intersection) of 25 that are treated alike."""
    rng = np.random.default_rng(63)
    selected = rng.binomial(25, 0.6, (runs, 10))
    ours = float(np.mean([_fails(row, 25) for row in selected]))
    points = float(np.mean(selected.min(axis=1) < 0.8 * selected.max(axis=1)))
    return Row(situation="a fair model, ten groups of 25 (an intersection): blocked by parity",
               bar="≤ 1 %", ours=counted(ours, runs), met=ours <= 0.01,
               others=f"four fifths of the point estimates {percent(points)}", seed=63, runs=runs)  # fmt: skip


def _fails(selected: NDArray[np.int64], n: int) -> bool:
    """Whether the product's own check blocks."""
    facts = []
    for i, k in enumerate(selected.tolist()):
        low, high = wilson(k, n)
        facts.append(Evidence(subject=MODEL, measure="positive_rate", value=k / n, n=n, low=low,
                              high=high, slice=f"group={i}"))  # fmt: skip
    check = Check(name="parity", measure="positive_rate", slice="group", rule=Parity())
    return judge(check, EvidenceSet(facts), MODEL, None).outcome is Outcome.FAIL
