"""Traces: which trace a prediction belongs to, by W3C Trace Context and without keeping a list."""

import re
from hashlib import blake2b

from msgspec import Struct

__all__ = ["Parent", "parent_of", "span_of", "trace_of"]

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, in which predictions are named."""
_DIGITS = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED = 1


class Parent(Struct, frozen=True):
    """The caller's span: 32 and 16 hexadecimal digits; `flags`: bit 0 says that it is recorded."""

    trace: str
    span: str
    flags: int

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    def line(self, span: str) -> bytes:
        """The `traceparent` that names `span` as the next parent of this trace."""
        return f"00-{self.trace}-{span}-{self.flags & SAMPLED:02x}".encode()


def parent_of(traceparent: bytes) -> Parent | None:
    """What a `traceparent` header says; None when there is none, or none that is valid.

    https://www.w3.org/TR/trace-context/#traceparent-header: version ff, ids of zeros and capital
    letters are invalid; a later version may be longer.
    """
    found = _FORM.fullmatch(traceparent)
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest) or not (trace.strip(b"0") and span.strip(b"0")):
        return None
    return Parent(trace.decode(), span.decode(), int(flags, 16))


def trace_of(prediction: str) -> str:
    """The trace of a prediction that came without one: its id, read as a number, in hexadecimal.

    The 26 characters spell 130 bits, of which the first two are 0 until the year 10889.
    """
    return f"{int(prediction.translate(_DIGITS), 32):032x}"


def span_of(prediction: str, part: str) -> str:
    """The span of one part (gateway, replica) of answering a prediction."""
    return blake2b(f"{prediction} {part}".encode(), digest_size=8).hexdigest()
