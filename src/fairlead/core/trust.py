"""Trust: a person's signed word that the code a package brings may run, bound to its digest, with an end."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from fairlead.core.ref import Ref, canonical
from fairlead.core.statement import Statement, Subject, Verify, opened, sealed
from fairlead.errors import Corrupt, Forbidden, Invalid

__all__ = ["Trust", "demand", "place", "seal"]

KIND = "urn:fairlead:trust:v1"


class Trust(Struct, frozen=True, kw_only=True):
    """`by` has read the code of a package and lets it run in `environment` until `expires_at`; times
    are UTC seconds."""

    package: Ref
    by: str
    reason: str
    environment: str
    at: float
    expires_at: float


def place(digest: str) -> str:
    """The name of the file that holds the trust in a package."""
    return f"{digest}.json"


def seal(trust: Trust, key: str, sign: Callable[[bytes], bytes]) -> bytes:
    """A signed in-toto statement about the package, as JSON. `key`: the public half, hex."""
    subject = Subject(name=str(trust.package), digest={"sha256": trust.package.digest})
    predicate: dict[str, Any] = msgspec.to_builtins(trust)
    return canonical(sealed(Statement(subject=(subject,), kind=KIND, predicate=predicate), key, sign))


def demand(data: bytes | None, digest: str, now: float, keys: Mapping[str, str], verify: Verify) -> Trust:
    """The trust in the package of this digest. `data`: what `seal` gave, None where there is none;
    `keys`: the public keys (hex) that are believed, by environment.

    Raises Forbidden, naming what to do, when nobody trusts it, or no longer; Corrupt for a word that
    was changed, or is about something else.
    """
    remedy = f"`fairlead trust {digest[:12]} --reason TEXT`, by somebody who has read its code"
    if data is None:
        raise Forbidden(f"the package brings code of its own and nobody has trusted it: {remedy}")
    try:
        name, statement = opened(data, keys, verify)
        found = msgspec.convert(statement.predicate, Trust)
    except Invalid as error:
        raise Forbidden(f"the trust in the package is not signed by this project: {error}; {remedy}") from None
    except msgspec.ValidationError as error:
        raise Corrupt(f"the trust in the package cannot be read: {error}", hint=remedy) from None
    about = [s.digest.get("sha256") for s in statement.subject]
    if statement.kind != KIND or {*about, found.package.digest} != {digest} or found.environment != name:
        raise Corrupt(f"the trust beside the package is in {found.package.short} in {found.environment}", hint=remedy)
    if now >= found.expires_at:
        raise Forbidden(f"the trust of {found.by} in the package has expired: {remedy}")
    return found
