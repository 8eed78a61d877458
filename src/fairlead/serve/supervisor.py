"""The supervisor: owns the listening socket, keeps gateways, replicas and controller alive, holds no model."""

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.core.ref import Ref
from fairlead.core.traffic import Route
from fairlead.errors import Conflict, FairleadError, Unavailable
from fairlead.ports import Fleet, Router
from fairlead.serve.config import GatewayConfig
from fairlead.serve.switch import packages_of, shadows_of

__all__ = ["RENEW", "Supervisor", "alone", "listen"]

TURN = 0.05
"""Seconds between two looks when nothing happens."""
STOP, RENEW = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP), signal.SIGUSR1
YOUNG = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
HEAD_START = 1.0
"""Seconds the first package may take to answer before the controller starts beside it."""
GRACE = 20.0
"""Seconds a gateway may take to drain, and a controller to end."""


def listen(host: str, port: int) -> socket.socket:
    """The one listening socket; every gateway inherits it, so no restart refuses a connection.

    Raises Unavailable when the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]  # fmt: skip
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}",
                          hint="stop what uses the port, or set serve.port (0 takes a free one)") from error  # fmt: skip
    listener.setblocking(False)
    return listener


def alone(run: Path) -> int:
    """A lock that says: this project is being served. Raises Conflict when it is already."""
    fd = os.open(run / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict("this project is being served already",
                       hint="run/serve.json says where; stop that one first") from None  # fmt: skip
    return fd


class Child:
    """One process that must always be there; restarted after a pause that grows while it dies young."""

    def __init__(self, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        self._start = start
        self.process: subprocess.Popen[bytes] | None = None
        self._born = self._next = 0.0
        self._failures = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    def tend(self, now: float) -> None:
        """Start it when it is not there."""
        if self.process is not None:
            if self.process.poll() is None:
                return
            self._bury(now)
        if now >= self._next:
            self._born, self.process = now, self._start()

    def tell(self, number: signal.Signals) -> None:
        if self.process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def end(self, seconds: float) -> None:
        """Wait for it, then kill it."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._bury(time.monotonic())

    def _bury(self, now: float) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None
        self._failures = self._failures + 1 if now - self._born < YOUNG else 0
        if self._failures:
            self._next = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 8))


class Supervisor:
    """`gateway` and `controller` start such a process; `fleet` starts the replicas of the route.

    It reads the route and nothing else: neither database nor controller need be alive.
    """

    def __init__(
        self, config: GatewayConfig, run: Path, listener: socket.socket, router: Router,
        fleet: Fleet, *, gateway: Callable[[], "subprocess.Popen[bytes]"],
        controller: Callable[[], "subprocess.Popen[bytes]"] | None,
    ) -> None:  # fmt: skip
        self.config, self.run_folder, self.listener = config, run, listener
        self.router, self.fleet, self._gateway = router, fleet, gateway
        self.gateways = [Child(gateway) for _ in range(config.gateways)]
        self.leaving: list[Child] = []
        self.controller = Child(controller) if controller is not None else None
        self._wanted: dict[Ref, int] = {}
        self._shadows: frozenset[Ref] = frozenset()
        self._told = self._renew = False
        self._born = time.monotonic()
        self._announced: dict[str, Any] = {}
        self._seen: Route | None = None

    def run(self) -> int:
        """Until SIGTERM, SIGINT or SIGHUP; SIGUSR1 replaces the gateways by new ones without a lost
        request (those there are stay until the new ones answer), and the controller. Returns 0."""
        wake = self._listen_to_signals()
        while not self._told:
            self._turn(time.monotonic())
            if select.select([wake], [], [], TURN)[0]:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
        self._end()
        return 0

    def _listen_to_signals(self) -> int:
        wake, waker = os.pipe()
        for end in (wake, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (*STOP, RENEW, signal.SIGCHLD):
            signal.signal(number, self._noted)
        return wake

    def _noted(self, number: int, _: object) -> None:
        self._told = self._told or number in STOP
        self._renew = self._renew or number == RENEW

    def _turn(self, now: float) -> None:
        self.fleet.reconcile(self._want(), self._shadows)
        if self._renew:
            self._renew = False
            self.leaving += self.gateways
            self.gateways = [Child(self._gateway) for _ in range(self.config.gateways)]
            if self.controller is not None:
                self.controller.tell(signal.SIGTERM)
        for child in self.gateways:
            child.tend(now)
        if self.controller is not None and now - self._born > HEAD_START:
            self.controller.tend(now)
        self._announce(now)

    def _want(self) -> Mapping[Ref, int]:
        """What the route needs. When it cannot be read, what it needed last: a replica that runs
        is never stopped for want of news."""
        try:
            route = self.router.published()
        except FairleadError:
            return self._wanted
        if route is not None and route is not self._seen:
            self._seen = route
            arms = {a.package for a in route.arms}
            self._shadows = shadows_of(route)
            # Somebody else's server answers chats: there is no replica.
            self._wanted = {} if self.config.chat else {
                r: self.config.replicas if r in arms else 1 for r in packages_of(route)}  # fmt: skip
        return self._wanted

    # -- what others may know

    def _announce(self, now: float) -> None:
        """Write serve.json when it changes: first when a package answers (or none is released)."""
        said = [self._word(c) for c in self.gateways]
        words = [w for w in said if w is not None]
        if len(words) < len(said) or not (self._seen is None or all(w["ready"] for w in words)):
            return
        if self.controller is not None:
            self.controller.tend(now)
        for child in self.leaving:
            child.tell(signal.SIGTERM)
        self.leaving = [c for c in self.leaving if c.running]
        host, port = self.listener.getsockname()[:2]
        news = {
            "host": host, "port": port, "grpc_port": self.config.grpc_port,
            "service": self.config.service, "pid": os.getpid(),
            "ready": all(w["ready"] for w in words), "gateway": words[0]["gateway"],
            "gateways": [w["pid"] for w in words], "parents": [c.pid for c in self.gateways],
            "controller": self.controller.pid if self.controller is not None else None,
        }  # fmt: skip
        if news != self._announced:
            self._announced = news
            fresh = self.run_folder / ".serve.json"
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(news), indent=2))
            fresh.replace(self.run_folder / "serve.json")

    def _word(self, child: Child) -> dict[str, Any] | None:
        """What a gateway says of itself, once it listens."""
        try:
            data = (self.run_folder / f"gateway-{child.pid}.json").read_bytes()
            return msgspec.json.decode(data, type=dict[str, Any])
        except (OSError, msgspec.DecodeError):
            return None

    def _end(self) -> None:
        """Nobody decides any more, then nobody answers, then nobody computes."""
        (self.run_folder / "serve.json").unlink(missing_ok=True)
        children: Sequence[Child] = [*([self.controller] if self.controller else []),
                                     *self.gateways, *self.leaving]  # fmt: skip
        for child in children:
            child.tell(signal.SIGTERM)
        end = time.monotonic() + GRACE
        for child in children:
            child.end(end - time.monotonic())
        self.listener.close()
