"""Commands that account for things: cards, packs, legal holds, the erasure of a person."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import GOVERN, Json, Project, app, data_group, later

if TYPE_CHECKING:
    from fairlead.api.commands import card, erase
else:
    card, erase = later("card", "erase")

card_group = typer.Typer(help="What the records say of a model, a dataset, a release: model, data, release, bias, bom.",
                         no_args_is_help=True, rich_markup_mode=None)  # fmt: skip
pack_group = typer.Typer(help="Documents that belong together, in a folder.", no_args_is_help=True, rich_markup_mode=None)  # fmt: skip
app.add_typer(card_group, name="card", rich_help_panel=GOVERN)
app.add_typer(pack_group, name="pack", rich_help_panel=GOVERN)

Subject = Annotated[str, typer.Argument(metavar="[REF]", show_default=False, help="A model or package: digest prefix or kind/name (default: what serves, else the newest).")]  # fmt: skip
Format = Annotated[str, typer.Option("--format", metavar="FORMAT", show_default=False, help="md, html or json (default: by the file's ending, else md).")]  # fmt: skip
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", show_default=False, help="Where to write (default: the terminal).")]  # fmt: skip


@card_group.command("model")
def _model(ref: Subject = "", form: Format = "", out: Out = None, project: Project = None) -> None:
    """Purpose, data, measures by group, verdicts, approvals, releases, limits, and what is missing."""
    card.write(project, "model", ref, form, out)


@card_group.command("data")
def _data(
    ref: Annotated[str, typer.Argument(metavar="[REF]", show_default=False, help="A version: digest prefix or dataset/name (default: the newest).")] = "",
    form: Format = "", out: Out = None, project: Project = None,
) -> None:  # fmt: skip
    """Columns, contract, profile, sources, who is in it, and what changed between versions."""
    card.write(project, "data", ref, form, out)


@card_group.command("release")
def _release(
    ref: Annotated[str, typer.Argument(metavar="[RELEASE]", show_default=False, help="Its id (default: the newest).")] = "",
    form: Format = "", out: Out = None, project: Project = None,
) -> None:  # fmt: skip
    """The decision record: what was promised, seen, decided, and by whom."""
    card.write(project, "release", ref, form, out)


@card_group.command("bias")
def _bias(ref: Subject = "", form: Format = "", out: Out = None, project: Project = None) -> None:
    """Rates by group with intervals, how far groups lie apart, and what the gate said."""
    card.write(project, "bias", ref, form, out)


@card_group.command("bom")
def _bom(ref: Subject = "", out: Out = None, project: Project = None) -> None:
    """The CycloneDX 1.6 bill of materials: the model and its card, its data, its packages."""
    card.bom(project, ref, out)


@pack_group.command("annex-iv")
def _annex(
    folder: Annotated[Path, typer.Argument(show_default=False, help="A new folder.")],
    model: Annotated[str, typer.Option(metavar="REF", show_default=False, help="A model or package (default: what serves).")] = "",
    project: Project = None,
) -> None:  # fmt: skip
    """The technical file of the EU AI Act, with every gap and who has to fill it, and the event log."""
    card.annex(project, folder, model)


hold_group = typer.Typer(help="Legal holds: what must not be deleted.", no_args_is_help=True, rich_markup_mode=None)
data_group.add_typer(hold_group, name="hold")

Held = Annotated[str, typer.Argument(metavar="REF", show_default=False, help="A dataset, features, model or package (digest prefix or kind/name), or log.")]  # fmt: skip
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stays in the audit log.")]


@hold_group.command("add")
def _hold_add(ref: Held, reason: Reason, project: Project = None, as_json: Json = False) -> None:
    """Forbid that it is erased; while any hold stands no prediction expires."""
    erase.hold(project, ref, reason, add=True, as_json=as_json)


@hold_group.command("remove")
def _hold_remove(ref: Held, reason: Reason, project: Project = None, as_json: Json = False) -> None:
    """Allow it again."""
    erase.hold(project, ref, reason, add=False, as_json=as_json)


@hold_group.command("list")
def _hold_list(project: Project = None, as_json: Json = False) -> None:
    """What is held, by whom and why."""
    erase.held(project, as_json=as_json)


@app.command("erase", rich_help_panel=GOVERN)
def _erase(
    where: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", show_default=False, help="Who: rows with this value, in every table that has the column (repeatable: all of them hold). Without: finish earlier erasures.")] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Which request this answers; it stays in the audit log, so do not name the person.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be touched.")] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Erase one person: rows, features, predictions, feedback, and the models that learnt from them."""
    erase.erase(project, tuple(where or ()), reason, dry_run=dry_run, as_json=as_json)
