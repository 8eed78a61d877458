"""A word of trust counts for one package, from one project, for a time."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.core import trust
from fairlead.core.ref import Ref, canonical
from fairlead.core.statement import Statement, Subject, sealed
from fairlead.core.trust import Trust
from fairlead.errors import Corrupt, Forbidden

DIGEST, OTHER = "a" * 64, "b" * 64
WORD = Trust(package=Ref("package", "m", DIGEST), by="ann", reason="read", environment="here", at=100.0, expires_at=200.0)


def sign(data: bytes) -> bytes:
    return b"signed " + data[-64:]


def holds(key: str, data: bytes, signature: bytes) -> bool:
    return signature == sign(data)


def asked(data: bytes | None, **changes: Any) -> Trust:
    given: dict[str, Any] = {"digest": DIGEST, "now": 150.0, "keys": {"here": "key"}, "verify": holds}
    return trust.demand(data, **given | changes)


def test_a_word_is_read_back() -> None:
    assert asked(trust.seal(WORD, "key", sign)) == WORD


def test_no_word_names_the_command() -> None:
    with pytest.raises(Forbidden, match="fairlead trust aaaaaaaaaaaa --reason TEXT"):
        asked(None)


@pytest.mark.parametrize(("changes", "error"), [
    ({"now": 200.0}, Forbidden), ({"keys": {}}, Forbidden), ({"keys": {"here": "other"}}, Forbidden),
    ({"digest": OTHER}, Corrupt), ({"keys": {"there": "key"}}, Corrupt), ({"verify": lambda *_: False}, Corrupt),
])  # fmt: skip
def test_a_word_that_does_not_count(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        asked(trust.seal(WORD, "key", sign), **changes)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 1000, b'{"payloadType":"x","payload":"e30=","signatures":[]}'])
def test_what_is_no_word(data: bytes) -> None:
    with pytest.raises((Corrupt, Forbidden)):
        asked(data)


def test_the_statement_and_what_it_says_must_agree() -> None:
    """A word about one package that says in another, either way round."""
    for subject, package in ((DIGEST, OTHER), (OTHER, DIGEST)):
        told = msgspec.to_builtins(replace(WORD, package=Ref("package", "m", package)))
        made = Statement(subject=(Subject(name="m", digest={"sha256": subject}),), kind=trust.KIND, predicate=told)
        with pytest.raises(Corrupt):
            asked(canonical(sealed(made, "key", sign)))
