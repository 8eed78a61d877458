"""People and tokens: each change of who may do what is one event in the audit log."""

import secrets
from collections.abc import Iterable
from math import inf
from typing import Any

from fairlead.core.identity import (
    LOOP,
    POWERS,
    SUBJECT,
    Identity,
    Person,
    checked,
    fingerprint,
    spelled,
)
from fairlead.errors import Conflict, Forbidden, Invalid, Missing
from fairlead.ports import Change, Clock, Records

__all__ = ["add", "change", "issue", "read", "remove", "revoke"]

NAME = 64
"""Letters of the longest name."""


def read(records: Records) -> Identity:
    """Everybody, as of now."""
    return Identity(records.events(subject=SUBJECT))


def add(records: Records, clock: Clock, name: str, roles: Iterable[str], *, actor: str) -> None:
    """Record somebody. The first one is an admin: from then on every change needs somebody who may.

    Raises Invalid (name, roles), Conflict (known already, or not an admin first), Forbidden (oneself).
    """
    known, given = read(records), checked(roles)
    plain = name.isascii() and name.replace("-", "").replace(".", "").isalnum()
    if not plain or len(name) > NAME or name == LOOP:
        raise Invalid(f"not a name: {name!r:.80}", hint=f"letters, digits, '-' and '.'; not {LOOP!r}")
    if name in known.people:
        raise Conflict(f"{name} is known already", hint=f"`fairlead people roles {name} --role ...` changes their roles")  # fmt: skip
    if not known.governed and given != ("admin",):
        raise Conflict("the first one recorded is an admin", hint="`fairlead people add NAME --role admin`")
    if known.governed:
        _other(name, actor)
    _commit(records, clock, "person.added", actor, name=name, roles=given)


def change(records: Records, clock: Clock, name: str, roles: Iterable[str], *, actor: str) -> None:
    """Give somebody other roles instead of theirs. Raises Missing, Invalid, Forbidden (oneself),
    Conflict (the last admin)."""
    known, given = read(records), checked(roles)
    _other(name, actor)
    before = _somebody(known, name).roles
    if "admin" not in given:
        _not_the_last(known, name)
    _commit(records, clock, "person.changed", actor, name=name, roles=given, before=before)


def remove(records: Records, clock: Clock, name: str, *, actor: str) -> None:
    """Somebody leaves; their tokens end with them. Raises Missing, Forbidden, Conflict."""
    known = read(records)
    _other(name, actor)
    _somebody(known, name)
    _not_the_last(known, name)
    for token in [t for t in known.tokens.values() if t.owner == name and not t.revoked_at]:
        _commit(records, clock, "token.revoked", actor, id=token.id, reason=f"{name} left")
    _commit(records, clock, "person.removed", actor, name=name)


def issue(
    records: Records, clock: Clock, owner: str, *, actor: str, lasts: float,
    powers: Iterable[str] = (), environment: str = "",
) -> str:  # fmt: skip
    """Make a token that speaks for `owner` for so many seconds; the token, which is not kept.

    `powers`: no others (none named: all that the owner has, now and later). Raises Missing, Invalid.
    """
    _somebody(read(records), owner)
    chosen = set(powers) or set(POWERS)
    if unknown := chosen.difference(POWERS):
        raise Invalid(f"no such power: {', '.join(sorted(unknown))}", hint=f"of {', '.join(sorted(POWERS))}")
    if not 0 < lasts < inf:
        raise Invalid(f"a token cannot last for {lasts:g} s", hint="such as 30d or 90d")
    number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    token = spelled(number, secret)
    _commit(records, clock, "token.issued", actor, id=number, owner=owner, powers=sorted(chosen),
            digest=fingerprint(token.encode()), environment=environment,
            expires_at=clock.now() + lasts)  # fmt: skip
    return token


def revoke(records: Records, clock: Clock, number: str, reason: str, *, actor: str) -> None:
    """End a token now. Raises Missing, Conflict (revoked before)."""
    token = read(records).tokens.get(number)
    if token is None:
        raise Missing(f"no token {number!r}", hint="`fairlead token list` names them")
    if token.revoked_at:
        raise Conflict(f"token {number} of {token.owner} was revoked before", hint="nothing is left to do")
    _commit(records, clock, "token.revoked", actor, id=number, reason=reason)


def _somebody(known: Identity, name: str) -> Person:
    if name not in known.people:
        raise Missing(f"nobody is called {name!r} here", hint=f"one of {', '.join(known.people) or '(nobody yet)'}")
    return known.people[name]


def _other(name: str, actor: str) -> None:
    if name == actor:
        raise Forbidden(f"{actor} may not change the roles of {name}", hint="nobody changes their own: ask another admin")  # fmt: skip


def _not_the_last(known: Identity, name: str) -> None:
    if [p.name for p in known.people.values() if "admin" in p.roles] == [name]:
        raise Conflict(f"{name} is the last admin", hint="make somebody else an admin first")


def _commit(records: Records, clock: Clock, verb: str, actor: str, **body: Any) -> None:
    records.commit(Change(at=clock.now(), actor=actor, verb=verb, subject=SUBJECT, body=body))
