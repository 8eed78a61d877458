"""S20: decoders meet bytes that nobody sane would send: they answer or refuse, and never break."""

import random
import time
from pathlib import Path

import pytest

from fairlead.errors import FairleadError
from tests.security.targets import TARGETS, Decoder
from tests.serve.conftest import ROW

SECONDS, LONG = 0.06, 10.0
PIECES = (b"", b"\x00", b"\xff" * 4, b"[" * 3000, b'{"a":' * 3000, b"1e999", b"NaN", b"-0", b"9" * 400, b"\xed\xa0\x80",
          b"\xf0\x9f\x92\xa9", b'"', b"\\u0000", b"null", b"\n", b": &a [*a, *a]", b"!!python/name:os.system", b"../../",
          b"\r\n\r\n", b"-1", b"%00", b"true", b"{}", b"[]", b"0", b"\\ud800", b"\x80", b"00000000000\x00")  # fmt: skip


def mutated(data: bytes, draw: random.Random) -> bytes:
    """A few changes: bits, cuts, repeats, and pieces that hurt."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randint(0, len(found))
        match draw.randrange(6):
            case 0 if found:
                found[at % len(found)] ^= 1 << draw.randrange(8)
            case 1:
                del found[at : at + draw.randint(1, 20)]
            case 2:
                found[at:at] = found[at : at + 30]
            case 3:
                found[at:at] = draw.choice(PIECES)
            case 4:
                found[at : at + draw.randint(1, 12)] = draw.choice(PIECES)
            case _:
                found[at : at + 4] = draw.randbytes(4)
    return bytes(found)


def fuzz(decode: Decoder, sound: bytes, seconds: float) -> int:
    """How many inputs were tried; an error that is not ours climbs out. What is sound is taken."""
    decode(sound)
    draw, end, tried = random.Random(20), time.monotonic() + seconds, 0
    while tried < 20 or time.monotonic() < end:
        data = mutated(sound, draw)
        try:
            decode(data)
        except FairleadError:
            pass
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} on {data[:200]!r}") from error
        tried += 1
    return tried


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_a_decoder(name: str, tmp_path: Path) -> None:
    fuzz(*TARGETS[name](tmp_path), SECONDS)


@pytest.mark.security
@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_a_decoder_for_long(name: str, tmp_path: Path) -> None:
    assert fuzz(*TARGETS[name](tmp_path), LONG) > 200


def test_a_decoder_that_breaks_is_found() -> None:
    """The twin."""
    with pytest.raises(AssertionError, match="Error on"):
        fuzz(lambda data: data.decode(), repr(ROW).encode(), 5.0)
