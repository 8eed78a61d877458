"""The sandbox: what a process that runs somebody's model may still do, by the kernel and without root."""

import contextlib
import ctypes
import os
import resource
import struct
import sys
from pathlib import Path

from fairlead.serve import landlock, seccomp

__all__ = ["Sandbox"]

SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime",
          "/usr/share/zoneinfo", "/dev/null", "/dev/urandom", "/sys/bus", "/sys/devices")  # fmt: skip
"""What Python and its libraries read, and where nobody keeps a secret."""
PROCESSES = Path("/proc")
LINUX_CAPABILITY_VERSION_3 = 0x20080522
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sandbox:
    """`enter` before a model is opened, `tighten` in the worker that answers; neither can be undone.
    `whole`: the kernel put up the walls around files, programs and network.

    Entered: no file but Python's libraries and /proc is read, none is written or run; no network,
    no new socket, no look into other processes, no privilege, no core dump. Tightened: no new
    process, no signal to others, no /proc, and no more memory than `memory` bytes beyond the model.
    What it had open stays open.
    """

    def __init__(self, memory: int = 0) -> None:
        """`memory` 0: any number of bytes."""
        self.memory = memory
        self.measures: tuple[str, ...] = ()
        self.whole = False

    def enter(self, state: Path) -> tuple[str, ...]:
        """The measures in force from now on. `state`: a folder no part of which may be read, even
        when Python's search path leads above it. Call it while there is one thread."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._libraries = _libraries(state)
        files = _one_thread() and landlock.restrict([*self._libraries, PROCESSES])
        found = {f"landlock {landlock.version()}": files, "no capabilities": _drop_capabilities(),
                 "seccomp": seccomp.give_up(opening=False)}  # fmt: skip
        self.measures = (*(name for name, held in found.items() if held), "rlimits")
        self._files = files
        self.whole = files and found["seccomp"]
        return self.measures

    def tighten(self) -> None:
        """What remains for one that only computes."""
        if self.memory:
            with contextlib.suppress(OSError, ValueError):
                size = int((PROCESSES / "self/statm").read_text().split()[0]) * PAGE
                resource.setrlimit(resource.RLIMIT_AS, (size + self.memory,) * 2)
        if self._files:
            landlock.restrict(self._libraries)
        seccomp.give_up(alone=True, opening=not self._files)


def _libraries(state: Path) -> list[Path]:
    places = [*SYSTEM, *(p for p in sys.path if Path(p).is_absolute()),
              *(f"{prefix}/lib" for prefix in {sys.prefix, sys.base_prefix})]  # fmt: skip
    return [Path(p) for p in places if not state.resolve().is_relative_to(Path(p).resolve())]


def _one_thread() -> bool:
    """Landlock holds for the thread that asks; the kernel applies seccomp to all of them."""
    try:
        return len(os.listdir(PROCESSES / "self/task")) == 1
    except OSError:
        return False


def _drop_capabilities() -> bool:
    """Even root is then only the owner of its files."""
    if not seccomp.known():
        return False
    header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
    return bool(ctypes.CDLL(None).capset(header, bytes(24)) == 0)
