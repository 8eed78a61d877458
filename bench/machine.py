"""The machine: processes and their cost, one CPU for the server, how busy everybody else is."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["busy", "command", "cpu_seconds", "end", "family", "load", "memory"]

TICK = os.sysconf("SC_CLK_TCK")


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def family(root: int) -> list[int]:
    """A process, all below it, and all of its session."""
    parents: dict[int, list[int]] = {}
    found = {root}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
            if int(fields[3]) == root:
                found.add(int(entry.name))
    todo = list(found)
    while todo:
        below = set(parents.get(todo.pop(), [])) - found
        found |= below
        todo += below
    return sorted(found)


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far."""
    return sum((int(f[11]) + int(f[12])) / TICK for p in pids if (f := _stat(p)))


def memory(pids: Iterable[int]) -> float:
    """Megabytes: resident, with shared pages divided among those that share them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(x.split()[1]) for x in lines if x.startswith("Pss:"))
    return total / 1024


def command(pid: int) -> str:
    """The command line of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def busy(cpu: int) -> float:
    """Seconds a CPU worked so far, for anybody (stolen time counts as work)."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{cpu} "):
            f = [int(v) for v in line.split()[1:9]]
            return (sum(f) - f[3] - f[4]) / TICK
    return 0.0


def end(root: int) -> None:
    """Ask a family to leave, then make it."""
    pids = family(root)
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
        for pid in pids if number == signal.SIGKILL else [root]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        limit = time.monotonic() + patience
        while time.monotonic() < limit and any(_alive(p) for p in pids):
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] != "Z"


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the name: state, parent, group, session, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
