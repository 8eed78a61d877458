"""Frames: what gateway and replica say to each other over a unix socket, little-endian throughout.

To the replica:   u32 length, u32 id, u32 rows, then float32 rows x width.
To the gateway:   u32 length, u32 id, u8 status, then float32 rows x k (status OK) or UTF-8 text.
`length` counts what follows it. A replica greets each connection with id 0, status HELLO and JSON;
with id 0 and status FAREWELL it asks to be left: it still answers, and another takes its place.
"""

from collections.abc import Iterator
from struct import Struct as Layout

import msgspec

__all__ = ["ERROR", "FAREWELL", "HELLO", "OK", "Hello", "answer", "question", "split"]

OK, ERROR, FAREWELL, HELLO = 0, 1, 254, 255
MAX_FRAME = 256 * 2**20
"""Bytes; a longer frame means that the other side does not speak this language."""

_LENGTH = Layout("<I")
_QUESTION = Layout("<III")
_ANSWER = Layout("<IIB")


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers: process id, the digest it holds, float32 per row in (`width`) and out (`k`), and
    what confines it (serve/sandbox.py) by its own word."""

    pid: int
    digest: str
    width: int
    k: int
    sandbox: tuple[str, ...] = ()


def question(number: int, rows: int, data: bytes) -> bytes:
    """One batch for the replica."""
    return _QUESTION.pack(8 + len(data), number, rows) + data


def answer(number: int, status: int, data: bytes) -> bytes:
    """The scores of one batch, or why there are none."""
    return _ANSWER.pack(5 + len(data), number, status) + data


def split(buffer: bytearray) -> Iterator[bytes]:
    """Take complete frames (without their length) off the front of `buffer`.

    Raises ValueError when a length is impossible.
    """
    start = 0
    try:
        while len(buffer) - start >= 4:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if not 5 <= length <= MAX_FRAME:
                raise ValueError(f"a frame of {length} bytes")
            if len(buffer) - start - 4 < length:
                return
            yield bytes(memoryview(buffer)[start + 4 : start + 4 + length])
            start += 4 + length
    finally:
        del buffer[:start]
