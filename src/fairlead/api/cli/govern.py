"""Commands that explain and prove: why, audit."""

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
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Walk from one prediction back to the rows its model learnt from."""
    audit.why(project, prediction, as_json=as_json)


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
