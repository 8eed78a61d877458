"""Latencies on a screen: a histogram of bars, and the figures below it."""

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import count, percent, span
from fairlead.api.present.table import grid

__all__ = ["Figures", "bench_view"]

WIDTH = 50
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Figures(Struct, frozen=True, kw_only=True):
    """`errors`: answers by status, 0 for a broken connection. `latency_ms`: by percentile.
    `histogram`: (upper bound in ms, answers), without empty ends."""

    requests: int
    seconds: float
    rate: float
    connections: int
    errors: dict[int, int]
    latency_ms: dict[str, float]
    histogram: list[tuple[float, int]]


def bench_view(figures: Figures) -> RenderableType:
    """Bars by latency, then requests/s, percentiles and errors."""
    table = grid("up to", "answers", "", right=("up to", "answers"))
    most = max((n for _, n in figures.histogram), default=1)
    for edge, n in figures.histogram:
        table.add_row(span(edge / 1000), count(n), Text(_bar(n / most), "green"))
    latency = "   ".join(f"{name} {span(v / 1000)}" for name, v in figures.latency_ms.items())
    head = Text.assemble((f"{count(figures.rate)} requests/s", "bold"),
                         f"   {count(figures.requests)} in {span(figures.seconds)} over "
                         f"{figures.connections} connections")  # fmt: skip
    wrong = sum(figures.errors.values())
    parts = ", ".join(f"{count(n)} x {status or 'broken connection'}" for status, n in figures.errors.items())
    tail = Text(f"{count(wrong)} errors ({percent(wrong / max(1, figures.requests))}): {parts}", "red") \
        if wrong else Text("0 errors", "green")  # fmt: skip
    bars: list[RenderableType] = [table, Text("")] if figures.histogram else []
    return Group(*bars, head, Text(latency), tail)


def _bar(share: float) -> str:
    """At least a sliver for what is not nothing."""
    eighths = max(round(share * WIDTH * 8), 1 if share else 0)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
