"""The demo's ending: what had to happen, when it did, and one prediction explained."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from msgspec import Struct, field
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.demo.drive import Tally
from fairlead.api.demo.screen import Beat, day, line
from fairlead.api.present.lineage import why_tree
from fairlead.flow.govern import Why

__all__ = ["Ledger", "close", "picture"]

PICTURE_WIDTH = 132

STEPS = {
    "released": "a model is released",
    "refused": "a defective candidate is refused by the gate",
    "careless": "a candidate that passes offline goes out as a canary",
    "rolled_back": "and is rolled back; the fallback answered for it",
    "alerted": "the summer storms raise an alert",
    "retrained": "which trains a new model",
    "promoted": "that is promoted by evidence",
    "explained": "a prediction is explained back to its rows",
}
CALM = 1370044800.0
"""1 June 2013: an alert before the storms is a false one."""


class Ledger(Struct, kw_only=True):
    """What happened: step -> (replayed time, in words)."""

    steps: dict[str, tuple[float, str]] = field(default_factory=dict)
    alerts: list[float] = field(default_factory=list)
    why: Why | None = None
    page: Path | None = None
    audited: int = 0
    seconds: float = 0.0
    days: float = 0.0
    bad: int = 0
    tally: Tally = field(default_factory=Tally)

    def happened(self, step: str, at: float, text: str) -> None:
        """Remember the first time a step happened."""
        self.steps.setdefault(step, (at, text))

    def rolled_back(self, at: float, seconds: float, days: float, bad: int) -> None:
        """The careless candidate is gone."""
        self.seconds, self.days, self.bad = seconds, days, bad
        self.happened("rolled_back", at, f"{seconds:.1f} s ({days:.1f} days of traffic) after its first bad answer")


def close(out: Console, ledger: Ledger, elapsed: float) -> int:
    """Print why one answer was given and the closing tables; 0 when every step happened and no
    request failed."""
    if ledger.why is not None:
        out.print(Text("\nWhy did the last one answer what it answered?", "bold"))
        out.print(why_tree(ledger.why))
    out.print(outcome(ledger, elapsed))
    if ledger.page is not None:
        out.print(Text.assemble("\nThe whole of it as a page:  ", (f"{ledger.page}", "bold")))
    complete = all(step in ledger.steps for step in STEPS)
    return 0 if complete and not ledger.tally.failed and ledger.audited else 1


def outcome(ledger: Ledger, elapsed: float) -> RenderableType:
    """Every step with its time, and the figures."""
    table = Table(box=None, padding=(0, 2), show_header=False)
    for step, text in STEPS.items():
        done = ledger.steps.get(step)
        mark = Text("✓", "green") if done else Text("✗", "bold red")
        at = Text(day(done[0]) if done else "", "dim", justify="right")
        table.add_row(mark, text, at, done[1] if done else "did not happen")
    return Group(Text("\nWhat happened", "bold"), table, Text(""), _figures(ledger, elapsed))


def picture(path: Path, beats: Sequence[Beat], ledger: Ledger, elapsed: float) -> None:
    """The timeline and the closing tables as an SVG of a terminal."""
    out = Console(record=True, file=StringIO(), width=PICTURE_WIDTH, highlight=False,
                  force_terminal=True, color_system="truecolor")  # fmt: skip
    for beat in beats:
        out.print(line(beat))
    out.print(outcome(ledger, elapsed))
    path.parent.mkdir(parents=True, exist_ok=True)
    out.save_svg(str(path), title="make demo")


def _figures(ledger: Ledger, elapsed: float) -> Table:
    tally = ledger.tally
    mean = 1000 * tally.seconds / tally.answered if tally.answered else 0.0
    false = sum(at < CALM for at in ledger.alerts)
    table = Table(box=None, padding=(0, 2), show_header=False)
    rows = (
        ("requests served", f"{tally.answered:,}", f"mean {mean:.1f} ms at the client"),
        ("failed", f"{tally.failed}", f"{tally.fallbacks} answered by the fallback"),
        ("labels joined", f"{tally.labels:,}", "when the plane had landed"),
        ("alerts", f"{len(ledger.alerts)}", f"{false} false, before the storms began"),
        ("seconds to roll back", f"{ledger.seconds:.1f}", f"{ledger.days:.1f} days of traffic, {ledger.bad} bad answers"),
        ("audit events", f"{ledger.audited}", "one unbroken chain"),
        ("the demo took", f"{elapsed:.0f} s", ""),
    )  # fmt: skip
    for name, value, note in rows:
        table.add_row(Text(name), Text(value, "bold", justify="right"), Text(note, "dim"))
    return table
