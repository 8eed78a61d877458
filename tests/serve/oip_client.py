"""A caller that knows nothing of Fairlead: NVIDIA's tritonclient asks the same rows in every form.

``python oip_client.py HTTP_PORT GRPC_PORT`` prints one JSON object: what it was answered.
"""

import json
import sys
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

ROWS: dict[str, tuple[str, Any]] = {
    "distance": ("FP64", np.array([0.5, -2.0, 3.25])),
    "carrier": ("BYTES", np.array([b"UA", b"DL", b"UA"], dtype=np.object_)),
    "hour": ("INT64", np.array([7, 0, 23])),
    "late": ("BOOL", np.array([False, True, False])),
}


def scores(kind: Any, client: Any, **options: Any) -> dict[str, Any]:
    """`options`: of how tensors travel, where the protocol has a choice."""
    inputs = []
    for name, (datatype, values) in ROWS.items():
        tensor = kind.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, **options)
        inputs.append(tensor)
    wanted = [kind.InferRequestedOutput(name, **options) for name in ("score", "label", "prediction_id")]
    found = client.infer("m", inputs, request_id="r1", outputs=wanted)
    words = [[w.decode() if isinstance(w, bytes) else w for w in found.as_numpy(name)]
             for name in ("label", "prediction_id")]
    return {"score": found.as_numpy("score").tolist(), "label": words[0], "ids": words[1]}


def typed(port: str) -> dict[str, Any]:
    """Contents in typed fields, which tritonclient's messages have and its functions never use."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    request = service_pb2.ModelInferRequest(model_name="m")
    fields = {"FP64": "fp64", "BYTES": "bytes", "INT64": "int64", "BOOL": "bool"}
    for name, (datatype, values) in ROWS.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        getattr(tensor.contents, f"{fields[datatype]}_contents").extend(values.tolist())
    found = {o.name: o.contents for o in stub.ModelInfer(request).outputs}
    words = [[w.decode() for w in found[n].bytes_contents] for n in ("label", "prediction_id")]
    return {"score": list(found["score"].fp32_contents), "label": words[0], "ids": words[1]}


def matrix(kind: Any, client: Any) -> list[float]:
    """Rows that the caller encoded; NaN is a missing value."""
    values = np.array([[0.5, 0, 7, 0], [1, 1, np.nan, 1]], dtype=np.float32)
    tensor = kind.InferInput("X", [2, 4], "FP32")
    tensor.set_data_from_numpy(values)
    found: list[float] = client.infer("m", [tensor]).as_numpy("score").tolist()
    return found


def refused(kind: Any, client: Any) -> dict[str, str]:
    """A row without its columns."""
    tensor = kind.InferInput("distance", [1], "FP64")
    tensor.set_data_from_numpy(np.array([0.5]))
    try:
        client.infer("m", [tensor])
    except InferenceServerException as error:
        return {"status": str(error.status()), "message": error.message()}
    return {}


def plain(value: Any) -> Any:
    """Metadata as JSON."""
    return value if isinstance(value, dict) else json.loads(
        tritonclient.grpc._client.MessageToJson(value, preserving_proto_field_name=True))  # fmt: skip


def asked(kind: Any, client: Any, forms: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Every question of the protocol, once."""
    return {
        "live": client.is_server_live(), "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("m"), "server": plain(client.get_server_metadata()),
        "model": plain(client.get_model_metadata("m")), "matrix": matrix(kind, client),
        "refused": refused(kind, client),
        "forms": {name: scores(kind, client, **options) for name, options in forms.items()},
    }  # fmt: skip


def main(http: str, port: str) -> None:
    rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{http}")
    calls = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}")
    json.dump({
        "rest": asked(tritonclient.http, rest, {"json": {"binary_data": False}, "binary": {"binary_data": True}}),
        "grpc": asked(tritonclient.grpc, calls, {"raw": {}}), "typed": typed(port),
    }, sys.stdout)  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
