"""Identity: one immutable thing is named by its kind, its name and the digest of its bytes."""

from hashlib import sha256
from typing import Any, Literal, Self, cast, get_args

import msgspec

from fairlead.errors import Invalid

__all__ = ["UNREADABLE", "Kind", "Ref", "canonical", "digest"]

UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What decoding raises for bytes that are not what they should be: another shape or version, nested
without end, no text."""

Kind = Literal["dataset", "features", "model", "package"]

SHORT = 12
"""Hex characters of a digest that people see; 48 bits, so collisions need millions of artifacts."""


class Ref(msgspec.Struct, frozen=True, order=True):
    """Print it, store it, put it in a URL: ``model/fraud@3f2a9c…`` (64 hex digits of SHA-256)."""

    kind: Kind
    name: str
    digest: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}@{self.digest}"

    @property
    def short(self) -> str:
        """``model/fraud@3f2a9c0b1d2e``: for screens, never for storage."""
        return f"{self.kind}/{self.name}@{self.digest[:SHORT]}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `str(ref)` back. Raises Invalid."""
        kind, _, rest = text.partition("/")
        name, _, digest = rest.partition("@")
        if kind not in get_args(Kind) or not name or not digest:
            raise Invalid(f"not a reference: {text!r}", hint="write kind/name@digest")
        return cls(cast(Kind, kind), name, digest)


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces; what every digest is taken over."""
    return msgspec.json.encode(value, order="deterministic")


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return sha256(canonical(value)).hexdigest()
