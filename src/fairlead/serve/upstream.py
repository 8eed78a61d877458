"""Upstream: the way to a provider over HTTP/1.1, by verified TLS, to an address that was checked.

A name is resolved for every new connection, each of its addresses must be one that may be reached,
and the connection goes to that very address (promises.md S11). Redirects are not followed and
proxies of the environment are not used. Connections are kept and used again.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fairlead.core.address import reachable
from fairlead.errors import Invalid, Missing, Unavailable

__all__ = ["Answer", "Upstream"]

CONNECT = 5.0
"""Seconds to resolve, connect and shake hands."""
IDLE, KEPT = 20.0, 32
"""Seconds a connection is kept for the next request, and how many are."""
LAST = 0.05
"""Seconds between the end of a stream and the end of the body around it."""
PIECE, HEAD = 2**16, 2**16
"""Bytes read at once, and of a head at most."""


class Answer:
    """A provider's answer: `status` and `headers` (lower case) once its head is there; then iterate
    over the pieces of its body. Nothing is read before it is asked for."""

    def __init__(self, link: "_Link") -> None:
        self._link = link
        parser, self._faults = _llhttp()
        self._parser = parser(self)
        self._pieces: deque[bytes] = deque()
        self._begun = self._ready = self._done = self._keep = False
        self.status, self.headers = 0, dict[bytes, bytes]()

    async def head(self) -> None:
        """Until the head is there. Raises Unavailable."""
        seen = 0
        while not self._ready and seen <= HEAD:
            seen += await self._read()
        if not self._ready or sum(len(n) + len(v) for n, v in self.headers.items()) > HEAD:
            raise Unavailable("the head of its answer is too long")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._pieces or not self._done:
            if self._pieces:
                yield self._pieces.popleft()
            else:
                await self._read()

    async def whole(self, most: int) -> bytes:
        """The body. Raises Unavailable, also for one over `most` bytes."""
        found, size = [], 0
        async for piece in self:
            found.append(piece)
            size += len(piece)
            if size > most:
                raise Unavailable(f"its answer is over {most} bytes")
        return b"".join(found)

    async def finish(self) -> None:
        """Read what little is left, so that the connection can be used again; nobody waits for more."""
        with suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(LAST):
                await self.whole(PIECE)

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request."""
        return self._done and self._keep

    async def _read(self) -> int:
        broken: OSError | None = None
        try:
            data = await self._link.reader.read(PIECE)
        except OSError as error:
            data, broken = b"", error
        if not data and not self._begun and not self._link.fresh:
            raise _Stale
        self._begun = True
        if broken is not None:
            raise Unavailable(f"the connection broke: {_words(broken)}")
        if not data:
            if not self._ready or b"content-length" in self.headers or b"transfer-encoding" in self.headers:
                raise Unavailable("it ended the connection in the middle of its answer")
            self._done = True  # A body without a length ends with its connection.
        else:
            try:
                self._parser.feed_data(data)
            except self._faults as error:
                raise Unavailable(f"its answer is no HTTP: {error}"[:200]) from None
        return len(data)

    # -- the parser speaks

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._ready, self._keep = self.status >= 200, bool(self._parser.should_keep_alive())

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        self._done = self._ready


class _Stale(Exception):
    """A kept connection had been ended by the other side before it answered."""


class _Link:
    """One connection. `fresh`: nothing was asked on it before."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.fresh = reader, writer, True
        self.idle_since = 0.0

    def abort(self) -> None:
        """End it at once: the provider stops working when its connection is gone."""
        self.writer.transport.abort()


class Upstream:
    """Connections to the one host of a base address. Raises Invalid for an address that cannot be meant."""

    def __init__(self, url: str, *, allow_private: bool) -> None:
        self._parts, self._allow_private = _parts(url, allow_private), allow_private
        self._secure = self._parts.scheme == "https"
        self._port = self._parts.port or (443 if self._secure else 80)
        self._idle: list[_Link] = []
        self._closed = False
        self._tls = ssl.create_default_context() if self._secure else None

    @asynccontextmanager
    async def post(self, path: str, body: bytes, key: str) -> AsyncIterator[Answer]:
        """Ask; the answer's head is there when the context begins. Leaving it before the body ended
        ends the connection. Raises Unavailable, or Invalid (an address that may not be reached)."""
        link, answer = await self._ask(path, body, key)
        try:
            yield answer
        finally:
            if answer.reusable and len(self._idle) < KEPT and not self._closed:
                link.fresh, link.idle_since = False, asyncio.get_running_loop().time()
                self._idle.append(link)
            else:
                link.abort()

    def close(self) -> None:
        """End the connections that are kept, and keep no other."""
        self._closed = True
        for link in self._idle:
            link.abort()
        self._idle.clear()

    async def _ask(self, path: str, body: bytes, key: str) -> tuple[_Link, Answer]:
        request = self._request(path, body, key)
        while True:
            link = self._kept() or await self._connect()
            answer = Answer(link)
            try:
                link.writer.write(request)
                await link.writer.drain()
                await answer.head()
            except _Stale:
                link.abort()
                continue
            except OSError as error:
                link.abort()
                if link.fresh:
                    raise Unavailable(f"the connection broke: {_words(error)}") from None
                continue
            except BaseException:
                link.abort()
                raise
            return link, answer

    def _request(self, path: str, body: bytes, key: str) -> bytes:
        host = self._parts.netloc
        lines = [f"POST {self._parts.path.rstrip('/')}{path} HTTP/1.1", f"host: {host}", "user-agent: fairlead",
                 "content-type: application/json", "accept: application/json, text/event-stream",
                 "accept-encoding: identity", f"content-length: {len(body)}",
                 *([f"authorization: Bearer {key}"] if key else []), "", ""]  # fmt: skip
        return "\r\n".join(lines).encode("latin-1", "replace") + body

    def _kept(self) -> _Link | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            link = self._idle.pop()
            if now - link.idle_since < IDLE and not link.reader.at_eof() and not link.writer.is_closing():
                return link
            link.abort()
        return None

    async def _connect(self) -> _Link:
        host, loop = self._parts.hostname or "", asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT):
                found = await loop.getaddrinfo(host, self._port, type=1)
                addresses = list(dict.fromkeys(str(a[4][0]) for a in found))
                for address in addresses:
                    if not reachable(address, allow_private=self._allow_private):
                        raise Invalid(f"{host} is a private address", hint="say chat.allow_private: true "
                                      "for a provider in your own network")  # fmt: skip
                return await self._first(addresses, host)
        except TimeoutError:
            raise Unavailable(f"{host} did not answer within {CONNECT:g} s") from None
        except OSError as error:
            raise Unavailable(f"{host} cannot be reached: {_words(error)}") from None

    async def _first(self, addresses: list[str], host: str) -> _Link:
        """A connection to the first address that takes one."""
        trouble: OSError = OSError("the name has no address")
        for address in addresses:
            try:
                return _Link(*await asyncio.open_connection(
                    address, self._port, ssl=self._tls, server_hostname=host if self._secure else None))  # fmt: skip
            except OSError as error:
                trouble = error
        raise trouble


def _parts(url: str, allow_private: bool) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Invalid("the provider's address is no URL", hint="such as https://api.example.com/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise Invalid("the provider's address is no http(s) URL with a host, without password and query",
                      hint="such as https://api.example.com/v1; keys go into key_env or key_file")  # fmt: skip
    if parts.scheme == "http" and not allow_private:
        raise Invalid(f"http://{parts.hostname} sends key and questions in the clear",
                      hint="use https, or say chat.allow_private: true for a provider in your own network")  # fmt: skip
    return parts


def _words(error: OSError) -> str:
    """What happened, without addresses."""
    return error.strerror or type(error).__name__


def _llhttp() -> tuple[Any, type[Exception]]:
    """The parser, and what it raises. Raises Missing."""
    try:
        import httptools
    except ImportError:
        raise Missing("httptools is not installed", hint='pip install "fairlead[serve]"') from None
    return httptools.HttpResponseParser, httptools.HttpParserError
