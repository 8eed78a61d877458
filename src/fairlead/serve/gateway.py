"""The gateway: the process that takes requests. It never runs model code, and needs nobody but replicas."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.core.veil import Veil, veil
from fairlead.disk import secret
from fairlead.errors import Missing
from fairlead.ports import Clock, Online, Register, Router
from fairlead.serve import grpc
from fairlead.serve.access import Access, AccessLog
from fairlead.serve.board import Board
from fairlead.serve.config import GatewayConfig
from fairlead.serve.denials import Denials
from fairlead.serve.dispatch import Dispatch
from fairlead.serve.endpoint import Callers
from fairlead.serve.http import BEAT, Connection, Site
from fairlead.serve.ids import Ids, enroll
from fairlead.serve.ledger import Ledger
from fairlead.serve.metrics import Metrics
from fairlead.serve.provider import Secret
from fairlead.serve.service import Service
from fairlead.serve.sink import open_sink
from fairlead.serve.switch import Switch
from fairlead.serve.timely import SHARE, Timely
from fairlead.serve.tracer import Tracer

__all__ = ["Doors", "run"]

WATCH = 0.05
"""Seconds between two looks at the route; a rollback is obeyed within this."""
EXPIRE = 0.01
PUBLISH = 1.0
"""Seconds between two sheets of metrics that the other gateways read."""
FLUSH = 0.02
"""Seconds between two looks at whether something waits for the journal."""
SETTLE = 0.05
"""Seconds without a request before a draining gateway believes that none is on its way."""
DRAIN = 10.0
SPARE = 64
"""Descriptors for everything that is not a caller."""
FAREWELL = 0.25
"""Seconds in which an idle connection may still send the request that it is just sending."""


class Doors(Struct, frozen=True, kw_only=True):
    """The ports a gateway uses; `online` opens the feature store, once, in the worker; `secret` reads
    the key of a provider."""

    router: Router
    register: Register
    clock: Clock
    online: Callable[[], Online | None]
    secret: Secret


def run(config: GatewayConfig, state: Path, listener: socket.socket, doors: Doors, lifeline: int,
        ) -> int:  # fmt: skip
    """Serve on `listener` until SIGTERM (drains) or the end of `lifeline`; the exit status.

    `state`: the project's ``.fairlead``; the working directory must be ``state/run``.
    """
    try:
        import uvloop
    except ImportError:
        raise Missing("uvloop is not installed", hint='pip install "fairlead[serve]"') from None
    gc.freeze()
    config = _within_descriptors(config)
    return uvloop.run(_Gateway(config, state, doors).serve(listener, lifeline))


class _Gateway:
    def __init__(self, config: GatewayConfig, state: Path, doors: Doors) -> None:
        self.config, self.state, self.doors = config, state, doors
        self._said: dict[str, object] = {}
        self.ids = Ids(enroll(state / "predictions"))
        self.metrics = Metrics(gateway=self.ids.gateway)
        self._clear = perf_counter()
        self._forsaken = 0
        self.ids.at(doors.clock.now())

    async def serve(self, listener: socket.socket, lifeline: int) -> int:
        loop = asyncio.get_running_loop()
        self.sink = open_sink(self.state / "predictions" / "journal", self.ids.gateway,
                              self.config.durability, loop.call_soon_threadsafe)  # fmt: skip
        covers = self._veil()
        ledger = Ledger(self.config.service, self.sink, self.metrics, covers)
        self.dispatch = Dispatch(
            self.config, clock=self.doors.clock, online=self._online(), ledger=ledger,
            metrics=self.metrics, access=self._access(), ids=self.ids,
            denials=Denials(self.config, self.sink, self.metrics, covers),
            changed=lambda _: self.switch.apply())  # fmt: skip
        self.switch = Switch(self.doors.router, self.state / "packages", Path(), self.dispatch, self.doors.secret)
        board = Board(self.ids.gateway, self.metrics, self.switch.lanes, Path(), self.config.cpu_hour_price)
        self.service = service = Service(self.dispatch, self.switch, ledger, board)
        self.callers = Callers(self.config.host, _token(self.config), self.doors.register.published(),
                               self.config.limits.rate)  # fmt: skip
        self.site = Site(service.table(), self.callers, self.config.limits, self.ids.next,
                         self.dispatch.access.refused)  # fmt: skip
        self._gauges()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_reader(lifeline, stop.set)
        self.switch.watch()
        for seconds, act in ((WATCH, self.switch.watch), (WATCH, self._admit), (BEAT, self.site.sweep),
                             (EXPIRE, self._expire), (FLUSH, self._flush), (PUBLISH, board.publish)):  # fmt: skip
            self._every(seconds, act)
        server = await loop.create_server(lambda: Connection(self.site), sock=listener, backlog=1024)
        calls = await self._calls(service)
        self._every(WATCH, self._say)
        await stop.wait()
        loop.remove_reader(lifeline)
        server.close()
        await asyncio.gather(self._drain(), *([calls.stop(DRAIN)] if calls else []))
        board.withdraw()
        self.switch.close()
        self.sink.close()
        self.dispatch.access.close()
        return 0

    async def _calls(self, service: Service) -> grpc.Server | None:
        """The gRPC doors, when they are wanted. Raises Missing."""
        if not self.config.grpc_port:
            return None
        calls = grpc.Server(service, self.site)
        await calls.start()
        return calls

    def _say(self) -> None:
        """Tell the supervisor that this process listens, and whether a package answers."""
        word = {"gateway": self.ids.gateway, "pid": os.getpid(), "ready": self.switch.ready}
        if word != self._said:
            self._said = word
            fresh = Path(f".gateway-{os.getppid()}.json")
            fresh.write_bytes(msgspec.json.encode(word))
            fresh.replace(f"gateway-{os.getppid()}.json")

    def _admit(self) -> None:
        """Obey the register of callers: a token that was revoked or has expired ends now."""
        if self.callers.admit(self.doors.register.published(), self.doors.clock.now()):
            self.site.heads.clear()

    def _every(self, seconds: float, act: Callable[[], object]) -> None:
        """Do it again and again; a failing turn does not end the turns."""
        loop = asyncio.get_running_loop()

        def turn() -> None:
            loop.call_later(seconds, turn)
            try:
                act()
            except Exception:  # noqa: BLE001 - the border of a loop tick
                traceback.print_exc(file=sys.stderr)

        loop.call_later(seconds, turn)

    def _expire(self) -> None:
        now = perf_counter()
        self.sink.expire(now - self.config.deadline)
        forsaken, self._forsaken = self._forsaken != self.site.forsaken, self.site.forsaken
        for lane in list(self.switch.lanes.values()):
            if forsaken:
                lane.forsake()
            if not lane.idle:
                lane.expire(now)

    def _online(self) -> Timely | None:
        """The feature store, which nobody waits for longer than its share of the deadline."""
        store = self.doors.online()
        return None if store is None else Timely(store, SHARE * self.config.deadline)

    def _access(self) -> Access:
        """Counts every request; writes and traces them when the configuration says so."""
        config, counter = self.config, self.metrics.counter
        log = tracer = None
        if config.access_log:
            lost = counter("fairlead_access_log_dropped_total", "Lines that the access log dropped.")
            log = AccessLog(self.state / "predictions" / "access.jsonl", config.access_log, lost)
        if config.trace_to:
            lost = counter("fairlead_spans_dropped_total", "Spans that no receiver took.")
            tracer = Tracer(config.trace_to, config.service, config.trace_share, lost)
        return Access(self.metrics, self.doors.clock, log, tracer)

    def _flush(self) -> None:
        self.sink.flush()
        self.dispatch.access.flush()
        if not self.sink.waiting:
            self._clear = perf_counter()

    def _lag(self) -> float:
        return perf_counter() - self._clear if self.sink.waiting else 0.0

    async def _drain(self) -> None:
        """Answer what is inside and what is just arriving, then close; connections that stay idle
        are closed after a moment in which a last request gets its `connection: close`."""
        self.site.drain()
        end, quiet = perf_counter() + max(DRAIN, self.config.deadline), 0.0
        while perf_counter() < end and quiet < SETTLE:
            await asyncio.sleep(0.005)
            busy = self.site.unanswered() or self.dispatch.gate.inside or self.site.arriving()
            quiet = 0.0 if busy else quiet + 0.005
        await self.service.relay.close()
        end = perf_counter() + FAREWELL
        while perf_counter() < end and self.site.connections:
            await asyncio.sleep(0.005)
        for connection in list(self.site.connections):
            connection.close()
        await asyncio.sleep(0.01)

    def _veil(self) -> Veil | None:
        """What hides columns from the disk, under a key that stays with the log."""
        return veil(self.config.log, secret(self.state / "predictions" / "redaction.key"), self.config.sticky_by)

    def _gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("fairlead_connections", "Open connections.", lambda: len(self.site.connections))
        gauge("fairlead_inside", "Rows between request and answer.",
              lambda: self.dispatch.gate.inside)  # fmt: skip
        gauge("fairlead_ready", "1 when a package would answer.", lambda: self.switch.ready)
        gauge("fairlead_journal_lost_total", "Rows that the journal dropped.", lambda: self.sink.lost)
        gauge("fairlead_journal_lag_seconds", "Since when something waits for the disk.", self._lag)
        gauge("fairlead_journal_waiting_bytes", "Not yet written.", lambda: self.sink.waiting)


def _within_descriptors(config: GatewayConfig) -> GatewayConfig:
    """As many connections as there may be open files, so that the limit refuses and not the kernel."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = config.limits.connections + SPARE
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    limits = changed(config.limits, connections=max(1, allowed - SPARE))
    return changed(config, limits=limits)


def _token(config: GatewayConfig) -> str:
    if not config.token_file:
        return ""
    try:
        return Path(config.token_file).read_text().strip()
    except OSError as error:
        raise Missing(f"no token in {config.token_file}: {error.strerror}",
                      hint="write one there, readable by you only") from error  # fmt: skip
