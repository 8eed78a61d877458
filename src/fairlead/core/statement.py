"""Statements: what somebody says of a thing, signed, so that a stranger can hold them to it."""

from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from fairlead.core.ref import UNREADABLE, canonical
from fairlead.errors import Corrupt, Invalid

__all__ = ["Envelope", "Statement", "opened", "sealed"]

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"

Verify = Callable[[str, bytes, bytes], bool]
"""(public key in hex, data, signature) -> whether the signature is right."""


class Subject(Struct, frozen=True, kw_only=True):
    """The thing spoken of; `digest` by algorithm, hex."""

    name: str
    digest: dict[str, str]


class Statement(Struct, frozen=True, kw_only=True, rename={"type": "_type", "kind": "predicateType"}):
    """An in-toto statement (v1): `predicate`, of the `kind` a URI names, holds of every subject."""

    type: str = STATEMENT
    subject: tuple[Subject, ...]
    kind: str
    predicate: dict[str, Any]


class Signature(Struct, frozen=True):
    """`keyid`: the public key, hex; `sig`: base64."""

    keyid: str
    sig: str


class Envelope(Struct, frozen=True, kw_only=True, rename="camel"):
    """A DSSE envelope (v1.0): a payload in base64 and the signatures over its PAE."""

    payload_type: str = IN_TOTO
    payload: str
    signatures: tuple[Signature, ...]


def sealed(statement: Statement, key: str, sign: Callable[[bytes], bytes]) -> Envelope:
    """Sign a statement with the key whose public half is `key` (hex)."""
    body = canonical(statement)
    signature = Signature(key, b64encode(sign(_pae(IN_TOTO, body))).decode())
    return Envelope(payload=b64encode(body).decode(), signatures=(signature,))


def opened(data: bytes, trusted: Mapping[str, str], verify: Verify) -> tuple[str, Statement]:
    """(name of the signer, statement) of an envelope in JSON.

    `trusted`: public keys (hex) by the name of their owner. Nothing but the envelope is read before
    a signature held. Raises Corrupt for a wrong signature, Invalid when nobody trusted signed.
    """
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
        body = b64decode(envelope.payload, validate=True)
        signatures = [(s.keyid, b64decode(s.sig, validate=True)) for s in envelope.signatures]
    except (*UNREADABLE, NoBase64, ValueError) as error:
        raise Corrupt(f"the statement cannot be read: {error}", hint="ask for it again") from None
    for name, key in trusted.items():
        for _, signature in (s for s in signatures if s[0] == key):
            if envelope.payload_type != IN_TOTO or not verify(key, _pae(IN_TOTO, body), signature):
                raise Corrupt(f"the signature of {name} does not hold", hint="the statement was changed")
            return name, _statement(body)
    raise Invalid(f"signed by {', '.join(k[:12] for k, _ in signatures) or 'nobody'}, whom nobody here trusts",
                  hint="environment.accepts in fairlead.yaml names the keys that are trusted")  # fmt: skip


def _statement(body: bytes) -> Statement:
    try:
        return msgspec.json.decode(body, type=Statement)
    except UNREADABLE as error:
        raise Invalid(f"not a statement: {error}", hint="was it signed by another version?") from None


def _pae(kind: str, body: bytes) -> bytes:
    """The pre-authentication encoding of DSSE: what is signed can be read in one way only."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)
