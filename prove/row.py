"""A row of the table of proofs: one situation, its bar, and what everybody did in it."""

from math import isinf

from msgspec import Struct

__all__ = ["Row", "counted", "percent", "requests"]


class Row(Struct, frozen=True, kw_only=True):
    """`bar`: what was promised ("" for a row that only informs); `met`: whether `ours` keeps it.

    `others`: what others did with the same traffic. `seed`, `runs`: what it takes to draw it again.
    `judged`: decisions of the product itself that were compared with the figures.
    """

    situation: str
    ours: str
    others: str = ""
    bar: str = ""
    met: bool | None = None
    seed: int
    runs: int
    judged: int = 0


def percent(share: float) -> str:
    """A share of runs, with as many digits as a few thousand runs bear."""
    text = f"{100 * share:.1f}".removesuffix(".0")
    return f"{text} %"


def counted(share: float, runs: int) -> str:
    """A share of runs, and how many runs that is."""
    return f"{percent(share)} ({round(share * runs)} of {runs:,})"


def requests(number: float) -> str:
    """A number of requests to the next hundred or ten; "never" when it is infinite."""
    if isinf(number):
        return "never"
    grain = 100 if number >= 5000 else 10
    return f"{round(number / grain) * grain:,}"
