"""Commands that explain and prove: why, audit."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import LIVE, Json, Project, app, audit_group, later

if TYPE_CHECKING:
    from fairlead.api.commands import audit
else:
    (audit,) = later("audit")


@app.command("why", rich_help_panel=LIVE)
def _why(
    prediction: Annotated[str, typer.Argument(show_default=False, help="A prediction id.")],
    explain: Annotated[bool, typer.Option("--explain", help="Also say what each column did to the answer, and keep it.")] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Walk from one prediction back to the rows its model learnt from."""
    audit.why(project, prediction, explain=explain, as_json=as_json)


@app.command("impact", rich_help_panel=LIVE)
def _impact(
    subject: Annotated[str, typer.Argument(show_default=False, help="A dataset, features, model or package: digest prefix, or kind/name for the newest.")],
    rows: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", show_default=False, help="Only what rows with this value taught (repeatable).")] = None,
    served: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", show_default=False, help="Only predictions asked or served with this value: a request column or view.column (repeatable).")] = None,
    view: Annotated[str, typer.Option(metavar="NAME", help="Only packages that read this feature view.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="Only predictions from then on (ISO 8601).")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Only predictions before then (ISO 8601).")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Walk from data or a model forward to every prediction it touched."""
    audit.impact(project, subject, tuple(rows or ()), tuple(served or ()), view, (since, until), as_json=as_json)


@app.command("reproduce", rich_help_panel=LIVE)
def _reproduce(
    model: Annotated[str, typer.Argument(show_default=False, help="Digest prefix (default: the newest model).")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a model again from what was recorded. Exit status 1 unless every byte is the same."""
    raise typer.Exit(audit.reproduce(project, model, as_json=as_json))


@audit_group.command("log")
def _audit_log(
    last: Annotated[int, typer.Option(help="How many events.")] = 30,
    subject: Annotated[str, typer.Option(metavar="TEXT", help="Only about this thing.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:
    """List what happened, oldest first."""
    audit.log(project, last, subject, as_json=as_json)


@audit_group.command("verify")
def _audit_verify(project: Project = None, as_json: Json = False) -> None:
    """Check that no event was changed, dropped or reordered. Exit status 6 when one was."""
    audit.verify(project, as_json=as_json)


@audit_group.command("checkpoint")
def _audit_checkpoint(project: Project = None, as_json: Json = False) -> None:
    """Sign how far the log goes now, and hand it to the places in audit.checkpoints."""
    raise typer.Exit(audit.checkpoint(project, as_json=as_json))


@audit_group.command("prove")
def _audit_prove(
    event: Annotated[int, typer.Argument(show_default=False, help="The number of an event.")],
    project: Project = None,
) -> None:
    """Print the proof (JSON) that an event is in the signed log."""
    audit.prove(project, event)


@audit_group.command("export")
def _audit_export(
    folder: Annotated[Path, typer.Argument(show_default=False, help="A new folder.")],
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Write the log with a program that verifies it on a bare Python, anywhere."""
    audit.export(project, folder, as_json=as_json)


@audit_group.command("key")
def _audit_key(project: Project = None) -> None:
    """Print the public key this project signs with."""
    audit.key(project)
