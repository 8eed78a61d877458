"""Commands around a running service: serve, predict, bench, feedback, status."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import LIVE, Json, Project, app, later

if TYPE_CHECKING:
    from fairlead.api.commands import bench, live, service
else:
    service, bench, live = later("service", "bench", "live")


@app.command("serve", rich_help_panel=LIVE)
def _serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Default: serve.host of the manifest.")] = "",
    port: Annotated[int | None, typer.Option(show_default=False, help="Default: serve.port of the manifest.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Have the running service take over this version of Fairlead and the manifest's settings, without losing a request.")] = False,
    package: Annotated[Path | None, typer.Option("--package", metavar="FOLDER", show_default=False, help="Serve this one package, without a project: a folder that `fairlead image pull` laid.")] = None,
    project: Project = None,
) -> None:  # fmt: skip
    """Answer requests, and keep judging what is released, until stopped."""
    if package is not None:
        raise typer.Exit(service.serve_package(package, host, port))
    raise typer.Exit(service.restart(project) if restart else service.serve(project, host, port))


@app.command("predict", rich_help_panel=LIVE)
def _predict(
    row: Annotated[str, typer.Argument(metavar="JSON|FILE|-", show_default=False, help="One row, or {\"rows\": [...]}; - reads standard input; nothing sends a sample row.")] = "",
    unit: Annotated[str, typer.Option(metavar="TEXT", help="The unit (header X-Unit): it keeps meeting the same package.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Ask the running service."""
    service.predict(project, row, unit, as_json=as_json)


@app.command("bench", rich_help_panel=LIVE)
def _bench(
    seconds: Annotated[float, typer.Option(help="How long.")] = 5.0,
    connections: Annotated[int, typer.Option(help="How many at once.")] = 16,
    rate: Annotated[float, typer.Option(help="Requests per second, whether or not those before are answered; 0: as many as are answered.")] = 0.0,
    rows: Annotated[int, typer.Option(help="Rows in each request.")] = 1,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Load the running service with sample rows; they are logged like any others.

    Exit status 1 when an answer was an error.
    """
    raise typer.Exit(bench.run(project, seconds, connections, rate, rows, as_json=as_json))


@app.command("feedback", rich_help_panel=LIVE)
def _feedback(
    what: Annotated[str, typer.Argument(metavar="PREDICTION|FILE", show_default=False, help="A prediction id, or a CSV or Parquet file with prediction, value.")],
    value: Annotated[str, typer.Argument(show_default=False, help="What turned out to be true (with an id).")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="What the value is.")] = "label",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Say what turned out to be true."""
    live.feedback(project, what, value, name, as_json=as_json)


@app.command("status", rich_help_panel=LIVE)
def _status(project: Project = None, as_json: Json = False) -> None:
    """What is live, what is being released, and how healthy it is."""
    live.status(project, as_json=as_json)
