"""Commands to begin with: init, run, demo, schema."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import START, AcceptBreaking, Json, Project, app, later

if TYPE_CHECKING:
    from fairlead.api import demo
    from fairlead.api.commands import ci, start
else:
    ci, start = later("ci", "start")
    (demo,) = later("demo", room="fairlead.api")


@app.command("init", rich_help_panel=START)
def _init(
    table: Annotated[Path | None, typer.Option("--from", metavar="TABLE", show_default=False, help="CSV or Parquet file.")] = None,
    target: Annotated[str, typer.Option(metavar="COLUMN", help="What to predict (without it: the candidates are listed).")] = "",
    time: Annotated[str, typer.Option(metavar="COLUMN", help="When the prediction is asked.")] = "",
    entity: Annotated[str, typer.Option(metavar="COLUMN", help="Whom a row is about.")] = "",
    sensitive: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Groups to treat alike (repeatable).")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Columns the model must not read (repeatable).")] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the service (default: of the file).")] = "",
    into: Annotated[Path | None, typer.Option(metavar="FOLDER", show_default=False, help="Where (default: here).")] = None,
    pipeline: Annotated[str, typer.Option("--ci", metavar="github|gitlab", help="Write the workflow that judges every pull request, too (of a project that exists: alone).")] = "",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a project for a table: fairlead.yaml and train.py."""
    wishes = start.Wishes(target=target, time=time, entity=entity, service=name,
                          sensitive=tuple(sensitive or ()), ignore=tuple(ignore or ()))  # fmt: skip
    status = 0 if table is None and pipeline else start.init(table, wishes, into or Path(), as_json=as_json)
    if pipeline and not status:
        ci.workflow_file(pipeline, into or Path(), as_json=as_json)
    raise typer.Exit(status)


@app.command("run", rich_help_panel=START)
def _run(
    plan: Annotated[str, typer.Option(metavar="NAME", help="Release with this plan instead of the manifest's.")] = "",
    accept_breaking: AcceptBreaking = False,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """From the table to a released model in one go."""
    raise typer.Exit(start.run(project, plan, accept_breaking=accept_breaking, as_json=as_json))


@app.command("demo", rich_help_panel=START)
def _demo(
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute instead of a minute and a half.")] = False,
    folder: Annotated[Path | None, typer.Option(metavar="PATH", show_default=False, help="Work here (default: a temporary folder).")] = None,
    shot: Annotated[Path | None, typer.Option(metavar="FILE", show_default=False, help="Write the timeline as an SVG picture.")] = None,
) -> None:  # fmt: skip
    """Watch the whole loop on real flights, from release to retraining."""
    raise typer.Exit(demo.run(quick=quick, folder=folder, shot=shot))


@app.command("schema", rich_help_panel=START)
def _schema() -> None:
    """Print the JSON Schema of fairlead.yaml."""
    start.schema()
