"""A plant: a project folder with tiny packages, served by the real processes."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from fairlead.adapters.router.local import LocalRouter
from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import Codes, Encoding, Flag, Number
from fairlead.core.journal import HEADER, Batch, Entry, frames
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.schema import Column, Schema
from fairlead.core.traffic import Arm, Route

COLUMNS = (
    Column(name="distance", dtype="float"),
    Column(name="carrier", dtype="category", categories=("UA", "DL")),
    Column(name="hour", dtype="int", nullable=True),
    Column(name="late", dtype="bool", nullable=True),
)
ROW = {"distance": 0.5, "carrier": "UA", "hour": 7, "late": False}
SERVE = """
import sys, msgspec
from pathlib import Path
from fairlead.dataplane import GatewayConfig, serve
config = msgspec.json.decode(sys.argv[2], type=GatewayConfig)
sys.exit(serve(Path(sys.argv[1]), config, sys.argv[3:] or None))
"""


def encoding(unseen: str = "other") -> Encoding:
    return Encoding((Number("distance"), Codes(column="carrier", vocabulary=("UA", "DL"), unseen=unseen),
                     Number("hour"), Flag("late")))  # fmt: skip


def model(kind: str = "sum", width: int = 4) -> bytes:
    """ONNX: sigmoid(sum of the row, nulls 0). nan: NaN where distance < 0; slow: seconds where
    distance > 100; value: the bare sum; three: softmax of the first three columns."""
    nodes = [
        helper.make_node("IsNaN", ["X"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "X"], ["clean"]),
        helper.make_node("Slice", ["clean", "at0", "at1", "axis"], ["first"]),
        helper.make_node("ReduceSum", ["clean", "axis"], ["sum"], keepdims=1),
    ]
    last = {
        "sum": [helper.make_node("Sigmoid", ["sum"], ["scores"])],
        "value": [helper.make_node("Identity", ["sum"], ["scores"])],
        "nan": [helper.make_node("Sqrt", ["first"], ["root"]),
                helper.make_node("Mul", ["root", "zero"], ["nothing"]),
                helper.make_node("Sigmoid", ["sum"], ["chance"]),
                helper.make_node("Add", ["chance", "nothing"], ["scores"])],
        "three": [helper.make_node("Slice", ["clean", "at0", "at3", "axis"], ["three"]),
                  helper.make_node("Softmax", ["three"], ["scores"], axis=1)],
        "slow": _slow(),
    }[kind]  # fmt: skip
    out = 3 if kind == "three" else 1
    ints = {"at0": [0], "at1": [1], "at3": [3], "axis": [1]}
    constants = [helper.make_tensor(n, TensorProto.INT64, [1], v) for n, v in ints.items()]
    constants += [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
                  helper.make_tensor("hundred", TensorProto.FLOAT, [], [100.0]),
                  helper.make_tensor("many", TensorProto.INT64, [], [3_000_000]),
                  helper.make_tensor("none", TensorProto.INT64, [], [0]),
                  helper.make_tensor("true", TensorProto.BOOL, [], [True])]  # fmt: skip
    graph = helper.make_graph(
        [*nodes, *last], "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, out])], constants,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def _slow() -> list[onnx.NodeProto]:
    """A loop of 3 million turns (over a second on any machine) when any distance is above 100."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["s"], ["t"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("s", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("t", TensorProto.FLOAT, [None, 1])],
    )  # fmt: skip
    return [
        helper.make_node("ReduceMax", ["first"], ["farthest"], keepdims=0),
        helper.make_node("Greater", ["farthest", "hundred"], ["far"]),
        helper.make_node("Where", ["far", "many", "none"], ["turns"]),
        helper.make_node("Loop", ["turns", "true", "sum"], ["looped"], body=body),
        helper.make_node("Sigmoid", ["looped"], ["scores"]),
    ]


class Plant:
    """`start` serves what was published; `ask` is a caller with one keep-alive connection."""

    def __init__(self, root: Path) -> None:
        self.root, self.state = root, root / ".fairlead"
        self.entry = [sys.executable, "-c", SERVE]
        self.run = self.state / "run"
        self.router = LocalRouter(self.run)
        self.epoch = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._line: http.client.HTTPConnection | None = None

    # -- packages and routes

    def package(self, kind: str = "sum", *, name: str = "m", unseen: str = "other",
                columns: tuple[Column, ...] = COLUMNS, **changes: Any) -> Ref:  # fmt: skip
        data = model(kind)
        task = {"value": "regression", "three": "multiclass"}.get(kind, "binary")
        classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
        spec = PackageSpec(**{
            "model": Ref("model", name, sha256(kind.encode()).hexdigest()), "flavor": "onnx",
            "task": task, "classes": classes, "contract": Schema(columns=columns),
            "encoding": encoding(unseen), "files": {"model.onnx": sha256(data).hexdigest()}, **changes,
        })  # fmt: skip
        ref = Ref("package", name, digest(spec))
        folder = self.state / "packages" / ref.digest
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_bytes(canonical(spec))
        (folder / "model.onnx").write_bytes(data)
        return ref

    def publish(self, *arms: Arm | Ref, **changes: Any) -> Route:
        self.epoch += 1
        route = Route(service="m", epoch=self.epoch, **changes,
                      arms=tuple(Arm(a, 1.0) if isinstance(a, Ref) else a for a in arms))  # fmt: skip
        self.router.publish(route)
        return route

    # -- the processes

    def start(self, *controller: str, env: dict[str, str] | None = None, **changes: Any) -> None:
        config = {"service": "m", "port": 0, "deadline_ms": 3000, **changes}
        self.process = subprocess.Popen(
            [*self.entry, str(self.root), json.dumps(config), *controller],
            env={**os.environ, **(env or {})})  # fmt: skip
        self.wait(lambda: (self.run / "serve.json").exists()
                  and self.process is not None and self.served["pid"] == self.process.pid)  # fmt: skip

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        self.hang_up()
        self.process.send_signal(number)
        status = self.process.wait(20)
        self.process = None
        return status

    def hang_up(self) -> None:
        """Close the caller's connection."""
        if self._line is not None:
            self._line.close()
            self._line = None

    @property
    def served(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run / "serve.json").read_bytes())
        return found

    @property
    def port(self) -> int:
        return int(self.served["port"])

    # -- a caller

    def ask(self, body: Any = None, path: str = "/predict", method: str = "", **headers: str,
            ) -> tuple[int, Any]:  # fmt: skip
        """Status and decoded body."""
        status, data = self.raw(body, path, method, **headers)
        return status, json.loads(data)

    def raw(self, body: Any = None, path: str = "/predict", method: str = "", **headers: str,
            ) -> tuple[int, bytes]:  # fmt: skip
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        if self._line is None:
            self._line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            self._line.request(method or ("GET" if data is None else "POST"), path, data, named)
            answer = self._line.getresponse()
            found = answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.hang_up()
            raise
        return found

    def speak(self, data: bytes, seconds: float = 5.0) -> bytes:
        """Raw bytes on a connection of their own; everything that comes back until it closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                line.sendall(data)
            heard = b""
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                while chunk := line.recv(65536):
                    heard += chunk
            return heard

    def status(self) -> Any:
        return self.ask(path="/status")[1]

    def metrics(self) -> dict[str, float]:
        lines = self.raw(path="/metrics")[1].decode().splitlines()
        return {k: float(v) for k, _, v in (x.rpartition(" ") for x in lines if x[0] != "#")}

    def counted(self, name: str, *parts: str) -> float:
        """Sum of a family's cells whose labels contain all `parts`."""
        return sum(v for k, v in self.metrics().items()
                   if k.startswith(name) and all(p in k for p in parts))  # fmt: skip

    # -- the journal

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        for path in sorted((self.state / "predictions" / "journal").glob("*.log")):
            data = path.read_bytes()
            assert data.startswith(HEADER)
            found += [e for e, _ in frames(data, len(HEADER))]
        return found

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each journaled row."""
        out = []
        for batch in (e for e in self.entries() if isinstance(e, Batch)):
            for i, prediction in enumerate(batch.ids):
                out.append({
                    "id": prediction, "package": batch.package, "live": batch.live, "at": batch.at,
                    "epoch": batch.epoch, "propensity": batch.propensity, "unit": batch.units[i],
                    "body": batch.bodies[i], "features": batch.features[i],
                    "output": batch.outputs[i], "error": batch.errors[i],
                    "fallback": batch.fallback[i], "latency": batch.latencies[i],
                })  # fmt: skip
        return out

    def wait(self, happened: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Look until it happened; fails when it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process is None or self.process.poll() is None, "the supervisor ended"
            if found := happened():
                return found
            time.sleep(0.01)
        raise AssertionError(f"did not happen within {seconds} s")


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def row() -> dict[str, Any]:
    return dict(ROW)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """One plant for the tests of a module that only talk to it; one binary package."""
    made = Plant(tmp_path_factory.mktemp("served"))
    made.publish(made.package())
    made.start(max_body=50_000)
    yield made
    assert made.stop() == 0
