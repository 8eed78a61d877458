"""The small rooms of the data plane: endpoints, guards, ids, metrics, frames, plans, packages."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.ref import canonical
from fairlead.errors import Conflict, Corrupt, FairleadError, Invalid, Missing, Unavailable
from fairlead.serve import package
from fairlead.serve.config import GatewayConfig, read_config, write_config
from fairlead.serve.endpoint import Callers, Endpoint, Table, is_loopback
from fairlead.serve.frames import ERROR, OK, answer, question, split
from fairlead.serve.guard import Breaker, Gate
from fairlead.serve.ids import ALPHABET, Ids, enroll
from fairlead.serve.metrics import Metrics, spell
from fairlead.serve.refusal import REASONS, refusal_of


def door(**changes: Any) -> Endpoint[None]:
    declared: dict[str, Any] = {"method": "GET", "path": "/x", "access": "caller", "max_body": 0,
                                "deadline": 1.0, "handler": lambda _: None}  # fmt: skip
    return Endpoint(**declared | changes)


@pytest.mark.parametrize("changes", [{"access": ""}, {"access": "all"}, {"max_body": -1}, {"deadline": 0}])
def test_a_door_without_limits_stops_the_start(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="GET /x"):
        Table([door(**changes)])


def test_a_door_is_declared_once() -> None:
    with pytest.raises(Invalid, match="twice"):
        Table([door(), door()])
    assert len(Table([door(), door(method="POST")]).all()) == 2


@pytest.mark.parametrize(("host", "local"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
    ("::", False), ("10.0.0.1", False), ("localhost.evil.example", False), ("127.0.0.1.nip.io", False),
])  # fmt: skip
def test_loopback_is_this_machine_only(host: str, local: bool) -> None:
    assert is_loopback(host) is local
    if not local:
        with pytest.raises(Invalid, match="token"):
            Callers(host)


def test_a_gate_and_a_breaker() -> None:
    gate = Gate(3)
    assert gate.enter(2) and not gate.enter(2) and gate.enter(1) and not gate.enter(1)
    gate.leave(3)
    assert gate.enter(3)
    breaker = Breaker()
    for _ in range(4):
        breaker.bad(10.0)
    breaker.good()
    for _ in range(5):
        assert breaker.allows(10.0)
        breaker.bad(10.0)
    assert breaker.open and not breaker.allows(10.9)
    assert breaker.allows(11.0) and not breaker.allows(11.5)
    breaker.good()
    assert breaker.allows(11.5)


def test_ids_sort_by_time_and_are_never_twice(tmp_path: Path) -> None:
    names = [enroll(tmp_path) for _ in range(40)]
    assert len(set(names)) == 40 and names == sorted(names)
    ids = Ids(names[33])
    made = []
    for now in (1e9, 1e9 + 0.001, 1.7e9, 1.7e9):
        ids.at(now)
        made += [ids.next() for _ in range(2000)]
    ids.at(5.0)
    early = ids.next()
    assert made == sorted(set(made)) and early < made[0]
    assert all(len(i) == 26 and i[10:14] == names[33] and set(i) <= set(ALPHABET) for i in made)
    ids._count = 2**20 - 1
    ids.at(1.7e9)
    assert [ids.next()[14:] for _ in range(2)] == ["000000010000", "000000010001"]


def test_metrics_are_spelled_for_prometheus() -> None:
    metrics = Metrics()
    metrics.counter("a_total", "Help.", name='x"\\\n').n += 2
    assert metrics.counter("a_total", "Help.", name='x"\\\n').n == 2
    metrics.histogram("h_seconds", "Time.").observe([0.0005, 0.02, 99])
    metrics.gauge("g", "Now.", lambda: 1.5)
    lines = spell([*metrics.families(), *Metrics(b="c").families()]).decode().splitlines()
    assert 'a_total{name="x\\"\\\\\\n"} 2' in lines and "g 1.5" in lines
    assert 'h_seconds_bucket{le="0.0005"} 1' in lines and 'h_seconds_bucket{le="0.025"} 2' in lines
    assert 'h_seconds_bucket{le="+Inf"} 3' in lines and "h_seconds_count 3" in lines
    assert "# TYPE h_seconds histogram" in lines


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 30))
def test_frames_survive_any_cut(parts: list[bytes], step: int) -> None:
    stream = b"".join(answer(i, OK if i % 2 else ERROR, p) for i, p in enumerate(parts))
    buffer, found = bytearray(), []
    for i in range(0, len(stream), step):
        buffer += stream[i : i + step]
        found += [(int.from_bytes(f[:4], "little"), f[5:]) for f in split(buffer)]
    assert found == list(enumerate(parts)) and not buffer


def test_a_frame_of_impossible_length() -> None:
    with pytest.raises(ValueError, match="frame of"):
        list(split(bytearray(b"\xff\xff\xff\xff1234")))
    assert question(7, 2, b"12345678")[:12] == bytes([16, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0])


def test_every_error_has_one_status() -> None:
    for error, status in ((Invalid("x"), 422), (Missing("x"), 404), (Conflict("x"), 409),
                          (Unavailable("x"), 503), (Corrupt("x"), 500)):  # fmt: skip
        refusal = refusal_of(error, "/rows/1")
        assert refusal.status == status and status in REASONS and refusal.pointer == "/rows/1"
        body = json.loads(refusal.body("id"))["error"]
        assert body.keys() == {"code", "message", "pointer", "hint", "id"}
    assert refusal_of(Unavailable("x")).head() == b"retry-after: 1\r\n"


def test_the_configuration_comes_back(tmp_path: Path) -> None:
    config = GatewayConfig(service="m", fallback="no", port=0)
    write_config(tmp_path / "gateway.json", config)
    assert read_config(tmp_path / "gateway.json") == config
    assert (tmp_path / "gateway.json").stat().st_mode & 0o077 == 0
    with pytest.raises(Missing):
        read_config(tmp_path / "other.json")
    (tmp_path / "gateway.json").write_text('{"service": 1}')
    with pytest.raises(Corrupt):
        read_config(tmp_path / "gateway.json")
    with pytest.raises(Invalid):
        GatewayConfig(service="m", deadline_ms=0)
    with pytest.raises(Invalid):
        GatewayConfig(service="m", replicas=0)


def test_a_package_is_read_only_when_every_byte_is_right(plant: Any) -> None:
    ref = plant.package()
    folder = plant.state / "packages" / ref.digest
    spec = package.read(folder)
    found = package.files(folder, spec)
    assert (folder / "package.json").read_bytes() == canonical(spec)
    model = (folder / "model.onnx").read_bytes()
    assert found == {"model.onnx": model}

    def refused(kind: type[FairleadError]) -> None:
        with pytest.raises(kind):
            package.files(folder, package.read(folder))

    for i in range(0, len(model), max(1, len(model) // 50)):
        (folder / "model.onnx").write_bytes(model[:i] + bytes([model[i] ^ 1]) + model[i + 1 :])
        refused(Corrupt)
    (folder / "model.onnx").write_bytes(model[:-1])
    refused(Corrupt)
    (folder / "model.onnx").unlink()
    refused(Missing)
    (folder / "package.json").write_bytes(canonical(spec) + b" ")
    refused(Corrupt)
    with pytest.raises(Missing):
        package.read(folder.parent / "none")
