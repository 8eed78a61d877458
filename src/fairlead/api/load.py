"""Load: many requests over a few keep-alive connections, with every answer accounted for."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Self, cast

from msgspec import Struct

__all__ = ["Answer", "Client"]

GRAIN = 0.002
"""Seconds by which a timer may be late."""


class Answer(Struct, frozen=True):
    """Status 0 means that the connection broke before an answer came. `seconds`: from when the
    request was sent, or (`Client.paced`) was due, whether or not a connection was free."""

    status: int
    body: bytes
    seconds: float


class Client:
    """One request in flight per connection, as ordinary clients do; no pipelining, no retries."""

    def __init__(self, host: str, port: int, connections: int = 16, token: str = "") -> None:
        self._host, self._port, self._size = host, port, connections
        self._token = f"authorization: Bearer {token}\r\n".encode() if token else b""
        self._idle: list[_Connection] = []
        self._waiting: deque[tuple[int, bytes, float]] = deque()
        self._answers: list[Answer] = []
        self._left = 0
        self._done: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        closing = list(self._idle)
        for connection in closing:
            connection.close()
        while any(connection.open for connection in closing):
            await asyncio.sleep(0)

    async def post(self, path: str, bodies: Sequence[bytes]) -> list[Answer]:
        """POST every JSON body; answers in the order of `bodies`."""
        if not bodies:
            return []
        head = self._head(path)
        done = await self._begin(len(bodies))
        self._waiting = deque((i, head % len(b) + b, 0.0) for i, b in enumerate(bodies))
        for connection in list(self._idle):
            self._next(connection)
        await done
        return self._answers

    async def paced(self, path: str, bodies: Iterable[bytes], rate: float, count: int) -> list[Answer]:
        """POST `count` bodies, `rate` of them per second whatever becomes of those before: latency
        counts from when a request was due, so that a service that stalls cannot hide it."""
        head, source = self._head(path), iter(bodies)
        done = await self._begin(count)
        begun, sent = time.perf_counter(), 0
        while sent < count:
            now = time.perf_counter()
            while sent < count and (due := begun + sent / rate) <= now:
                body = next(source)
                # What a timer is late is not the service's fault; what a full client is late is.
                self._waiting.append((sent, head % len(body) + body, due if now - due > GRAIN else now))
                sent += 1
                if self._idle:
                    self._next(self._idle[-1])
            await asyncio.sleep(max(0.0, begun + sent / rate - time.perf_counter()))
        await done
        return self._answers

    def _head(self, path: str) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n".encode() + self._token
        return head.replace(b"%", b"%%") + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"

    async def _begin(self, count: int) -> "asyncio.Future[None]":
        """Expect so many answers; the future is done when all are there."""
        loop = asyncio.get_running_loop()
        self._answers = [Answer(0, b"", 0.0)] * count
        self._left, self._done = count, loop.create_future()
        await self._open(min(self._size, count), loop)
        return self._done

    async def _open(self, wanted: int, loop: asyncio.AbstractEventLoop) -> None:
        while len(self._idle) < wanted:
            _, connection = await loop.create_connection(
                lambda: _Connection(self), self._host, self._port
            )
            self._idle.append(connection)

    def _next(self, connection: "_Connection") -> None:
        if self._waiting and connection in self._idle:
            self._idle.remove(connection)
            connection.send(*self._waiting.popleft())

    def took(self, connection: "_Connection", index: int, answer: Answer) -> None:
        """An answer arrived (or its connection broke, which takes the connection away)."""
        self._answers[index] = answer
        self._left -= 1
        if answer.status:
            if self._waiting:
                connection.send(*self._waiting.popleft())
            else:
                self._idle.append(connection)
        elif self._waiting:
            task = asyncio.get_running_loop().create_task(self._reconnect())
            task.add_done_callback(_surface)
        if self._left == 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def lost(self, connection: "_Connection") -> None:
        """An idle connection was closed by the server."""
        if connection in self._idle:
            self._idle.remove(connection)

    async def _reconnect(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            try:
                await self._open(len(self._idle) + 1, loop)
            except OSError:
                index, *_ = self._waiting.popleft()
                self._answers[index] = Answer(0, b"", 0.0)
                self._left -= 1
                continue
            self._next(self._idle[-1])
            return
        if self._left == 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)


def _surface(task: "asyncio.Task[None]") -> None:
    task.result()


class _Connection(asyncio.Protocol):
    """Reads one HTTP/1.1 answer with a content-length at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._index: int | None = None
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by type.
        self._transport = cast(asyncio.Transport, transport)

    @property
    def open(self) -> bool:
        return self._transport is not None

    def send(self, index: int, request: bytes, due: float) -> None:
        """`due`: monotonic seconds, 0 means now."""
        assert self._transport is not None
        self._index, self._data, self._sent = index, b"", due or time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self._index is None:
            return
        head = self._data[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._data) < end + 4 + length:
            return
        body = self._data[end + 4 : end + 4 + length]
        seconds = time.perf_counter() - self._sent
        index, self._index = self._index, None
        self._client.took(self, index, Answer(int(self._data[9:12]), body, seconds))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._index is None:
            self._client.lost(self)
        else:
            index, self._index = self._index, None
            self._client.took(self, index, Answer(0, b"", time.perf_counter() - self._sent))
