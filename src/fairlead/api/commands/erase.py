"""The commands that keep and forget: legal holds, the erasure of one person."""

from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.commands.audit import pairs
from fairlead.api.console import emit, next_commands
from fairlead.api.present.figures import count, name, stamp
from fairlead.api.present.table import grid
from fairlead.api.session import opened
from fairlead.errors import Invalid
from fairlead.flow.erase import Erasure

__all__ = ["erase", "held", "hold"]


def hold(given: Path | None, ref: str, reason: str, *, add: bool, as_json: bool) -> None:
    """Add or remove a legal hold."""
    with opened(given) as project:
        exact = project.hold_evidence(ref, reason, add=add)
    word = "held" if add else "no longer held"
    emit({"of": exact, "held": add}, Text.assemble((word, "bold"), f"  {exact}"), as_json=as_json)


def held(given: Path | None, *, as_json: bool) -> None:
    """List the holds that stand."""
    with opened(given) as project:
        standing = list(project.holds().values())
    table = grid("held", "by", "since", "why", fold=("why",))
    for one in standing:
        table.add_row(Text(one.of[:60], "cyan"), one.by, stamp(one.at), one.reason)
    emit(standing, table if standing else Text("nothing is held"), as_json=as_json)


def erase(given: Path | None, where: tuple[str, ...], reason: str, *, dry_run: bool, as_json: bool) -> None:
    """Erase, or say what that would touch. Raises Invalid for a dry run of nobody."""
    if dry_run and not where:
        raise Invalid("whom?", hint="fairlead erase --where customer=123 --dry-run")
    with opened(given) as project:
        done = project.erase(pairs(where), reason, dry_run=dry_run)
    emit(msgspec.to_builtins(done) | {"dry_run": dry_run}, _view(done, dry_run), as_json=as_json)
    if done.waiting and not as_json:
        next_commands("fairlead train", "fairlead gate", "fairlead package", "fairlead release start",
                      "fairlead erase --reason ...   (when the new package answers)")  # fmt: skip


def _view(done: Erasure, dry_run: bool) -> RenderableType:
    """Table by table, model by model, then the log, then what remains."""
    table = grid("what", "rows of theirs", "now", right=("rows of theirs",), fold=("now",))
    for found in (*done.tables, *done.models, *done.packages):
        new = done.successors.get(str(found.ref), "")
        now = ("answers now: stays until another one does" if found.live else
               "would be erased" if dry_run else
               f"{new.partition('@')[0]}@{new.partition('@')[2][:12]}" if new else "erased")  # fmt: skip
        table.add_row(name(found.ref), count(found.rows) if found.rows else "-", now)
    said: list[RenderableType] = [table] if done.tables or done.models or done.packages else [Text("no table and no model holds them")]
    if dry_run:
        said.append(Text(f"{count(done.predictions)} predictions came from these packages", "dim"))
    else:
        said.append(Text(f"{count(done.log.answers)} predictions and {count(done.log.feedback)} pieces of feedback about them, "
                         f"{count(done.log.refused)} refused requests, {count(done.facts)} facts of the online store: gone"))  # fmt: skip
    if done.log.waiting:
        said.append(Text(f"{count(done.log.waiting)} predictions are in a journal a gateway still writes to: once more in a minute", "yellow"))
    said += [Text.assemble(("remains ", "yellow"), f"{r.where}: {r.why}") for r in done.remains]
    if not dry_run and not done.remains:
        said.append(Text("searched every file of the project: nothing is left", "green"))
    return Group(*said)
