"""An explanation on a screen: what each column added to the answer, the largest part first."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import measure
from fairlead.api.present.table import grid
from fairlead.flow.explain import Explanation, Told

__all__ = ["told_view"]

MOST, WIDTH = 16, 12


def told_view(told: Told, held: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What is known of an explanation; nothing where nobody asked for one."""
    if told.explanation is not None:
        yield _view(told.explanation, held)
    elif told.state == "waiting":
        yield Text("its caller asked for an explanation: not computed yet", "yellow")
    elif told.state == "impossible":
        yield Text.assemble(("not explained ", "yellow"), told.reason)


def _view(found: Explanation, held: Mapping[str, Any]) -> RenderableType:
    """Contributions as bars to either side, and how they add up. `held`: what each column held."""
    how = {"trees": "exact", "gradients": f"by slopes, which left {measure(found.error)} to share out"}.get(
        found.method, f"sampled, each within {measure(found.error)}")
    of = f" of {found.of}" if found.of else ""
    head = Text.assemble(("what moved the answer", "bold"), (f"  {found.space}{of}, {how}", "dim"))
    table = grid("  column", "held", "added", "", right=("added",))
    longest = max((abs(c.amount) for c in found.contributions), default=0.0) or 1.0
    for part in found.contributions[:MOST]:
        table.add_row(f"  {part.column}", _held(held.get(part.column)), f"{part.amount:+.4g}", _bar(part.amount / longest))
    rest = found.contributions[MOST:]
    if rest:
        table.add_row(Text(f"  {len(rest)} others", "dim"), "", f"{sum(c.amount for c in rest):+.4g}", "")
    total = Text(f"  {measure(found.base)} on the average of {found.background} held-out rows, "
                 f"{measure(found.total)} here", "dim")  # fmt: skip
    return Group(head, table, total)


def _held(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)[:32]


def _bar(share: float) -> Text:
    length = round(abs(share) * WIDTH)
    if share < 0:
        return Text(" " * (WIDTH - length) + "━" * length + "│", "magenta")
    return Text(" " * WIDTH + "│" + "━" * length, "cyan")
