"""The journal's frames: how a prediction log survives a crash, shared by its writer and its readers."""

from collections.abc import Iterator
from struct import Struct as Layout
from typing import Any, Literal
from zlib import crc32

import msgspec

from fairlead.errors import Corrupt

__all__ = ["HEADER", "Batch", "Denial", "Durability", "Entry", "Note", "frame", "frames"]

Durability = Literal["memory", "os", "fsync"]
"""What the acknowledgement of a prediction means for its log. memory: written within 20 ms, lost if
the gateway is killed before; os: handed to the kernel, lost in a power cut only; fsync: on the disk."""

HEADER = b"FLJ1\n"
_PREFIX = Layout("<II")
MAX_FRAME = 64 * 2**20
HOLE, PAGE = bytes(512), 4096
"""What a power cut leaves where a file had grown but its data was not yet on the disk."""


class Batch(msgspec.Struct, frozen=True, tag="b", array_like=True, kw_only=True):
    """Answers of one package in one event-loop tick; every list has one item per request row.

    `bodies`: the request row as raw JSON object; `features`: values joined from the online store;
    `outputs`: raw scores (None when the package failed), `errors`: why it failed ("" when not).
    `traces`: of callers that brought one ("": the id names it, `core.trace`); empty when none did.
    `said`: what an answer holds beside its numbers (the text of a chat); empty where that is nothing.
    `wanted`: whether the caller asked for an explanation; empty when none did.
    """

    service: str
    package: str
    at: float
    epoch: int
    live: bool
    propensity: float
    ids: list[str]
    units: list[str]
    bodies: list[bytes]
    features: list[dict[str, Any] | None]
    outputs: list[list[float] | None]
    errors: list[str]
    fallback: list[bool]
    latencies: list[float]
    traces: list[str] = []
    said: list[dict[str, Any] | None] = []
    wanted: list[bool] = []


class Note(msgspec.Struct, frozen=True, tag="f", array_like=True, kw_only=True):
    """One piece of feedback."""

    prediction: str
    name: str
    value: float | str | bool
    at: float


class Denial(msgspec.Struct, frozen=True, tag="r", array_like=True, kw_only=True):
    """A request that was refused before any package was asked.

    `package`: that would have answered ("": none was ready). `status`, `code`, `pointer`, `message`:
    what the caller was told. `body`: the row it is about, b"" when there is none to tell. `count`: how
    many refusals of this `code` it stands for: of a flood not every one is written.
    """

    id: str
    service: str
    package: str
    at: float
    epoch: int
    unit: str
    status: int
    code: str
    pointer: str
    message: str
    body: bytes
    latency: float
    count: int = 1


Entry = Batch | Note | Denial

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def frame(entry: Entry) -> bytes:
    """Length, CRC-32, payload."""
    payload = _encode(entry)
    return _PREFIX.pack(len(payload), crc32(payload)) + payload


def frames(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[Entry, int]]:
    """Entries from `offset` on, each with the offset behind it.

    Stops silently at a torn tail (the writer was killed there, or is still writing) and at the
    zeros of a power cut. Raises Corrupt when a complete frame does not match its checksum and more
    data follows.
    """
    view = memoryview(data)
    while offset + _PREFIX.size <= len(view):
        size, check = _PREFIX.unpack_from(view, offset)
        start, end = offset + _PREFIX.size, offset + _PREFIX.size + size
        if not 0 < size <= MAX_FRAME or end > len(view):
            return
        payload = view[start:end]
        if crc32(payload) != check:
            if not any(view[end:]) or HOLE in bytes(view[offset : end + PAGE]):
                return
            raise Corrupt(f"journal frame at byte {offset} does not match its checksum",
                          hint="the disk changed written bytes: restore the segment")  # fmt: skip
        try:
            entry = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Corrupt(f"journal frame at byte {offset} is not an entry: {error}",
                          hint="it was written by another version or program: restore it") from error  # fmt: skip
        yield entry, end
        offset = end
