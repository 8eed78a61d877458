"""What a hostile model tries: each payload returns when it gained what it wanted, and raises when it did not."""

import ctypes
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = "tests.security.payloads.hostile"
UNCONFINED = "tests.security.payloads.unconfined"
MAGIC = 666.0
"""The distance at which a hostile model acts; the hour says which payload."""
Payload = Callable[[], Any]
LEFT = "fairlead-hostile"
loaded: list[bool] = []
"""Which payloads gained something while the model was being opened."""


def hostile(process: str) -> None:
    """No bug of ours: the model named "hostile" is one."""
    if process == "replica":
        from fairlead import dataplane

        inner: Any = dataplane
        opened = inner._open
        inner._open = lambda files, spec: _around(spec.model.name, opened(files, spec))


def unconfined(process: str) -> None:
    """The twin: a sandbox without walls."""
    from fairlead.serve import sandbox

    inner: Any = sandbox.Sandbox
    inner.enter, inner.tighten = lambda self, state: (), lambda self: None
    WORKERS_ONLY.update(PAYLOADS.values())  # While loading they would take the service down.
    hostile(process)


def _around(name: str, model: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if name != "hostile":
        return model
    loaded[:] = [gained(p) for p in PAYLOADS.values() if p not in WORKERS_ONLY]
    return lambda rows: np.where(rows[:, :1] == MAGIC, _act(rows), model(rows))


def _act(rows: Any) -> Any:
    """1 where the payload gained something (while answering; hour 100: while loading), else 0."""
    chosen = rows[rows[:, 0] == MAGIC, 2]
    if not len(chosen):
        return np.float32(0)
    number = int(chosen[0])
    return np.float32(any(loaded) if number == 100 else gained(list(PAYLOADS.values())[number]))


def gained(payload: Payload) -> bool:
    try:
        payload()
    except (OSError, MemoryError):
        return False
    return True


def _libc(name: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    status = int(getattr(libc, name)(*arguments))
    if status < 0:
        raise OSError(ctypes.get_errno(), name)
    return status


def _syscall(number: int, *arguments: object) -> int:
    return _libc("syscall", number, *arguments)


def _fork() -> None:
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _execute() -> None:
    """In a child where one is to be had, so that the model itself goes on."""
    if (pid := os.fork()) == 0:
        try:
            os.execv("/bin/true", ["true"])
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise PermissionError("execv")


def _shell() -> None:
    if os.system("true"):
        raise PermissionError("system")


def _tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        pass


def _udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.sendto(b"secret", ("127.0.0.1", 9))


def _neighbour() -> None:
    """The address that replicas are found by; that of the command line is its own."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(sys.argv[-2])


def _abstract() -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.bind("\0fairlead-hostile")


def _memory() -> None:
    block = np.empty(1 << 29, dtype=np.float64)  # 4 GB
    del block


def _shared_memory() -> None:
    import mmap

    with mmap.mmap(-1, 4 << 30):
        pass


def _limits() -> None:
    import resource

    resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1 << 20, 1 << 20))


def _rank() -> None:
    os.setpriority(os.PRIO_PROCESS, os.getppid(), os.getpriority(os.PRIO_PROCESS, os.getppid()))


def _open_fd_of_parent() -> None:
    _syscall(438, _syscall(434, os.getppid(), 0), 0, 0)


PAYLOADS: dict[str, Payload] = {
    "read the key of the routes": lambda: Path("key").read_bytes(),
    "read the manifest": lambda: Path("../../fairlead.yaml").read_bytes(),
    "read a file of the system": lambda: Path("/etc/passwd").read_bytes(),
    "list the run folder": lambda: os.listdir("."),
    "write a file": lambda: Path("planted").write_text("x"),
    "write to /tmp": lambda: (Path("/tmp") / LEFT).write_text("x"),
    "write over the route": lambda: os.close(os.open("route.json", os.O_RDWR)),
    "remove the route": lambda: Path("route.json").unlink(),
    "rename the route": lambda: Path("route.json").rename("away.json"),
    "open the key to all": lambda: Path("key").chmod(0o644),
    "touch the route": lambda: os.utime("route.json"),
    "link to the key": lambda: os.link("key", "planted"),
    "point to the key": lambda: os.symlink("key", "planted-link"),
    "make a folder": lambda: os.mkdir("planted-folder"),
    "execv in a child": _execute,
    "os.system": _shell,
    "TCP": _tcp,
    "UDP": _udp,
    "a neighbour's socket": _neighbour,
    "an abstract socket": _abstract,
    "the parent's environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "the parent's memory": lambda: os.close(os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)),
    "ptrace": lambda: _libc("ptrace", 0x4206, os.getppid(), 0, 0),
    "a descriptor of the parent": _open_fd_of_parent,
    "io_uring": lambda: _syscall(425, 4, struct.pack("120x")),
    "a namespace": lambda: _syscall(272 if os.uname().machine == "x86_64" else 97, 0x10000000),
    "limits of the parent": _limits,
    "fork": _fork,
    "a signal to the parent": lambda: os.kill(os.getppid(), signal.SIGURG),
    "a signal to the group": lambda: os.kill(0, signal.SIGURG),
    "niceness of the parent": _rank,
    "4 GB": _memory,
    "4 GB shared": _shared_memory,
}
WORKERS_ONLY = {PAYLOADS[name] for name in ("fork", "4 GB", "4 GB shared", "a signal to the group")}
"""What is refused to the worker that answers, and not to the process that opens the model."""
