"""HTTP/1.1: connections that are guarded before anything is parsed, and answered in order."""

import asyncio
import contextlib
import fcntl
import sys
import termios
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from msgspec import Struct

from fairlead.core.trace import parent_of, span_of
from fairlead.errors import Missing
from fairlead.serve.endpoint import Callers, Endpoint, Table
from fairlead.serve.refusal import REASONS, Refusal

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

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
JSON = b"application/json"
CLOSE = b"connection: close\r\n"
OIP = "/v2"
"""Below it errors have the form of Open Inference Protocol v2."""


class Limits(Struct, frozen=True, kw_only=True):
    """What one connection may cost. Seconds count from the first byte of the part, not the last."""

    header_bytes: int = 16_384
    headers: int = 100
    head_seconds: float = 5.0
    body_seconds: float = 8.0
    idle_seconds: float = 60.0
    write_seconds: float = 8.0
    connections: int = 10_000
    pipeline: int = 64


class Head(Struct, frozen=True, kw_only=True, gc=False):
    """What matters of a request's head. `length` is -1 when the body is chunked, `json` the bytes
    of JSON before binary tensors, -1 when there are none; `token`: what the caller showed, kept
    only where heads are not remembered."""

    endpoint: Endpoint[Any]
    length: int
    keep: bool
    unit: str = ""
    trace: bytes = b""
    expects: bool = False
    json: int = -1
    query: bytes = b""
    token: bytes = b""


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

    def remember(self, data: bytes, head: Head) -> None:
        """The same bytes mean the same head, so their next parse is a look-up."""
        if len(data) <= self._memorable and not (head.unit or head.trace or head.expects):
            if len(self.heads) >= MEMORY:
                self.heads.clear()
            self.heads[data] = head

    def keeps(self, fields: dict[bytes, bytes]) -> bytes:
        """The token of a head that is read once."""
        return b"" if self._memorable else fields.get(b"authorization", b"").removeprefix(b"Bearer ")

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


class Exchange:
    """One request and, once, its answer. `gone` when nobody waits for the answer any more."""

    __slots__ = ("_connection", "_last", "_payload", "body", "head", "id")

    def __init__(self, connection: "Connection", head: Head | None, body: bytes) -> None:
        self._connection, self.head, self.body = connection, head, body
        self._payload: bytes | None = None
        self._last = head is None or not head.keep
        self.id = ""

    @property
    def gone(self) -> bool:
        return self._connection.transport is None

    @property
    def size(self) -> int:
        """Bytes of the answer, head and all."""
        return len(self._payload or b"")

    def ok(self, body: bytes) -> None:
        """200 with a JSON body: the short way."""
        connection = self._connection
        if self._last or connection.site.draining or (self.head is not None and self.head.trace):
            self.answer(200, body)
        else:
            connection.reply(self, _OK % len(body) + body)

    def answer(self, status: int, body: bytes, kind: bytes = JSON, headers: bytes = b"") -> None:
        """Any status."""
        connection = self._connection
        if connection.site.draining and connection.open and connection.open[-1] is self:
            self._last = True
        line = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
            status, REASONS[status], kind, len(body), headers + self._trace(),
            CLOSE if self._last else b"")  # fmt: skip
        connection.reply(self, line + body)

    def _trace(self) -> bytes:
        """The header that continues the caller's trace with the span of this answer."""
        parent = parent_of(self.head.trace) if self.head is not None else None
        if parent is None:
            return b""
        self.id = self.id or self._connection.site.new_id()
        return b"traceparent: %b\r\n" % parent.line(span_of(self.id, "gateway"))

    def refuse(self, refusal: Refusal) -> None:
        """An error body with an id."""
        connection, head = self._connection, self.head
        self.id = self.id or connection.site.new_id()
        flat = head.endpoint.path.startswith(OIP) if head else connection.asks(OIP)
        self.answer(refusal.status, refusal.body(self.id, flat=flat), headers=refusal.head())
        connection.site.refused(self, refusal)


class Connection(asyncio.Protocol):
    """One caller. A request is parsed by llhttp; a head seen before is recognised by its bytes."""

    __slots__ = ("_body", "_complete", "_ended", "_fields", "_head", "_parser", "_paused", "_seen",
                 "_size", "_url", "open", "since", "site", "stalled", "state", "transport")  # fmt: skip

    def __init__(self, site: Site) -> None:
        self.site = site
        self.open: deque[Exchange] = deque()
        self.transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._head: Head | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._url = b""
        self._seen = self._size = self.stalled = 0
        self._complete = self._paused = self._ended = False
        self.state, self.since = _NEW, site.beat

    # -- the transport speaks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        # Whatever the kernel does not take at once counts as not read.
        self.transport.set_write_buffer_limits(0)
        self.site.connections.add(self)
        if len(self.site.connections) > self.site.limits.connections:
            self._end(Refusal(status=503, code="connections", message="too many connections",
                              hint="reuse connections, or try again", retry_after=1))  # fmt: skip

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.site.connections.discard(self)
        self.site.forsaken += bool(self.open)
        self.open.clear()

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
            self.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n")

    def pause_writing(self) -> None:
        """The caller does not read its answers: take no more of its requests."""
        self.stalled = self.site.beat
        self._pause()

    def resume_writing(self) -> None:
        self.stalled = 0
        self._resume()

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
        found = self._read_head()
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

    def _read_head(self) -> Head | Refusal:
        fields = dict(self._fields)
        hosts = sum(1 for name, _ in self._fields if name == b"host")
        if hosts > 1 or (not hosts and self._parser.get_http_version() != "1.0"):
            return Refusal(status=400, code="host", message=f"{hosts} Host headers",
                           hint="send exactly one")  # fmt: skip
        if b"upgrade" in fields and b"upgrade" in fields.get(b"connection", b"").lower():
            return Refusal(status=400, code="upgrade", message="there is no other protocol to upgrade to",
                           hint="tell the client not to upgrade (Java: HttpClient.Version.HTTP_1_1)")  # fmt: skip
        method = self._parser.get_method().decode("latin-1")
        path = self._url.partition(b"?")[0].decode("latin-1")
        endpoint = self.site.table.find(method, path)
        if isinstance(endpoint, Refusal):
            return endpoint
        refusal = self.site.callers.refuse(
            endpoint.access, fields.get(b"host", b"").decode("latin-1"),
            fields.get(b"origin", b"").decode("latin-1"), fields.get(b"authorization", b""))  # fmt: skip
        if refusal is not None:
            return refusal
        expects = fields.get(b"expect", b"").lower()
        if expects not in (b"", b"100-continue"):
            return Refusal(status=417, code="expect", message="only 100-continue can be expected",
                           hint="leave the Expect header out")  # fmt: skip
        text = fields.get(b"inference-header-content-length", b"-1")
        if text != b"-1" and not (text.isdigit() and len(text) < 10):
            return Refusal(status=400, code="http", message="Inference-Header-Content-Length is no number",
                           hint="the bytes of JSON before the tensors")  # fmt: skip
        length = -1 if b"transfer-encoding" in fields else int(fields.get(b"content-length", b"0"))
        if length > endpoint.max_body:
            return large_body(endpoint)
        return Head(endpoint=endpoint, length=length, keep=self._parser.should_keep_alive(),
                    unit=fields.get(b"x-unit", b"").decode("utf-8", "replace"),
                    trace=fields.get(b"traceparent", b""), expects=bool(expects), json=int(text),
                    query=self._url.partition(b"?")[2], token=self.site.keeps(fields))  # fmt: skip

    def _dispatch(self, head: Head, body: bytes) -> None:
        exchange = Exchange(self, head, body)
        self.open.append(exchange)
        self.state, self.since = _BUSY, self.site.beat
        if len(self.open) >= self.site.limits.pipeline:
            self._pause()
        try:
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
        while waiting and (ready := waiting[0]._payload) is not None:
            transport.write(ready)
            if waiting.popleft()._last:
                waiting.clear()
                self._finish()
                return
        if not waiting:
            self._resume()
            if self._ended:
                self.close()
            elif self.state == _BUSY:
                self.state, self.since = _IDLE, self.site.beat

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


def large_body(endpoint: Endpoint[Any]) -> Refusal:
    """The refusal of a body over the limit of its door."""
    return Refusal(status=413, code="body", message=f"the body is over {endpoint.max_body} bytes",
                   hint="send fewer rows at once, or raise serve.max_body_kb")  # fmt: skip
