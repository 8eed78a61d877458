"""Endpoints: every door of the gateway, each saying who may call it, how much it reads and how long it takes."""

import hmac
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Generic, Literal, TypeVar, get_args

from msgspec import Struct

from fairlead.core.identity import Pass, Passes, fingerprint
from fairlead.errors import Invalid
from fairlead.serve.guard import Bucket
from fairlead.serve.refusal import Refusal

__all__ = ["Access", "Callers", "Endpoint", "Table", "is_loopback"]

Access = Literal["anyone", "caller", "operator"]
"""anyone: no questions asked; caller, operator: with the token, or from this machine."""

T = TypeVar("T")


class Endpoint(Struct, Generic[T], frozen=True, kw_only=True):
    """`max_body` in bytes, `deadline` in seconds; `handler` takes one exchange and answers it."""

    method: str
    path: str
    access: str
    max_body: int
    deadline: float
    handler: Callable[[T], None]


class Table(Generic[T]):
    """All endpoints, found by exact method and path: no prefix, no normalising, default deny."""

    def __init__(self, endpoints: Iterable[Endpoint[T]], known: Collection[str] = get_args(Access)) -> None:
        """`known`: what an endpoint may say of who may call it. Raises Invalid when one does not
        declare that or its limits, or two are the same."""
        self._doors: dict[tuple[str, str], Endpoint[T]] = {}
        self._methods: dict[str, list[str]] = {}
        for endpoint in endpoints:
            _declared(endpoint, known)
            if (endpoint.method, endpoint.path) in self._doors:
                raise Invalid(f"{endpoint.method} {endpoint.path} is declared twice")
            self._doors[endpoint.method, endpoint.path] = endpoint
            self._methods.setdefault(endpoint.path, []).append(endpoint.method)

    def all(self) -> tuple[Endpoint[T], ...]:
        return tuple(self._doors.values())

    def find(self, method: str, path: str) -> Endpoint[T] | Refusal:
        """The endpoint, or 404 naming the nearest path, or 405 naming the methods."""
        endpoint = self._doors.get((method, path))
        if endpoint is not None:
            return endpoint
        methods = self._methods.get(path)
        if methods is None:
            near = get_close_matches(path, self._methods, n=1, cutoff=0.5)
            door = "/predict answers a row" if "/predict" in self._methods else "/v1/chat/completions answers a chat"
            hint = f"did you mean {near[0]}?" if near else f"POST {door}"
            return Refusal(status=404, code="no_such_path", message="no such path", hint=hint)
        allowed = ", ".join(sorted(methods))
        return Refusal(status=405, code="method", message=f"this path does not take {method}",
                       hint=f"use {allowed}", headers=f"allow: {allowed}\r\n".encode())  # fmt: skip


class Callers:
    """Decides who may call. On loopback everyone on this machine, but no web page in a browser:
    `Host` and `Origin` must name this machine. Elsewhere, and everywhere once a service was given a
    token, whoever shows one: that of the configuration, or one that `admit` was told of."""

    def __init__(
        self, host: str, token: str = "", passes: Passes | None = None, rate: float = 0.0
    ) -> None:
        """`rate`: requests a second of one token; 0: any. Raises Invalid when the gateway would be open to the network without a token."""
        self._loopback = is_loopback(host)
        self._token = token.encode()
        self._asks = bool(token)
        self._passes: tuple[Pass, ...] = ()
        self._rate, self._buckets = rate, dict[str, Bucket]()
        self.admit(passes, 0.0)
        if not self._loopback and not self._asks:
            raise Invalid(f"serving on {host} is open to the network, and there is no token",
                          hint="`fairlead people add NAME --role service` makes one, "
                               "or serve on 127.0.0.1")  # fmt: skip

    def admit(self, passes: Passes | None, now: float) -> bool:
        """From now on these may call; whether that is a change."""
        before = self._asks, self._passes
        if passes is not None:
            self._asks = passes.asks or bool(self._token)
            self._passes = tuple(p for p in passes.passes if now < p.expires_at)
        return before != (self._asks, self._passes)

    def refuse(self, access: str, host: str, origin: str, authorization: bytes) -> Refusal | None:
        """None when this caller may."""
        if self._loopback and not (is_loopback(_name(host)) and _ours(origin)):
            return Refusal(status=403, code="origin", message="this host or origin may not call",
                           hint="call http://127.0.0.1 or http://localhost directly")  # fmt: skip
        if access == "anyone" or not self._asks or self._known(access, authorization):
            return None
        return Refusal(status=401, code="token", message="a valid token is missing",
                       hint="send Authorization: Bearer TOKEN",
                       headers=b"www-authenticate: Bearer\r\n")  # fmt: skip

    def bucket(self, access: str, authorization: bytes) -> Bucket | None:
        """What bounds whoever showed this and was not refused; None where nothing does."""
        if not (self._rate and self._asks) or access == "anyone":
            return None
        return self._buckets.setdefault(fingerprint(authorization), Bucket(self._rate))

    def _known(self, access: str, authorization: bytes) -> bool:
        """Compares with every token, whichever it is, so that the time tells nothing."""
        scheme, _, shown = authorization.partition(b" ")
        if scheme != b"Bearer":
            return False
        seen = fingerprint(shown)
        ours = bool(self._token) and hmac.compare_digest(shown, self._token)
        return ours or any([hmac.compare_digest(p.digest, seen) and access in p.doors for p in self._passes])


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, and this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """``Host`` without its port; an absent one counts as local (HTTP/1.0 clients)."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] or host if host else "localhost"


def _ours(origin: str) -> bool:
    """Whether a page of this machine asks, or no page; what a sandbox or a file sends (``null``) is none."""
    _, _, host = origin.partition("://")
    return not origin or (bool(host) and is_loopback(_name(host)))


def _declared(endpoint: Endpoint[T], known: Collection[str]) -> None:
    name = f"{endpoint.method} {endpoint.path}"
    if endpoint.access not in known:
        raise Invalid(f"{name} does not say who may call it", hint=f"one of {', '.join(known)}")
    if endpoint.max_body < 0 or endpoint.deadline <= 0:
        raise Invalid(f"{name} declares a body of {endpoint.max_body} bytes and a deadline of "
                      f"{endpoint.deadline} s", hint="bytes >= 0 and seconds > 0")  # fmt: skip
