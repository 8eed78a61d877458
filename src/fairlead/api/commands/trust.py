"""The commands before foreign code runs: trust and environment."""

import sys
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.commands.lab import newest
from fairlead.api.console import console, emit, next_commands
from fairlead.api.present.figures import name, size, stamp
from fairlead.api.session import opened
from fairlead.errors import Invalid
from fairlead.flavors.python import Bundle

__all__ = ["environment", "trust"]


def trust(given: Path | None, package: str, reason: str, lasts: str, *, withdraw: bool, as_json: bool) -> None:
    """Trust a package, trust it no longer, or (without a reason) show what it brings."""
    with opened(given) as project:
        made = newest(project, "package", package)
        short = made.ref.digest[:12]
        if withdraw:
            project.distrust(made, reason)
            return console().print(Text.assemble(("withdrawn", "bold red"), "  ", name(made.ref),
                                                 ": replicas that run go on, none opens it again"))  # fmt: skip
        if not reason:
            found = project.code_of(made)
            emit({"sources": found.sources, "state": {n: len(d) for n, d in found.state.items()}}, _code(found), as_json=as_json)
            return None if as_json else next_commands(f"fairlead trust {short} --reason TEXT")
        word = project.trust(made, reason, lasts)
    emit(word, Text.assemble(("trusted", "bold green"), "  ", name(made.ref),
                             f" by {word.by} until {stamp(word.expires_at)}"), as_json=as_json)  # fmt: skip
    return None if as_json else next_commands(f"fairlead release start {short}")


def environment(given: Path | None, package: str, form: str) -> None:
    """Print the lock of a package for pip or conda."""
    if form not in ("pip", "conda"):
        raise Invalid(f"no form {form!r}", hint="pip or conda; `fairlead image build --dockerfile FOLDER` writes a Dockerfile")
    with opened(given) as project:
        made = newest(project, "package", package)
        lines = project.environment_of(made).splitlines()
    known = dict(line.split("==", 1) for line in lines if "==" in line)
    python, pins = known.pop("python"), [f"{n}=={v}" for n, v in known.items() if n != "platform"]
    if form == "pip":
        text = "\n".join([f"# package {made.ref.digest}, Python {python}", *pins])
    else:
        text = "\n".join([f"# package {made.ref.digest}", f"name: {made.ref.name}", "channels: [conda-forge]", "dependencies:",
                          f"  - python={python}", "  - pip", "  - pip:", *(f"      - {p}" for p in pins)])  # fmt: skip
    sys.stdout.write(text + "\n")


def _code(found: Bundle) -> RenderableType:
    """Sources and names of saved files; whatever could steer a terminal or hide text is spelled out."""
    parts: list[RenderableType] = []
    for path in sorted(found.sources, key=lambda p: (p != found.entry, p)):
        parts += [Text(f"── {_plain(path)}", "bold"), Text(_plain(found.sources[path]).rstrip()), Text("")]
    kept = ", ".join(f"{_plain(n)} ({size(len(d))})" for n, d in sorted(found.state.items()))
    return Group(*parts, Text(f"saved: {kept or 'nothing'}", "dim"))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
