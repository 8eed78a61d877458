"""What lies ahead on a screen: the steps of a plan, and how many requests each will need."""

from math import isfinite

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import count, percent, span
from fairlead.api.present.table import grid
from fairlead.core.check import PairedLoss
from fairlead.core.forecast import Outlook
from fairlead.core.traffic import Adaptive, Step, TrafficPlan

__all__ = ["Ahead", "ahead_view"]


class Ahead(Struct, frozen=True, kw_only=True):
    """A plan, the traffic it is to meet (`rate` requests a minute, of which a share of `errors`
    fails at the baseline), whether that was `seen` in the log, and what simulations say of it
    (the harmless candidate first; none when not asked)."""

    plan: TrafficPlan
    rate: float
    errors: float
    seen: bool
    outlooks: tuple[Outlook, ...] = ()


def ahead_view(here: Ahead) -> RenderableType:
    """The plan step by step; with simulations what it costs to pass, and to find harm."""
    plan = here.plan
    source = "as in the last day" if here.seen else "given or assumed: --rate, --errors"
    parts: list[RenderableType] = [
        Text.assemble((plan.name, "bold"), f"  {count(here.rate)} requests/min, errors "
                      f"{percent(here.errors)} ({source}), α {percent(plan.odds.alpha)}, "
                      f"β {percent(plan.odds.beta)}"), Text(""), _steps(here)]  # fmt: skip
    if here.outlooks:
        parts += [Text(""), _harm(here), *_notes(here)]
    return Group(*parts)


def _steps(here: Ahead) -> Table:
    titles = ("half pass within", "90 % within", "time for half")
    table = grid("step", "traffic", "holds", "patience", *(titles if here.outlooks else ()), "checks",
                 right=titles, fold=("checks",))  # fmt: skip
    for i, step in enumerate(here.plan.steps):
        cells: list[str] = []
        if here.outlooks:
            need = here.outlooks[0].steps[i]
            cells = [_requests(need.median), _requests(need.most), _time(need.median, here.rate)]
        checks = ", ".join(c.name for c in step.checks) or "none"
        patience = span(step.patience) if step.checks else "-"
        table.add_row(f"{i + 1}", _traffic(step), span(step.hold), patience, *cells, Text(checks, "dim"))
    return table


def _harm(here: Ahead) -> Table:
    titles = ("rolled back", "half within", "90 % within", "time for half", "passes", "out of patience")
    table = grid("a candidate that fails", *titles, right=titles)
    for one in here.outlooks:
        name = "as often (harmless)" if one.ratio == 1 else f"{one.ratio:g} times as often"
        half, most = one.found.median, one.found.most
        table.add_row(name, percent(one.rolled_back), _requests(half), _requests(most),
                      _time(half, here.rate), percent(one.passed), percent(one.late))  # fmt: skip
    return table


def _notes(here: Ahead) -> list[RenderableType]:
    told = [f"{here.outlooks[0].runs} simulated releases each; requests of both packages together, "
            "of which no other check fails."]  # fmt: skip
    pairs = [c for step in here.plan.steps for c in step.checks if isinstance(c.rule, PairedLoss)]
    if pairs:
        told.append(f"Not simulated: {pairs[0].name}, which waits for {count(pairs[0].min_n)} labels.")
    if not here.plan.promote:
        told.append("Whoever passes this plan is kept out: it only tells.")
    return [Text(""), *(Text(line, "dim") for line in told)]


def _traffic(step: Step) -> str:
    if isinstance(step.share, Adaptive):
        return f"{percent(step.share.floor)} to {percent(step.share.ceiling)} live"
    live = f"{percent(step.share.weight)} live" if step.share.weight else ""
    mirror = f"{percent(step.mirror)} mirrored" if step.mirror else ""
    return " + ".join(filter(None, (live, mirror))) or "pinned units only"


def _requests(number: float) -> str:
    return count(float(f"{number:.2g}")) if isfinite(number) else "-"


def _time(number: float, rate: float) -> str:
    return span(60 * number / rate) if isfinite(number) else "-"
