"""Steps: a command that does several things in a row says each one as it happens and how it ended."""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import RenderableType
from rich.text import Text

from fairlead.api.console import console, progress
from fairlead.api.present.figures import span

__all__ = ["Steps"]

T = TypeVar("T")
WIDTH = 9


class Steps:
    """Prints one line per step on stdout, and what is going on inside it on stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._out = console()

    def do(self, verb: str, work: Callable[[Callable[[str], None]], T],
           told: Callable[[T], tuple[bool, str]]) -> T:  # fmt: skip
        """Run `work`, which may tell how it goes on, and print what `told` says of its result:
        whether it is good, and in which words."""
        start = time.perf_counter()
        with progress(verb, quiet=self._quiet) as say:
            result = work(say)
        good, text = told(result)
        if not self._quiet:
            mark = ("✓", "green") if good else ("✗", "bold red")
            took = span(time.perf_counter() - start)
            self._out.print(Text.assemble(mark, f" {verb:<{WIDTH}} ", text, (f"   {took}", "dim")))
            sys.stdout.flush()
        return result

    def end(self, *shown: RenderableType) -> None:
        """Print what remains to be said, after an empty line."""
        if not self._quiet and shown:
            self._out.print("")
            for one in shown:
                self._out.print(one)
