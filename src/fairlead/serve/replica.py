"""Replicas: a process that holds one package and answers batches over a unix socket."""

import mmap
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec
from fairlead.errors import Corrupt, FairleadError
from fairlead.serve import package
from fairlead.serve.frames import ERROR, HELLO, OK, Hello, answer, split
from fairlead.serve.parent import keep

__all__ = ["FAILED", "Opener", "Scorer", "run", "socket_name"]

Matrix = NDArray[np.float32]
FAILED = ".failed"
"""Suffix of the file beside the socket that says why a package could not be loaded."""
WARM_ROWS = (1, 8, 64)
READ = 1 << 20
LAST_LOOK = 50
"""Milliseconds without a batch after which a worker that was told to stop does."""
STUCK = struct.pack("ll", 5, 0)
"""A gateway that takes no answer for 5 s is given up."""


Scorer = Callable[[Matrix], Matrix]
"""[rows, width] float32 -> scores [rows, k] float32."""

Opener = Callable[[Path, PackageSpec], Scorer]
"""Opens the model files of a verified package folder."""


def socket_name(digest: str, place: int) -> str:
    """File name of the socket of a package's `place`-th replica."""
    return f"{digest[:16]}-{place}.sock"


def run(directory: Path, path: Path, opener: Opener, hang: float) -> int:
    """Verify, open and warm up the package, then answer on the unix socket `path` until told to stop.

    `hang`: seconds after which one batch counts as hung and the worker is replaced. When the
    package cannot be loaded the reason is written beside the socket and 3 is returned.
    """
    failed = path.with_name(path.name + FAILED)
    try:
        spec = package.read(directory)
        package.verify(directory, spec)
        scorer = opener(directory, spec)
        width, k = _warm_up(scorer, spec)
    except FairleadError as error:
        _tell(failed, str(error))
        return 3
    failed.unlink(missing_ok=True)
    hello = Hello(pid=0, digest=directory.name, width=width, k=k)
    listener = _listen(path)
    pulse = _Pulse()
    try:
        return keep(lambda lifeline: _Worker(scorer, hello, listener, pulse).run(lifeline),
                    lambda: _overdue(pulse, hang))  # fmt: skip
    finally:
        path.unlink(missing_ok=True)


def _warm_up(scorer: Scorer, spec: PackageSpec) -> tuple[int, int]:
    """Ask for a few empty rows, so that the first caller pays for nothing; returns (width, k)."""
    width, k = spec.encoding.width, package.width_out(spec)
    for rows in WARM_ROWS:
        try:
            shape = scorer(np.zeros((rows, width), dtype=np.float32)).shape
        except Exception as error:  # a model may raise anything
            raise Corrupt(f"the model fails on {rows} rows of zeros: {type(error).__name__}: {error}",
                          hint="package the model again") from error  # fmt: skip
        if shape != (rows, k):
            raise Corrupt(f"the model answers {shape} for {rows} rows; the package says {(rows, k)}",
                          hint="package the model again")  # fmt: skip
    return width, k


def _overdue(pulse: "_Pulse", hang: float) -> bool:
    """Whether the running batch takes too long; says so once, for the worker dies of it."""
    if pulse.busy() <= hang:
        return False
    pulse.end()
    return True


def _tell(path: Path, reason: str) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(reason)
    fresh.replace(path)


def _listen(path: Path) -> socket.socket:
    """Bound only now: whoever can connect meets a loaded package."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    listener.setblocking(False)
    return listener


class _Pulse:
    """When the worker began its batch, in memory that it shares with its parent."""

    def __init__(self) -> None:
        self._cell = mmap.mmap(-1, 8)

    def begin(self) -> None:
        struct.pack_into("d", self._cell, 0, time.monotonic())

    def end(self) -> None:
        struct.pack_into("d", self._cell, 0, 0.0)

    def busy(self) -> float:
        """Seconds since the running batch began; 0 when idle."""
        (since,) = struct.unpack_from("d", self._cell, 0)
        return time.monotonic() - since if since else 0.0


class _Worker:
    """One thread, one batch at a time, in order of arrival."""

    def __init__(
        self, scorer: Scorer, hello: Hello, listener: socket.socket, pulse: _Pulse
    ) -> None:
        self.scorer, self.listener, self.pulse = scorer, listener, pulse
        self.hello = msgspec.structs.replace(hello, pid=os.getpid())
        self.links: dict[int, tuple[socket.socket, bytearray]] = {}
        self.poll = select.poll()

    def run(self, lifeline: int) -> int:
        """Serve until told to stop and nothing is left to read; 0."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGTERM, lambda *_: None)
        self.pulse.end()
        for fd in (self.listener.fileno(), lifeline, wake):
            self.poll.register(fd, select.POLLIN)
        told = False
        while True:
            ready = self.poll.poll(LAST_LOOK if told else None)
            if told and not ready:
                return 0
            for fd, _ in ready:
                if fd == lifeline:
                    return 0
                if fd == wake:
                    told = True
                    self.poll.unregister(wake)
                elif fd == self.listener.fileno():
                    self._accept()
                else:
                    self._read(fd)

    def _accept(self) -> None:
        try:
            link, _ = self.listener.accept()
        except OSError:
            return
        link.setblocking(True)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, STUCK)
        self.links[link.fileno()] = link, bytearray()
        self.poll.register(link, select.POLLIN)
        self._send(link, answer(0, HELLO, msgspec.json.encode(self.hello)))

    def _read(self, fd: int) -> None:
        link, buffer = self.links[fd]
        try:
            data = link.recv(READ)
            buffer += data
            for frame in split(buffer):
                self._send(link, self._answer(frame))
        except (OSError, ValueError):
            data = b""
        if not data and fd in self.links:
            self._drop(link)

    def _answer(self, frame: bytes) -> bytes:
        number, rows = struct.unpack_from("<II", frame)
        self.pulse.begin()
        try:
            matrix = np.frombuffer(frame, dtype="<f4", offset=8).reshape(rows, self.hello.width)
            scores = self.scorer(matrix)
            if scores.dtype != np.float32:
                return answer(number, ERROR, f"the model answers {scores.dtype}".encode())
            return answer(number, OK, np.ascontiguousarray(scores).tobytes())
        except Exception as error:  # noqa: BLE001 - the border of a request: a model may raise anything
            return answer(number, ERROR, f"{type(error).__name__}: {error}"[:500].encode())
        finally:
            self.pulse.end()

    def _send(self, link: socket.socket, data: bytes) -> None:
        try:
            link.sendall(data)
        except OSError:
            self._drop(link)

    def _drop(self, link: socket.socket) -> None:
        if self.links.pop(link.fileno(), None) is not None:
            self.poll.unregister(link)
            link.close()
