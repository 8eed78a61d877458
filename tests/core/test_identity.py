"""Who is known, what they may, and what a token is worth."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.event import Event
from fairlead.core.identity import (
    POWERS,
    ROLES,
    Identity,
    checked,
    fingerprint,
    passes,
    spelled,
)
from fairlead.errors import Forbidden, Invalid

TOKEN = spelled("0a0b0c0d0e0f", "s" * 43)
OTHER = spelled("0a0b0c0d0e0f", "t" * 43)


def event(seq: int, verb: str, actor: str = "ann", **body: Any) -> Event:
    return Event(seq=seq, at=float(seq), actor=actor, verb=verb, subject="identity", body=body)


def issued(seq: int, owner: str, token: str = TOKEN, **more: Any) -> Event:
    known = {"powers": sorted(POWERS), "environment": "", "expires_at": 100.0, **more}
    return event(seq, "token.issued", id=token.split("_")[1], owner=owner, digest=fingerprint(token.encode()), **known)  # fmt: skip


def people(*roles: str) -> list[Event]:
    return [event(1, "person.added", name="ann", roles=["admin"]),
            event(2, "person.added", name="bob", roles=list(roles))]  # fmt: skip


def test_a_token_says_who_calls_and_what_they_may() -> None:
    known = Identity([*people("trainer", "operator"), issued(3, "bob")])
    caller = known.caller(TOKEN, 50.0, "dev")
    assert (caller.name, caller.token) == ("bob", "0a0b0c0d0e0f")
    assert caller.powers == {"look", "make", "release"}
    caller.must("approve", "make")
    with pytest.raises(Forbidden, match="bob may not approve") as refused:
        caller.must("approve")
    assert refused.value.hint.startswith("approver may")


@pytest.mark.parametrize(("shown", "at", "environment", "said"), [
    ("", 50.0, "dev", "nobody said who"), (OTHER, 50.0, "dev", "not known"), ("fl__", 50.0, "dev", "not known"),
    ("x", 50.0, "dev", "not known"), (TOKEN + "x", 50.0, "dev", "not known"), (TOKEN, 100.0, "dev", "expired"),
    (TOKEN, 50.0, "prod", "is for dev, and this is prod"), ("ü_ü_ü", 50.0, "dev", "not known"),
])  # fmt: skip
def test_what_is_no_good_is_refused(shown: str, at: float, environment: str, said: str) -> None:
    known = Identity([*people("trainer"), issued(3, "bob", environment="dev")])
    with pytest.raises(Forbidden, match=said) as refused:
        known.caller(shown, at, environment)
    assert "s" * 43 not in str(refused.value) + refused.value.hint


def test_revoked_removed_and_demoted_at_once() -> None:
    known = Identity([*people("trainer"), issued(3, "bob")])
    known.take(event(4, "person.changed", name="bob", roles=["viewer"]))
    assert known.caller(TOKEN, 50.0, "dev").powers == {"look"}
    known.take(event(5, "token.revoked", id="0a0b0c0d0e0f"))
    with pytest.raises(Forbidden, match="revoked"):
        known.caller(TOKEN, 50.0, "dev")
    gone = Identity([*people("trainer"), issued(3, "bob"), event(4, "person.removed", name="bob")])
    with pytest.raises(Forbidden, match="not known"):
        gone.caller(TOKEN, 50.0, "dev")


def test_a_project_that_knew_an_admin_is_governed_for_good() -> None:
    known = Identity([event(1, "person.added", name="ann", roles=["admin"])])
    assert known.governed and not Identity().governed
    known.take(event(2, "person.removed", name="ann"))
    assert known.governed, "an empty list of people must not open every door"


@given(st.sets(st.sampled_from(sorted(POWERS))), st.lists(st.sampled_from(["trainer", "approver", "operator", "auditor", "viewer"]), min_size=1))  # fmt: skip
def test_a_scope_only_takes_away(scope: set[str], roles: list[str]) -> None:
    known = Identity([*people(*checked(roles)), issued(3, "bob", powers=sorted(scope))])
    powers = known.caller(TOKEN, 50.0, "dev").powers
    assert powers == {p for role in roles for p in ROLES[role] if p in scope}  # type: ignore[index]


@pytest.mark.parametrize("roles", [[], ["boss"], ["admin", "approver"], ["service", "viewer"]])
def test_roles_that_cannot_be(roles: list[str]) -> None:
    with pytest.raises(Invalid):
        checked(roles)


def test_nobody_with_powers_over_people_has_others() -> None:
    assert [role for role, has in ROLES.items() if "administer" in has] == ["admin"]
    assert ROLES["admin"] == {"look", "administer"}


def test_the_gateway_is_told_fingerprints_of_those_who_may_call() -> None:
    web = spelled("0f0f0f0f0f0f", "w" * 43)
    known = Identity([*people("trainer"), issued(3, "bob")])
    assert not passes(known, "dev").asks, "people alone do not close the gateway"
    known.take(event(4, "person.added", name="web", roles=["service"]))
    known.take(issued(5, "web", web, environment="dev"))
    told = passes(known, "dev")
    assert told.asks
    assert {(p.digest, p.doors) for p in told.passes} == {
        (fingerprint(TOKEN.encode()), ("operator",)), (fingerprint(web.encode()), ("caller",))}  # fmt: skip
    assert [p.doors for p in passes(known, "prod").passes] == [("operator",)]
    known.take(event(6, "token.revoked", id="0f0f0f0f0f0f"))
    assert [p.doors for p in passes(known, "dev").passes] == [("operator",)] and passes(known, "dev").asks
