"""The web as seen from a server that is told addresses: an address is checked, then used, once.

A name is resolved once, every answer must be a public address, and the connection goes to that
very address, so that a name which answers differently the second time gains nothing (promises.md
S11). Redirects are not followed. Proxies of the environment are not used.
"""

import socket
import ssl
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from fairlead.core.address import reachable
from fairlead.core.alert import Refused
from fairlead.errors import Invalid, Unavailable

__all__ = ["dial", "post"]

TIMEOUT = 5.0
"""Seconds to connect, and between two packets of the answer."""
MOST = 4096
"""Bytes of an answer that are read."""
AGAIN = {408, 425, 429}
"""Refusals that a later attempt may not meet; so are all from 500 on."""

NEVER = {400, 413, 422}
"""Refusals of what was sent, whoever sends it."""


def post(url: str, body: bytes, headers: dict[str, str], *, allow_private: bool = False) -> None:
    """Send `body` and return when the answer is 2xx. `allow_private`: the address may be a private
    one, or this machine. Raises Unavailable (no answer, 5xx, 429), Invalid (a bad address or
    token), Refused (400, 413, 422); no message holds more of the address than its host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Invalid("the address is no URL", hint="such as https://hooks.example.com/alerts") from None  # fmt: skip
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise Invalid("the address is no http(s) URL with a host and without a password",
                      hint="such as https://hooks.example.com/alerts")  # fmt: skip
    secure = parts.scheme == "https"
    if not secure and not allow_private:
        raise Invalid(f"http://{host} sends what it is told in the clear", hint="use https, or "
                      "say `allow_private: true` for a receiver in your own network")  # fmt: skip
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        status = _send(host, port or (443 if secure else 80), path, body, headers,
                       secure=secure, allow_private=allow_private)  # fmt: skip
    except (OSError, HTTPException, ValueError) as error:
        raise Unavailable(f"{host} does not answer: {_words(error)}",
                          hint="it is tried again; is the receiver up?") from None  # fmt: skip
    if not 200 <= status < 300:
        raise _refused(host, status)


def dial(host: str, port: int, *, allow_private: bool = False, timeout: float = TIMEOUT) -> socket.socket:
    """A connection to the first address of `host` that answers, when all its addresses may be
    reached. Raises Invalid (one may not), OSError (none answers)."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not reachable(str(address[0]), allow_private=allow_private):
            raise Invalid(f"{host} is a private address, and receivers are on the internet",
                          hint="say `allow_private: true` for a receiver in your own network")  # fmt: skip
    trouble: OSError = OSError("the name has no address")
    for family, kind, protocol, _, address in found:
        line = socket.socket(family, kind, protocol)
        line.settimeout(timeout)
        try:
            line.connect(address)
        except OSError as error:
            line.close()
            trouble = error
        else:
            return line
    raise trouble


def _send(host: str, port: int, path: str, body: bytes, headers: dict[str, str], *,
          secure: bool, allow_private: bool) -> int:  # fmt: skip
    with closing(HTTPConnection(host, port)) as connection:
        line = dial(host, port, allow_private=allow_private)
        # `sock` is where http.client looks for an open connection before it opens one of its own.
        connection.sock = line
        if secure:
            connection.sock = ssl.create_default_context().wrap_socket(line, server_hostname=host)
        connection.request("POST", path, body, {"User-Agent": "fairlead", **headers})
        answer = connection.getresponse()
        answer.read(MOST)
        return answer.status


def _refused(host: str, status: int) -> Invalid | Unavailable:
    if status in NEVER:
        return Refused(f"{host} refuses this one with {status}", hint="is it the right receiver?")
    if status >= 500 or status in AGAIN:
        return Unavailable(f"{host} answers {status}", hint="it is tried again; see its own log")
    if 300 <= status < 400:
        return Invalid(f"{host} redirects ({status}), which is not followed",
                       hint="name the address that it redirects to")  # fmt: skip
    return Invalid(f"{host} refuses with {status}", hint="look at the address and at its token")


def _words(error: Exception) -> str:
    """What went wrong, without what may hold an address or a token."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
