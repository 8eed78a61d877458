"""The commands between environments: export and import."""

from pathlib import Path

from rich.text import Text

from fairlead.api.commands.lab import newest
from fairlead.api.console import emit, next_commands, progress
from fairlead.api.present.figures import name, stamp
from fairlead.api.session import opened
from fairlead.flow.parcel import Spoken

__all__ = ["receive", "send"]


def send(given: Path | None, package: str, target: Path, *, as_json: bool) -> None:
    """Write a parcel."""
    with opened(given) as project, progress("packing", quiet=as_json):
        made = newest(project, "package", package)
        spoken, key = project.send(made, target), project.signer.key
    text = Text.assemble(("packed", "bold green"), "  ", name(made.ref), f" into {target}, {_history(spoken)}\n",
                         ("signed by key ", "dim"), key)  # fmt: skip
    emit({"spoken": spoken, "key": key}, text, as_json=as_json)


def receive(given: Path | None, source: Path, *, as_json: bool) -> None:
    """Take a parcel in."""
    with opened(given) as project, progress("unpacking", quiet=as_json) as say:
        made, spoken = project.receive(source, say)
    emit({"package": made.ref, "spoken": spoken},
         Text.assemble(("received", "bold green"), "  ", name(made.ref), f" from {spoken.environment}, {_history(spoken)}"),
         as_json=as_json)  # fmt: skip
    if not as_json:
        next_commands(f"fairlead release start {made.ref.digest[:12]}")


def _history(spoken: Spoken) -> str:
    if not spoken.released:
        return "not promoted there"
    return f"promoted there by release {spoken.released} at {stamp(spoken.promoted_at)}"
