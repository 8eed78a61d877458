"""The console a command speaks to: results on stdout, progress and next steps on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console, RenderableType

from fairlead.api.present.script import dump

__all__ = ["console", "emit", "next_commands", "progress"]

PIPE_WIDTH = 140


def console(stream: TextIO | None = None) -> Console:
    """Where people read: colours and width of the terminal; plain and 140 wide in a pipe."""
    out = stream or sys.stdout
    width = None if out.isatty() else PIPE_WIDTH
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False)


def emit(value: Any, shown: RenderableType, *, as_json: bool) -> None:
    """Print `value` as JSON for a script, or what is `shown` for a person."""
    if as_json:
        sys.stdout.write(dump(value) + "\n")
    else:
        console().print(shown, crop=False)


@contextmanager
def progress(text: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done; yields a way to say what exactly.

    In a pipe every step is a line of its own; `quiet` says nothing.
    """
    err = console(sys.stderr)
    if quiet:
        yield lambda step: None
    elif not err.is_terminal:
        yield lambda step: err.print(f"{text}: {step}")
    else:
        with err.status(text, spinner="dots") as status:
            yield lambda step: status.update(f"{text}  [{step}]")


def next_commands(*commands: str) -> None:
    """Say on stderr what is usually done next."""
    err = console(sys.stderr)
    for i, command in enumerate(commands):
        err.print(f"{'next   ' if i == 0 else '       '}{command}", style="dim")
