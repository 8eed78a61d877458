"""The border of a command: every error becomes a readable message and an exit status."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from fairlead.errors import (
    Conflict,
    Corrupt,
    FairleadError,
    Forbidden,
    Invalid,
    Missing,
    Unavailable,
)

__all__ = ["BUG", "REFUSED", "Border"]

REFUSED = 1
BUG = 70
STATUS: tuple[tuple[type[FairleadError], int], ...] = (
    (Invalid, 2), (Missing, 3), (Conflict, 4), (Unavailable, 5), (Corrupt, 6),
    (Forbidden, 7),
)  # fmt: skip


class Border:
    """A context that lets nothing out but an exit status.

    0 done, 1 refused by a check, 2 invalid usage or input, 3 missing, 4 conflict, 5 unavailable,
    6 corrupt, 7 forbidden, 70 a fault of Fairlead itself, 130 interrupted.
    """

    def __init__(self, *, debug: bool = False) -> None:
        self.status = 0
        self._debug = debug

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> bool:  # fmt: skip
        if isinstance(error, SystemExit):
            self.status = error.code if isinstance(error.code, int) else BUG
        elif isinstance(error, KeyboardInterrupt):
            self.status = 130
        elif error is not None:
            self.status = self._tell(error)
        return True

    def _tell(self, error: BaseException) -> int:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        if self._debug:
            console.print_exception()
        if isinstance(error, FairleadError):
            label, text, hint = "error:", str(error), error.hint
            status = next((code for kind, code in STATUS if isinstance(error, kind)), BUG)
        else:
            label, text, status = "unexpected error:", f"{type(error).__name__}: {error}", BUG
            hint = "this is a fault of Fairlead: `--debug` shows where it happened"
        console.print(Text.assemble((label, "bold red"), " ", text))
        if hint:
            console.print(Text.assemble((" hint:", "dim"), " ", hint))
        return status
