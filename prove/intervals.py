"""Intervals beside others of their kind: how often each holds the truth, counted exactly, not simulated."""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from math import exp, lgamma, log, sqrt
from pathlib import Path

from fairlead.core.intervals import mover_difference, mover_ratio, wilson, z_score

__all__ = ["covered", "main", "table"]

PAGE = Path(__file__).parents[1] / "docs" / "fairness.md"
MARKS = "<!-- figures of prove.intervals -->\n", "<!-- end of these figures -->\n"
SIZES, RATES = (25, 50, 100, 400), (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
"""People in a group, and the chances with which they are chosen."""
RARE = 1e-9
"""Counts less likely than this are left out."""

Ends = tuple[float, float]
Interval = Callable[[int, int], Ends]
Pair = Callable[[int, int, int], Ends]


def agresti_coull(k: int, n: int) -> Ends:
    """Two of each added (Agresti, Coull 1998)."""
    z = z_score(0.95)
    m = n + z * z
    p = (k + z * z / 2) / m
    half = z * sqrt(p * (1 - p) / m)
    return max(p - half, 0.0), min(p + half, 1.0)


def quarter(k: int, n: int) -> Ends:
    """Wilson's with a quarter of a person to either side."""
    return wilson(max(k - 0.25, 0), n)[0], wilson(min(k + 0.25, n), n)[1]


def agresti_caffo(k: int, j: int, n: int) -> Ends:
    """One of each added to both groups (Agresti, Caffo 2000)."""
    p, q = (k + 1) / (n + 2), (j + 1) / (n + 2)
    half = z_score(0.95) * sqrt((p * (1 - p) + q * (1 - q)) / (n + 2))
    return p - q - half, p - q + half


def _from(interval: Interval, how: Callable[[tuple[float, float, float], tuple[float, float, float]], Ends]) -> Pair:
    """A comparison made of two intervals (MOVER)."""
    ends = cache(interval)
    return lambda k, j, n: how((k / n, *ends(k, n)), (j / n, *ends(j, n)))


KINDS: dict[str, dict[str, Interval | Pair]] = {
    "a rate": {"Wilson (ours)": wilson, "Agresti-Coull": agresti_coull, "Wilson, a quarter wider": quarter},
    "a difference": {"Newcombe (ours)": _from(wilson, mover_difference), "Agresti-Caffo": agresti_caffo,
                     "MOVER of Agresti-Coull": _from(agresti_coull, mover_difference)},
    "a ratio": {"MOVER of Wilson (ours)": _from(wilson, mover_ratio),
                "MOVER of Agresti-Coull": _from(agresti_coull, mover_ratio)},
}  # fmt: skip


def covered(interval: Interval | Pair, n: int, p: float, q: float | None, truth: float) -> float:
    """The chance that the interval of groups of `n` with the rates `p` and `q` (None: one group) holds
    the `truth`: the sum over all counts."""
    counts = product(_chances(n, p), [(0, 1.0)] if q is None else _chances(n, q))
    held = 0.0
    for (k, a), (j, b) in counts:
        low, high = interval(k, n) if q is None else interval(k, j, n)  # type: ignore[call-arg]
        held += a * b if low <= truth <= high else 0.0
    return held


@cache
def _chances(n: int, p: float) -> list[tuple[int, float]]:
    chances = (exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p))
               for k in range(n + 1))  # fmt: skip
    return [(k, chance) for k, chance in enumerate(chances) if chance > RARE]


def table() -> Iterator[tuple[str, str, float, float]]:
    """Kind, interval, mean coverage, the least of one setting."""
    for kind, intervals in KINDS.items():
        pairs = [(p, None) for p in RATES] if kind == "a rate" else [(p, q) for p, q in product(RATES, RATES) if p <= q]
        for name, interval in intervals.items():
            found = [covered(interval, n, p, q, p if q is None else p - q if kind == "a difference" else p / q)
                     for n in SIZES for p, q in pairs]  # fmt: skip
            yield kind, name, sum(found) / len(found), min(found)


def main() -> int:
    """Write the table into docs/fairness.md."""
    lines = ["| figure | interval | holds the truth | least of one setting |", "|---|---|---|---|"]
    lines += [f"| {kind} | {name} | {mean:.1%} | {least:.1%} |" for kind, name, mean, least in table()]
    head, _, rest = PAGE.read_text().partition(MARKS[0])
    PAGE.write_text(head + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + rest.partition(MARKS[1])[2])
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
