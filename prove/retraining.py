"""`python -m prove.retraining`: what retraining by the cost rule costs, beside never, weekly, on alarm,
and an oracle that knows the future; writes its table into docs/retraining.md.

A year of a service in spans of three hours. The world is a number that stands still, jumps, drifts or
comes back; an answer is wrong with a chance of a tenth, and of a tenth more per unit by which the
world left the model, at most two. A retraining makes the model one of the world as it is. Money: a
model that is one unit behind loses 1 a day. The oracle chooses its days by dynamic programming.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.cost import SPANS, Before, Spans, staying

PAGE = Path(__file__).parents[1] / "docs" / "retraining.md"
MARKS = "<!-- figures of prove.retraining -->\n", "<!-- end of these figures -->\n"

DAYS, SEED, RUNS = 365, 60, 25
LENGTH = DAYS * SPANS
WRONG, STEP, MOST = 0.1, 0.1, 0.2
HELD = 2000
"""Held-out rows from which a fresh model's loss is known."""
BAR = 1.7

Vector = NDArray[np.float64]


class Case(Struct, frozen=True):
    """A kind of world, the price of a retraining, and answers a day."""

    kind: str
    price: float
    answers: int


class Seen(Struct, frozen=True, eq=False):
    """What a policy knows: the share of wrong answers in each span since the last retraining."""

    wrong: Vector
    before: Before
    case: Case


Policy = Callable[[Seen], bool]


def by_cost(seen: Seen) -> bool:
    """The product's own rule."""
    case, n = seen.case, np.full(len(seen.wrong), seen.case.answers / SPANS)
    spans = Spans(answers=n, judged=n, loss=seen.wrong, variance=seen.wrong * (1 - seen.wrong))
    return staying(spans, seen.before, 1 / (STEP * case.answers)).cost >= case.price


def never(seen: Seen) -> bool:
    """The frozen model."""
    return False


def weekly(seen: Seen) -> bool:
    """By the calendar."""
    return len(seen.wrong) >= 7 * SPANS


def on_alarm(seen: Seen) -> bool:
    """When a week is five points worse than the held-out rows."""
    week = 7 * SPANS
    return len(seen.wrong) >= week and float(seen.wrong[-week:].mean()) > seen.before.loss + 0.05


POLICIES: dict[str, Policy] = {"cost rule": by_cost, "never": never, "weekly": weekly, "on alarm": on_alarm}


def world(kind: str, rng: np.random.Generator) -> Vector:
    """Where the world stands in each span of the year."""
    day = np.arange(LENGTH) / SPANS
    match kind:
        case "sudden":
            jumps = rng.uniform(30, DAYS - 30, (3, 1))
            return np.asarray((day >= jumps).sum(axis=0), dtype=np.float64)
        case "gradual":
            return 6 * day / DAYS
        case "recurring":
            return (day + rng.uniform(0, 60)) // 60 % 2
    return np.zeros(LENGTH)


def behind(distance: Vector | float) -> Vector:
    """The chance of a wrong answer above that of a fresh model."""
    return np.asarray(np.minimum(STEP * np.abs(distance), MOST))


def oracle(path: Vector, price: float) -> float:
    """The least that anybody can pay who knows the year in advance."""
    best = np.zeros(LENGTH + 1)
    for start in range(LENGTH - 1, -1, -1):
        lost = np.cumsum(behind(path[start:] - path[start])) / STEP / SPANS
        later = lost[:-1] + price + best[start + 1 : LENGTH]
        best[start] = min(lost[-1], later.min(initial=np.inf))
    return float(best[0])


def play(policy: Policy, path: Vector, case: Case, rng: np.random.Generator) -> tuple[float, int]:
    """(what the year cost, retrainings) under a policy that looks after every span."""
    rows, cost, count, start = case.answers // SPANS, 0.0, 0, 0
    before, wrong = _before(rng), np.zeros(LENGTH)
    for now in range(LENGTH):
        gap = float(behind(path[now] - path[start]))
        cost += gap / STEP / SPANS
        wrong[now] = rng.binomial(rows, WRONG + gap) / rows
        if now + 1 < LENGTH and policy(Seen(wrong[start : now + 1], before, case)):
            start, count, cost, before = now + 1, count + 1, cost + case.price, _before(rng)
    return cost, count


def _before(rng: np.random.Generator) -> Before:
    loss = rng.binomial(HELD, WRONG) / HELD
    return Before(loss=loss, error=float(np.sqrt(loss * (1 - loss) / HELD)))


def measure(case: Case, runs: int, seed: int = SEED) -> tuple[float, dict[str, tuple[float, float]]]:
    """Means over the runs: the oracle's cost, and of each policy (cost, retrainings)."""
    least, paid = [], {name: [] for name in POLICIES}  # type: ignore[var-annotated]
    for run in range(runs):
        path = world(case.kind, np.random.default_rng((seed, run)))
        least.append(oracle(path, case.price))
        for name, policy in POLICIES.items():
            paid[name].append(play(policy, path, case, np.random.default_rng((seed + 1, run))))
    means = {name: np.mean(found, axis=0).tolist() for name, found in paid.items()}
    return float(np.mean(least)), {name: (m[0], m[1]) for name, m in means.items()}


def row(case: Case, runs: int) -> tuple[str, bool]:
    """One line of the table, and whether the cost rule keeps its bar."""
    least, paid = measure(case, runs)
    cost, count = paid["cost rule"]
    kept = cost <= BAR * least if least else count <= 1
    times = f"{cost / least:.2f} x" if least else "0 is the least"
    cells = [f"{c:.1f} ({n:.1f})" for c, n in paid.values()]
    named = f"{case.kind} | {case.price:g} | {case.answers:,} | {least:.1f}"
    return f"| {named} | {' | '.join(cells)} | {times} |", kept


def main(runs: int = RUNS) -> int:
    """Write the table; 1 when a bar is not kept."""
    lines = [f"| world | price | answers a day | oracle | {' | '.join(POLICIES)} | cost rule / oracle |",
             "|---|---|---|---|" + "---|" * (len(POLICIES) + 1)]  # fmt: skip
    short = 0
    for kind in ("none", "sudden", "gradual", "recurring"):
        for price, answers in ((1, 4000), (5, 4000), (5, 1000)):
            line, kept = row(Case(kind, price, answers), runs)
            lines.append(line)
            short += not kept
            sys.stdout.write(f"{line}{'' if kept else '  falls short'}\n")
            sys.stdout.flush()
    head, _, rest = PAGE.read_text().partition(MARKS[0])
    PAGE.write_text(head + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + rest.partition(MARKS[1])[2])
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
