"""Evidence on a screen: for every check both bodies of evidence on their way to their bounds."""

from collections.abc import Mapping, Sequence
from math import exp, isfinite, log

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import percent
from fairlead.api.present.table import grid
from fairlead.api.present.verdicts import COLOURS, MARKS
from fairlead.core.check import Amount, Harm, Odds, Outcome, PairedLoss, Verdict
from fairlead.core.growth import Growth

__all__ = ["BAR", "EvidenceTable", "amount", "gauge", "ratio_words", "spark"]

BAR = 12
"""Characters from no evidence to a bound."""

CURVE = 16
WIDE, MIDDLE, NARROW = 132, 104, 96
"""Columns of a terminal that show everything, all but the curve, and all but the interval; below
the last the figures beside gauge and counts go too."""

LEVELS = "▁▂▃▄▅▆▇█"


class EvidenceTable:
    """Checks of a release as a table that leaves out columns when the terminal is narrow.

    `growths`: by check and package, where known: they bring the curve and the interval."""

    def __init__(self, verdicts: Sequence[Verdict], odds: Odds,
                 growths: Mapping[tuple[str, str], Growth]) -> None:  # fmt: skip
        self._verdicts, self._odds, self._growths = verdicts, odds, growths

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        odds, width = self._odds, options.max_width
        bounds = f" at {1 / odds.alpha:.0f}", f" at {1 / odds.beta:.0f}"
        left, right = bounds if width >= NARROW else ("", "")
        titles = ["check", f"out{left} ◂ evidence ▸ on{right}",
                  *(["so far"] if width >= WIDE else []),
                  *(["times as often"] if width >= MIDDLE else []), "candidate", "baseline"]  # fmt: skip
        table = grid(*titles, fold=("check",))
        grow = [v for v in self._verdicts if isinstance(v.check.rule, Harm | PairedLoss | Amount)]
        for verdict in grow:
            table.add_row(*self._row(verdict, width))
        if grow:
            yield table
        if said := [v for v in self._verdicts if v not in grow]:
            yield _others(said)

    def _row(self, verdict: Verdict, width: int) -> list[Text]:
        mark = Text(f"{MARKS[verdict.outcome]} {verdict.check.name}", COLOURS[verdict.outcome])
        grown = self._growths.get((verdict.check.name, str(verdict.subject)))
        row = [mark, gauge(verdict, self._odds, told=width >= NARROW)]
        if width >= WIDE:
            row.append(spark(grown, self._odds))
        if width >= MIDDLE:
            row.append(Text(ratio_words(grown, paired=isinstance(verdict.check.rule, PairedLoss))))
        return [*row, *_counted(verdict, rates=width >= NARROW)]


def gauge(verdict: Verdict, odds: Odds, *, told: bool = True) -> Text:
    """One line with no evidence in its middle: harm grows to the left end, safety to the right;
    `told`: with the nearer e-value beside it."""
    harm = _part(verdict.log_e_harm, log(1 / odds.alpha))
    safe = _part(verdict.log_e_safe, log(1 / odds.beta))
    left, right = round(BAR * harm), round(BAR * safe)
    middle = "●" if verdict.outcome is Outcome.UNKNOWN else "│"
    return Text.assemble(
        ("─" * (BAR - left), "dim"), ("━" * left, "bold red" if harm >= 1 else "red"),
        (middle, "dim"), ("━" * right, "bold green" if safe >= 1 else "green"),
        ("─" * (BAR - right), "dim"), (f"  {_leading(verdict, harm, safe)}" if told else "", "dim"),
    )  # fmt: skip


def spark(grown: Growth | None, odds: Odds) -> Text:
    """How the larger of both bodies of evidence came up, from the first request to now."""
    if grown is None:
        return Text("")
    last = grown.marks[-1]
    harmful = last.harm / log(1 / odds.alpha) > last.safe / log(1 / odds.beta)
    bound = log(1 / (odds.alpha if harmful else odds.beta))
    curve = [m.harm if harmful else m.safe for m in grown.marks]
    chosen = [curve[round(i * (len(curve) - 1) / (CURVE - 1))] for i in range(CURVE)]
    shown = "".join(LEVELS[round(_part(v, bound) * (len(LEVELS) - 1))] for v in chosen)
    return Text(shown, "red" if harmful else "green")


def ratio_words(grown: Growth | None, *, paired: bool = False) -> str:
    """``1.9 [0.8, 5.1]`` times as often; of losses ``+0.012 [-0.01, +0.03]``."""
    if grown is None:
        return ""
    if paired:
        return f"{grown.value:+.3f} [{grown.low:+.3f}, {grown.high:+.3f}]"
    if not isfinite(grown.high) and grown.low == 0:
        return "cannot be told yet"
    return f"{_times(grown.value)} [{_times(grown.low)}, {_times(grown.high)}]"


def amount(log_e: float) -> str:
    """An e-value with as many digits as matter."""
    e = exp(min(log_e, 50))
    return f"{e:.2g}" if e < 10 else f"{e:,.0f}" if e < 10_000 else "over 10,000"


def _times(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}" if isfinite(value) else "∞"


def _part(log_e: float | None, bound: float) -> float:
    return 0.0 if log_e is None else min(max(log_e / bound, 0.0), 1.0)


def _leading(verdict: Verdict, harm: float, safe: float) -> str:
    """The body of evidence that is nearer to its bound."""
    if not harm and not safe:
        return ""
    log_e, word = (verdict.log_e_harm, "harm") if harm > safe else (verdict.log_e_safe, "safe")
    return f"{word} {amount(log_e or 0.0)}"


def _counted(verdict: Verdict, *, rates: bool) -> list[Text]:
    c = verdict.counters
    if "pairs" in c:
        return [Text(f"{c['pairs']:,.0f} pairs"), Text("the same")]
    if "candidate_units" in c:
        return [_each(c["candidate_total"], c["candidate_units"]), _each(c["baseline_total"], c["baseline_units"])]
    if not isinstance(verdict.check.rule, Harm):
        return []
    return [_share(c[f"{arm}_events"], c[f"{arm}_n"], rates=rates) for arm in ("candidate", "baseline")]


def _share(events: float, n: float, *, rates: bool) -> Text:
    rate = f"  {percent(events / n)}" if n and rates else ""
    return Text.assemble(f"{events:,.0f} of {n:,.0f}", (rate, "dim"))


def _each(total: float, units: float) -> Text:
    mean = f"  {total / units:.4g} each" if units else ""
    return Text.assemble(f"{units:,.0f} units", (mean, "dim"))


def _others(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for verdict in verdicts:
        reason = verdict.reason.removeprefix(f"{verdict.check.measure}: ")
        mark = f"{MARKS[verdict.outcome]} {verdict.check.name}"
        table.add_row(Text(mark, COLOURS[verdict.outcome]), Text(reason))
    return table
