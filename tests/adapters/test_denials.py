"""Refused requests in the log: sealed, found, tailed once, erased and expired like answers, and none of them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.core.artifact import PackageSpec
from fairlead.core.journal import HEADER, Batch, Denial, Entry, Note, frame, frames
from fairlead.core.ref import Ref
from fairlead.errors import Missing

OTHER = str(Ref("package", "loans", "b" * 64))
PACKAGE = str(Ref("package", "loans", "a" * 64))


def nobody_knows(package: str) -> PackageSpec:
    raise Missing(package)


def denial(place: int, **more: Any) -> Denial:
    given: dict[str, Any] = {
        "id": f"01a{place:03d}", "service": "loans", "package": PACKAGE, "at": 100.0 + place, "epoch": 3,
        "unit": f"u{place}", "status": 422, "code": "type", "pointer": "/income", "latency": 0.001,
        "message": "column 'income' must be a number", "body": b'{"income":"much","name":"Ada"}',
    }  # fmt: skip
    return Denial(**(given | more))


def answer(place: int) -> Batch:
    return Batch(service="loans", package=PACKAGE, at=100.0 + place, epoch=3, live=True, propensity=1.0,
                 ids=[f"01a{place:03d}"], units=["u"], bodies=[b'{"name":"Ada"}'], features=[None],
                 outputs=[[0.5]], errors=[""], fallback=[False], latencies=[0.1])  # fmt: skip


def log_of(root: Path, *journals: Sequence[Entry]) -> PredictionFiles:
    folder = root / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    for i, entries in enumerate(journals):
        (folder / f"gw01-{i:06d}.log").write_bytes(HEADER + b"".join(map(frame, entries)))
    return PredictionFiles(root, nobody_knows)


def test_a_refused_request_is_the_same_before_and_after_sealing(tmp_path: Path) -> None:
    odd = denial(7, package="", body=b"", message="", pointer="", code="malformed", status=400, count=12)
    log = log_of(tmp_path, [denial(1), answer(2), odd, Note(prediction="01a002", name="label", value=1.0, at=200.0)])
    before = sorted(log.refused(), key=lambda r: r.id)
    assert log.seal() == 4 and not list((tmp_path / "journal").glob("*.log"))
    assert sorted(log.refused(), key=lambda r: r.id) == before
    first, second = before
    assert str(first) == "refused with 422 type at /income: column 'income' must be a number"
    assert first.inputs == {"income": "much", "name": "Ada"} and str(first.package) == PACKAGE
    assert second.package is None and second.inputs == {} and second.count == 12
    assert list(log.refused("01a007")) == [second] and list(log.refused("01a002")) == []
    assert [p.id for p in log.predictions()] == ["01a002"]
    with pytest.raises(Missing):
        log.find("01a001")


def test_every_refused_request_is_tailed_once(tmp_path: Path) -> None:
    log = log_of(tmp_path, [denial(1)], [denial(2), answer(3)], [denial(4)])
    tail = log.tail({})
    assert [r.id for r in tail.refused] == ["01a001", "01a002", "01a004"]
    assert [i for a in tail.answers for i in a.ids] == ["01a003"]
    log.seal()
    assert log.tail(tail.cursor).refused == ()
    assert sorted(r.id for r in log.tail({}).refused) == ["01a001", "01a002", "01a004"]
    assert [r.id for r in log.tail({}, since=103.5).refused] == ["01a004"]


def test_small_files_of_refused_requests_are_merged(tmp_path: Path) -> None:
    log = log_of(tmp_path, *[[denial(i)] for i in range(8)])
    log.seal()
    assert len(list((tmp_path / "segments").glob("refused.*.parquet"))) == 1
    assert sorted(r.id for r in log.refused()) == [f"01a{i:03d}" for i in range(8)]


def test_erasing_a_person_takes_their_refused_requests_too(tmp_path: Path) -> None:
    other = denial(2, body=b'{"income":"x","name":"Bob"}')
    log = log_of(tmp_path, [denial(1), other, denial(3, body=b"", unit="Ada"), answer(4)])
    gone = log.erase({"name": ("Ada", "hmac:1")}, ("Ada",))
    assert (gone.refused, gone.answers, gone.waiting) == (2, 1, 0)
    assert [r.id for r in log.refused()] == ["01a002"]
    assert b"Ada" not in b"".join(p.read_bytes() for p in (tmp_path / "segments").iterdir())


def test_a_sample_is_of_what_was_answered_and_kept_evenly_spaced(tmp_path: Path) -> None:
    """Sealed and fresh, with refused, failed, mirrored and unkept requests between them."""
    def of(place: int) -> list[Entry]:
        more: list[dict[str, Any]] = [{}, {"errors": ["it hung"]}, {"live": False}, {"bodies": [b""]}, {"package": OTHER}]
        return [denial(place), *(msgspec.structs.replace(answer(place), ids=[f"01a{place:03d}{i}"], **m) for i, m in enumerate(more))]

    log = log_of(tmp_path, [e for i in range(60) for e in of(i)])
    log.seal()
    (tmp_path / "journal" / "gw02-000000.log").write_bytes(
        HEADER + b"".join(frame(e) for i in range(60, 100) for e in of(i)))  # fmt: skip
    ref = Ref.parse(PACKAGE)
    assert [p.id for p in log.sample(ref, 0.0, 1e9, 1000)] == [f"01a{i:03d}0" for i in range(100)]
    some = [int(p.id[3:6]) for p in log.sample(ref, 100.0, 190.0, 30)]
    assert len(some) == 30 and some[0] == 0 and 86 <= some[-1] < 90
    assert {1, 2, 3, 4} >= {b - a for a, b in pairwise(some)}
    assert log.sample(ref, 500.0, 600.0, 10) == []


def test_old_ones_expire(tmp_path: Path) -> None:
    log = log_of(tmp_path, [denial(1)], [denial(50)])
    log.seal()
    assert log.expire(120.0) == 1 and [r.id for r in log.refused()] == ["01a050"]


def test_journals_of_earlier_versions_are_read() -> None:
    """A batch as it was written before rows could ask for an explanation: two fields fewer."""
    old = msgspec.json.decode(msgspec.json.encode(answer(1)))[:-2]
    payload = msgspec.msgpack.encode([*old[:9], [b'{"name":"Ada"}'], *old[10:]])
    data = HEADER + len(payload).to_bytes(4, "little") + crc32(payload).to_bytes(4, "little") + payload
    assert [e for e, _ in frames(data, len(HEADER))] == [answer(1)]
