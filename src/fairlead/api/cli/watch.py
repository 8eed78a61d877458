"""Commands of those who keep watch: alerts, monitors, report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import LIVE, Json, Project, app, later

if TYPE_CHECKING:
    from fairlead.api.commands import alerts, monitors, report
else:
    alerts, monitors, report = later("alerts", "monitors", "report")

alerts_group = typer.Typer(help="What is wrong, who was told, and who looks after it.",
                           rich_markup_mode=None)  # fmt: skip
app.add_typer(alerts_group, name="alerts", rich_help_panel=LIVE)

AlertId = Annotated[int, typer.Argument(metavar="ALERT", show_default=False, help="Its number in `fairlead alerts`.")]  # fmt: skip


@alerts_group.callback(invoke_without_command=True)
def _alerts(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """What is wrong, who was told, and who looks after it."""
    if context.invoked_subcommand is None:
        alerts.show(project, everything=everything, as_json=as_json)


@alerts_group.command("ack")
def _ack(
    alert: AlertId,
    note: Annotated[str, typer.Option(metavar="TEXT", help="What you are doing about it.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Look after an alert: no more reminders of it; its end is told."""
    alerts.acknowledge(project, alert, note, as_json=as_json)


@alerts_group.command("silence")
def _silence(
    monitor: Annotated[str, typer.Argument(show_default=False, help="A monitor or a check; '*' for all.")],
    length: Annotated[str, typer.Option("--for", metavar="TIME", help="Such as 30m, 2h or 3d; 0s ends it.")] = "2h",
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the audit log.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Tell nobody of a monitor for a while; it goes on judging and acting."""
    alerts.silence(project, monitor, length, reason, as_json=as_json)


@alerts_group.command("resolve")
def _resolve(
    alert: AlertId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it stands in the audit log.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:
    """End an alert by hand; it ends by itself when its monitor passes."""
    alerts.resolve(project, alert, reason, as_json=as_json)


@alerts_group.command("test")
def _test(project: Project = None, as_json: Json = False) -> None:
    """Tell every receiver of an alert that is none. Exit status 1 when one does not take it."""
    raise typer.Exit(alerts.test(project, as_json=as_json))


@app.command("monitors", rich_help_panel=LIVE)
def _monitors(project: Project = None, as_json: Json = False) -> None:
    """Every monitor: its last values against its limit, its state, and how often it looks."""
    monitors.show(project, as_json=as_json)


@app.command("report", rich_help_panel=LIVE)
def _report(
    target: Annotated[Path | None, typer.Option("--html", metavar="FILE", show_default=False, help="Where the page goes (default: SERVICE-report.html here).")] = None,
    release: Annotated[str, typer.Option(metavar="RELEASE", help="The time in which it ran.")] = "",
    week: Annotated[bool, typer.Option("--week", help="The last seven days.")] = False,
    last: Annotated[str, typer.Option(metavar="TIME", help="The last 12h, 3d, ... (default: 28d).")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a page about production: traffic, performance, drift, alerts, releases."""
    report.write(project, target, release, last, week=week, as_json=as_json)
