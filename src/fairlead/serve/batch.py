"""Batches: what arrived in one turn of the event loop goes to a replica as one matrix, without a timer."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from struct import unpack
from time import perf_counter
from typing import Any, Protocol, cast

import msgspec

from fairlead.core.contract import Contract
from fairlead.errors import Invalid
from fairlead.serve.blame import Blame, Crashes, Poison
from fairlead.serve.frames import FAREWELL, HELLO, OK, Hello, question, split
from fairlead.serve.guard import Breaker, Pace
from fairlead.serve.reader import Features, Reader

__all__ = ["GONE", "LATE", "Ask", "Desk", "Lane"]

GONE, LATE = "gone", "deadline"
"""Reasons: nobody waits for the answer any more; it did not come in time."""
NEARLY = 0.02
"""Seconds before its limit from which on a row is as good as late: no second replica gets it."""
ROWS = 256
"""Rows of one batch at most."""
AHEAD = 2
"""Batches a replica may have before it: one it works on, one that waits. More wait here, where a
row whose deadline passed is dropped instead of computed."""
SLICE = 0.25
"""Share of the deadline that one batch may take."""
KNOCK, LONGEST_KNOCK = 0.01, 0.1
"""Seconds between two attempts to reach a replica that is not there; they grow."""
CHANCE, REAL = (-1e-5, 1 + 1e-5), (-3.5e38, 3.5e38)
"""What a probability (rounding allowed) and any other finite float32 lie within."""


class Ask:
    """One row on its way to one package. `started`, `sent` (to the replica), `limit`: monotonic
    seconds; `at`: UTC seconds; `trace`: of the caller, "" when the row's id names it.

    `alone`: it travels in a batch of its own. `call` is what it belongs to, None when nobody waits. `values` were read by `contract`. `reader` is of the package that answered with `scores`,
    and `said`, if it speaks. `wanted`: an explanation is.
    """

    __slots__ = ("alone", "at", "body", "call", "contract", "data", "epoch", "fallback",
                 "features", "id", "late", "limit", "live", "propensity", "reader", "refused", "said", "scores",
                 "sent", "started", "trace", "unit", "values", "wanted")  # fmt: skip

    def __init__(self, unit: str, body: bytes, started: float) -> None:
        self.unit, self.body, self.started = unit, body, started
        self.call: Any = None
        self.id, self.trace, self.data = "", "", b""
        self.values: tuple[Any, ...] | None = None
        self.contract: Contract | None = None
        self.features: Features | None = None
        self.scores: list[float] | None = None
        self.reader: Reader | None = None
        self.refused: Invalid | None = None
        self.said: dict[str, Any] | None = None
        self.live = True
        self.fallback = self.alone = self.late = self.wanted = False
        self.epoch = 0
        self.at = self.limit = self.sent = 0.0
        self.propensity = 1.0


class Desk(Protocol):
    """Who asked, and hears what became of it."""

    def answered(self, lane: "Lane", asks: list[Ask], rows: list[list[float]]) -> None: ...
    def failed(self, lane: "Lane", asks: list[Ask], reason: str) -> None: ...
    def changed(self, lane: "Lane") -> None:
        """The package became ready for the first time, or cannot be loaded."""


class Lane:
    """The way to one package: its queues, the links to its replicas, what is known of its faults.

    `shadow_limit`: mirrored rows that may wait; `loading`: seconds the package may take to load.
    `patient`: rows wait for a replica, and are asked again when it dies; else they fail at once.
    `greeted`: replicas so far, `most`: at a time. `deadline`: seconds a request has.
    """

    def __init__(self, reader: Reader, desk: Desk, loop: asyncio.AbstractEventLoop, *,
                 shadow_limit: int, loading: float, deadline: float) -> None:  # fmt: skip
        self.reader, self.desk, self.loop, self.loading = reader, desk, loop, loading
        self.pending: deque[Ask] = deque()
        self.mirrored: deque[Ask] = deque()
        self.shadow_limit = shadow_limit
        self.links: list[Link] = []
        self.parting: list[Link] = []
        self.breaker, self.blame, self.crashes = Breaker(), Blame(), Crashes()
        self.pace = Pace(ROWS, SLICE * deadline)
        self.ready_once = False
        self.patient = False
        self.reason = ""
        self._since = self._down = perf_counter()
        self._turn: asyncio.Handle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.greeted = self.most = self._number = 0

    @property
    def up(self) -> bool:
        return bool(self.links)

    @property
    def settled(self) -> bool:
        """Whether it is known what to expect of the package: it answered, or it will not."""
        late = perf_counter() - self._since > self.loading
        return self.ready_once or bool(self.reason) or late

    def trouble(self, now: float, patience: float) -> str | None:
        """Why a live row is not to be sent at `now`; `patience`: seconds it may wait for a replica."""
        if not self.breaker.allows(now):
            return "the package fails too often and is not asked for a while"
        if not self.links and now - self._down > patience:
            return self.defect(now) or "no replica is running"
        return None if self.patient else self.defect(now)

    def defect(self, now: float) -> str | None:
        """Why the package as such is of no use: it cannot be loaded, or dies again and again; the
        latter does not keep anybody from a baseline, for there is nobody else to ask."""
        if self.reason:
            return self.reason
        return self.crashes.reason(now) if self.crashes.until > now and not self.patient else None

    @property
    def idle(self) -> bool:
        """Nothing waits here or at a replica."""
        links = (*self.links, *self.parting)
        return not (self.pending or self.mirrored or any(k.flights for k in links))

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
        for link in (*self.links, *self.parting):
            link.close()

    def put(self, ask: Ask) -> None:
        """Queue a live row; it leaves with the others of this turn."""
        self.pending.append(ask)
        if self._turn is None:
            self._turn = self.loop.call_soon(self.flush)

    def put_first(self, ask: Ask) -> None:
        """Queue a row that has waited before."""
        (self.pending if ask.live else self.mirrored).appendleft(ask)
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
            if self.blame.wary:
                asks = self._safe(asks)
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
        self._give_up(lambda ask: ask.limit <= now, LATE)

    def _give_up(self, over: Callable[[Ask], bool], reason: str) -> None:
        """Fail the first rows of the batches at the replicas, as far as they are `over`."""
        for link in (*self.links, *self.parting):
            for number, flight in link.flights.items():
                done = left = link.overdue.get(number, 0)
                while left < len(flight) and over(flight[left]):
                    left += 1
                if left > done:
                    link.overdue[number] = left
                    if not done and reason == LATE:
                        self.breaker.bad(perf_counter())
                    self.desk.failed(self, flight[done:left], reason)

    def takes(self, rows: int) -> bool:
        """Whether so many more live rows would be answered in time."""
        if not self.pace.slow:
            return True
        flying = sum(len(asks) for link in self.links for asks in link.flights.values())
        return self.pace.takes(len(self.pending) + flying, rows, len(self.links))

    def forsake(self) -> None:
        """Let go of the rows that nobody waits for any more, wherever they are."""
        gone = [a for a in self.pending if _gone(a)]
        if gone:
            self.pending = deque(a for a in self.pending if not _gone(a))
            self.desk.failed(self, gone, GONE)
        self._give_up(_gone, GONE)

    def _room(self) -> "Link | None":
        best, ahead = None, 1 if self.pace.slow else AHEAD
        for link in self.links:
            if len(link.flights) < ahead and (best is None or len(link.flights) < len(best.flights)):
                best = link
        return best

    def _take(self, queue: deque[Ask]) -> list[Ask]:
        """The rows of the next batch. A row under suspicion travels alone; one that nobody waits
        for any more does not travel at all."""
        asks: list[Ask] = []
        while queue and len(asks) < self.pace.rows:
            if queue[0].alone and asks:
                break
            ask = queue.popleft()
            if _gone(ask):
                self.desk.failed(self, [ask], GONE)
                continue
            asks.append(ask)
            if ask.alone:
                break
        return asks

    def _safe(self, asks: list[Ask]) -> list[Ask]:
        """The rows that may travel together: suspects wait for a batch of their own, and those of
        which a replica dies are refused."""
        safe, now = [], perf_counter()
        for ask in asks:
            if self.blame.convicted(ask.data, now):
                self._condemned(ask)
            elif len(asks) > 1 and self.blame.suspect(ask.data):
                ask.alone = True
                self.put_first(ask)
            else:
                safe.append(ask)
        return safe

    def _condemned(self, ask: Ask) -> None:
        ask.refused = Poison("the model dies of this row",
                             hint="look at its values; the row is refused for ten minutes")  # fmt: skip
        self.desk.failed(self, [ask], "the replica died of this row")

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
            said = reason.read_text()
        except OSError:
            said = ""
        found = f"it cannot be loaded: {said}"
        if not said:
            slow = not self.ready_once and perf_counter() - self._since > self.loading
            found = f"it was not loaded within {self.loading:g} s" if slow else ""
        if found != self.reason:
            self.reason = found
            self.desk.changed(self)

    # -- what a link reports

    def came_up(self, link: "Link") -> None:
        self.greeted += 1
        for old in [k for k in self.links if k.leaving]:
            self.links.remove(old)
            self.parting.append(old)
            old.part()
        self.links.append(link)
        self.most = max(self.most, len(self.links))
        if not self.ready_once or self.reason:
            self.ready_once, self.reason = True, ""
            self.desk.changed(self)
        if self._turn is None:
            self._turn = self.loop.call_soon(self.flush)

    def went_down(self, link: "Link") -> None:
        """A replica is gone with `link.flights` under way: it died of the first of them, if of any."""
        now = perf_counter()
        # A row that hung it has used up its time; asked again, it would hang the next one, too.
        self.expire(now + NEARLY)
        suspects = next(iter(link.flights.values()), [])
        flights = [asks[link.overdue.get(number, 0):] for number, asks in link.flights.items()]
        if link in self.links:
            self.links.remove(link)
            self._down = now
        elif link in self.parting:
            self.parting.remove(link)
            if not flights:
                return
        self.crashes.died(now)
        guilty = self.blame.died([a.data for a in suspects], now)
        link.flights.clear()
        if self.patient:
            self._again(flights, guilty)
            return
        self.breaker.bad(now)
        for asks in filter(None, flights):
            self.desk.failed(self, asks, "the replica died")

    def _again(self, flights: list[list[Ask]], guilty: bool) -> None:
        """Ask again what a dead replica had: first, each on its own, the rows of which it may have died."""
        for ask in reversed([a for asks in flights[1:] for a in asks]):
            self.put_first(ask)
        for ask in reversed(flights[0] if flights else []):
            if guilty:
                self._condemned(ask)
            else:
                ask.alone = True
                self.put_first(ask)

    def got(self, asks: list[Ask], status: int, data: bytes) -> None:
        """A replica's word on one batch."""
        if status != OK:
            self._refused(asks, data.decode("utf-8", "replace"))
            return
        if len(data) != 4 * self.reader.k * len(asks):
            self._refused(asks, f"{len(data) // 4} scores for {len(asks)} rows of {self.reader.k}")
            return
        self.breaker.good()
        if self.blame.wary:
            self.blame.answered([a.data for a in asks], perf_counter())
        values = unpack(f"<{len(data) // 4}f", data)
        low, high = REAL if self.reader.spec.task == "regression" else CHANCE
        total, k = sum(values), self.reader.k
        rows = [[v] for v in values] if k == 1 else [
            list(values[i : i + k]) for i in range(0, len(values), k)]  # fmt: skip
        # A NaN makes the sum one, which is unlike itself.
        if total == total and low <= min(values) and max(values) <= high:
            self.desk.answered(self, asks, rows)
        else:
            self._sift(asks, rows, low, high)

    def _sift(self, asks: list[Ask], rows: list[list[float]], low: float, high: float) -> None:
        """Some scores are no scores: only their rows fail."""
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


def _gone(ask: Ask) -> bool:
    """Whether nobody waits for the answer any more; a mirrored row is not asked for by anybody."""
    return ask.call is not None and ask.call.gone


class Link(asyncio.Protocol):
    """One connection to one replica. `flights`: batches sent and not answered, oldest first;
    `overdue`: how many of a batch's first rows were given up, late or forsaken. `leaving`: the replica asked
    to be left; it is asked until another greets. `over`: time to look for another one.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.flights: dict[int, list[Ask]] = {}
        self.overdue: dict[int, int] = {}
        self.leaving = self._parted = False
        self.hello: Hello | None = None
        self.over: asyncio.Future[None] = lane.loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end()
        self.lane.went_down(self)

    def part(self) -> None:
        """Close when the last answer is there."""
        self._parted = True
        if not self.flights:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def ask(self, number: int, asks: list[Ask], data: bytes) -> None:
        """Send one batch."""
        now = perf_counter()
        if not self.flights:
            self._since = now
        self.flights[number] = asks
        for ask in asks:
            ask.sent = now
        if self._transport is not None:
            self._transport.write(question(number, len(asks), data))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            for frame in split(self._buffer):
                number, status = int.from_bytes(frame[:4], "little"), frame[4]
                if status == HELLO:
                    self._greet(frame[5:])
                elif status == FAREWELL:
                    self.leaving = True
                    self._end()
                elif (asks := self.flights.pop(number, None)) is not None:
                    since, self._since = self._since, perf_counter()
                    self.lane.pace.took(len(asks), self._since - since)
                    if self.overdue:
                        asks, frame = self._left(number, asks, frame)
                    if asks:
                        self.lane.got(asks, status, frame[5:])
        except (ValueError, msgspec.DecodeError):
            self.close()
        if self._parted and not self.flights:
            self.close()
        if self.lane.pending or self.lane.mirrored:
            self.lane.flush()

    def _left(self, number: int, asks: list[Ask], frame: bytes) -> tuple[list[Ask], bytes]:
        """The rows of a batch that somebody still waits for, and what the replica says of them."""
        late = self.overdue.pop(number, 0)
        scores = 4 * self.lane.reader.k * late if frame[4] == OK else 0
        return asks[late:], frame[:5] + frame[5 + scores :]

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

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
