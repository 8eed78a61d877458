"""Commands that bring a package to live traffic and back."""

from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import Json, PlanName, Project, Release, later, release_group

if TYPE_CHECKING:
    from fairlead.api.commands import release
else:
    (release,) = later("release")


@release_group.command("start")
def _release_start(
    packages: Annotated[list[str] | None, typer.Argument(metavar="PACKAGE", show_default=False, help="Digest prefix (default: the newest package); several for ab_test and bandit.")] = None,
    plan: PlanName = "",
    force: Annotated[str, typer.Option(metavar="REASON", help="Release what the gate refused; the reason goes into the audit log.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Start a release."""
    release.start(project, tuple(packages or ()), plan, force, as_json=as_json)


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
) -> None:
    """Watch the evidence grow until the release is over. Exit status 1 unless it was promoted."""
    raise typer.Exit(release.watch(project, release_id, every))


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
