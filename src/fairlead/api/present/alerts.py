"""Alerts on a screen: each with its cause and next step, who is told, and who is not to be."""

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import ago, count, span, stamp
from fairlead.api.present.table import grid
from fairlead.core.alert import ANY, Alert, Alerts, Silence, lines

__all__ = ["COLOURS", "Overview", "Receiver", "alerts_view", "overview", "receiver_line"]

COLOURS = {"open": "bold red", "acknowledged": "yellow", "resolved": "green"}


class Receiver(Struct, frozen=True, kw_only=True):
    """How far a receiver is; `waiting` notices could not be delivered yet, because of `trouble`."""

    to: str
    waiting: int = 0
    delivered: int = 0
    refused: int = 0
    trouble: str = ""
    since: float = 0.0


class Overview(Struct, frozen=True, kw_only=True):
    """What `fairlead alerts` knows."""

    now: float
    alerts: tuple[Alert, ...]
    silences: tuple[Silence, ...]
    receivers: tuple[Receiver, ...]


def overview(alerts: Alerts, receivers: list[str], now: float, *, everything: bool) -> Overview:
    """The open alerts (or all that ever were), silences that last, and the receivers."""
    posts = [(to, alerts.posts.get(to)) for to in receivers]
    return Overview(
        now=now, alerts=tuple(alerts.all if everything else alerts.open),
        silences=tuple(s for s in alerts.silences.values() if now < s.until),
        receivers=tuple(
            Receiver(to=to) if post is None else
            Receiver(to=to, waiting=len(alerts.waiting(to)), delivered=post.delivered,
                     refused=post.refused, trouble=post.trouble, since=post.since)
            for to, post in posts),
    )  # fmt: skip


def alerts_view(seen: Overview) -> RenderableType:
    """Open alerts in full, resolved ones in a line, then silences and receivers."""
    parts: list[RenderableType] = []
    for alert in (a for a in seen.alerts if a.state != "resolved"):
        parts += [_full(alert, seen.now), Text("")]
    if not parts:
        parts += [Text("no open alerts", "green"), Text("")]
    over = [a for a in seen.alerts if a.state == "resolved"]
    if over:
        parts += [_over(over), Text("")]
    for silence in seen.silences:
        what = "everything" if silence.monitor == ANY else silence.monitor
        parts.append(Text.assemble(("silent    ", "dim"), what, f" for {span(silence.until - seen.now)} more",
                                   (f"  {silence.by}: {silence.reason}", "dim")))  # fmt: skip
    for i, receiver in enumerate(seen.receivers):
        parts.append(Text.assemble(("" if i else "told      ", "dim"), " " * 10 if i else "",
                                   receiver_line(receiver, seen.now)))  # fmt: skip
    return Group(*parts)


def receiver_line(receiver: Receiver, now: float) -> Text:
    """``slack  4 delivered`` or why not."""
    text = Text.assemble((receiver.to, "bold"), f"  {count(receiver.delivered)} delivered")
    if receiver.refused:
        text.append(f"  {count(receiver.refused)} refused", "red")
    if receiver.waiting:
        text.append(f"  {count(receiver.waiting)} waiting", "bold red" if receiver.trouble else "yellow")
    if receiver.trouble:
        text.append(f"  {ago(receiver.since, now)}: {receiver.trouble}", "red")
    return text


def _full(alert: Alert, now: float) -> RenderableType:
    head = Text.assemble((f"{alert.id}", "bold"), "  ", (alert.state, COLOURS[alert.state]), "  ",
                         (alert.name, "bold"), f"  {ago(alert.raised_at, now)}")  # fmt: skip
    if alert.count > 1:
        head.append(f", {alert.count} times, last {ago(alert.last_at, now)}")
    if alert.by:
        head.append(f"  {alert.by}: {alert.why}".removesuffix(": "), "dim")
    if not alert.told:
        head.append("  nobody was told: silenced", "yellow")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for what, words in lines(alert):
        table.add_row(f"  {what}", Text(words, "bold" if what == "cause" else ""))
    return Group(head, table)


def _over(alerts: list[Alert]) -> Table:
    table = grid("alert", "monitor", "raised", "times", "lasted", "ended by", "why", right=("alert", "times"),
                 fold=("why",))  # fmt: skip
    for alert in alerts:
        lasted = span(max(alert.ended_at - alert.raised_at, 0.0))
        table.add_row(f"{alert.id}", alert.name, stamp(alert.raised_at), f"{alert.count}", lasted,
                      alert.by, Text(alert.why, "dim"))  # fmt: skip
    return table
