"""Commands that make and judge: data, train, gate, package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import MAKE, AcceptBreaking, Json, Project, app, data_group, later

if TYPE_CHECKING:
    from fairlead.api.commands import ci, data, fairness, lab, rehearsal
else:
    ci, data, fairness, lab, rehearsal = later("ci", "data", "fairness", "lab", "rehearsal")


@data_group.command("commit")
def _commit(
    source: Annotated[Path | None, typer.Argument(show_default=False, help="File with rows (default: data.source of the manifest).")] = None,
    append: Annotated[bool, typer.Option("--append", help="The file holds only new rows: add them.")] = False,
    accept_breaking: AcceptBreaking = False,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Make a version of the table. Rows that were stored before are not written again."""
    data.commit(project, source, append=append, accept_breaking=accept_breaking, as_json=as_json)


@data_group.command("log")
def _data_log(project: Project = None, as_json: Json = False) -> None:
    """List the versions, newest first."""
    data.log(project, as_json=as_json)


@data_group.command("diff")
def _diff(
    old: Annotated[str, typer.Argument(show_default=False, help="A version (digest prefix); default: the one before the newest.")] = "",
    new: Annotated[str, typer.Argument(show_default=False, help="A version; default: the newest.")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare two versions: rows, and the contract of every column."""
    data.difference(project, old, new, as_json=as_json)


@data_group.command("checkout")
def _checkout(
    version: Annotated[str, typer.Argument(show_default=False, help="A version (digest prefix).")],
    target: Annotated[Path, typer.Argument(show_default=False, help="File to write: .parquet or .csv.")],
    project: Project = None,
) -> None:  # fmt: skip
    """Write the rows of a version into a file."""
    data.checkout(project, version, target)


@app.command("train", rich_help_panel=MAKE)
def _train(
    dataset: Annotated[str, typer.Option(metavar="VERSION", help="Train on this version (default: the newest).")] = "",
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter in place of the manifest's (repeatable).")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a model in a process of its own and record the run."""
    lab.train(project, dataset, tuple(param or ()), as_json=as_json)


@app.command("gate", rich_help_panel=MAKE)
def _gate(
    model: Annotated[str, typer.Argument(show_default=False, help="Digest prefix (default: the newest model).")] = "",
    junit: Annotated[Path | None, typer.Option(metavar="FILE", show_default=False, help="Also write a JUnit report.")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Judge a model on held-out rows. Exit status 1 when it is refused."""
    raise typer.Exit(lab.gate(project, model, junit, as_json=as_json))


@app.command("ci", rich_help_panel=MAKE)
def _ci(
    base: Annotated[str, typer.Option(metavar="REF", show_default=False, help="Compare with the commit at which this branch left it, such as origin/main (default: what serves here).")] = "",
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", show_default=False, help="Write a JUnit report: a test case for each check.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", metavar="FILE", show_default=False, help="Write SARIF 2.1.0: findings at files and lines.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", metavar="FILE", show_default=False, help="Write a comment for the pull request.")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Judge a change of data, code or model. Exit status 0 passed, 1 refused, 2 could not decide."""
    raise typer.Exit(ci.review(project, base, ci.Files(junit, sarif, markdown), as_json=as_json))


@app.command("fairness", rich_help_panel=MAKE)
def _fairness(
    model: Annotated[str, typer.Argument(show_default=False, help="Digest prefix (default: the newest model).")] = "",
    live: Annotated[bool, typer.Option("--live", help="Of what serves, as it answered, by the logged columns.")] = False,
    last: Annotated[str, typer.Option(metavar="TIME", help="With --live: look back so far.")] = "30d",
    page: Annotated[Path | None, typer.Option("--html", metavar="FILE", show_default=False, help="Also write a page.")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare how groups of data.sensitive fare. Exit status 1 when one certainly fares too badly."""
    raise typer.Exit(fairness.show(project, model, last, page, live=live, as_json=as_json))


@app.command("replay", rich_help_panel=MAKE)
def _replay(
    model: Annotated[str, typer.Argument(show_default=False, help="Digest prefix (default: the newest model).")] = "",
    last: Annotated[int, typer.Option(metavar="N", show_default=False, help="So many of the newest requests (default: gate.replay of the manifest).")] = 0,
    since: Annotated[str, typer.Option(metavar="TIME", show_default=False, help="None asked before: 2026-05-01, or 3d for the last three days.")] = "",
    page: Annotated[Path | None, typer.Option(metavar="FILE", show_default=False, help="Also write the report as an HTML page.")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Send recorded requests through a model, beside what serves now. Exit status 1 when it fails."""
    raise typer.Exit(rehearsal.replay(project, model, last, since, page, as_json=as_json))


@app.command("package", rich_help_panel=MAKE)
def _package(
    model: Annotated[str, typer.Argument(show_default=False, help="Digest prefix (default: the newest model).")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Turn a model into a package that is proven to answer alike."""
    lab.package(project, model, as_json=as_json)
