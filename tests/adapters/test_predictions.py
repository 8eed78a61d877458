"""The prediction log: nothing lost, nothing twice, through crashes, sealing and merging."""

import fcntl
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from fairlead.adapters.predictions import segments
from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.core.answers import Answers, Cursor, Tail
from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import Encoding, Number
from fairlead.core.feature import FeatureView
from fairlead.core.journal import HEADER, Batch, Entry, Note, frame
from fairlead.core.prediction import Feedback
from fairlead.core.ref import Ref
from fairlead.core.schema import Column, Schema
from fairlead.errors import Corrupt, Missing

A, B, C = (str(Ref("package", "flights", d * 64)) for d in "abc")
CONTRACT = Schema(columns=(
    Column(name="distance", dtype="int"), Column(name="wind", dtype="float", nullable=True),
    Column(name="carrier", dtype="category"), Column(name="late", dtype="bool", nullable=True),
    Column(name="depart", dtype="datetime", nullable=True),
))  # fmt: skip
WEATHER = FeatureView(name="weather", source="w.csv", entity="origin", columns=("temp", "sky"))
SPECS = {
    A: PackageSpec(model=Ref("model", "m", "0" * 64), flavor="onnx", task="binary",
                   classes=("no", "yes"), contract=CONTRACT, views=(WEATHER,), files={},
                   encoding=Encoding((Number("distance"),))),
    B: PackageSpec(model=Ref("model", "m", "1" * 64), flavor="onnx", task="multiclass",
                   classes=("x", "y", "z"), contract=CONTRACT, files={},
                   encoding=Encoding((Number("distance"),))),
}  # fmt: skip


def spec_of(package: str) -> PackageSpec:
    try:
        return SPECS[package]
    except KeyError:
        raise Missing(f"no {package}") from None


def row(**more: Any) -> dict[str, Any]:
    return {"distance": 10, "wind": 1.5, "carrier": "UA", "late": None,
            "depart": "2013-05-01T10:00:00Z"} | more  # fmt: skip


def batch(ids: list[str], package: str = A, **more: Any) -> Batch:
    n = len(ids)
    given: dict[str, Any] = {
        "service": "flights", "package": package, "at": 100.0, "epoch": 3, "live": True,
        "propensity": 0.5, "ids": ids, "units": [f"u{i}" for i in ids],
        "bodies": [json.encode(row())] * n, "features": [None] * n, "outputs": [[0.75]] * n,
        "errors": [""] * n, "fallback": [False] * n, "latencies": [0.002] * n,
    }  # fmt: skip
    return Batch(**(given | more))


def write(root: Path, name: str, *entries: Entry, torn: bytes = b"") -> Path:
    path = root / "journal" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER + b"".join(map(frame, entries)) + torn)
    return path


def read_all(log: PredictionFiles, cursor: Cursor | None = None) -> tuple[Counter[str], Cursor]:
    seen: Counter[str] = Counter()
    cursor = cursor or {}
    while True:
        tail = log.tail(cursor)
        seen += count(tail)
        cursor = tail.cursor
        if not tail.more:
            return seen, cursor


def count(tail: Tail) -> Counter[str]:
    ids = Counter(f"{i} {a.package}" for a in tail.answers for i in a.ids)
    return ids + Counter(f"note {n.prediction}" for n in tail.feedback)


ODD = [
    row(), row(wind=None), row(distance=10.5), row(distance=2**60), row(carrier=7), row(late=True),
    row(depart=1367402400), row(depart="2013-05-01T12:00:00+02:00"), row(depart="soon"),
    row(unknown={"deep": [1, None]}), {}, row(wind=3),
]  # fmt: skip


def test_sealing_changes_no_answer(tmp_path: Path) -> None:
    ids = [f"01a{i:02d}" for i in range(len(ODD))]
    features = [{"weather.temp": 3.5, "weather.sky": None}, None] * (len(ODD) // 2)
    shadow = batch(["01a00"], B, live=False, outputs=[[0.1, 0.7, 0.2]], at=101.0)
    failed = batch(["01a99"], B, outputs=[None], errors=["unseen"], at=102.0)
    stood_in = batch(["01a99"], A, fallback=[True], at=102.0, traces=["7" * 32])
    stranger = batch(["01b00"], C, outputs=[[1.0, 2.0]], at=103.0)
    write(tmp_path, "gw01-000000", shadow,
          batch(ids, bodies=[json.encode(r) for r in ODD], features=features), failed, stood_in, stranger)  # fmt: skip
    log = PredictionFiles(tmp_path, spec_of)
    before = {i: log.find(i) for i in [*ids, "01a99", "01b00"]}
    everything = sorted(log.predictions(), key=lambda p: (p.id, str(p.package)))
    assert log.seal() == len(ODD) + 4
    assert not list((tmp_path / "journal").glob("*.log"))
    assert {i: log.find(i) for i in before} == before
    assert sorted(log.predictions(), key=lambda p: (p.id, str(p.package))) == everything
    first, second = before["01a00"]
    assert (str(first.package), first.output) == (A, {"label": "yes", "score": 0.75})
    assert second.output == {"label": "y", "scores": {"x": 0.1, "y": 0.7, "z": 0.2}}
    assert first.features == {"weather.temp": 3.5, "weather.sky": None}
    assert [p.fallback for p in before["01a99"]] == [True, False]
    for i, sent in zip(ids, ODD, strict=True):
        assert before[i][0].inputs == dict.fromkeys(CONTRACT.names) | sent
    assert [p.id for p in log.predictions(since=102.0, until=103.0)] == ["01a99", "01a99"]
    with pytest.raises(Missing):
        log.find("01zzz")


def test_segments_are_plain_typed_parquet(tmp_path: Path) -> None:
    write(tmp_path, "gw01-000000",
          batch(["01a", "01b"], features=[{"weather.temp": 3.5, "weather.sky": "clear"}, None]),
          Note(prediction="01a", name="label", value="yes", at=500.0),
          Note(prediction="01b", name="label", value=False, at=501.0))  # fmt: skip
    PredictionFiles(tmp_path, spec_of).seal()
    table = pl.read_parquet(tmp_path / "segments" / "answers.*.parquet")
    assert table.schema["in.distance"] == pl.Int64
    assert table.schema["in.depart"] == pl.Datetime("us", "UTC")
    assert table.schema["feature.weather.sky"] == pl.String
    assert table["score"].to_list() == [0.75, 0.75]
    assert table["rest"].null_count() == 2
    notes = pl.read_parquet(tmp_path / "segments" / "feedback.*.parquet")
    assert notes.select("text", "number").rows() == [("yes", None), (None, 0.0)]


def test_feedback_survives_sealing_in_order(tmp_path: Path) -> None:
    values: list[float | str | bool] = ["yes", "no", True, 2.5]
    made = [Note(prediction="01b", name="label", value=v, at=5.0) for v in values]
    other = Note(prediction="01a", name="won", value=1.0, at=2.0)
    write(tmp_path, "gw01-000000", made[0], other, made[1])
    log = PredictionFiles(tmp_path, spec_of)
    log.seal()
    write(tmp_path, "gw01-000001", *made[2:])
    assert [f.value for f in log.feedback("01b")] == values
    assert [(f.prediction, f.name) for f in log.feedback()].count(("01a", "won")) == 1
    assert list(log.feedback("nobody")) == []


def test_feedback_from_a_file_is_a_journal_of_its_own(tmp_path: Path) -> None:
    log = PredictionFiles(tmp_path, spec_of)
    assert log.add([]) == 0
    for i in range(3):
        assert log.add([Feedback(prediction=f"p{i}", value="yes", at=1.0)]) == 1
        assert log.seal() == (1 if i == 0 else 2), "nobody writes to it any more"
        log.add([Feedback(prediction=f"q{i}", value=2.5, at=1.0)])
    assert Counter(f.prediction for f in log.feedback()) == Counter(
        f"{x}{i}" for x in "pq" for i in range(3)
    )
    assert read_all(log)[0] == Counter(f"note {x}{i}" for x in "pq" for i in range(3))


def test_a_torn_tail_is_waited_for(tmp_path: Path) -> None:
    whole = frame(batch(["01b"]))
    path = write(tmp_path, "gw01-000000", batch(["01a"]), torn=whole[:-3])
    log = PredictionFiles(tmp_path, spec_of)
    seen, cursor = read_all(log)
    assert seen == Counter([f"01a {A}"])
    with path.open("ab") as file:
        file.write(whole[-3:])
    assert read_all(log, cursor)[0] == Counter([f"01b {A}"])


def test_an_id_is_found_whether_or_not_it_spells_its_gateway(tmp_path: Path) -> None:
    write(tmp_path, "gw01-000000", batch(["x-gw01-1"]), batch(["plain"]))
    write(tmp_path, "gw02-000000", batch(["x-gw02-1"]))
    log = PredictionFiles(tmp_path, spec_of)
    assert [log.find(i)[0].id for i in ("x-gw01-1", "x-gw02-1", "plain")] == [
        "x-gw01-1", "x-gw02-1", "plain",
    ]  # fmt: skip


def test_odd_ids_and_torn_bytes_end_a_search(tmp_path: Path) -> None:
    write(tmp_path, "gw01-000000", batch(["01a"]), torn=b"\x09\x00\x00\x00abc")
    log = PredictionFiles(tmp_path, spec_of)
    for odd in ("", "a", "abc", "FLJ1", "\x00"):
        with pytest.raises(Missing):
            log.find(odd)
    assert list(log.feedback("abc")) == []
    assert len(log.find("01a")) == 1


def test_one_process_seals_at_a_time(tmp_path: Path) -> None:
    write(tmp_path, "gw01-000000", batch(["01a"]))
    log = PredictionFiles(tmp_path, spec_of)
    with segments.Segments(tmp_path / "segments").lock() as mine:
        assert mine and log.seal() == 0
    assert log.seal() == 1


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "gw01-000000", batch(["01a"]), batch(["01b"]))
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    log = PredictionFiles(tmp_path, spec_of)
    with pytest.raises(Corrupt, match="checksum"):
        log.tail({})
    write(tmp_path, "gw02-000000", batch(["02a"]))
    with pytest.raises(Corrupt, match="checksum"):
        log.seal()
    assert path.exists()
    assert len(log.find("02a")) == 1 and not (tmp_path / "journal" / "gw02-000000.log").exists()


def test_a_journal_in_use_is_not_sealed(tmp_path: Path) -> None:
    path = write(tmp_path, "gw01-000000", batch(["01a"]))
    log = PredictionFiles(tmp_path, spec_of)
    with path.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert log.seal() == 0
        write(tmp_path, "gw01-000001", batch(["01b"]))
        assert log.seal() == 2, "a newer file of the gateway exists, and its lock is free"


@settings(max_examples=60, deadline=None)
@given(plan=st.lists(st.sampled_from(["write", "note", "rotate", "seal", "tail", "both"]), max_size=30))
def test_every_row_is_tailed_once(plan: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("log")
    log = PredictionFiles(root, spec_of)
    sequence, entries = 0, list[Entry]()
    written: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    cursor: Cursor = {}
    for number, act in enumerate(plan):
        if act in ("write", "both"):
            entries.append(batch([f"01{number:04d}", f"02{number:04d}"], A if number % 2 else B,
                                 outputs=[None, None]))  # fmt: skip
            written += Counter(f"{i} {entries[-1].package}" for i in entries[-1].ids)  # type: ignore[union-attr]
        if act in ("note", "both"):
            entries.append(Note(prediction=f"p{number}", name="label", value=1.0, at=1.0))
            written[f"note p{number}"] += 1
        if act == "rotate":
            write(root, f"gw-x-{sequence:06d}", *entries)
            sequence, entries = sequence + 1, []
        path = write(root, f"gw-x-{sequence:06d}", *entries)
        with path.open("ab") as writer:
            fcntl.flock(writer, fcntl.LOCK_EX)
            if act == "seal":
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(segments, "FAN", 2)
                    log.seal()
            if act == "tail":
                tail = log.tail(cursor)
                cursor = tail.cursor
                seen += count(tail)
    rest, _ = read_all(log, cursor)
    assert seen + rest == written
    assert read_all(log)[0] == written


@pytest.mark.parametrize("stage", ["written", "renamed", "merged"])
def test_a_crash_while_sealing_loses_and_doubles_nothing(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(segments.FAN):
        write(tmp_path, f"gw01-{i:06d}", batch([f"01a{i}", f"01b{i}"]),
              Note(prediction=f"01a{i}", name="label", value="yes", at=9.0))  # fmt: skip
    expected, _ = read_all(PredictionFiles(tmp_path, spec_of))
    kill: Callable[..., Any] = _killed
    if stage == "written":
        monkeypatch.setattr(Path, "rename", kill)
    elif stage == "renamed":
        monkeypatch.setattr(Path, "unlink", kill)
    else:
        monkeypatch.setattr(segments.Segments, "sweep", kill)
    with pytest.raises(KeyboardInterrupt):
        PredictionFiles(tmp_path, spec_of).seal()
    monkeypatch.undo()
    log = PredictionFiles(tmp_path, spec_of)
    assert read_all(log)[0] == expected
    assert len(list(log.predictions())) == 2 * segments.FAN
    assert len(log.find("01a0")) == 1
    log.seal()
    assert read_all(log)[0] == expected
    assert len(list(log.feedback())) == segments.FAN


def _killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_small_segments_are_merged_and_found(tmp_path: Path) -> None:
    log = PredictionFiles(tmp_path, spec_of)
    cursor: Cursor = {}
    for i in range(40):
        write(tmp_path, f"gw01-{i:06d}", batch([f"01a{i:02d}"]),
              Note(prediction=f"01a{i:02d}", name="label", value="yes", at=9.0))  # fmt: skip
        if i == 20:
            _, cursor = read_all(log)
        log.seal()
    files = list((tmp_path / "segments").iterdir())
    assert len(files) < 24, "80 files would be there without merging"
    assert all(len(log.find(f"01a{i:02d}")) == 1 for i in range(40))
    assert read_all(log, cursor)[0] == Counter(
        x for i in range(21, 40) for x in (f"01a{i:02d} {A}", f"note 01a{i:02d}")
    )


def test_columns_come_back_from_both_places(tmp_path: Path) -> None:
    entries = [batch(["01a", "01b"], bodies=[json.encode(row(wind=w)) for w in (1.0, None)],
                     features=[{"weather.temp": 3.5}, None])]  # fmt: skip
    write(tmp_path, "gw01-000000", *entries)
    log = PredictionFiles(tmp_path, spec_of)
    fresh = log.tail({}).answers[0]
    log.seal()
    sealed = log.tail({}).answers[0]
    for answers in (fresh, sealed):
        names = ["wind", "weather.temp", "nothing"]
        assert answers.values(names, [0, 1]) == [[1.0, None], [3.5, None], [None, None]]
        assert answers.values(["wind"], [1]) == [[None]]
        assert answers.scores.tolist() == [[0.75], [0.75]]
    assert _plain(fresh) == _plain(sealed)


def _plain(answers: Answers) -> list[Any]:
    return [getattr(answers, f).tolist() for f in ("at", "epoch", "live", "fallback", "latency")]


def test_killed_writer_loses_nothing_it_wrote(tmp_path: Path) -> None:
    script = tmp_path / "writer.py"
    script.write_text(
        "import fcntl, os, sys\n"
        "from fairlead.core.journal import HEADER, Note, frame\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "os.write(fd, HEADER)\n"
        "for i in range(10**9):\n"
        "    os.write(fd, frame(Note(prediction=str(i), name='label', value=1.0, at=1.0)))\n"
        "    os.write(1, f'{i}\\n'.encode())\n"
    )
    folder = tmp_path / "journal"
    folder.mkdir()
    log = PredictionFiles(tmp_path, spec_of)
    cursor: Cursor = {}
    seen: Counter[str] = Counter()
    for life in range(5):
        journal = folder / f"gw{life}-000000.log"
        arguments = [sys.executable, str(script), str(journal)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(50)]
            log.seal()
            assert journal.exists(), "its writer lives"
            writer.send_signal(signal.SIGKILL)
            said += writer.stdout.read().splitlines()
        got, cursor = read_all(log, cursor)
        assert {f"note {int(line)}" for line in said} <= set(got)
        assert max(got.values()) == 1
        seen += got
    log.seal()
    assert read_all(log)[0] == seen


def test_old_files_expire_and_younger_ones_stay(tmp_path: Path) -> None:
    write(tmp_path, "gw01-000000", batch(["01a"], at=100.0), Note(prediction="01a", name="label", value=1.0, at=150.0))
    write(tmp_path, "gw02-000000", batch(["01b"], at=100.0), batch(["01c"], at=500.0))
    write(tmp_path, "gw03-000000", batch(["01d"], at=100.0))
    log = PredictionFiles(tmp_path, spec_of)
    assert log.expire(1e9) == 0, "journals are sealed first"
    log.seal()
    assert log.expire(120.0) == 2 and log.expire(120.0) == 0
    assert [n.prediction for n in log.feedback()] == ["01a"], "told after the limit"
    assert [p.id for p in log.predictions()] == ["01b", "01c"], "a file goes when its last row is old"
    with pytest.raises(Missing):
        log.find("01a")
    assert log.expire(600.0) == 2 and list(log.predictions()) == []


def test_what_a_sample_left_out_is_known_before_and_after_sealing(tmp_path: Path) -> None:
    write(tmp_path, "gw01-000000", batch(["01a", "01b", "01c"], bodies=[b"", json.encode(row()), b"{}"]))
    log = PredictionFiles(tmp_path, spec_of)
    for _ in range(2):
        (answers,) = log.tail({}).answers
        assert answers.kept is not None and answers.kept.tolist() == [False, True, True]
        log.seal()
