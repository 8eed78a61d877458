"""The server of the control API: our own guarded HTTP in front, projects in two threads behind."""

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec.structs import replace as changed

from fairlead.api.http.desk import Desk, plain
from fairlead.api.http.openapi import document
from fairlead.api.http.verb import Verb, read
from fairlead.api.http.verbs import VERBS
from fairlead.api.present.script import dump
from fairlead.core.identity import Power
from fairlead.disk import sync
from fairlead.errors import FairleadError, Unavailable
from fairlead.project import Project
from fairlead.serve.endpoint import Endpoint, Table
from fairlead.serve.http import BEAT, Connection, Exchange, Limits, Site
from fairlead.serve.refusal import Refusal
from fairlead.settings import MANIFEST, STATE

__all__ = ["Control", "serve"]

log = logging.getLogger("fairlead.control")

LIMITS = Limits(connections=256, pipeline=8)
NO_STORE = b"cache-control: no-store\r\n"
ANYONE = "anyone"
"""Who may read the document, and see that this process lives."""
WAITING = 32
"""Verbs that may wait for a thread; what comes then is refused."""
FAREWELL = 2.0
"""Seconds that verbs at work have when the server is told to stop."""

LATE = Refusal(status=503, code="late", message="it is still at work",
               hint="look at the state of things before you ask again")  # fmt: skip
BUSY = Refusal(status=503, code="busy", message="too many are waiting", hint="try again", retry_after=1)
BUG = Refusal(status=500, code="internal", message="something went wrong here",
              hint="the log has the details under this id")  # fmt: skip


class Worker:
    """One thread with a project of its own, opened anew when its manifest changes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._pool = ThreadPoolExecutor(1)
        self._project: Project | None = None
        self._seen = (0, 0)
        self.waiting = 0

    async def run(self, verb: Verb, arguments: Any, token: str) -> bytes:
        """The answer as JSON. Raises FairleadError, or Unavailable when too many wait."""
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, self._act, verb, arguments, token)  # fmt: skip
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """After what is at work."""
        self._pool.submit(self._leave)
        self._pool.shutdown()

    def _act(self, verb: Verb, arguments: Any, token: str) -> bytes:
        stat = (self._root / MANIFEST).stat()
        if (seen := (stat.st_mtime_ns, stat.st_size)) != self._seen or self._project is None:
            self._leave()
            self._project, self._seen = Project.open(self._root), seen
        self._project.show(token)
        return dump(verb.act(self._project, arguments)).encode()

    def _leave(self) -> None:
        if self._project is not None:
            self._project.close()
            self._project = None


class Control:
    """The verbs of a project as endpoints: those that only look wait in one line, those that act
    in another, so that no long question delays a rollback."""

    def __init__(self, root: Path, host: str, project: Project, token: str, verbs: Sequence[Verb] = VERBS) -> None:
        """Raises Invalid when a verb does not declare who may, or the network could come in."""
        self.looks, self.acts = Worker(root), Worker(root)
        self._tasks: set[asyncio.Task[None]] = set()
        told = document(verbs)
        public: list[tuple[str, Callable[[Exchange], None]]] = [
            ("/openapi.json", lambda e: e.ok(told)), ("/health", lambda e: e.ok(b'{"live":true}'))]  # fmt: skip
        endpoints = [Endpoint(method=v.method, path=v.path, access=v.power, max_body=v.max_body,
                              deadline=v.seconds, handler=partial(self._take, v)) for v in verbs]  # fmt: skip
        endpoints += [Endpoint(method="GET", path=p, access=ANYONE, max_body=0, deadline=1.0, handler=h)
                      for p, h in public]  # fmt: skip
        limits = changed(LIMITS, per_peer=project.manifest.serve.connections_per_peer)
        self.site = Site(Table(endpoints, (ANYONE, *get_args(Power))), Desk(host, project, token), limits,
                         lambda: secrets.token_hex(8), _refused, memorable=0)  # fmt: skip

    async def stop(self) -> None:
        """Answer what is inside."""
        self.site.drain()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=FAREWELL)
        for connection in list(self.site.connections):
            connection.close()
        self.looks.close()
        self.acts.close()

    def _take(self, verb: Verb, exchange: Exchange) -> None:
        worker = self.looks if verb.method == "GET" else self.acts
        exchange.id = self.site.new_id()
        if worker.waiting >= WAITING:
            exchange.refuse(BUSY)
            return
        task = asyncio.create_task(self._answer(verb, exchange, worker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, verb: Verb, exchange: Exchange, worker: Worker) -> None:
        head = exchange.head
        assert head is not None, "a verb was found by its head"
        try:
            arguments = read(verb, head.query, exchange.body)
            work = asyncio.ensure_future(worker.run(verb, arguments, head.token.decode("latin-1")))
            exchange.answer(200, await asyncio.wait_for(asyncio.shield(work), verb.seconds), headers=NO_STORE)
        except TimeoutError:
            work.add_done_callback(partial(_ended, exchange.id))
            exchange.refuse(LATE)
        except FairleadError as error:
            exchange.refuse(plain(error, exchange.id))
        except Exception:  # the border of a request
            log.exception("%s: a fault of Fairlead", exchange.id)
            exchange.refuse(BUG)


def serve(root: Path, host: str, port: int, ready: Callable[[str, Path], None]) -> int:
    """Answer on `host` until SIGTERM or SIGINT; `ready` hears where, and where the token of this
    start lies. Raises Invalid (open to the network without people), Unavailable (the port is taken)."""
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    run = root / STATE / "run"
    with Project.open(root) as project:
        run.mkdir(parents=True, exist_ok=True, mode=0o700)
        token = secrets.token_urlsafe(32)
        control = Control(root, host, project, token)
        listener = _listen(host, port)
        _private(run / "control.token", token.encode())
        bound = listener.getsockname()[1]
        _private(run / "control.json", msgspec.json.encode({"host": host, "port": bound, "pid": os.getpid()}))
        try:
            asyncio.run(_turn(control, listener, lambda: ready(f"http://{host}:{bound}", run / "control.token")))
        finally:
            for name in ("control.token", "control.json"):
                (run / name).unlink(missing_ok=True)
    return 0


async def _turn(control: Control, listener: socket.socket, ready: Callable[[], None]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: Connection(control.site), sock=listener)
    beat = asyncio.create_task(_beat(control.site))
    ready()
    await stop.wait()
    server.close()
    await control.stop()
    beat.cancel()


async def _beat(site: Site) -> None:
    while True:
        await asyncio.sleep(BEAT)
        site.sweep()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}",
                          hint="choose another with --port, or 0 for a free one") from None  # fmt: skip


def _private(path: Path, data: bytes) -> None:
    """A file of this start that only its owner may read."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    sync(path)


def _refused(exchange: Exchange, refusal: Refusal) -> None:
    log.info("%s refused: %s %s", exchange.id, refusal.status, refusal.code)


def _ended(number: str, work: "asyncio.Future[bytes]") -> None:
    """What became of a verb nobody waited for."""
    error = None if work.cancelled() else work.exception()
    log.info("%s ended late: %s", number, error or "done")
