"""Access to a registry: what answers its challenge, and where a login is kept."""

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec

from fairlead.errors import Forbidden, Invalid

__all__ = ["answer", "login"]

PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def login(host: str, files: tuple[Path, ...]) -> str:
    """``user:password`` for `host` from the first of `files` (config.json of Docker, auth.json of
    Podman) that has one, "" for none. Raises Invalid for a file that cannot be read."""
    for path in files:
        try:
            auths = msgspec.json.decode(path.read_bytes())["auths"]
            return b64decode(auths[host]["auth"], validate=True).decode()
        except (FileNotFoundError, KeyError):
            continue
        except (OSError, TypeError, msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
            raise Invalid(f"no logins in {path.name}: {type(error).__name__}",
                          hint="`podman login` or `docker login` writes it") from None  # fmt: skip
    return ""


def answer(
    challenge: str, known: str, scopes: tuple[str, ...], get: Callable[[str, str], bytes], *, plain: bool
) -> str:  # fmt: skip
    """The Authorization header that a ``WWW-Authenticate`` asks for.

    `known`: user:password, or "". `scopes`: what a token is wanted for; the challenge may name the first. `get`: fetches a URL with an
    Authorization header. Raises Forbidden when there is no login, or the challenge is another one.
    """
    basic = f"Basic {b64encode(known.encode()).decode()}" if known else ""
    kind, _, rest = challenge.partition(" ")
    if kind.lower() == "basic" and basic:
        return basic
    if kind.lower() != "bearer":
        raise Forbidden("the registry wants a login", hint="`podman login` or `docker login` it first")
    asked = dict(PARAMETER.findall(rest))
    realm = asked.get("realm", "")
    if urlsplit(realm).scheme not in (("https", "http") if plain else ("https",)):
        raise Forbidden(f"the registry sends logins to {realm[:80]!r}", hint="tokens are asked for over https only")
    wanted = (asked.get("scope") or scopes[0], *scopes[1:])
    query = urlencode({"service": asked.get("service", ""), "scope": wanted}, doseq=True)
    try:
        given = msgspec.json.decode(get(f"{realm}?{query}", basic), type=dict[str, msgspec.Raw])
        token = msgspec.json.decode(given.get("token") or given["access_token"], type=str)
    except (msgspec.DecodeError, KeyError):
        raise Forbidden("the registry gave no token", hint="`podman login` or `docker login` it first") from None
    return f"Bearer {token}"
