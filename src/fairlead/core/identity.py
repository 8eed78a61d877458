"""Identity: who is known here, what each may do, and which tokens speak for them. Pure.

The audit log is the only memory: people and tokens are a fold over its events about "identity".
"""

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from fairlead.core.event import Event
from fairlead.errors import Forbidden, Invalid

__all__ = ["ALONE", "JOIN", "LOOP", "POWERS", "ROLES", "SUBJECT", "Caller", "Identity", "Pass", "Passes",
           "Person", "Power", "Role", "Token", "checked", "fingerprint", "passes", "spelled"]  # fmt: skip

SUBJECT = "identity"
"""What events about people and tokens are about."""

Power = Literal["look", "make", "approve", "release", "audit", "administer", "call", "join"]
"""look: read over HTTP; make: data, models, packages; approve: let others' packages go live;
release: move traffic and look after alerts; audit: read and export the trail; administer: people,
tokens and the policy; call: ask the gateway; join: take one's own token, which an invitation gives
and no role."""
Role = Literal["viewer", "trainer", "approver", "operator", "auditor", "admin", "service"]

JOIN: frozenset[Power] = frozenset({"join"})
POWERS: frozenset[Power] = frozenset(get_args(Power)) - JOIN
ROLES: Mapping[Role, frozenset[Power]] = {
    "viewer": frozenset({"look"}),
    "trainer": frozenset({"look", "make"}),
    "approver": frozenset({"look", "approve"}),
    "operator": frozenset({"look", "release"}),
    "auditor": frozenset({"look", "audit"}),
    "admin": frozenset({"look", "administer"}),
    "service": frozenset({"call"}),
}
"""The one table of who may do what."""
ALONE: frozenset[Role] = frozenset({"admin", "service"})
"""Roles that go with no other: who gives powers has none of them, and programs only call."""

LOOP = "fairlead"
"""The controller: it trains and moves traffic as the manifest says, and nobody else has its name."""

PREFIX = "fl"
NOBODY = "0" * 64


class Person(Struct, frozen=True, kw_only=True):
    """Somebody, or a program, by name."""

    name: str
    roles: tuple[Role, ...]

    @property
    def powers(self) -> frozenset[Power]:
        return frozenset(p for role in self.roles for p in ROLES[role])


class Token(Struct, frozen=True, kw_only=True):
    """What speaks for its owner: of the secret only the SHA-256 is kept (it has 256 random bits, so
    nothing slower is needed). `powers`: at most these; `environment`: only there ("": anywhere);
    `expires_at`: UTC seconds. `grants`: of an invitation, how long the token lasts that its owner
    takes for it, once (seconds); 0: it is none."""

    id: str
    owner: str
    digest: str
    powers: frozenset[Power]
    environment: str = ""
    expires_at: float
    issued_at: float
    issued_by: str
    revoked_at: float = 0.0
    grants: float = 0.0

    def trouble(self, at: float, environment: str) -> str:
        """Why it is not good at a moment in an environment; "" when it is."""
        if self.revoked_at:
            return "was revoked"
        if at >= self.expires_at:
            return "has expired"
        if self.environment not in ("", environment):
            return f"is for {self.environment}, and this is {environment}"
        return ""


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks, as the token says, and what they may."""

    name: str
    powers: frozenset[Power]
    token: str = ""

    def must(self, *powers: Power) -> None:
        """Raises Forbidden unless they have one of these powers."""
        if not self.powers.intersection(powers):
            able = sorted(role for role, has in ROLES.items() if has.intersection(powers))
            raise Forbidden(f"{self.name} may not {' or '.join(powers)}",
                            hint=f"{' or '.join(able)} may; `fairlead people` lists who is what")  # fmt: skip


class Identity:
    """The people and tokens of a project. As soon as one admin was recorded it is `governed`, for
    good: then every change needs somebody who may make it. As soon as a service was recorded it
    `serves` none but known ones, for good."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.seq = 0
        self.governed = self.serves = False
        self.people: dict[str, Person] = {}
        self.tokens: dict[str, Token] = {}
        for event in events:
            self.take(event)

    def take(self, event: Event) -> None:
        """Read the next event; those about other things change nothing."""
        self.seq, body = event.seq, event.body
        match event.verb:
            case "person.added" | "person.changed":
                made = Person(name=body["name"], roles=tuple(body["roles"]))
                self.people[made.name] = made
                self.governed = self.governed or "admin" in made.roles
                self.serves = self.serves or "service" in made.roles
            case "person.removed":
                self.people.pop(body["name"], None)
            case "token.issued":
                self._issued(event)
            case "token.taken" if self._good(body["invitation"], event.at):
                # Of several that were taken for one invitation the first in the log is good.
                self._end(event, body["invitation"])
                self._issued(event)
            case "token.recovered":
                self._end(event, *(t.id for t in self.tokens.values() if t.owner == body["owner"]))
                self._issued(event)
            case "token.revoked":
                self._end(event, body["id"])

    def _issued(self, event: Event) -> None:
        body = event.body
        self.tokens[body["id"]] = Token(
            id=body["id"], owner=body["owner"], digest=body["digest"], issued_at=event.at,
            powers=frozenset(body["powers"]), environment=body["environment"],
            expires_at=body["expires_at"], issued_by=event.actor, grants=body.get("grants", 0.0))  # fmt: skip

    def _end(self, event: Event, *ids: str) -> None:
        for token in (self.tokens[i] for i in ids if i in self.tokens):
            self.tokens[token.id] = replace(token, revoked_at=token.revoked_at or event.at)

    def _good(self, invitation: str, at: float) -> bool:
        found = self.tokens.get(invitation)
        return found is not None and found.grants > 0 and not found.trouble(at, found.environment)

    def can(self, name: str, power: Power) -> bool:
        """Whether the roles of somebody give them a power."""
        person = self.people.get(name)
        return person is not None and power in person.powers

    def caller(self, shown: str, at: float, environment: str) -> Caller:
        """Who shows a token. Takes as long for an unknown one as for a known one with a wrong secret.

        Raises Forbidden: nothing shown, unknown, revoked, expired, or for elsewhere.
        """
        if not shown:
            raise Forbidden("this project knows its people, and nobody said who is calling",
                            hint="put your token into FAIRLEAD_TOKEN, or name its file with --token-file")  # fmt: skip
        token = self.tokens.get("".join(shown.split("_")[1:2]))
        digest = NOBODY if token is None else token.digest
        known = hmac.compare_digest(digest, fingerprint(shown.encode()))
        if not known or token is None or token.owner not in self.people:
            raise Forbidden("this token is not known here", hint="ask an admin for one: `fairlead token issue NAME`")  # fmt: skip
        if trouble := token.trouble(at, environment):
            raise Forbidden(f"token {token.id} of {token.owner} {trouble}",
                            hint="ask an admin for a new one: `fairlead token issue NAME`")  # fmt: skip
        powers = token.powers & (JOIN if token.grants else self.people[token.owner].powers)
        return Caller(name=token.owner, powers=powers, token=token.id)


class Pass(Struct, frozen=True, kw_only=True):
    """A token as the gateway knows it: its fingerprint, the doors it opens, and until when."""

    digest: str
    doors: tuple[Literal["caller", "operator"], ...]
    expires_at: float


class Passes(Struct, frozen=True, kw_only=True):
    """`asks`: callers have to show a token, because a service was given one."""

    asks: bool
    passes: tuple[Pass, ...]


DOORS: tuple[tuple[Literal["caller", "operator"], Power], ...] = (("caller", "call"), ("operator", "look"))


def passes(known: Identity, environment: str) -> Passes:
    """What the gateway of an environment is told: tokens that are good there, by fingerprint.
    Whether they have expired it sees itself."""
    made: list[Pass] = []
    for token in known.tokens.values():
        powers = known.people[token.owner].powers & token.powers if token.owner in known.people else ()
        doors = tuple(door for door, power in DOORS if power in powers)
        if doors and not token.trouble(token.issued_at, environment):
            made.append(Pass(digest=token.digest, doors=doors, expires_at=token.expires_at))
    return Passes(asks=known.serves, passes=tuple(made))


def fingerprint(shown: bytes) -> str:
    """What is kept of a token."""
    return sha256(shown).hexdigest()


def spelled(number: str, secret: str) -> str:
    """A token as its owner sees it: ``fl_<id>_<secret>``."""
    return f"{PREFIX}_{number}_{secret}"


def checked(roles: Iterable[str]) -> tuple[Role, ...]:
    """These as roles, each once, sorted. Raises Invalid: none, unknown, or not together."""
    chosen = sorted(set(roles))
    known = [role for role in ROLES if role in chosen]
    if not chosen or len(known) < len(chosen):
        wrong = ", ".join(r for r in chosen if r not in ROLES) or "none"
        raise Invalid(f"no such role: {wrong}", hint=f"one or more of {', '.join(ROLES)}")
    if len(chosen) > 1 and ALONE.intersection(known):
        raise Invalid(f"{' and '.join(chosen)} do not go together",
                      hint="an admin gives powers and has none of them; a service only calls")  # fmt: skip
    return tuple(sorted(known))
