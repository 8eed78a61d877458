"""What all commands share: the app and its groups, the options they have in common, the lazy seam."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fairlead import __version__
from fairlead.settings import show_token

__all__ = ["GOVERN", "LIVE", "MAKE", "RELEASE", "START", "AcceptBreaking", "Json", "PlanName", "Project",
           "Release", "app", "audit_group", "data_group", "image_group", "later",
           "release_group"]  # fmt: skip

ORDER = ["init", "run", "demo", "schema", "data", "train", "gate", "ci", "fairness", "replay", "package", "environment", "trust", "release",
         "export", "import", "image", "serve", "predict", "bench", "feedback", "status", "monitors",
         "alerts", "report", "why", "impact", "reproduce", "card", "pack", "erase", "audit", "people", "token", "policy", "approval",
         "control"]  # fmt: skip
START, MAKE, RELEASE, LIVE = "Start", "Make and judge", "Release", "In production"
GOVERN = "Govern"


class _Later:
    """A module that loads when its first name is used: the one lazy seam (docs/adr/0002)."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


def later(*names: str, room: str = "fairlead.api.commands") -> tuple[Any, ...]:
    """Modules of `room` that load when they are first used, so that `--help` stays fast."""
    return tuple(_Later(f"{room}.{name}") for name in names)


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
image_group = _group("Container images of packages: build, push, pull, verify.")
audit_group = _group("The sealed log of everything that changed.")
app.add_typer(data_group, name="data", rich_help_panel=MAKE)
app.add_typer(release_group, name="release", rich_help_panel=RELEASE)
app.add_typer(image_group, name="image", rich_help_panel=RELEASE)
app.add_typer(audit_group, name="audit", rich_help_panel=LIVE)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"fairlead {__version__}\n")
        raise typer.Exit


@app.callback()
def _fairlead(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
    token_file: Annotated[Path | None, typer.Option("--token-file", metavar="FILE", show_default=False, help="Who you are, where people are known: the file with your token (or FAIRLEAD_TOKEN).")] = None,
) -> None:  # fmt: skip
    """From a table to a healthy model in production.

    Start with: fairlead init --from TABLE --target COLUMN, then fairlead run and fairlead serve.
    """
    if token_file is not None:
        show_token(token_file)
