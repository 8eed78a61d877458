"""The report: bars and figures side by side, as Markdown."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from bench.peers import Peer

__all__ = ["Cell", "Result", "write"]

AT = (1, 64)
"""Rows and connections of the bars."""


class Cell(Struct, frozen=True, kw_only=True):
    """One measurement: answers a second, milliseconds; `foreign`: share of the server's CPU that
    processes of others took meanwhile."""

    rows: int
    connections: int
    rate: float
    p50: float
    p99: float
    errors: int
    foreign: float


class Result(Struct, frozen=True, kw_only=True):
    """One server: seconds to its first answer, megabytes of all its processes after the load."""

    peer: Peer
    first_answer: float
    memory: float
    cells: list[Cell]

    def cell(self, rows: int, connections: int) -> Cell | None:
        """None when it was not measured."""
        return next((c for c in self.cells if (c.rows, c.connections) == (rows, connections)), None)


def write(results: Sequence[Result], skipped: Sequence[str], load: float) -> str:
    """The whole section."""
    lines = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} CPUs ({_processor()}), Python "
        f"{platform.python_version()}. Load average before the first measurement: {load:.2f}; other "
        f"processes took at most {_foreign(results):.0%} of the server's CPU. wrk on its own CPU, "
        "one thread, keep-alive.", "",
    ]  # fmt: skip
    if results and not results[0].peer.bar:
        lines += _bars(results[0], results[1:])
    lines += _cells(results)
    lines += ["", *(f"Skipped: {s}" for s in skipped)] if skipped else []
    return "\n".join(lines) + "\n"


def _bars(ours: Result, others: Sequence[Result]) -> list[str]:
    mine = ours.cell(*AT)
    if mine is None:
        return []
    lines = ["One row, 64 connections; Fairlead has everything switched on:", "",
             "| against | its answers/s | Fairlead's | bar | figure | |", "|---|--:|--:|--:|--:|---|"]  # fmt: skip
    for other in others:
        theirs = other.cell(*AT)
        if other.peer.bar and theirs is not None and theirs.rate:
            times = mine.rate / theirs.rate
            met = "met" if times >= other.peer.bar else "**falls short**"
            lines.append(f"| {other.peer.name} | {theirs.rate:,.0f} | {mine.rate:,.0f} | "
                         f"{other.peer.bar:g} × | {times:.{1 if times >= 1 else 2}f} × | {met} |")  # fmt: skip
    return [*lines, "", *_tails(ours, others), ""]


def _tails(ours: Result, others: Sequence[Result]) -> list[str]:
    """p99 against the best model server at every combination."""
    lines = ["99th percentile against the best of the model servers above (bar: no worse):", "",
             "| rows | connections | Fairlead, ms | best other, ms | |", "|--:|--:|--:|--:|---|"]  # fmt: skip
    models = [o for o in others if o.peer.bar and o.peer.form]
    for mine in ours.cells:
        theirs = [(c.p99, o.peer.name) for o in models if (c := o.cell(mine.rows, mine.connections))]
        if theirs:
            best, name = min(theirs)
            met = "met" if mine.p99 <= best else "**falls short**"
            lines.append(f"| {mine.rows} | {mine.connections} | {mine.p99:.2f} | {best:.2f} ({name}) | {met} |")
    return lines


def _cells(results: Sequence[Result]) -> list[str]:
    """Everything that was measured."""
    lines = ["All measurements: answers/s (p50 / p99 in ms), by rows × connections:", "",
             "| server | first answer, s | memory, MB | 1 × 1 | 1 × 16 | 1 × 64 | 100 × 1 | 100 × 16 | 100 × 64 | errors |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for result in results:
        cells = [_spelled(result.cell(rows, n)) for rows in (1, 100) for n in (1, 16, 64)]
        note = f" ({result.peer.note})" if result.peer.note else ""
        lines.append(f"| {result.peer.name}{note} | {result.first_answer:.2f} | {result.memory:.0f} | "
                     f"{' | '.join(cells)} | {sum(c.errors for c in result.cells)} |")  # fmt: skip
    return lines


def _spelled(cell: Cell | None) -> str:
    return "" if cell is None else f"{cell.rate:,.0f} ({cell.p50:.2f} / {cell.p99:.2f})"


def _foreign(results: Sequence[Result]) -> float:
    return max((c.foreign for r in results for c in r.cells), default=0.0)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
