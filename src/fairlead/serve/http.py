"""HTTP/1.1: connections that are guarded before anything is parsed, and answered in order."""

import asyncio
import contextlib
import fcntl
import sys
import termios
import traceback
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from msgspec import Struct

from fairlead.errors import Missing
from fairlead.serve.endpoint import Callers, Table
from fairlead.serve.exchange import Exchange
from fairlead.serve.guard import neighbourhood
from fairlead.serve.head import Head, Line, large_body, read_head
from fairlead.serve.refusal import Refusal

__all__ = ["Connection", "Exchange", "Head", "Limits", "Site", "large_body"]

BEAT = 0.25
"""Seconds between two looks at which connections are too slow."""
MEMORY, MEMORABLE = 2048, 1024
"""Request heads remembered, and the bytes of the longest one."""
LINGER = 1.0
"""Seconds in which a refused caller may still send, so that it reads the refusal."""
AGAIN = 0.02
"""Seconds until a first and between two words to a caller that may have gone."""
SPILL = 4 * 2**20
"""Bytes that such a caller may send; nobody reads them."""

class Limits(Struct, frozen=True, kw_only=True):
    """What one connection may cost. Seconds count from the first byte of the part, not the last.
    `per_peer`: connections of one address, `rate`: requests a second of one token; 0: any number."""

    header_bytes: int = 16_384
    headers: int = 100
    head_seconds: float = 5.0
    body_seconds: float = 8.0
    idle_seconds: float = 60.0
    write_seconds: float = 8.0
    connections: int = 10_000
    per_peer: int = 0
    pipeline: int = 64
    rate: float = 0.0


class Site:
    """What all connections of a gateway share: the doors, the limits, the census, the beat.

    `forsaken` counts connections that ended before they had all their answers.
    """

    def __init__(
        self, table: Table["Exchange"], callers: Callers, limits: Limits,
        new_id: Callable[[], str], refused: Callable[["Exchange", Refusal], None],
        memorable: int = MEMORABLE,
    ) -> None:  # fmt: skip
        """`memorable`: bytes of the longest head that is remembered; 0: every one is read anew."""
        self.table, self.callers, self.limits, self.new_id = table, callers, limits, new_id
        self.refused, self._memorable = refused, memorable
        self.parser, self.parser_errors = _llhttp()
        self.connections: set[Connection] = set()
        self._peers: dict[str, int] = {}
        self.heads: dict[bytes, Head] = {}
        self.draining = False
        self.forsaken = 0
        self.beat = 1
        self._unread = max(1, round(limits.write_seconds / BEAT))
        self._patience = {
            state: max(1, round(seconds / BEAT)) for state, seconds in (
                (_NEW, limits.head_seconds), (_HEAD, limits.head_seconds),
                (_BODY, limits.body_seconds), (_IDLE, limits.idle_seconds), (_LINGER, LINGER),
                (_CLOSING, limits.write_seconds))
        }  # fmt: skip

    def come(self, connection: "Connection", peer: str) -> bool:
        """Count a connection in; whether there is room for it."""
        self.connections.add(connection)
        self._peers[peer] = self._peers.get(peer, 0) + 1
        return len(self.connections) <= self.limits.connections and not 0 < self.limits.per_peer < self._peers[peer]

    def go(self, connection: "Connection", peer: str) -> None:
        """Count it out."""
        self.connections.discard(connection)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def remember(self, data: bytes, head: Head) -> None:
        """The same bytes mean the same head, so their next parse is a look-up."""
        if len(data) <= self._memorable and not (head.unit or head.trace or head.expects):
            if len(self.heads) >= MEMORY:
                self.heads.clear()
            self.heads[data] = head

    def read(self, line: Line) -> Head | Refusal:
        """What a fresh head asks for, or why not."""
        return read_head(line, self.table, self.callers, remembered=bool(self._memorable))

    def sweep(self) -> None:
        """Called every BEAT seconds: end what is too slow."""
        self.beat += 1
        for connection in list(self.connections):
            state = connection.state
            waited = self.beat - connection.since
            stuck = connection.stalled and self.beat - connection.stalled > self._unread
            if stuck or (state == _IDLE and waited == self._unread and connection.unread()):
                connection.abort()
            elif state in self._patience and waited > self._patience[state]:
                connection.late()

    def drain(self) -> None:
        """From now on every answer ends its connection."""
        self.draining = True
        self.heads.clear()

    def arriving(self) -> bool:
        """Whether a request is half read, or a fresh connection has not spoken yet."""
        return any(c.state in (_NEW, _HEAD, _BODY) for c in self.connections)

    def unanswered(self) -> int:
        return sum(len(c.open) for c in self.connections)


def _llhttp() -> tuple[Callable[[object], Any], tuple[type[Exception], ...]]:
    """The parser, and what it raises. Raises Missing."""
    try:
        import httptools
    except ImportError:
        raise Missing("httptools is not installed", hint='pip install "fairlead[serve]"') from None
    return httptools.HttpRequestParser, (httptools.HttpParserError, httptools.HttpParserUpgrade)


_NEW, _IDLE, _BUSY, _HEAD, _BODY, _LINGER, _CLOSING = range(7)
_FRESH = (_NEW, _IDLE, _BUSY)
"""The next byte begins a request."""
_OVER = (_LINGER, _CLOSING)
"""Nothing that still arrives is read."""


class Connection(asyncio.Protocol):
    """One caller. A request is parsed by llhttp; a head seen before is recognised by its bytes."""

    __slots__ = ("_body", "_complete", "_ended", "_fields", "_head", "_moves", "_parser", "_paused", "_peer", "_seen",
                 "_size", "_url", "open", "since", "site", "stalled", "state", "transport")  # fmt: skip

    def __init__(self, site: Site) -> None:
        self.site = site
        self.open: deque[Exchange] = deque()
        self.transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._moves: asyncio.Future[None] | None = None
        self._head: Head | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._url, self._peer = b"", ""
        self._seen = self._size = self.stalled = 0
        self._complete = self._paused = self._ended = False
        self.state, self.since = _NEW, site.beat

    # -- the transport speaks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # Whatever the kernel does not take at once counts as not read.
        self.transport.set_write_buffer_limits(0)
        self._peer = neighbourhood((transport.get_extra_info("peername") or ("",))[0])
        if not self.site.come(self, self._peer):
            self._end(Refusal(status=503, code="connections", message="too many connections",
                              hint="reuse connections, or try again", retry_after=1))  # fmt: skip

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.site.go(self, self._peer)
        self._forsake()

    def eof_received(self) -> bool:
        """The caller sends no more, but may still read what it is owed. Whether it is there at all
        shows when it is written to: the first word meets a reset, the second one hears of it."""
        self._ended = True
        if self.open and (self._parser is None or self._parser.get_http_version() == "1.1"):
            for turn in (1, 2):
                asyncio.get_running_loop().call_later(turn * AGAIN, self._knock)
        return bool(self.open)

    def _knock(self) -> None:
        if self.transport is not None and self.open:
            stream = self.open[0].stream
            if stream is None:
                self.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            else:
                stream.write(stream.sign)

    def pause_writing(self) -> None:
        """The caller does not read its answers: take no more of its requests."""
        self.stalled = self.site.beat
        self._pause()

    def resume_writing(self) -> None:
        self.stalled = 0
        self._resume()
        self._moved()

    def data_received(self, data: bytes) -> None:
        if self.state in _FRESH:
            end = data.find(b"\r\n\r\n") + 4
            head = self.site.heads.get(data[:end]) if end > 3 else None
            if head is not None and len(data) - end == head.length:
                self._dispatch(head, data[end:])
                return
        elif self.state in _OVER:
            self._seen += len(data)
            if self._seen > SPILL:
                self.abort()
            return
        self._parse(data)

    def late(self) -> None:
        """The sweep found this connection too slow."""
        if self.transport is None:
            return
        if self.state in (_HEAD, _BODY):
            self._end(Refusal(status=408, code="slow", message="the request took too long to arrive",
                              hint="send it in one piece"))  # fmt: skip
        elif self.state in (_NEW, _IDLE):
            self.close()
        else:
            self.abort()

    def unread(self) -> int:
        """Bytes of answers that the kernel still keeps, because the caller does not take them."""
        if self.transport is None:
            return 0
        with contextlib.suppress(OSError):
            fd = self.transport.get_extra_info("socket").fileno()
            return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return 0

    def abort(self) -> None:
        """End at once; what was not sent is lost."""
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Send what is due and end; a caller that does not read it is cut off by the sweep."""
        if self.transport is not None:
            self._enter(_CLOSING)
            self.transport.close()

    def _pause(self) -> None:
        if self.transport is not None and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.transport is not None and self._paused and not self.stalled:
            self._paused = False
            self.transport.resume_reading()

    # -- the parser speaks

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = self.site.parser(self)
        fresh, self._complete = self.state in _FRESH, False
        if fresh or self.state == _HEAD or self._chunked():
            self._seen += len(data)
        try:
            self._parser.feed_data(data)
        except self.site.parser_errors:
            self._end(Refusal(status=400, code="http", message="this is not HTTP/1.1",
                              hint="check the request line, the headers and the length"))  # fmt: skip
            return
        if self.state == _HEAD and self._seen > self.site.limits.header_bytes:
            self._end(_LARGE_HEAD)
        elif self._chunked() and self._head is not None:
            # Chunk headers and trailers are no body: more of them than of it, and somebody plays.
            if self._seen - self._size > self._size + self.site.limits.header_bytes:
                self._end(large_body(self._head.endpoint))
        elif fresh and self._complete and self.state in _FRESH:
            self._memorise(data)

    def _chunked(self) -> bool:
        """Whether the body that is arriving is chunked."""
        return self.state == _BODY and self._head is not None and self._head.length < 0

    def _memorise(self, data: bytes) -> None:
        end, head = data.find(b"\r\n\r\n") + 4, self._head
        if head is not None and head.keep and len(data) - end == head.length:
            self.site.remember(data[:end], head)

    def on_message_begin(self) -> None:
        if self.state in _OVER:
            return
        self._fields, self._body, self._url, self._size = [], [], b"", 0
        self._enter(_HEAD)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value))
        if len(self._fields) > self.site.limits.headers:
            self._end(_LARGE_HEAD)

    def on_headers_complete(self) -> None:
        if self.state in _OVER:
            return
        size = len(self._url) + sum(len(n) + len(v) for n, v in self._fields)
        if size > self.site.limits.header_bytes:
            self._end(_LARGE_HEAD)
            return
        parser = self._parser
        found = self.site.read(Line(parser.get_method(), self._url, self._fields,
                                    parser.get_http_version(), parser.should_keep_alive()))  # fmt: skip
        if isinstance(found, Refusal):
            self._end(found)
            return
        self._head = found
        if found.expects and self.transport is not None and found.length:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._enter(_BODY)

    def on_body(self, data: bytes) -> None:
        if self._head is None or self.state in _OVER:
            return
        self._size += len(data)
        if self._size > self._head.endpoint.max_body:
            self._end(large_body(self._head.endpoint))
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._head is None or self.state in _OVER:
            return
        self._complete, self._seen, self._size = True, 0, 0
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._dispatch(self._head, body)

    # -- what becomes of it

    def asks(self, stem: str) -> bool:
        """Whether the path of the request that is being read begins so."""
        return self._url.startswith(stem.encode())

    def _dispatch(self, head: Head, body: bytes) -> None:
        exchange = Exchange(self, head, body)
        self.open.append(exchange)
        self.state, self.since = _BUSY, self.site.beat
        if len(self.open) >= self.site.limits.pipeline:
            self._pause()
        try:
            if head.bucket is not None and (refusal := head.bucket.refuse(monotonic())) is not None:
                exchange.refuse(refusal)
            else:
                head.endpoint.handler(exchange)
        except Exception:  # noqa: BLE001 - the border of a request: a bad one must not end the gateway
            traceback.print_exc()
            exchange.refuse(Refusal(status=500, code="internal", message="something went wrong here",
                                    hint="the log has the details under this id"))  # fmt: skip

    def reply(self, exchange: Exchange, payload: bytes) -> None:
        """Send, or keep until the answers before it are sent."""
        transport, waiting = self.transport, self.open
        if transport is None or not waiting:
            return
        exchange._payload = payload
        first = waiting[0]
        while waiting and (ready := waiting[0]._payload) is not None:
            transport.write(ready)
            if waiting.popleft()._last:
                self._finish()
                self._forsake()
                return
        if first is not (waiting[0] if waiting else None):
            self._moved()
        if not waiting:
            self._resume()
            if self._ended:
                self.close()
            elif self.state == _BUSY:
                self.state, self.since = _IDLE, self.site.beat

    def first(self, exchange: Exchange) -> bool:
        """Whether the next byte of this connection belongs to `exchange`, and the caller reads."""
        return not self.stalled and bool(self.open) and self.open[0] is exchange

    async def moves(self) -> None:
        """Until the caller reads on, another answer is due, or the connection is lost."""
        if self._moves is None:
            self._moves = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._moves)

    def _moved(self) -> None:
        moves, self._moves = self._moves, None
        if moves is not None and not moves.done():
            moves.set_result(None)

    def _forsake(self) -> None:
        """Nothing more is answered here: tell those who still work on it."""
        self.site.forsaken += bool(self.open)
        left = [e.forsaken for e in self.open if e.forsaken is not None]
        self.open.clear()
        self._moved()
        for tell in left:
            tell()

    def _finish(self) -> None:
        """The last answer is written. A caller that was refused may still be sending: closing at
        once would reset it before it reads why."""
        if self.state == _LINGER and self.transport is not None:
            self.transport.write_eof()
        else:
            self.close()

    def _end(self, refusal: Refusal) -> None:
        """Refuse and close, after the answers that are due; what still arrives is not read."""
        if self.transport is None or self.state in _OVER:
            return
        self._enter(_LINGER)
        last = Exchange(self, None, b"")
        self.open.append(last)
        last.refuse(refusal)

    def _enter(self, state: int) -> None:
        self.state, self.since = state, self.site.beat


_LARGE_HEAD = Refusal(status=431, code="header", message="the request's head is too large",
                      hint="16 kB and 100 headers are the limit")  # fmt: skip
