"""Exchanges: one request and its answer, whole or piece by piece, whatever carries them."""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from fairlead.core.trace import parent_of, span_of
from fairlead.serve.head import Head
from fairlead.serve.refusal import REASONS, Refusal

__all__ = ["Exchange", "Stream"]

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
JSON = b"application/json"
CLOSE = b"connection: close\r\n"
OIP = "/v2"
"""Below it errors have the form of Open Inference Protocol v2."""


class Carrier(Protocol):
    """What an exchange knows of its connection."""

    open: "deque[Exchange]"
    transport: Any

    @property
    def site(self) -> Any: ...
    def asks(self, stem: str) -> bool: ...
    def reply(self, exchange: "Exchange", payload: bytes) -> None: ...
    def first(self, exchange: "Exchange") -> bool: ...
    async def moves(self) -> None: ...


class Exchange:
    """One request and, once, its answer, whole or as a `stream`. `gone` when nobody waits for it any
    more; `forsaken` is called then, if it was not answered."""

    __slots__ = ("_connection", "_last", "_payload", "body", "forsaken", "head", "id", "stream")

    def __init__(self, connection: Carrier, head: Head | None, body: bytes) -> None:
        self._connection, self.head, self.body = connection, head, body
        self._payload: bytes | None = None
        self._last = head is None or not head.keep
        self.id = ""
        self.stream: Stream | None = None
        self.forsaken: Callable[[], object] | None = None

    @property
    def gone(self) -> bool:
        return self._connection.transport is None

    @property
    def size(self) -> int:
        """Bytes of the answer, head and all."""
        return len(self._payload or b"") + (self.stream.size if self.stream else 0)

    def ok(self, body: bytes) -> None:
        """200 with a JSON body: the short way."""
        connection = self._connection
        if self._last or connection.site.draining or (self.head is not None and self.head.trace):
            self.answer(200, body)
        else:
            connection.reply(self, _OK % len(body) + body)

    def answer(self, status: int, body: bytes, kind: bytes = JSON, headers: bytes = b"") -> None:
        """Any status."""
        length = b"content-length: %d\r\n" % len(body)
        self._connection.reply(self, self._line(status, kind, length + headers) + body)

    def begin(self, kind: bytes, headers: bytes) -> "Stream":
        """200, and a body that comes piece by piece."""
        old = self.head is not None and self.head.old
        self._last |= old
        self.stream = Stream(self._connection, self, chunked=not old)
        self.stream.write(self._line(200, kind, headers + (b"" if old else b"transfer-encoding: chunked\r\n")))
        return self.stream

    def _line(self, status: int, kind: bytes, headers: bytes) -> bytes:
        connection = self._connection
        if connection.site.draining and connection.open and connection.open[-1] is self:
            self._last = True
        return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n%b%b\r\n" % (
            status, REASONS[status], kind, headers + self._trace(), CLOSE if self._last else b"")  # fmt: skip

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


class Stream:
    """The body of an answer that comes piece by piece. `chunked`: else the end of the connection is
    its end. `sign`: bytes that say nothing, to find out whether the caller is still there."""

    __slots__ = ("_chunked", "_connection", "_exchange", "_held", "sign", "size")

    def __init__(self, connection: Carrier, exchange: Exchange, *, chunked: bool) -> None:
        self._connection, self._exchange, self._chunked = connection, exchange, chunked
        self._held = b""
        self.sign = self._framed(b": \n\n")
        self.size = 0

    async def send(self, data: bytes) -> None:
        """Write a piece, once the caller has taken what was written before and it is this answer's
        turn. A caller that is gone takes everything."""
        while not (self._exchange.gone or self._connection.first(self._exchange)):
            await self._connection.moves()
        self.write(self._framed(data))

    def end(self, data: bytes) -> None:
        """Send the last piece, however small the caller's window is."""
        last = self._framed(data) + (b"0\r\n\r\n" if self._chunked else b"")
        self._connection.reply(self._exchange, self._held + last)

    def write(self, data: bytes) -> None:
        """Send, or hold what little there is until it is this answer's turn."""
        self._held += data
        transport, waiting = self._connection.transport, self._connection.open
        if transport is not None and waiting and waiting[0] is self._exchange:
            self.size += len(self._held)
            transport.write(self._held)
            self._held = b""

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
