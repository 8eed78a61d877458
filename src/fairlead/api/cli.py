"""The command line: names, options and help. What a command does stands in `api/commands`."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fairlead import __version__
from fairlead.api.border import Border
from fairlead.settings import settings

if TYPE_CHECKING:
    from fairlead.api import demo
    from fairlead.api.commands import audit, bench, data, lab, live, release, service, start

__all__ = ["app", "main"]

ORDER = ["init", "run", "demo", "schema", "data", "train", "gate", "package", "release", "serve",
         "predict", "bench", "feedback", "status", "why", "audit"]  # fmt: skip
START, MAKE, RELEASE, LIVE = "Start", "Make and judge", "Release", "In production"


class _Later:
    """A module that loads when its first name is used: the one lazy seam (docs/adr/0002)."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


if not TYPE_CHECKING:
    audit, bench, data, lab, live, release, service, start = (
        _Later(f"fairlead.api.commands.{room}")
        for room in ("audit", "bench", "data", "lab", "live", "release", "service", "start")
    )
    demo = _Later("fairlead.api.demo")

Project = Annotated[Path | None, typer.Option(
    "--project", "-C", metavar="PATH", show_default=False,
    help="The project: a folder, or its fairlead.yaml (default: here or the nearest parent).")]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
AcceptBreaking = Annotated[bool, typer.Option(
    "--accept-breaking", help="Take a table that breaks the contract; the contract changes.")]  # fmt: skip
Release = Annotated[str, typer.Argument(metavar="RELEASE", show_default=False,
                                        help="Its id (default: the running one).")]  # fmt: skip
PlanName = Annotated[str, typer.Option(
    "--plan", metavar="NAME", help="replace, blue_green, canary, shadow, shadow_canary, ab_test or bandit (default: the manifest's).")]  # fmt: skip


class _Ordered(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=ORDER.index)


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)


app = typer.Typer(
    name="fairlead", cls=_Ordered, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
data_group = _group("Immutable versions of the table: commit, log, diff, checkout.")
release_group = _group("Bring a package to live traffic, step by step, and back.")
audit_group = _group("The sealed log of everything that changed.")


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"fairlead {__version__}\n")
        raise typer.Exit


@app.callback()
def _fairlead(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:  # fmt: skip
    """From a table to a healthy model in production.

    Start with: fairlead init --from TABLE --target COLUMN, then fairlead run and fairlead serve.
    """


@app.command("init", rich_help_panel=START)
def _init(
    table: Annotated[Path, typer.Option("--from", metavar="TABLE", show_default=False, help="CSV or Parquet file.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="What to predict (without it: the candidates are listed).")] = "",
    time: Annotated[str, typer.Option(metavar="COLUMN", help="When the prediction is asked.")] = "",
    entity: Annotated[str, typer.Option(metavar="COLUMN", help="Whom a row is about.")] = "",
    sensitive: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Groups to treat alike (repeatable).")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Columns the model must not read (repeatable).")] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the service (default: of the file).")] = "",
    into: Annotated[Path | None, typer.Option(metavar="FOLDER", show_default=False, help="Where (default: here).")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a project for a table: fairlead.yaml and train.py."""
    wishes = start.Wishes(target=target, time=time, entity=entity, service=name,
                          sensitive=tuple(sensitive or ()), ignore=tuple(ignore or ()))  # fmt: skip
    raise typer.Exit(start.init(table, wishes, into or Path(), as_json=as_json))


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


@app.command("package", rich_help_panel=MAKE)
def _package(
    model: Annotated[str, typer.Argument(show_default=False, help="Digest prefix (default: the newest model).")] = "",
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Turn a model into a package that is proven to answer alike."""
    lab.package(project, model, as_json=as_json)


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


@app.command("serve", rich_help_panel=LIVE)
def _serve(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Default: serve.host of the manifest.")] = "",
    port: Annotated[int | None, typer.Option(show_default=False, help="Default: serve.port of the manifest.")] = None,
    project: Project = None,
) -> None:  # fmt: skip
    """Answer requests, and keep judging what is released, until stopped."""
    raise typer.Exit(service.serve(project, host, port))


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
    project: Project = None,
    as_json: Json = False,
) -> None:
    """Load the running service with sample rows; they are logged like any others.

    Exit status 1 when an answer was an error.
    """
    raise typer.Exit(bench.run(project, seconds, connections, as_json=as_json))


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


app.add_typer(data_group, name="data", rich_help_panel=MAKE)
app.add_typer(release_group, name="release", rich_help_panel=RELEASE)
app.add_typer(audit_group, name="audit", rich_help_panel=LIVE)


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status (see `api/border.py`). `--debug` may stand anywhere."""
    with Border(debug=settings().debug or "--debug" in arguments) as border:
        app(args=[a for a in arguments if a != "--debug"], prog_name="fairlead")
    return border.status
