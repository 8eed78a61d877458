"""The demo's screen: a timeline of what happened, and one live line about the traffic."""

import time
from datetime import UTC, datetime

from msgspec import Struct
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["Beat", "Screen", "Traffic", "day", "line"]

MOODS = {"good": "green", "bad": "red", "watch": "yellow", "plain": "cyan"}
WIDTH = 24


class Beat(Struct, frozen=True, kw_only=True):
    """Something that happened: when in the replayed year (UTC seconds), and after how many
    seconds of the demo."""

    at: float
    elapsed: float
    title: str
    text: str
    mood: str = "plain"


class Traffic(Struct, kw_only=True):
    """Where the replay stands. `share`: of live requests that meet the candidate."""

    since: float
    until: float
    at: float = 0.0
    answered: int = 0
    failed: int = 0
    share: float = 0.0
    mirror: float = 0.0
    rate: float = 0.0
    doing: str = ""


def day(at: float) -> str:
    """``14 Jun 06:00``."""
    return datetime.fromtimestamp(at, UTC).strftime("%e %b %H:%M").strip()


def line(beat: Beat) -> RenderableType:
    """One row of the timeline."""
    row = Table.grid(padding=(0, 2))
    row.add_column(width=12, justify="right", style="dim")
    row.add_column(width=11, style=f"bold {MOODS[beat.mood]}")
    row.add_column(overflow="fold")
    row.add_row(day(beat.at), beat.title, beat.text)
    return row


class Screen:
    """Prints beats as they come; on a terminal a live line stands below them."""

    def __init__(self, console: Console, traffic: Traffic) -> None:
        self._console, self.traffic = console, traffic
        self.beats: list[Beat] = []
        self._started = time.monotonic()
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._line,
                          transient=True)  # fmt: skip

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._started

    def say(self, at: float, title: str, text: str, mood: str = "plain") -> None:
        """Add a beat to the timeline and print it."""
        beat = Beat(at=at, elapsed=self.elapsed, title=title, text=text, mood=mood)
        self.beats.append(beat)
        self._console.print(line(beat))

    def _line(self) -> Text:
        t = self.traffic
        if not t.at:
            return Text(f"  {t.doing} ... {self.elapsed:.0f} s", style="dim")
        part = min(1.0, max(0.0, (t.at - t.since) / (t.until - t.since)))
        full = round(part * WIDTH)
        line = Text("  ")
        line.append("━" * full, style="cyan").append("─" * (WIDTH - full), style="dim")
        line.append(f"  {day(t.at):>12}", style="bold")
        line.append(f"  {t.answered:>7,} answered  ")
        line.append(f"{t.failed} failed", style="green" if not t.failed else "bold red")
        line.append(f"  {t.rate:>5,.0f}/s", style="dim")
        if t.share:
            line.append(f"  canary {t.share:.0%}", style="yellow")
        elif t.mirror:
            line.append("  shadow", style="yellow")
        if t.doing:
            line.append(f"  {t.doing}", style="dim")
        return line
