"""People and tokens: each change of who may do what is one event in the audit log."""

import secrets
from collections.abc import Iterable
from math import inf
from typing import Any

from fairlead.core.identity import (
    JOIN,
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

__all__ = ["add", "change", "invite", "issue", "read", "recover", "remove", "revoke", "span", "take"]

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
    return _made(records, clock, "token.issued", owner, actor, span(lasts), powers=sorted(chosen),
                 environment=environment)  # fmt: skip


def invite(records: Records, clock: Clock, owner: str, *, actor: str, lasts: float, grants: float) -> str:
    """Make an invitation: whoever shows it within `lasts` seconds takes, once, a token of `owner` that
    lasts for `grants` seconds and that nobody else ever saw. Raises Missing, Invalid."""
    _somebody(read(records), owner)
    return _made(records, clock, "token.issued", owner, actor, span(lasts, "an invitation"), powers=sorted(JOIN),
                 environment="", grants=span(grants))  # fmt: skip


def take(records: Records, clock: Clock, invitation: str) -> str:
    """The token that an invitation (its id) gives. Raises Missing, Conflict (used up or expired)."""
    found = read(records).tokens.get(invitation)
    if found is None or not found.grants:
        raise Missing("this is no invitation", hint="`fairlead people invite NAME` makes one")
    token = _made(records, clock, "token.taken", found.owner, found.owner, found.grants, powers=sorted(POWERS),
                  environment="", invitation=invitation)  # fmt: skip
    if token.split("_")[1] not in read(records).tokens:
        raise Conflict(f"the invitation of {found.owner} is used up", hint="ask an admin for another, and who used it")
    return token


def recover(
    records: Records, clock: Clock, owner: str, reason: str, *, actor: str, lasts: float, service: str
) -> str:
    """A new token for an admin whose token is lost, by somebody who holds the records themselves; all
    others of that admin end. It is an alert of `service`. Raises Missing, Conflict (no admin), Invalid (no reason)."""
    person = _somebody(read(records), owner)
    if "admin" not in person.roles:
        raise Conflict(f"{owner} is no admin", hint="recover an admin, who issues tokens for all others")
    if not reason.strip():
        raise Invalid("a recovery has a reason", hint="--reason TEXT: others will read it")
    return _made(records, clock, "token.recovered", owner, actor, span(lasts), powers=sorted(POWERS), environment="",
                 reason=reason, service=service)  # fmt: skip


def span(lasts: float, what: str = "a token") -> float:
    """The seconds that something lasts, which are some and not for ever. Raises Invalid."""
    if not 0 < lasts < inf:
        raise Invalid(f"{what} cannot last for {lasts:g} s", hint="such as 2d, 30d or 90d")
    return lasts


def revoke(records: Records, clock: Clock, number: str, reason: str, *, actor: str) -> None:
    """End a token now. Raises Missing, Conflict (revoked before)."""
    token = read(records).tokens.get(number)
    if token is None:
        raise Missing(f"no token {number!r}", hint="`fairlead token list` names them")
    if token.revoked_at:
        raise Conflict(f"token {number} of {token.owner} was revoked before", hint="nothing is left to do")
    _commit(records, clock, "token.revoked", actor, id=number, reason=reason)


def _made(
    records: Records, clock: Clock, verb: str, owner: str, actor: str, lasts: float, **body: Any
) -> str:
    """A fresh token, of which the record keeps the digest."""
    number, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    token = spelled(number, secret)
    _commit(records, clock, verb, actor, id=number, owner=owner, digest=fingerprint(token.encode()),
            expires_at=clock.now() + lasts, **body)  # fmt: skip
    return token


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
