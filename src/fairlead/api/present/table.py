"""Tables of data on a screen: a table that was just read, its versions, and what changed."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.figures import ago, count, percent, short, size
from fairlead.core.ref import Ref
from fairlead.core.schema import SchemaDiff
from fairlead.flow.data import DataDiff, Version
from fairlead.flow.scaffold import Draft, Fact

__all__ = ["change_lines", "diff_view", "draft_view", "grid", "targets_view", "versions_table"]

MOST_COLUMNS = 40
MOST_SHIFTS = 15
ROLES = {"target": "bold green", "time": "cyan", "entity": "cyan", "sensitive": "yellow",
         "ignored": "dim"}  # fmt: skip
SIZES = {"same": "green", "wider": "yellow", "breaking": "bold red"}


def grid(*titles: str, right: tuple[str, ...] = (), fold: tuple[str, ...] = ()) -> Table:
    """An empty table in the house style; columns in `right` are numbers, those in `fold` may wrap."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim",
                  show_header=any(titles))  # fmt: skip
    for title in titles:
        table.add_column(title, justify="right" if title in right else "left",
                         no_wrap=title not in fold, overflow="fold" if title in fold else "ellipsis")  # fmt: skip
    return table


def draft_view(made: Draft) -> RenderableType:
    """What was read and what was decided."""
    head = Text.assemble((made.service, "bold"), f"  {count(made.rows)} rows, {len(made.facts)} columns")  # fmt: skip
    parts: list[RenderableType] = [head, Text(""), _columns(made.facts), Text("")]
    parts.append(Text.assemble(("task     ", "dim"), (made.task, "bold"), f" of {made.target}"))
    if made.classes:
        shown = "   ".join(f"{label} {percent(share)}" for label, share in made.classes[:6])
        more = f"   and {len(made.classes) - 6} more" if len(made.classes) > 6 else ""
        parts.append(Text.assemble(("balance  ", "dim"), shown, more))
    for finding in made.findings:
        parts.append(Text.assemble(("note     ", "yellow"), finding))
    return Group(*parts)


def targets_view(facts: list[Fact], call: str) -> RenderableType:
    """Columns that could be predicted, and how to say which."""
    table = _columns(tuple(facts[:15]))
    return Group(Text("--target is missing. Columns that could be predicted, likeliest first:"),
                 Text(""), table, Text(""), Text.assemble(("next  ", "dim"), (call, "bold")))  # fmt: skip


def versions_table(versions: list[Version], now: float) -> Table:
    """Versions of a dataset, newest first; `versions` come oldest first."""
    numbers = ("rows", "added", "parts", "size")
    table = grid("version", "made", *numbers, "contract", right=numbers)
    for version in reversed(versions):
        table.add_row(Text(short(version.ref.digest), "cyan"), ago(version.at, now),
                      count(version.rows), f"{version.added:+,}", str(version.parts),
                      size(version.size), Text(version.change.size, SIZES[version.change.size]))  # fmt: skip
    return table


def diff_view(old: Ref, new: Ref, found: DataDiff) -> RenderableType:
    """Rows, contract, and the columns that moved most."""
    head = Text.assemble((short(old.digest), "cyan"), " -> ", (short(new.digest), "cyan"),
                         f"  {count(found.added)} rows added, {count(found.removed)} removed")  # fmt: skip
    parts: list[RenderableType] = [head, change_lines(found.schema)]
    moved = sorted((s for s in found.shifts if s.psi >= 0.01 or s.unseen), key=lambda s: -s.psi)
    if moved:
        table = grid("  column", "shift (PSI)", "missing", "unseen", right=("shift (PSI)", "missing", "unseen"))  # fmt: skip
        for shift in moved[:MOST_SHIFTS]:
            colour = "bold red" if shift.psi > 0.25 else "yellow" if shift.psi > 0.1 else "default"
            table.add_row(f"  {shift.column}", Text(f"{shift.psi:.3f}", colour),
                          f"{shift.nulls:+.1%}" if shift.nulls else "", f"{shift.unseen:.1%}" if shift.unseen else "")  # fmt: skip
        parts += [Text(""), table]
    return Group(*parts)


def change_lines(diff: SchemaDiff) -> RenderableType:
    """The verdict on a contract, and each change."""
    words = {"same": "the same contract", "wider": "a wider contract: old readers are fine",
             "breaking": "a breaking change: models trained before cannot read it"}  # fmt: skip
    table = grid("", "", "", fold=("",))
    for change in diff.changes:
        table.add_row(Text(f"  {change.size}", SIZES[change.size]), change.column, change.text)
    head = Text(words[diff.size], SIZES[diff.size])
    return Group(head, table) if diff.changes else head


def _columns(facts: tuple[Fact, ...]) -> RenderableType:
    table = grid("column", "type", "missing", "distinct", "holds", "role",
                 right=("missing", "distinct"), fold=("holds", "role"))  # fmt: skip
    first = sorted(facts, key=lambda f: f.role not in ("target", "time", "entity", "sensitive"))
    for fact in first[:MOST_COLUMNS]:
        role = f"{fact.role}: {fact.note}" if fact.note else fact.role
        table.add_row(Text(fact.name, ROLES.get(fact.role, "default")), Text(fact.dtype, "dim"),
                      percent(fact.missing) if fact.missing else "", count(fact.distinct),
                      Text(fact.holds, "dim"), Text(role, ROLES.get(fact.role, "default")))  # fmt: skip
    if len(facts) <= MOST_COLUMNS:
        return table
    return Group(table, Text(f"and {len(facts) - MOST_COLUMNS} more", "dim"))
