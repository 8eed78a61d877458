"""The report: bars and figures side by side, as Markdown."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from bench.inside import Claim
from bench.material import DENSE, TREES
from bench.peers import OURS, Peer

__all__ = ["Cell", "Result", "write"]

AT = (1, 64)
"""Rows and connections of the bars."""
TITLES = {TREES: "Gradient boosting, 200 trees", DENSE: "Dense network, 64 and 32 wide"}


class Cell(Struct, frozen=True, kw_only=True):
    """One measurement: answers a second, milliseconds, microseconds of CPU per answer (`cost`);
    `foreign`: share of the server's CPU that processes of others took meanwhile."""

    rows: int
    connections: int
    rate: float
    p50: float
    p99: float
    cost: float
    errors: int
    foreign: float


class Result(Struct, frozen=True, kw_only=True):
    """One server: seconds to its first answer, megabytes of all its processes after the load."""

    peer: Peer
    model: str
    first_answer: float
    memory: float
    cells: list[Cell]

    def cell(self, rows: int, connections: int) -> Cell | None:
        """None when it was not measured."""
        return next((c for c in self.cells if (c.rows, c.connections) == (rows, connections)), None)


def write(results: Sequence[Result], own: Sequence[Claim], skipped: Sequence[str], load: float) -> str:
    """The whole section."""
    lines = [
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} CPUs ({_processor()}), Python "
        f"{platform.python_version()}. Load average before the first measurement: {load:.2f}; other "
        f"processes took at most {_foreign(results):.0%} of the server's CPU. wrk on its own CPU, "
        "one thread, keep-alive.", "",
    ]  # fmt: skip
    for model, title in TITLES.items():
        of_model = [r for r in results if r.model == model]
        ours = next((r for r in of_model if r.peer is OURS), None)
        if ours is not None:
            lines += [f"### {title}", "", *_bars(ours, [r for r in of_model if r is not ours])]
    if own:
        lines += ["### Its own parts", "", "| what | bar | figure | |", "|---|--:|--:|---|",
                  *(f"| {c.what} | {c.bar} | {c.figure} | {_met(c.met)} |" for c in own), ""]  # fmt: skip
    if results:
        lines += ["### All measurements", "", *_cells(results)]
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
            lines.append(f"| {other.peer.name} | {theirs.rate:,.0f} | {mine.rate:,.0f} | "
                         f"{other.peer.bar:g} × | {times:.{1 if times >= 1 else 2}f} × | "
                         f"{_met(times >= other.peer.bar)} |")  # fmt: skip
    return [*lines, "", *_tails(ours, others), ""]


def _tails(ours: Result, others: Sequence[Result]) -> list[str]:
    """p99 against the best model server at every combination."""
    lines = ["99th percentile against the best of the model servers above (bar: no worse):", "",
             "| rows | connections | Fairlead, ms | best other, ms | |", "|--:|--:|--:|--:|---|"]  # fmt: skip
    models = [o for o in others if o.peer.bar and o.peer.form]
    for mine in ours.cells:
        theirs = [(c.p99, o.peer.name) for o in models
                  if (c := o.cell(mine.rows, mine.connections)) is not None and c.rate]  # fmt: skip
        if theirs:
            best, name = min(theirs)
            lines.append(f"| {mine.rows} | {mine.connections} | {mine.p99:.2f} | {best:.2f} ({name}) | "
                         f"{_met(mine.p99 <= best)} |")  # fmt: skip
    return lines


def _cells(results: Sequence[Result]) -> list[str]:
    """Everything that was measured."""
    lines = ["Answers/s (p50 / p99 in ms; µs of CPU per answer), by rows × connections:", "",
             "| server | first answer, s | memory, MB | 1 × 1 | 1 × 16 | 1 × 64 | 100 × 1 | 100 × 16 | 100 × 64 | errors |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for result in results:
        cells = [_spelled(result.cell(rows, n)) for rows in (1, 100) for n in (1, 16, 64)]
        notes = [result.peer.note, "" if result.model == TREES else TITLES[result.model].lower()]
        note = f" ({'; '.join(n for n in notes if n)})" if any(notes) else ""
        lines.append(f"| {result.peer.name}{note} | {result.first_answer:.2f} | {result.memory:.0f} | "
                     f"{' | '.join(cells)} | {sum(c.errors for c in result.cells)} |")  # fmt: skip
    return lines


def _spelled(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return f"{cell.rate:,.0f} ({cell.p50:.2f} / {cell.p99:.2f}; {cell.cost:,.0f})"


def _met(met: bool) -> str:
    return "met" if met else "**falls short**"


def _foreign(results: Sequence[Result]) -> float:
    return max((c.foreign for r in results for c in r.cells), default=0.0)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
