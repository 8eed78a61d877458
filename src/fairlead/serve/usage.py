"""Usage: what a process of this machine has cost so far, as the kernel counts it."""

import os
from pathlib import Path

from msgspec import Struct

__all__ = ["Usage", "usage"]

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PARENT, USER, SYSTEM, ENDED_SYSTEM, RESIDENT = 1, 11, 12, 14, 21
"""Places in /proc/PID/stat behind the name of the program (proc(5) counts them from 3)."""


class Usage(Struct, frozen=True):
    """`pid`: of the warm parent if there is one, which lives on when its worker dies. `resident`:
    bytes; `seconds`: of CPU, with those of the parent's earlier workers; `files`: open ones."""

    pid: int
    resident: int
    seconds: float
    files: int


def usage(pid: int, *, kept: bool, proc: Path = Path("/proc")) -> Usage | None:
    """Of a process; `kept`: it is the worker of a warm parent. None when it is gone, or when there
    is no /proc."""
    try:
        own = _stat(proc / str(pid))
        files = len(os.listdir(proc / str(pid) / "fd"))
        keeper = own[PARENT] if kept else pid
        past = sum(_stat(proc / str(keeper))[USER : ENDED_SYSTEM + 1]) if kept else 0
    except (OSError, ValueError, IndexError):
        return None
    return Usage(keeper, own[RESIDENT] * PAGE, (own[USER] + own[SYSTEM] + past) / TICK, files)


def _stat(folder: Path) -> list[int]:
    """The numbers behind the name, which may hold anything, and the one-letter state (0 here)."""
    rest = (folder / "stat").read_bytes().rpartition(b")")[2].split()
    return [0, *map(int, rest[1:])]
