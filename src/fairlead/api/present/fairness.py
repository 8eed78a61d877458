"""Fairness on a screen and on a page: rates of groups with their intervals drawn as bars."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import count, name, stamp
from fairlead.api.present.page import Ink, Markup, facts, html, note, section, table, tag
from fairlead.api.present.table import grid
from fairlead.core.fairness import CROSS
from fairlead.flow.fairness import Compared, Fairness
from fairlead.flow.fairness import Group as People

__all__ = ["fairness_page", "fairness_view"]

WIDTH = 32
COLOURS = {"pass": "green", "fail": "bold red", "not enough data": "yellow", "not judged": "dim"}
MARKS = {"pass": "✓", "fail": "✗", "not enough data": "?", "not judged": "·"}
INKS: dict[str, Ink] = {"pass": "good", "fail": "bad", "not enough data": "warm", "not judged": "muted"}
SAYS = {
    "positive_rate": "how often a group is chosen",
    "true_positive_rate": "of those it is true of, how many are found",
    "false_positive_rate": "of those it is not true of, how many are accused",
    "precision": "of those chosen, how many rightly (predictive parity)",
    "calibration": "share of true cases less what the scores promised",
}


def fairness_view(found: Fairness) -> RenderableType:
    """Every comparison, the worst first; group by group where it is not in order."""
    parts: list[RenderableType] = [Text.assemble((name(found.subject), "cyan"), f"  {_seen(found)}")]
    for compared in found.compared:
        colour = COLOURS[compared.outcome]
        head = Text.assemble((f"{MARKS[compared.outcome]} {compared.measure} by {compared.by}", colour),
                             (f"  {compared.outcome}", colour), (f"  {SAYS[compared.measure]}", "dim"),
                             f"\n  {compared.reason}")  # fmt: skip
        parts += [Text(""), head]
        if compared.outcome == "fail" or (compared.outcome != "pass" and CROSS not in compared.by):
            parts.append(_rows(compared))
    parts += [Text.assemble(("\ngap ", "yellow"), gap) for gap in found.gaps]
    return Group(*parts)


def fairness_page(found: Fairness) -> str:
    """The same as a page of its own, with every comparison in full."""
    tallies = [(outcome, str(sum(c.outcome == outcome for c in found.compared)), ink)
               for outcome, ink in INKS.items()]  # fmt: skip
    return html("Fairness by group", f"{name(found.subject)}, {_seen(found)}", facts(tallies),
                *map(_section, found.compared), *(tag("p", note(gap, "warm")) for gap in found.gaps),
                foot="Bars are intervals at 95 %, the mark is the value seen. What the figures mean, and do not: docs/fairness.md")  # fmt: skip


def _seen(found: Fairness) -> str:
    where = "as it answered in production" if found.live else "on held-out rows"
    return f"{where}, {stamp(found.since)} to {stamp(found.until)} UTC" if found.until else where


def _rows(compared: Compared) -> RenderableType:
    low, high = _scale(compared)
    shown = grid("  group", "value", "", "95 % interval", "n", compared.form, right=("value", "n", compared.form))
    for group in compared.groups:
        shown.add_row(Text(f"  {group.name}"), f"{group.value:.3f}", _bar(group, low, high),
                      f"{group.low:.3f} to {group.high:.3f}", count(group.n), _beside(group))  # fmt: skip
    return shown


def _beside(group: People) -> str:
    if group.beside_low == group.beside_high:
        return "best"
    end = "∞" if group.beside_high is None else f"{group.beside_high:.3f}"
    return f"{group.beside:.3f} [{group.beside_low:.3f}, {end}]"


def _scale(compared: Compared) -> tuple[float, float]:
    """From 0, or the lowest end below it, to the highest end."""
    high = max(g.high for g in compared.groups)
    return min(0.0, *(g.low for g in compared.groups)), high if high > 0 else 1.0


def _bar(group: People, low: float, high: float) -> Text:
    def place(value: float) -> int:
        return round((value - low) / (high - low) * (WIDTH - 1))

    cells = [" "] * WIDTH
    start, end = place(group.low), place(group.high)
    cells[start : end + 1] = "━" * (end - start + 1)
    cells[place(group.value)] = "●"
    return Text("".join(cells), "cyan")


def _section(compared: Compared) -> Markup:
    low, high = _scale(compared)
    rows = [(g.name, f"{g.value:.3f}", _drawn(g, low, high), f"{g.low:.3f} to {g.high:.3f}", count(g.n), _beside(g))
            for g in compared.groups]  # fmt: skip
    titles = ("group", "value", "interval", "from, to", "n", compared.form)
    body = table(titles, rows, right=("value", "n", compared.form), tight=("group", "from, to"))
    verdict = tag("p", note(f"{MARKS[compared.outcome]} {compared.outcome}  ", INKS[compared.outcome]), compared.reason)
    return section(f"{compared.measure} by {compared.by}", verdict, body, lead=SAYS[compared.measure])


def _drawn(group: People, low: float, high: float) -> Markup:
    def place(value: float) -> float:
        return round(4 + (value - low) / (high - low) * 212, 1)

    marks: Iterator[Markup] = iter((
        tag("line", x1=4, x2=216, y1=9, y2=9, class_="s-grid"),
        tag("line", x1=place(group.low), x2=place(group.high), y1=9, y2=9, class_="s-ours", stroke_width=5),
        tag("circle", cx=place(group.value), cy=9, r=4, class_="f-ink"),
    ))  # fmt: skip
    return tag("svg", *marks, viewBox="0 0 220 18", role="img", aria_label=f"{group.low:.3f} to {group.high:.3f}")
