"""The wire to a registry: requests that authenticate, follow redirects and never hold a whole blob."""

import ssl
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from fairlead.errors import Forbidden, Invalid, Missing, Unavailable

__all__ = ["Wire", "is_local"]

TIMEOUT = 60.0
"""Seconds a registry may stay silent."""
CHUNK = 1 << 20
MOST_ERROR = 4096
REDIRECTS = 5

Authenticate = Callable[[str], str]
"""Challenge -> Authorization header."""


def is_local(host: str) -> bool:
    """Whether a registry is on this machine: only there is plain HTTP spoken."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class Wire:
    """Speaks HTTP/1.1 to the registry `host`, each request over a connection of its own: they are few,
    and the bytes many."""

    def __init__(self, host: str, authenticate: Authenticate, authorities: tuple[Path, ...] = ()) -> None:
        """`authorities`: certificates (PEM) that are trusted beside the system's; with them a host on
        this machine speaks HTTPS, too. Raises Invalid for a file that is none."""
        self.plain = is_local(host) and not authorities
        self.home = f"{'http' if self.plain else 'https'}://{host}"
        self._authenticate, self._authorization = authenticate, ""
        self._authorities = authorities
        self._trust = None if self.plain else ssl.create_default_context()
        for path in authorities if self._trust else ():
            try:
                self._trust.load_verify_locations(path)  # type: ignore[union-attr]
            except (OSError, ssl.SSLError) as error:
                raise Invalid(f"no certificates in {path}: {error}", hint="a file in PEM form") from None

    def elsewhere(self, host: str) -> "Wire":
        """Another host, whose certificates are verified alike, and which is shown nothing."""
        return Wire(host, lambda _: "", self._authorities)

    def ask(
        self, method: str, url: str, wanted: Collection[int], headers: Mapping[str, str] = {},
        body: "bytes | Iterable[bytes] | None" = None,
    ) -> HTTPResponse:  # fmt: skip
        """The answer, whose body is not yet read. `url` may be a path.

        Raises Missing (404), Forbidden (401, 403) and Unavailable for what is not `wanted`.
        """
        answer = self._sent(method, url, headers, body)
        if answer.status == 401:
            challenge = answer.headers.get("www-authenticate", "")
            answer.read()
            self._authorization = self._authenticate(challenge)
            if not (body is None or isinstance(body, bytes)):
                raise Unavailable("the token ran out on the way", hint="try again")  # the stream is spent
            answer = self._sent(method, url, headers, body)
        for _ in range(REDIRECTS):
            if answer.status not in (301, 302, 303, 307, 308) or method not in ("GET", "HEAD"):
                break
            answer.read()
            url = urljoin(urljoin(self.home, url), answer.headers.get("location", ""))
            answer = self._sent(method, url, headers, None)
        if answer.status not in wanted:
            raise _refusal(method, url, answer)
        return answer

    def _sent(
        self, method: str, url: str, headers: Mapping[str, str], body: "bytes | Iterable[bytes] | None"
    ) -> HTTPResponse:  # fmt: skip
        parts = urlsplit(urljoin(self.home, url))
        at_home = f"{parts.scheme}://{parts.netloc}" == self.home
        if parts.scheme != "https" and not at_home:
            raise Unavailable(f"the registry points to {parts.scheme}://{parts.netloc}", hint="only https is followed")
        own = {"Authorization": self._authorization} if at_home and self._authorization else {}
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        line = HTTPConnection(parts.netloc, timeout=TIMEOUT, blocksize=CHUNK) if parts.scheme == "http" else (
            HTTPSConnection(parts.netloc, timeout=TIMEOUT, blocksize=CHUNK, context=self._trust))  # certificates are verified
        try:
            line.request(method, target, body, {**headers, **own, "Connection": "close"})
            answer = line.getresponse()
            if line.sock is not None:
                line.sock.close()  # once the answer is read: it holds on to what it reads from
            return answer
        except (OSError, HTTPException) as error:
            line.close()
            raise Unavailable(f"{parts.netloc} does not answer: {type(error).__name__}: {error}",
                              hint="is it the right registry, and up?") from error  # fmt: skip


def _refusal(method: str, url: str, answer: HTTPResponse) -> Exception:
    said = b""
    with suppress(OSError, HTTPException), answer:
        said = answer.read(MOST_ERROR)
    text = f"{method} {urlsplit(url).path}: {answer.status} {said.decode(errors='replace')[:300]}"
    if answer.status == 404:
        return Missing(text, hint="is the name right, and was it pushed?")
    if answer.status in (401, 403):
        return Forbidden(text, hint="`podman login` or `docker login` it with an account that may")
    return Unavailable(text, hint="the registry refused; its log says more")
