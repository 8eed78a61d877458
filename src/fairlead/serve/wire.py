"""The wire: the bodies of our own JSON that hold several rows."""

import msgspec
from msgspec import Raw, Struct

__all__ = ["many"]


class Many(Struct):
    """Several rows in one request."""

    rows: list[Raw]


_many = msgspec.json.Decoder(Many).decode


def many(body: bytes) -> list[bytes] | None:
    """The rows of {"rows": [...]}, each as raw JSON; None when the body is no such thing."""
    try:
        return [bytes(row) for row in _many(body).rows]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
