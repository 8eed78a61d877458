"""Commands that bring a package to live traffic and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import (
    RELEASE,
    Json,
    PlanName,
    Project,
    Release,
    app,
    later,
    release_group,
)

if TYPE_CHECKING:
    from fairlead.api.commands import exchange, rehearsal, release, trust
else:
    exchange, rehearsal, release, trust = later("exchange", "rehearsal", "release", "trust")


@release_group.command("start")
def _release_start(
    packages: Annotated[list[str] | None, typer.Argument(metavar="PACKAGE", show_default=False, help="Digest prefix (default: the newest package); several for ab_test and bandit.")] = None,
    plan: PlanName = "",
    force: Annotated[str, typer.Option(metavar="REASON", help="Release what the gate refused; the reason goes into the audit log.")] = "",
    glass: Annotated[str, typer.Option("--break-glass", metavar="REASON", help="Start without the approval it needs: an alert is raised until somebody else has reviewed it.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Start a release."""
    release.start(project, tuple(packages or ()), plan, force, glass, as_json=as_json)


@release_group.command("plan")
def _release_plan(
    plan: PlanName = "",
    rate: Annotated[float | None, typer.Option(metavar="REQUESTS", show_default=False, help="Requests per minute (default: as in the last day).")] = None,
    errors: Annotated[float | None, typer.Option(metavar="SHARE", show_default=False, help="Share of requests that fails today (default: as in the last day, 0.001 at least).")] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="Say how many requests each step will need, and harm to be found.")] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show a plan before it is started."""
    release.ahead(project, plan, rate, errors, simulate=simulate, as_json=as_json)


@release_group.command("backtest")
def _release_backtest(
    plan: PlanName = "",
    alpha: Annotated[float | None, typer.Option(metavar="CHANCE", show_default=False, help="Another chance of rolling back a harmless candidate.")] = None,
    beta: Annotated[float | None, typer.Option(metavar="CHANCE", show_default=False, help="Another chance of promoting a harmful one.")] = None,
    max_errors: Annotated[float | None, typer.Option(metavar="SHARE", show_default=False, help="Another share of errors that is none worth comparing.")] = None,
    policy: Annotated[Path | None, typer.Option(metavar="FILE", show_default=False, help="Another fairlead.yaml whose release section is tried.")] = None,
    runs: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="So many planted candidates of each kind.")] = 50,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same numbers.")] = 0,
    since: Annotated[str, typer.Option(metavar="TIME", show_default=False, help="Only what was asked from then on: 2026-05-01, or 30d.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Try a policy on past releases and past traffic: what would have fired, when, how often wrongly."""
    changes = {"plan": plan, "alpha": alpha, "beta": beta, "max_errors": max_errors}
    rehearsal.backtest(project, {k: v for k, v in changes.items() if v not in ("", None)}, policy,
                       runs, seed, since, as_json=as_json)  # fmt: skip


@release_group.command("status")
def _release_status(
    release_id: Release = "", project: Project = None, as_json: Json = False
) -> None:
    """Where a release stands, and every check with its evidence."""
    release.status(project, release_id, as_json=as_json)


@release_group.command("watch")
def _release_watch(
    release_id: Release = "",
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Look this often.")] = 0.5,
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Watch the evidence grow until the release is over. Exit status 1 unless it was promoted."""
    raise typer.Exit(release.watch(project, release_id, every, as_json=as_json))


@release_group.command("report")
def _release_report(
    target: Annotated[Path, typer.Option("--html", metavar="FILE", help="Where the page goes; it needs no network and no scripts.")],
    release_id: Release = "",
    project: Project = None,
) -> None:  # fmt: skip
    """Write one release as a page: how its evidence grew, what was decided, and why."""
    release.report(project, release_id, target)


@release_group.command("pause")
def _release_pause(release_id: Release = "", project: Project = None) -> None:
    """Stop advancing; the traffic stays as it is."""
    release.pause(project, release_id)


@release_group.command("resume")
def _release_resume(release_id: Release = "", project: Project = None) -> None:
    """Advance again."""
    release.resume(project, release_id)


Reason = Annotated[str, typer.Option(metavar="TEXT", help="Written into the audit log.")]


@release_group.command("abort")
def _release_abort(
    release_id: Release = "", reason: Reason = "aborted by hand", project: Project = None
) -> None:
    """End a release: the baseline answers everything."""
    release.abort(project, release_id, reason)


@release_group.command("rollback")
def _release_rollback(reason: Reason = "rolled back by hand", project: Project = None) -> None:
    """Go back to the package that served before."""
    release.rollback(project, reason)


@app.command("trust", rich_help_panel=RELEASE)
def _trust(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", show_default=False, help="Digest prefix (default: the newest package).")] = "",
    reason: Annotated[str, typer.Option(metavar="TEXT", show_default=False, help="What was looked at; without it the code is shown, and nothing is trusted.")] = "",
    lasts: Annotated[str, typer.Option(metavar="TIME", help="When it ends: 90d, at most 366d.")] = "90d",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Trust it no longer.")] = False,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Read the code that a package brings (train.serve), and let it run."""
    trust.trust(project, package, reason, lasts, withdraw=withdraw, as_json=as_json)


@app.command("environment", rich_help_panel=RELEASE)
def _environment(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", show_default=False, help="Digest prefix (default: the newest package).")] = "",
    form: Annotated[str, typer.Option(metavar="NAME", help="pip (requirements.txt) or conda (environment.yml); `fairlead image build --dockerfile` writes a Dockerfile.")] = "pip",
    project: Project = None,
) -> None:  # fmt: skip
    """Print what was installed where a package's model was trained, to install it elsewhere."""
    trust.environment(project, package, form)


Tracking = Annotated[str, typer.Option("--tracking", metavar="URI", show_default=False, help="Of MLflow: server or store (default: MLFLOW_TRACKING_URI).")]


@app.command("export", rich_help_panel=RELEASE)
def _export(
    target: Annotated[str, typer.Argument(metavar="FILE|mlflow:EXPERIMENT", show_default=False, help="The parcel to write, or the experiment of MLflow that gets a run.")],
    package: Annotated[str, typer.Option(metavar="PACKAGE", help="Digest prefix (default: the newest package).")] = "",
    tracking: Tracking = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a package, its lineage and its decisions, signed, for another environment; or to MLflow."""
    exchange.send(project, package, target, tracking, as_json=as_json)


@app.command("import", rich_help_panel=RELEASE)
def _import(
    source: Annotated[str, typer.Argument(metavar="FILE|LAYOUT|oci://...|mlflow:URI", show_default=False, help="A parcel; an image: a layout or oci://registry/name:tag; or a model of MLflow: mlflow:models:/NAME/VERSION, mlflow:runs:/RUN/NAME.")],
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", show_default=False, help="Of an image: trust this public key (PEM) alone.")] = None,
    tracking: Tracking = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Take in a package from an environment in environment.accepts, or a model of MLflow. Exit status 1 when the gate refuses it."""
    raise typer.Exit(exchange.take(project, source, key, tracking, as_json=as_json))
