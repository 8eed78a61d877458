"""S20: decoders meet bytes that nobody sane would send: they answer or refuse, and never break."""

import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from fairlead.adapters import manifest
from fairlead.core import journal, statement
from fairlead.errors import FairleadError
from fairlead.serve import frames, tensors
from tests.serve.conftest import ROW

Decoder = Callable[[bytes, Path], object]
SECONDS, LONG = 0.3, 60.0
PIECES = (b"", b"\x00", b"\xff" * 4, b"[" * 3000, b'{"a":' * 3000, b"1e999", b"NaN", b"-0", b"9" * 400, b"\xed\xa0\x80",
          b"\xf0\x9f\x92\xa9", b'"', b"\\u0000", b"null", b"\n", b": &a [*a, *a]", b"!!python/name:os.system")  # fmt: skip
ENVELOPE = b'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"k","sig":"AA=="}]}'
INFER = b'{"inputs":[{"name":"X","datatype":"FP32","shape":[1,2],"data":[0.5,1]}],"outputs":[{"name":"y"}]}'
YAML = b"service: m\ndata: {file: a.csv, columns: {a: float, y: {type: bool, role: target}}}\ntrain: {entry: t.py}\n"
NOTE = journal.frame(journal.Note(prediction="p", name="label", value=1.0, at=1.0))


def write(data: bytes, folder: Path) -> Path:
    path = folder / "fairlead.yaml"
    path.write_bytes(data)
    return path


def checked(data: bytes) -> bytes:
    """A frame whose checksum is right whatever it holds."""
    return struct.pack("<II", len(data), crc32(data)) + data


DECODERS: dict[str, tuple[Decoder, bytes]] = {
    "journal": (lambda data, _: list(journal.frames(data)), NOTE * 3),
    "journal with sound checksums": (lambda data, _: list(journal.frames(checked(data))), NOTE[8:]),
    "replica": (lambda data, _: _split(data), frames.question(1, 2, bytes(32)) * 2),
    "statement": (lambda data, _: statement.opened(data, {"us": "k"}, lambda *_: True), ENVELOPE),
    "inference": (lambda data, _: tensors.infer(data), INFER),
    "binary inference": (lambda data, _: tensors.infer(data, len(data) // 2), INFER + bytes(16)),
    "manifest": (lambda data, folder: manifest.load(write(data, folder)), YAML),
}


def _split(data: bytes) -> list[bytes]:
    try:
        return list(frames.split(bytearray(data)))
    except ValueError:  # what it says of a length that cannot be
        return []


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A few changes: bits, cuts, repeats, and pieces that hurt."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randint(0, len(found))
        match draw.randrange(5):
            case 0 if found:
                found[at % len(found)] ^= 1 << draw.randrange(8)
            case 1:
                del found[at : at + draw.randint(1, 20)]
            case 2:
                found[at:at] = found[at : at + 30]
            case 3:
                found[at:at] = draw.choice(PIECES)
            case _:
                found[at : at + 4] = draw.randbytes(4)
    return bytes(found)


def fuzz(decoder: Decoder, sound: bytes, folder: Path, seconds: float) -> int:
    """How many inputs were tried; an error that is not ours climbs out."""
    draw, end, tried = random.Random(20), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = mutated(sound, draw)
        try:
            decoder(data, folder)
        except FairleadError:
            pass
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} on {data[:200]!r}") from error
        tried += 1
    return tried


@pytest.mark.parametrize("name", DECODERS)
def test_no_bytes_break_a_decoder(name: str, tmp_path: Path) -> None:
    assert fuzz(*DECODERS[name], tmp_path, SECONDS) > 20


@pytest.mark.security
@pytest.mark.parametrize("name", DECODERS)
def test_no_bytes_break_a_decoder_for_long(name: str, tmp_path: Path) -> None:
    assert fuzz(*DECODERS[name], tmp_path, LONG) > 1000


def test_a_decoder_that_breaks_is_found(tmp_path: Path) -> None:
    """The twin."""
    with pytest.raises(AssertionError, match="Error on"):
        fuzz(lambda data, _: data.decode(), repr(ROW).encode(), tmp_path, 5.0)
