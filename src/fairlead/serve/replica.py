"""Replicas: a process that holds one package and answers batches over a unix socket."""

import contextlib
import ctypes
import mmap
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Mapping
from functools import partial
from io import FileIO
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import OWN_CODE, PackageSpec
from fairlead.errors import Corrupt, FairleadError, Forbidden, Invalid
from fairlead.serve import package
from fairlead.serve.frames import ERROR, FAREWELL, HELLO, OK, Hello, answer, split
from fairlead.serve.parent import HAND_OVER, keep
from fairlead.serve.sandbox import Sandbox

__all__ = ["FAILED", "Bounds", "Opener", "Scorer", "run", "socket_name"]

Matrix = NDArray[np.float32]
FAILED = ".failed"
"""Suffix of the file beside the socket that says why a package could not be loaded; else empty."""
WARM_ROWS = (1, 8, 64)
READ = 1 << 16
"""Bytes read at once. More than malloc serves from its heap would cost three system calls a batch."""
PAGE = os.sysconf("SC_PAGE_SIZE")
PR_SET_PDEATHSIG = 1
LAST_LOOK = 50
"""Milliseconds without a batch after which a worker that was told to stop does."""
STUCK = struct.pack("ll", 5, 0)
"""A gateway that takes no answer for 5 s is given up."""
EXPENDABLE, MOST_EXPENDABLE = b"500", b"800"
"""Whom the kernel ends first when the machine has no memory left: a replica, and before it a shadow."""
REHEARSAL, LOADED = 0.9, b"loaded"
"""The share of the time for loading after which code that a package brings is given up; its success."""
MOST = 8
"""A worker gets no memory beyond this multiple of what it may grow by; at half of it, it is killed."""


Scorer = Callable[[Matrix], Matrix]
"""[rows, width] float32 -> scores [rows, k] float32."""

Opener = Callable[[Mapping[str, bytes], PackageSpec], Scorer]
"""Opens a model from the verified files of its package, by name."""

Vouch = Callable[[Path, PackageSpec], None]
"""Raises why a package with code of its own (in this folder) may not be run."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """`hang`: seconds after which a batch counts as hung. `load`: seconds loading may take.
    `memory`: bytes a worker may grow by; 0: any number. `walls`: code that a package brings needs a
    whole sandbox; `keys`: public keys (hex), by environment, of those who trust such packages."""

    hang: float
    load: float
    memory: int
    walls: bool = True
    keys: dict[str, str] = {}


def socket_name(digest: str, place: int) -> str:
    """File name of the socket of a package's `place`-th replica."""
    return f"{digest[:16]}-{place}.sock"


def _nobody(directory: Path, spec: PackageSpec) -> None:
    raise Forbidden(f"nobody can vouch for the code of package {directory.name[:12]} here")


def run(
    directory: Path, path: Path, opener: Opener, bounds: Bounds, box: Sandbox | None = None,
    vouch: Vouch = _nobody,
) -> int:  # fmt: skip
    """Verify, open and warm up the package, then answer on the unix socket `path` until told to stop.
    The model is opened and runs in `box`; what needs the disk is done before that. Code that a
    package brings runs in workers alone, each of which opens the model for itself.

    When the package cannot be loaded the reason is written beside the socket and 3 is returned;
    when that takes too long the process ends by SIGALRM, whatever the model is doing.
    """
    with _bind(path) as listener, _rank() as rank:
        loaded = _load(directory, path, opener, bounds, box, vouch)
        if loaded is None:
            return 3
        # Only now: whoever can connect meets a loaded package.
        listener.listen(64)
        pulses: list[_Pulse] = []

        def care(nice: int) -> _Care:
            pulses[:] = [_Pulse()]
            _volunteer(rank, nice)
            return _Care(pulses[0], bounds)

        return keep(lambda line: _Worker(*loaded, listener, pulses[0], bounds, box).run(line), care)


def _load(
    directory: Path, path: Path, opener: Opener, bounds: Bounds, box: Sandbox | None, vouch: Vouch
) -> tuple[Callable[[], Scorer], Hello] | None:
    """How a worker gets the model, and what it is; None when it cannot be loaded: then the file
    beside the socket says why."""
    word = _word(path.with_name(path.name + FAILED))
    signal.setitimer(signal.ITIMER_REAL, bounds.load)
    try:
        spec = package.read(directory)
        own = spec.flavor in OWN_CODE
        if own:
            vouch(directory, spec)
        files = package.files(directory, spec)
        measures = box.enter(path.absolute().parent) if box else ()
        opened: Callable[[], Scorer] = partial(_open, opener, files, spec)
        if own:
            _rehearse(opened, bounds, box)
        else:
            opened = partial(_same, opened())
    except FairleadError as error:
        _tell(word, str(error))
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _tell(word, "")
    return opened, Hello(pid=0, digest=directory.name, width=spec.encoding.width,
                         k=package.width_out(spec), sandbox=measures)  # fmt: skip


def _same(scorer: Scorer) -> Scorer:
    """The model that every worker inherits."""
    return scorer


def _open(opener: Opener, files: Mapping[str, bytes], spec: PackageSpec) -> Scorer:
    scorer = opener(files, spec)
    _warm_up(scorer, spec)
    return scorer


def _rehearse(opened: Callable[[], Scorer], bounds: Bounds, box: Sandbox | None) -> None:
    """Open the model once as a worker will, in a process that is gone afterwards. Raises Invalid in
    the words of whatever it failed with, or when the walls are not whole."""
    if bounds.walls and not (box and box.whole):
        raise Invalid("this kernel cannot wall in the code that the package brings (no Landlock or seccomp): "
                      "serve.walls: false runs it all the same")  # fmt: skip
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, _outcome(opened, box))
        os._exit(0)
    os.close(writer)
    heard = select.select([reader], [], [], bounds.load * REHEARSAL)[0]
    said = os.read(reader, select.PIPE_BUF) if heard else b"it does not load in time"
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if said != LOADED:
        raise Invalid(said.decode(errors="replace") or "the model ends the process that opens it",
                      hint="put its source right, train and package again")  # fmt: skip


def _outcome(opened: Callable[[], Scorer], box: Sandbox | None) -> bytes:
    _die_with_parent()
    try:
        if box:
            box.tighten()
        opened()
    except BaseException as error:  # noqa: BLE001 - the border to somebody's code
        words = str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"
        return words.encode(errors="replace")[: select.PIPE_BUF]
    return LOADED


def _warm_up(scorer: Scorer, spec: PackageSpec) -> None:
    """Ask for a few empty rows, so that the first caller pays for nothing. Raises Corrupt."""
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


def _word(path: Path) -> int:
    """The file for a reason, opened while that is allowed. An older reason stays until it is news."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _tell(word: int, reason: str) -> None:
    """Close the file, with this reason in it."""
    os.ftruncate(word, os.pwrite(word, reason.encode(), 0))
    os.close(word)


def _bind(path: Path) -> socket.socket:
    """The address, where nobody listens yet."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.setblocking(False)
    return listener


class _Pulse:
    """When the worker began its batch, in memory that it shares with its parent."""

    def __init__(self) -> None:
        self._cell = mmap.mmap(-1, 8)

    def begin(self, more: float = 0.0) -> None:
        """`more`: seconds that it may take beyond what a batch may."""
        struct.pack_into("d", self._cell, 0, time.monotonic() + more)

    def end(self) -> None:
        struct.pack_into("d", self._cell, 0, 0.0)

    def busy(self) -> float:
        """Seconds since the running batch began; 0 when idle, less while the model is opened."""
        (since,) = struct.unpack_from("d", self._cell, 0)
        return time.monotonic() - since if since else 0.0


class _Care:
    """What the parent looks after in one worker: how long its batch takes, and how much it grew."""

    def __init__(self, pulse: _Pulse, bounds: Bounds) -> None:
        self._pulse, self._bounds = pulse, bounds
        self._own = _anonymous(os.getpid())

    def left(self) -> float:
        return self._bounds.hang - self._pulse.busy()

    def growth(self, pid: int) -> float:
        most = self._bounds.memory
        if self._pulse.busy() < 0:  # the model itself is no growth
            self._own = _anonymous(pid)
        return (_anonymous(pid) - self._own) / most if most else 0.0


def _anonymous(pid: int) -> int:
    """Bytes of memory that are a process's own, not those of files it has mapped."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE


class _Worker:
    """One thread, one batch at a time, in order of arrival."""

    def __init__(
        self, opened: Callable[[], Scorer], hello: Hello, listener: socket.socket, pulse: _Pulse,
        bounds: Bounds, box: Sandbox | None,
    ) -> None:  # fmt: skip
        self.opened, self.listener, self.pulse, self.bounds, self.box = opened, listener, pulse, bounds, box
        self.hello = msgspec.structs.replace(hello, pid=os.getpid())
        self.links: dict[int, tuple[socket.socket, bytearray]] = {}
        self.poll = select.poll()
        self.open = True

    def run(self, lifeline: int) -> int:
        """Serve until told to stop and nothing is left to read, or to hand over and nobody is left
        to serve; 0."""
        wake = self._listen_to_signals()
        _die_with_parent()
        if self.box:
            self.box.tighten()
        self.pulse.begin(self.bounds.load)
        self.scorer = self.opened()
        self.pulse.end()
        for fd in (self.listener.fileno(), lifeline, wake):
            self.poll.register(fd, select.POLLIN)
        heard = b""
        while self.links or HAND_OVER not in heard:
            told = signal.SIGTERM in heard
            ready = self.poll.poll(LAST_LOOK if told else None)
            if told and not ready:
                return 0
            for fd, _ in ready:
                if fd == lifeline:
                    return 0
                if fd == wake:
                    heard += os.read(wake, 64)
                    self._take_leave(heard)
                elif fd == self.listener.fileno():
                    self._accept()
                elif fd in self.links:
                    self._read(fd)
        return 0

    def _listen_to_signals(self) -> int:
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        for number in (signal.SIGTERM, HAND_OVER):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {HAND_OVER})
        return wake

    def _take_leave(self, heard: bytes) -> None:
        """Take no more connections, and ask those that are there to look for another worker."""
        if HAND_OVER in heard and self.open:
            self.open = False
            self.poll.unregister(self.listener)
            for link, _ in list(self.links.values()):
                self._send(link, answer(0, FAREWELL, b""))

    def _accept(self) -> None:
        if not self.open:
            return
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
            if scores.dtype != np.float32 or scores.shape != (rows, self.hello.k):
                said = f"the model answers {scores.dtype} {scores.shape} for {rows} rows"
                return answer(number, ERROR, said.encode())
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


def _die_with_parent() -> None:
    """A worker that hangs does not see the end of its lifeline: the kernel ends it (Linux only)."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _rank() -> FileIO:
    """Where the kernel is told, opened while that is allowed."""
    try:
        return FileIO("/proc/self/oom_score_adj", "w")
    except OSError:  # there is no /proc
        return FileIO(os.devnull, "w")


def _volunteer(rank: FileIO, nice: int) -> None:
    """Let the kernel end this replica, whose next worker inherits the rank, rather than the gateway,
    when it runs out of memory."""
    with contextlib.suppress(OSError):  # not every container allows it
        rank.write(MOST_EXPENDABLE if nice > 0 else EXPENDABLE)
