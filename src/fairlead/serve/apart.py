"""Apart: work on what a stranger made, in a process of its own within the walls of a replica."""

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from fairlead.errors import FairleadError, Invalid
from fairlead.serve.sandbox import Sandbox

__all__ = ["apart"]

SECONDS = 120.0
MOST = 1 << 20
"""Bytes of an answer."""
DONE, FAILED = b"\0", b"\1"


def apart(work: Callable[[], bytes], state: Path, seconds: float = SECONDS) -> bytes:
    """What `work` returns, done in a child that reads no file but Python's libraries, writes none, and
    has no network. `state`: a folder no part of which may be read.

    Call it while there is one thread that matters. Raises Invalid in the words of the failure, or
    when the child ends, says too much or takes longer than `seconds`.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        with os.fdopen(writer, "wb") as out:
            out.write(_outcome(work, state))
        os._exit(0)
    os.close(writer)
    try:
        said = _heard(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if said[:1] != DONE:
        raise Invalid(said[1:].decode(errors="replace") or "the model ends the process that opens it, or takes too long",
                      hint="nothing of it was kept; ask who made it")  # fmt: skip
    return said[1:]


def _outcome(work: Callable[[], bytes], state: Path) -> bytes:
    try:
        Sandbox().enter(state)
        return DONE + work()
    except BaseException as error:  # noqa: BLE001  the border to somebody's model
        words = str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"
        return FAILED + words.encode(errors="replace")


def _heard(reader: int, end: float) -> bytes:
    """All that is said until `end`; b"" where it was not said to the end, or was too much."""
    said = b""
    while len(said) <= MOST and select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
        chunk = os.read(reader, MOST)
        if not chunk:
            return said
        said += chunk
    return b""
