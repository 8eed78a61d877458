"""R17, R18: requests that break the contract, and requests made to hurt."""

import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fairlead.core.schema import Column
from tests.faults.bar import Bar, twin
from tests.faults.conftest import Ground
from tests.serve.conftest import ROW

pytestmark = pytest.mark.faults
INVALID = 10_000
COLUMNS = (
    Column(name="distance", dtype="float"),
    Column(name="carrier", dtype="category", categories=("UA", "DL"), closed=True),
    Column(name="hour", dtype="int", nullable=True),
    Column(name="late", dtype="bool", nullable=True),
    Column(name="when", dtype="datetime", nullable=True),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
FITS: dict[str, Callable[[Any], bool]] = {
    "distance": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "carrier": lambda v: v in ("UA", "DL"),
    "hour": lambda v: v is None or (isinstance(v, int | float) and not isinstance(v, bool)
                                    and float(v).is_integer()),
    "late": lambda v: v is None or isinstance(v, bool),
    "when": lambda v: v is None or (isinstance(v, int | float) and not isinstance(v, bool)),
}  # fmt: skip
"""What a column takes. Strings are never instants here: what ISO 8601 allows is tested elsewhere."""


def wrong_values() -> dict[str, list[Any]]:
    """Some hundred values for each column that it must not take."""
    found: dict[str, list[Any]] = {name: [] for name in FITS}

    @seed(17)
    @settings(max_examples=150, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ANYTHING, min_size=5, max_size=5))
    def collect(values: list[Any]) -> None:
        for name, fits in FITS.items():
            found[name] += [v for v in values if not fits(v) and not (isinstance(v, str) and v[:1].isdigit())]

    collect()
    return found


def broken_bodies(count: int) -> Iterator[tuple[bytes, bool]]:
    """Bodies that break the contract in one to three places, alone or in a list, whole or cut short;
    and whether the fault has a place that a pointer can name."""
    dice, wrong = Random(17), wrong_values()
    for _ in range(count):
        row: dict[str, Any] = {**ROW, f"extra {dice.random()}": dice.choice(wrong["hour"])}
        for name in dice.sample(sorted(FITS), dice.randint(1, 3)):
            if name in ("distance", "carrier") and dice.random() < 0.3:
                row.pop(name)
            else:
                row[name] = dice.choice(wrong[name])
        pairs = list(row.items())
        dice.shuffle(pairs)
        whole = json.dumps(dict(pairs))
        match dice.randrange(8):
            case 0:
                yield whole[: dice.randint(0, len(whole) - 1)].encode(), False
            case 1 | 2:
                rows = [json.dumps(ROW)] * dice.randint(0, 3)
                rows.insert(dice.randint(0, len(rows)), whole)
                yield f'{{"rows":[{",".join(rows)}]}}'.encode(), True
            case _:
                yield whole.encode(), True


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.lenient_contract")])
def test_r17_invalid_requests(plant: Ground, bar: Bar, bug: str) -> None:
    plant.publish(plant.package(columns=COLUMNS))
    plant.start()
    asked, good, internal, pointless = 500 if bug else INVALID, 0, 0, 0
    for body, pointed in broken_bodies(asked):
        status, answer = plant.raw(body)
        good += 400 <= status < 500
        internal += status >= 500
        pointless += pointed and b'"pointer":"/' not in answer
    bar(f"of {asked:,} invalid requests answered by 4xx", 100 * good / asked, "= 100 %")
    bar("answered by 5xx", internal, "= 0")
    bar("broken rows refused without a JSON pointer", pointless, "= 0")
    bar("rows that reached a replica", int(plant.counted("fairlead_predictions_total")), "= 0")


# -- R18

MEGA = 1 << 20
FLAT = json.dumps(ROW)[1:]


def post(body: bytes, *lines: str, length: int | None = None) -> bytes:
    head = ["POST /predict HTTP/1.1", "host: localhost", *lines,
            f"content-length: {len(body) if length is None else length}"]  # fmt: skip
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def chunked(chunks: list[bytes], *lines: str) -> bytes:
    head = "\r\n".join(["POST /predict HTTP/1.1", "host: localhost", *lines, "transfer-encoding: chunked"])
    return head.encode() + b"\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


def nested(depth: int, way: str = "[]") -> bytes:
    opening, closing = (b"[", b"]") if way == "[]" else (b'{"a":', b"}")
    return b'{"distance":' + opening * depth + b"1" + closing * depth + b"," + FLAT.encode()


REST = FLAT.partition('"carrier"')[1] + FLAT.partition('"carrier"')[2]
BOMB = gzip.compress(bytes(50 * MEGA))
CORPUS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "1 MB of body": (post(b" " * (MEGA + 1)), (413,)),
    "300 MB announced": (post(b"{", length=300 * MEGA), (413,)),
    "just below the cap, blank": (post(b" " * (MEGA - 200) + json.dumps(ROW).encode()), (200, 413)),
    "just below the cap, one string": (post(b'{"carrier":"' + b"x" * (MEGA - 400) + b'",' + b'"distance":1}'), (200, 422)),
    "just below the cap, keys": (post(("{" + ",".join(f'"k{i}":{i}' for i in range(65_000)) + "}").encode()), (400, 422)),
    "just below the cap, brackets": (post(b"[" * (MEGA - 10)), (400,)),
    "just below the cap, rows of nothing": (post(b'{"rows":[' + b"{}," * 300_000 + b"{}]}"), (413, 422)),
    "65 deep": (post(nested(65)), (400, 422)),
    "500 deep objects": (post(nested(500, "{}")), (400, 422)),
    "100,000 deep": (post(nested(100_000)), (400, 422)),
    "NaN": (post(b'{"distance":NaN,' + REST.encode()), (400,)),
    "Infinity": (post(b'{"distance":Infinity,' + REST.encode()), (400,)),
    "-Infinity": (post(b'{"distance":-Infinity,' + REST.encode()), (400,)),
    "1e999": (post(b'{"distance":1e999,' + REST.encode()), (400, 422)),
    "a whole number of 100,000 digits": (post(b'{"distance":' + b"9" * 100_000 + b"," + REST.encode()), (400, 422)),
    "a fraction of 100,000 digits": (post(b'{"distance":0.' + b"9" * 100_000 + b"," + REST.encode()), (200, 400, 422)),
    "an hour of 20 digits": (post(json.dumps(ROW | {"hour": 10**20}).encode()), (200, 400, 422)),
    "a key twice": (post(b'{"distance":1,"distance":2,' + REST.encode()), (400,)),
    "a key twice, spelled with escapes": (post(b'{"distance":1,"d\\u0069stance":2,' + REST.encode()), (400,)),
    "a lone surrogate": (post(b'{"distance":1,"carrier":"\\ud800"}'), (400, 422)),
    "bytes that are no UTF-8": (post(b'{"distance":1,"carrier":"\xff\xfe"}'), (400, 422)),
    "a byte-order mark": (post(b"\xef\xbb\xbf" + json.dumps(ROW).encode()), (400,)),
    "nothing": (post(b""), (400,)),
    "a gzip bomb": (post(BOMB, "content-encoding: gzip"), (400, 415)),
    "a gzip bomb in chunks": (chunked([BOMB], "content-encoding: gzip"), (400, 415)),
    "2 MB in chunks": (chunked([b" " * 4096] * 512), (413,)),
    "one byte a chunk": (chunked([b" "] * 200_000), (400, 413)),
    "a chunk length that wraps": (post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
                                  + b"FFFFFFFFFFFFFFFFF\r\n", (400,)),
    "endless chunk extensions": (post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
                                 + b"1;" + b"a" * 2 * MEGA, (400, 413)),
    "a header line of 1 MB": (post(b"{}", "x-long: " + "a" * MEGA), (431,)),
    "a path of 1 MB": (b"GET /" + b"a" * MEGA + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", (431, 414)),
    "50,000 headers": (post(b"{}", *[f"x-{i}: 1" for i in range(50_000)]), (431,)),
    "length and chunks": (post(b"0\r\n\r\nGET /status HTTP/1.1\r\nhost: localhost\r\n\r\n",
                               "transfer-encoding: chunked"), (400,)),
    "two lengths": (post(b"{}", "content-length: 20"), (400,)),
    "a length with a sign": (post(b"{}").replace(b"content-length: 2", b"content-length: +2"), (400,)),
    "chunked, misspelled": (post(b"{}").replace(b"content-length: 2", b"transfer-encoding: xchunked"), (400, 501)),
    "a blank before the colon": (post(b"{}").replace(b"content-length:", b"content-length :"), (400,)),
    "a folded header": (post(b"{}", "x-fold: a\r\n b"), (400, 422)),
    "a bare line feed": (post(b"{}").replace(b"host: localhost\r\n", b"host: localhost\n"), (400, 422)),
    "a NUL in a header": (post(b"{}", "x-nul: a\0b"), (400,)),
    "two hosts": (post(b"{}", "host: evil"), (400,)),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), (400,)),
}  # fmt: skip
"""What is sent, and the answers that are allowed. A folded header and a bare line feed are tolerated
by many servers; here the body is refused as well."""
STALL, FRAGMENT = 20.0, 65_536


def busy(pid: int) -> float:
    """Milliseconds of processor time of the gateway's loop: no stall is longer than what it costs."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e6


def resident(pid: int) -> float:
    """MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MEGA


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.endless_keys"), twin("tests.faults.bugs.keys_twice")])
def test_r18_hostile_requests(plant: Ground, bar: Bar, bug: str) -> None:
    plant.publish(plant.package())
    plant.start()
    for _ in range(50):
        plant.ask(ROW)
    pid = plant.served["gateways"][0]
    used = busy(pid)
    time.sleep(0.3)
    idle = busy(pid) - used
    before, wrong, stalls, most = resident(pid), dict[str, str](), dict[str, float](), 0.0
    for name, (data, allowed) in CORPUS.items():
        used = busy(pid)
        answer = plant.speak(data, 0.3)
        stalls[name] = busy(pid) - used - idle
        if int(answer[9:12] or 0) not in allowed or answer.count(b"HTTP/1.1 ") != 1:
            wrong[name] = f"{answer[:15]!r}..., {answer.count(b'HTTP/1.1 ')} answers"
        most = max(most, resident(pid) - before)
    slowest = max(stalls, key=stalls.__getitem__)
    bar(f"of {len(CORPUS)} hostile requests answered otherwise than stated", len(wrong), "= 0")
    bar("longest work on one of them", stalls[slowest], f"<= {STALL:.0f} ms")
    bar("memory that they cost", most, "<= 32 MB")
    assert plant.ask(ROW)[0] == 200


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.patient_ear")])
def test_r18_a_cap_is_a_cap(plant: Ground, bar: Bar) -> None:
    """What is sent beyond the cap is not read: the connection ends after a moment."""
    plant.publish(plant.package())
    plant.start()
    with socket.create_connection(("127.0.0.1", plant.port), timeout=10) as line:
        line.sendall(post(b"", length=300 * MEGA))
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 300 * MEGA:
                sent += line.send(bytes(FRAGMENT))
    bar("MB taken of a body of 300 MB", sent / MEGA, "<= 16 MB")
