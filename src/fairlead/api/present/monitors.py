"""Monitors on a screen: the last value against its limit, lately and now."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import measure, span
from fairlead.api.present.table import grid
from fairlead.core.check import Bound, Outcome
from fairlead.flow.survey import Standing

__all__ = ["monitors_view", "sparkline", "unwatched"]

BARS = "▁▂▃▄▅▆▇█"
NOTHING = "·"
COLOURS = {Outcome.PASS: "green", Outcome.UNKNOWN: "yellow", Outcome.FAIL: "bold red"}


def monitors_view(standings: Sequence[Standing], now: float) -> RenderableType:
    """One line per monitor, failing ones first, and the reasons of those that fail."""
    if not standings:
        return Text("no monitors: write some under `monitors:`, or set watch.ready_made", "yellow")
    table = grid("monitor", "measure", "now", "limit", "lately", "state", "looks every", "then", "alarms",
                 right=("now", "alarms"))  # fmt: skip
    order = sorted(standings, key=lambda s: -(s.verdict.outcome if s.verdict else Outcome.UNKNOWN))
    for here in order:
        check = here.monitor.check
        outcome = here.verdict.outcome if here.verdict else Outcome.UNKNOWN
        value = here.values[-1]
        table.add_row(
            Text(here.monitor.name, "bold"), check.measure + (f" {check.slice}" if check.slice else ""),
            "-" if value is None else measure(value), _limit(here), sparkline(here.values),
            _state(here, outcome, now), span(here.monitor.every), ", ".join(sorted(check.on_fail)),
            f"{here.raised}",
        )  # fmt: skip
    total = sum(s.allowed for s in standings)
    foot = Text(f"lately: the last {len(standings[0].values)} windows; alarms: in 91 days, of which "
                f"{total:.3g} may be false in all", "dim")  # fmt: skip
    bad = [Text.assemble((f"{s.monitor.name}  ", "bold red"), s.verdict.reason) for s in order
           if s.verdict is not None and s.verdict.outcome is Outcome.FAIL]  # fmt: skip
    unseen = [Text.assemble(("not watched for drift: ", "yellow"), unwatched(s.unwatched))
              for s in order if s.unwatched][:1]  # fmt: skip
    return Group(table, Text(""), *bad, *([Text("")] if bad else []), *unseen, foot)


def unwatched(columns: Mapping[str, str]) -> str:
    """``name, iban (hidden by log.redact or log.drop); note (a text)``."""
    reasons = dict.fromkeys(columns.values())
    named = ((", ".join(c for c, why in columns.items() if why == reason), reason) for reason in reasons)
    return "; ".join(f"{names} ({reason})" for names, reason in named)


def sparkline(values: Sequence[float | None]) -> str:
    """``▁▂▅█``, from the least to the largest of the values; ``·`` where there is none."""
    known = [v for v in values if v is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    wide = high - low or 1.0
    return "".join(NOTHING if v is None else BARS[round((v - low) / wide * (len(BARS) - 1))] for v in values)


def _limit(here: Standing) -> str:
    rule = here.monitor.check.rule
    assert isinstance(rule, Bound), "monitors are bounds"
    sides = ((rule.low, "at least"), (rule.high, "at most"))
    return ", ".join(f"{words} {measure(v)}" for v, words in sides if v is not None)


def _state(here: Standing, outcome: Outcome, now: float) -> Text:
    words = {Outcome.PASS: "passes", Outcome.UNKNOWN: "too little known", Outcome.FAIL: "fails"}
    text = Text(words[outcome], COLOURS[outcome])
    if here.alert:
        text.append(f", alert {here.alert}")
    if here.silent_until:
        text.append(f", silent for {span(here.silent_until - now)}", "yellow")
    return text
