"""Latencies on a screen: a histogram of bars, and the figures below it."""

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import count, percent, span
from fairlead.api.present.table import grid

__all__ = ["Figures", "bench_view"]

WIDTH = 50
KEPT = 0.97
"""Share of the wanted rate below which the service did not keep up."""
QUEUE = "more rows at once than serve.max_queue lets in; fewer --connections or --rows"
EIGHTHS = " ▏▎▍▌▋▊▉█"


class Figures(Struct, frozen=True, kw_only=True):
    """`errors`: answers by status, 0 for a broken connection. `latency_ms`: by percentile.
    `histogram`: (upper bound in ms, answers), without empty ends. `wanted`: requests per second
    that were due, 0 when each waited for the one before; `rows`: in each request."""

    requests: int
    seconds: float
    rate: float
    connections: int
    wanted: float
    rows: int
    errors: dict[int, int]
    latency_ms: dict[str, float]
    histogram: list[tuple[float, int]]


def bench_view(figures: Figures) -> RenderableType:
    """Bars by latency, then requests/s, percentiles and errors."""
    table = grid("up to", "answers", "", "so far", right=("up to", "answers", "so far"))
    most = max((n for _, n in figures.histogram), default=1)
    total, seen = sum(n for _, n in figures.histogram), 0
    for edge, n in figures.histogram:
        seen += n
        table.add_row(span(edge / 1000), count(n), Text(_bar(n / most), "green"), _percent(seen, total))
    latency = "   ".join(f"{name} {span(v / 1000)}" for name, v in figures.latency_ms.items())
    head = Text.assemble((f"{count(figures.rate)} requests/s", "bold"),
                         f"   {count(figures.requests)} in {span(figures.seconds)} over "
                         f"{figures.connections} connections", _pace(figures))  # fmt: skip
    wrong = sum(figures.errors.values())
    parts = ", ".join(f"{count(n)} x {status or 'broken connection'}" for status, n in figures.errors.items())
    tail = Text(f"{count(wrong)} errors ({percent(wrong / max(1, figures.requests))}): {parts}", "red") \
        if wrong else Text("0 errors", "green")  # fmt: skip
    if figures.errors.get(429):
        tail.append(f"\n429: {QUEUE}", "dim")
    bars: list[RenderableType] = [table, Text("")] if figures.histogram else []
    return Group(*bars, head, Text(latency), tail)


def _pace(figures: Figures) -> tuple[str, str]:
    """How the requests came, and whether the service kept up with them."""
    rows = f", {count(figures.rate * figures.rows)} rows/s" if figures.rows > 1 else ""
    if not figures.wanted:
        return f"{rows}; each waits for the one before (--rate: whether or not)", "dim"
    if figures.rate < figures.wanted * KEPT:
        return f"{rows}; {count(figures.wanted)}/s were due: more than it takes", "yellow"
    return f"{rows}; {count(figures.wanted)}/s were due, latency counts from then", "dim"


def _percent(seen: int, total: int) -> str:
    """Never 100 % before the last."""
    return "100 %" if seen == total else f"{min(99.9, 100 * seen / total):.1f} %"


def _bar(share: float) -> str:
    """At least a sliver for what is not nothing."""
    eighths = max(round(share * WIDTH * 8), 1 if share else 0)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
