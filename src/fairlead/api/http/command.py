"""The command that answers over HTTP (beside the verbs, which use the other commands)."""

import sys
from pathlib import Path

from rich.text import Text

from fairlead.api.console import console
from fairlead.api.folder import find
from fairlead.api.http.server import serve as answer

__all__ = ["serve"]


def serve(given: Path | None, host: str, port: int) -> int:
    """Until stopped."""

    def ready(url: str, token: Path) -> None:
        console().print(Text.assemble(("ready", "bold green"), f"  {url}\n", ("what it takes   ", "dim"), f"{url}/openapi.json\n",
                                      ("token           ", "dim"), f"yours, where people are known; else that in {token}"), crop=False)  # fmt: skip
        sys.stdout.flush()

    return answer(find(given), host, port, ready)
