"""Batches: what arrived in one turn of the event loop goes to a replica as one matrix, without a timer."""

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, cast

import msgspec
import numpy as np

from fairlead.core.contract import Contract
from fairlead.errors import Invalid
from fairlead.serve.frames import HELLO, OK, Hello, question, split
from fairlead.serve.guard import Breaker
from fairlead.serve.reader import Features, Reader

__all__ = ["GONE", "LATE", "Ask", "Desk", "Lane"]

GONE, LATE = "gone", "deadline"
"""Reasons: nobody waits for the answer any more; it did not come in time."""
ROWS = 256
"""Rows of one batch at most."""
AHEAD = 2
"""Batches a replica may have before it: one it works on, one that waits. More wait here, where a
row whose deadline passed is dropped instead of computed."""
KNOCK, LONGEST_KNOCK = 0.01, 0.1
"""Seconds between two attempts to reach a replica that is not there; they grow."""
LOADING = 60.0
"""Seconds a package may take to load before its share counts as failing."""
SLACK = 1e-5
"""How far outside [0, 1] a probability may lie by rounding."""


class Ask:
    """One row on its way to one package. `started`, `limit`: monotonic seconds; `at`: UTC seconds.

    `alone`: a replica died while it had this row, so it travels in a batch of its own; when another
    dies of it, it is the killer. `call` is what it belongs to,
    None when nobody waits. `values` were read by `contract`. `reader` is of the package that answered with `scores`.
    """

    __slots__ = ("alone", "at", "body", "call", "contract", "data", "epoch", "fallback",
                 "features", "id", "late", "limit", "live", "propensity", "reader", "refused", "scores",
                 "started", "unit", "values")  # fmt: skip

    def __init__(self, unit: str, body: bytes, started: float) -> None:
        self.unit, self.body, self.started = unit, body, started
        self.call: Any = None
        self.id, self.data = "", b""
        self.values: tuple[Any, ...] | None = None
        self.contract: Contract | None = None
        self.features: Features | None = None
        self.scores: list[float] | None = None
        self.reader: Reader | None = None
        self.refused: Invalid | None = None
        self.live = True
        self.fallback = self.alone = self.late = False
        self.epoch = 0
        self.at = self.limit = 0.0
        self.propensity = 1.0


class Desk(Protocol):
    """Who asked, and hears what became of it."""

    def answered(self, lane: "Lane", asks: list[Ask], rows: list[list[float]]) -> None: ...
    def failed(self, lane: "Lane", asks: list[Ask], reason: str) -> None: ...
    def changed(self, lane: "Lane") -> None:
        """The package became ready for the first time, or cannot be loaded."""


class Lane:
    """The way to one package: its queues, the links to its replicas, its breaker."""

    def __init__(self, reader: Reader, desk: Desk, loop: asyncio.AbstractEventLoop, shadow_limit: int,
                 ) -> None:  # fmt: skip
        self.reader, self.desk, self.loop = reader, desk, loop
        self.pending: deque[Ask] = deque()
        self.mirrored: deque[Ask] = deque()
        self.shadow_limit = shadow_limit
        self.links: list[Link] = []
        self.breaker = Breaker()
        self.ready_once = False
        self.patient = False
        self.reason = ""
        self._since = self._down = perf_counter()
        self._turn: asyncio.Handle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0

    @property
    def up(self) -> bool:
        return bool(self.links)

    def down_for(self, now: float) -> float:
        """Seconds without any replica; 0 while there is one."""
        return 0.0 if self.links else now - self._down

    @property
    def settled(self) -> bool:
        """Whether it is known what to expect of the package: it answered, or it will not."""
        return self.ready_once or bool(self.reason) or perf_counter() - self._since > LOADING

    @property
    def idle(self) -> bool:
        """Nothing waits here or at a replica."""
        return not (self.pending or self.mirrored or any(k.flights for k in self.links))

    def dial(self, sockets: Sequence[Path], failed: str) -> None:
        """Keep a link to each of these replica sockets until `hang_up`.

        `failed`: suffix of the file that says why a package cannot be loaded.
        """
        for path in sockets:
            reason = path.with_name(path.name + failed)
            self._tasks.append(self.loop.create_task(self._keep(path, reason)))

    def hang_up(self) -> None:
        """Let go of the replicas; what is under way fails."""
        for task in self._tasks:
            task.cancel()
        for link in list(self.links):
            link.close()

    def put(self, ask: Ask) -> None:
        """Queue a live row; it leaves with the others of this turn."""
        self.pending.append(ask)
        if self._turn is None:
            self._turn = self.loop.call_soon(self.flush)

    def put_first(self, ask: Ask) -> None:
        """Queue a row that has waited before."""
        self.pending.appendleft(ask)
        if self._turn is None:
            self._turn = self.loop.call_soon(self.flush)

    def mirror(self, ask: Ask) -> bool:
        """Queue a row whose answer nobody waits for; False when the queue is full."""
        if len(self.mirrored) >= self.shadow_limit:
            return False
        self.mirrored.append(ask)
        if self._turn is None:
            self._turn = self.loop.call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Send what waits, as far as the replicas have room: live rows first."""
        self._turn = None
        while (self.pending or self.mirrored) and (link := self._room()) is not None:
            asks = self._take(self.pending) or self._take(self.mirrored)
            if not asks:
                continue
            self._number = self._number % 0xFFFFFFFF + 1
            data = asks[0].data if len(asks) == 1 else b"".join([a.data for a in asks])
            link.ask(self._number, asks, data)

    def expire(self, now: float) -> None:
        """Fail what waited past its limit, here or at a replica."""
        for queue in (self.pending, self.mirrored):
            late = []
            while queue and queue[0].limit <= now:
                late.append(queue.popleft())
            if late:
                self.desk.failed(self, late, LATE)
        for link in self.links:
            for flight in link.flights.values():
                if flight and flight[0].limit <= now:
                    late = flight[:]
                    # The emptied flight keeps its place: the replica is still busy with it.
                    flight.clear()
                    self.breaker.bad(now)
                    self.desk.failed(self, late, LATE)

    def _room(self) -> "Link | None":
        best = None
        for link in self.links:
            if len(link.flights) < AHEAD and (best is None or len(link.flights) < len(best.flights)):
                best = link
        return best

    def _take(self, queue: deque[Ask]) -> list[Ask]:
        """The rows of the next batch. A row under suspicion travels alone; one that nobody waits
        for any more does not travel at all."""
        asks: list[Ask] = []
        while queue and len(asks) < ROWS:
            if queue[0].alone and asks:
                break
            ask = queue.popleft()
            if ask.call is not None and ask.call.gone:
                self.desk.failed(self, [ask], GONE)
                continue
            asks.append(ask)
            if ask.alone:
                break
        return asks

    async def _keep(self, path: Path, reason: Path) -> None:
        pause = KNOCK
        while True:
            try:
                _, link = await self.loop.create_unix_connection(lambda: Link(self), path.name)
                pause = KNOCK
                await link.over
                if link.hello is None:
                    raise ConnectionError("not the package that was asked for")
            except OSError:
                self._look(reason)
                await asyncio.sleep(pause)
                pause = min(LONGEST_KNOCK, pause * 1.3)

    def _look(self, reason: Path) -> None:
        """Not there: still loading, or is there word why it cannot be loaded?"""
        try:
            found = reason.read_text()
        except OSError:
            found = ""
        if found != self.reason:
            self.reason = found
            self.desk.changed(self)

    # -- what a link reports

    def came_up(self, link: "Link") -> None:
        self.links.append(link)
        if not self.ready_once:
            self.ready_once, self.reason = True, ""
            self.desk.changed(self)
        if self._turn is None:
            self._turn = self.loop.call_soon(self.flush)

    def went_down(self, link: "Link") -> None:
        """A replica died with `link.flights` under way. The first of them may have killed it."""
        if link in self.links:
            self.links.remove(link)
            self._down = perf_counter()
        flights = [f for f in link.flights.values() if f]
        link.flights.clear()
        if not self.patient:
            self.breaker.bad(perf_counter())
            for asks in flights:
                self.desk.failed(self, asks, "the replica died")
            return
        for ask in reversed([a for asks in flights[1:] for a in asks]):
            self.put_first(ask)
        for ask in reversed(flights[0] if flights else []):
            if ask.alone:
                self.desk.failed(self, [ask], "the replica died of this row")
            else:
                ask.alone = True
                self.put_first(ask)

    def got(self, asks: list[Ask], status: int, data: bytes) -> None:
        """A replica's word on one batch."""
        if not asks:
            return
        if status != OK:
            self._refused(asks, data.decode("utf-8", "replace"))
            return
        if len(data) != 4 * self.reader.k * len(asks):
            self._refused(asks, f"{len(data) // 4} scores for {len(asks)} rows of {self.reader.k}")
            return
        self.breaker.good()
        scores = np.frombuffer(data, dtype="<f4")
        low, high = scores.min(), scores.max()
        # A NaN makes every comparison false, so one chained comparison proves the whole batch.
        sound = (low >= -SLACK and high <= 1 + SLACK if self.reader.spec.task != "regression"
                 else -np.inf < low and high < np.inf)  # fmt: skip
        rows = scores.reshape(len(asks), self.reader.k).tolist()
        if sound:
            self.desk.answered(self, asks, rows)
        else:
            self._sift(asks, rows)

    def _sift(self, asks: list[Ask], rows: list[list[float]]) -> None:
        """Some scores are no scores: only their rows fail."""
        binary = self.reader.spec.task != "regression"
        low, high = (-SLACK, 1 + SLACK) if binary else (-3.5e38, 3.5e38)
        good = [all(low <= v <= high for v in row) for row in rows]
        right = [(a, r) for a, r, g in zip(asks, rows, good, strict=True) if g]
        if right:
            self.desk.answered(self, [a for a, _ in right], [r for _, r in right])
        for ask, row, fine in zip(asks, rows, good, strict=True):
            if not fine:
                self.desk.failed(self, [ask], f"not an answer: {row[:4]}")

    def _refused(self, asks: list[Ask], reason: str) -> None:
        """A batch failed as a whole: ask again row by row, so that one row does not fail the others."""
        if len(asks) > 1:
            for ask in reversed(asks):
                ask.alone = True
                self.put_first(ask)
            return
        self.breaker.bad(perf_counter())
        self.desk.failed(self, asks, reason)


class Link(asyncio.Protocol):
    """One connection to one replica. `flights`: batches sent and not answered, oldest first."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.flights: dict[int, list[Ask]] = {}
        self.hello: Hello | None = None
        self.over: asyncio.Future[None] = lane.loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self.over.done():
            self.over.set_result(None)
        self.lane.went_down(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def ask(self, number: int, asks: list[Ask], data: bytes) -> None:
        """Send one batch."""
        self.flights[number] = asks
        if self._transport is not None:
            self._transport.write(question(number, len(asks), data))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            for frame in split(self._buffer):
                number, status = int.from_bytes(frame[:4], "little"), frame[4]
                if status == HELLO:
                    self._greet(frame[5:])
                elif (asks := self.flights.pop(number, None)) is not None:
                    self.lane.got(asks, status, frame[5:])
        except (ValueError, msgspec.DecodeError):
            self.close()
        if self.lane.pending or self.lane.mirrored:
            self.lane.flush()

    def _greet(self, data: bytes) -> None:
        """Only a replica that holds this very package is taken."""
        hello = msgspec.json.decode(data, type=Hello)
        reader = self.lane.reader
        wanted = (reader.ref.digest, reader.encoder.width, reader.k)
        if (hello.digest, hello.width, hello.k) != wanted:
            self.close()
            return
        self.hello = hello
        self.lane.came_up(self)
