"""Open Inference Protocol v2 over gRPC, through a real channel to the real processes."""

import json
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from fairlead.core.trace import span_of, trace_of
from fairlead.serve import oip

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: `make test-oip` runs these")

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTENTS: dict[str, tuple[str, str, list[Any]]] = {"distance": ("FP64", "fp64", [0.5, 2.0]), "carrier": ("BYTES", "bytes", [b"UA", b"DL"]),
            "hour": ("INT64", "int64", [7, 0]), "late": ("BOOL", "bool", [False, True])}  # fmt: skip


def free() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


class Caller:
    """A channel; `metadata` goes with every call."""

    def __init__(self, port: int, *metadata: tuple[str, str]) -> None:
        self.channel, self.metadata = grpc.insecure_channel(f"127.0.0.1:{port}"), metadata

    def call(self, method: str, data: bytes, **options: Any) -> Any:
        """The bytes of the answer, and the finished call."""
        act = self.channel.unary_unary(f"/{oip.SERVICE}/{method}")
        return act.with_call(data, metadata=self.metadata, timeout=options.pop("timeout", 10), **options)

    def ask(self, method: str, request: str = "", **fields: Any) -> Any:
        message = oip.message(request or f"{method}Request")(**fields)
        return oip.read(f"{method}Response", self.call(method, message.SerializeToString())[0])

    def answered(self) -> bool:
        """Whether a sound request is answered: not while a replica that hung is replaced."""
        try:
            return bool(self.call("ModelInfer", infer()))
        except grpc.RpcError:
            return False

    def fail(self, method: str, data: bytes, **options: Any) -> tuple[str, Any]:
        """The status, and its details, decoded if they are JSON."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, data, **options)
        said = caught.value.details()
        return caught.value.code().name, json.loads(said) if said.startswith("{") else said


@pytest.fixture(scope="module")
def port(served: "Plant") -> int:
    return int(served.served["grpc_port"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Plant"]:
    from tests.serve.conftest import Plant

    made = Plant(tmp_path_factory.mktemp("called"))
    made.publish(made.package("slow"))
    made.start(max_body=50_000, grpc_port=free(), gateways=2, deadline_ms=500)
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def caller(port: int) -> Caller:
    return Caller(port)


def tensors(rows: int = 2) -> list[dict[str, Any]]:
    return [{"name": n, "datatype": d, "shape": [rows], "contents": {f"{field}_contents": v[:rows]}}
            for n, (d, field, v) in CONTENTS.items()]  # fmt: skip


def infer(**fields: Any) -> bytes:
    asked = oip.message("ModelInferRequest")(**{"model_name": "m", "inputs": tensors()} | fields)
    return bytes(asked.SerializeToString())


def test_health_and_metadata(caller: Caller) -> None:
    assert caller.ask("ServerLive").live and caller.ask("ServerReady").ready
    assert caller.ask("ServerMetadata").name == "fairlead"
    assert caller.ask("ModelReady", name="m").ready
    model = caller.ask("ModelMetadata", name="m")
    assert [(t.name, t.datatype, list(t.shape)) for t in model.inputs] == [
        (n, d, [-1]) for n, (d, _, _) in CONTENTS.items()]  # fmt: skip
    for method in ("ModelReady", "ModelMetadata"):
        other = oip.message(f"{method}Request")(name="other").SerializeToString()
        code, body = caller.fail(method, other)
        assert code == "NOT_FOUND" and body["code"] == "missing" and body["hint"] == "this service is m"


def test_typed_and_raw_contents_are_answered_as_over_http(caller: Caller, served: "Plant") -> None:
    rows = [dict(zip(CONTENTS, v, strict=True)) for v in ((0.5, "UA", 7, False), (2.0, "DL", 0, True))]
    wanted = [p["score"] for p in served.ask({"rows": rows})[1]["predictions"]]
    typed = oip.read("ModelInferResponse", caller.call("ModelInfer", infer(id="r"))[0])
    said = {o.name: o.contents for o in typed.outputs}
    assert typed.id == "r" and typed.model_name == "m" and not typed.raw_output_contents
    assert list(said["score"].fp32_contents) == pytest.approx(wanted)
    ids = [i.decode() for i in said["prediction_id"].bytes_contents]
    raw = infer(outputs=[{"name": "score"}], inputs=[{k: t[k] for k in ("name", "datatype", "shape")}
                for t in tensors()], raw_input_contents=[
        bytes.fromhex("000000000000e03f0000000000000040"), b"\2\0\0\0UA\2\0\0\0DL",
        bytes([7, *bytes(15)]), b"\0\1"])  # fmt: skip
    answer = oip.read("ModelInferResponse", caller.call("ModelInfer", raw)[0])
    assert [o.name for o in answer.outputs] == ["score"] and not answer.outputs[0].HasField("contents")
    assert memoryview(answer.raw_output_contents[0]).cast("f").tolist() == pytest.approx(wanted)
    logged = served.wait(lambda: [r for r in served.rows() if r["id"] in ids])
    assert [json.loads(r["body"]) for r in logged] == rows


@pytest.mark.parametrize(("fields", "code", "pointer"), [
    ({"inputs": tensors()[1:]}, "missing", "/inputs/distance/data/0"),
    ({"inputs": []}, "invalid", "/inputs"),
    ({"model_name": "n"}, "missing", ""),
    ({"raw_input_contents": [b""]}, "invalid", "/raw_input_contents"),
    ({"inputs": [tensors()[0] | {"datatype": "FP32"}]}, "invalid", "/inputs/0/contents"),
    ({"inputs": [tensors()[0] | {"datatype": "FP16"}]}, "invalid", "/inputs/0/contents"),
    ({"inputs": [tensors()[0] | {"shape": [3]}]}, "invalid", "/inputs/0/parameters/binary_data_size"),
    ({"inputs": [tensors()[0], tensors()[1] | {"contents": {"bytes_contents": [b"\xff"] * 2}}]}, "invalid",
     "/inputs/1/contents"),
    ({"inputs": [{"name": "hour", "datatype": "INT8", "shape": [1], "contents": {"int_contents": [300]}}]},
     "invalid", "/inputs/0/contents"),
])  # fmt: skip
def test_a_refusal_has_the_body_that_http_has(
    caller: Caller, fields: dict[str, Any], code: str, pointer: str
) -> None:
    status, body = caller.fail("ModelInfer", infer(**fields))
    assert status == ("NOT_FOUND" if "model_name" in fields else "INVALID_ARGUMENT")
    assert body.keys() == {"error", "code", "pointer", "hint", "id"} and body["hint"]
    assert (body["code"], body["pointer"], len(body["id"])) == (code, pointer, 26)


def test_limits_come_before_parsing(caller: Caller, served: "Plant") -> None:
    status, body = caller.fail("ModelInfer", b"\xff" * 50_001)
    assert status == "RESOURCE_EXHAUSTED" and body["code"] == "body"
    assert caller.fail("ModelInfer", bytes(200_000))[0] == "RESOURCE_EXHAUSTED"
    assert caller.fail("ServerLive", b"x")[1]["code"] == "body"
    assert caller.fail("ModelInfer", b"\xff")[1]["code"] == "malformed"
    assert caller.fail("ModelInfer", infer(), compression=grpc.Compression.Gzip)[0] == "UNIMPLEMENTED"
    assert caller.fail("ModelDance", b"")[0] == "UNIMPLEMENTED"
    served.wait(lambda: served.counted("fairlead_requests_total", 'code="413"') >= 2)


def test_deadlines_of_the_service_and_of_the_caller(caller: Caller, served: "Plant") -> None:
    slow = tensors(1)
    slow[0]["contents"] = {"fp64_contents": [101.0]}
    status, body = caller.fail("ModelInfer", infer(inputs=slow))
    assert status == "DEADLINE_EXCEEDED" and body["code"] == "deadline"
    served.wait(caller.answered)
    assert caller.fail("ModelInfer", infer(inputs=slow), timeout=0.1)[0] == "DEADLINE_EXCEEDED"
    served.wait(lambda: served.status()["inside"] == 0)


def test_a_trace_goes_on(served: "Plant", port: int) -> None:
    caller = Caller(port, ("traceparent", f"00-{TRACE}-{SPAN}-01"), ("x-unit", "u7"))
    served.wait(Caller(port).answered)
    data, call = caller.call("ModelInfer", infer(inputs=tensors(1)))
    answer = oip.read("ModelInferResponse", data)
    prediction = next(p.value.string_param for p in answer.parameters if p.key == "prediction")
    said = dict(call.trailing_metadata())["traceparent"]
    assert said == f"00-{TRACE}-{span_of(prediction, 'gateway')}-01" and trace_of(prediction) != TRACE
    batch = served.wait(lambda: next((e for e in served.entries() if getattr(e, "ids", 0) == [prediction]), None))
    assert batch.traces == [TRACE] and batch.units == ["u7"]


def test_a_token_is_asked_for(plant: "Plant") -> None:
    plant.publish(plant.package())
    (plant.root / "token").write_text("secret\n")
    plant.start(grpc_port=free(), token_file=str(plant.root / "token"))
    port = plant.served["grpc_port"]
    assert Caller(port).ask("ServerReady").ready
    status, body = Caller(port).fail("ModelInfer", infer())
    assert status == "UNAUTHENTICATED" and body["code"] == "token"
    assert Caller(port, ("authorization", "Bearer secret")).call("ModelInfer", infer())


def test_a_port_in_use_is_said_at_once(plant: "Plant") -> None:
    from fairlead.errors import Unavailable
    from fairlead.serve.config import GatewayConfig
    from fairlead.serve.grpc import reserve

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="cannot listen"):
            reserve(GatewayConfig(service="m", grpc_port=held.getsockname()[1]))
