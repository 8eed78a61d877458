"""Approvals on a screen: what one lets through, on which evidence, and who has said so."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import name, stamp
from fairlead.api.present.table import grid
from fairlead.api.present.verdicts import decision_panel
from fairlead.core.approval import Broken
from fairlead.flow.approval import Card

__all__ = ["approvals_view", "card_view"]

COLOURS = {"waiting": "yellow", "granted": "green", "denied": "red", "used": "dim", "expired": "dim"}


def approvals_view(cards: Sequence[Card], broken: Sequence[Broken]) -> RenderableType:
    """One line each."""
    if not cards and not broken:
        return Text("nothing was asked for")
    table = grid("", "state", "package", "into", "asked by", "granted by", "until", "", fold=("",))
    for card in cards:
        a = card.approval
        table.add_row(Text(str(a.id), "bold"), Text(card.state, COLOURS[card.state]),
                      Text(" ".join(p.digest[:12] for p in a.bound.packages), "cyan"), a.bound.environment,
                      a.asked.by, f"{', '.join(g.by for g in a.grants) or '-'} ({len(a.grants)} of {a.needs})",
                      stamp(a.expires_at), _more(card))  # fmt: skip
    parts: list[RenderableType] = [table] if cards else []
    for glass in broken:
        mark = ("reviewed", "green") if glass.reviewed else ("to be reviewed", "bold red")
        parts.append(Text.assemble(mark, f"  {glass.release} was started without approval by {glass.told.by} at {stamp(glass.told.at)}: {glass.told.reason}"))  # fmt: skip
    return Group(*parts)


def card_view(card: Card) -> RenderableType:
    """Everything that is approved, and the evidence."""
    a = card.approval
    head = Text.assemble(f"approval {a.id}  ", (card.state, f"bold {COLOURS[card.state]}"), "  ", _more(card))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    rows: list[tuple[str, str | Text]] = [("package", Text(str(p), "cyan")) for p in a.bound.packages]
    rows += [("instead of", str(a.bound.baseline) if a.bound.baseline else "nothing: the first one"),
             ("environment", a.bound.environment), ("plan", f"{a.plan}  {a.bound.plan[:12]}")]  # fmt: skip
    rows += [("data", name(ref)) for ref in a.bound.data]
    rows += [("policy", f"{a.bound.policy[:12]}, set by {', '.join(a.authors)}"),
             ("evidence", f"{a.bound.evidence[:12]}, {len(card.decisions)} decision{'s' if len(card.decisions) != 1 else ''} of the gate"),
             ("made by", ", ".join(a.makers) or "nobody who is recorded here"),
             ("asked by", f"{a.asked.by} at {stamp(a.asked.at)}{': ' + a.asked.reason if a.asked.reason else ''}"),
             ("good until", stamp(a.expires_at))]  # fmt: skip
    rows += [("granted by", f"{g.by} at {stamp(g.at)}: {g.reason}") for g in a.grants]
    if a.denied:
        rows.append(("denied by", f"{a.denied.by} at {stamp(a.denied.at)}: {a.denied.reason}"))
    for what, said in rows:
        table.add_row(what, said)
    panels = [decision_panel(d) for d in card.decisions[-1:]]
    return Group(head, table, *panels)


def _more(card: Card) -> Text:
    """What is still missing, or what changed."""
    if card.state == "used":
        return Text(f"by release {card.approval.used}", "dim")
    return Text(card.void if card.state in ("waiting", "granted") else "", "yellow")
