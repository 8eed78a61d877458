"""The binary tensor extension of Open Inference Protocol v2, from bytes written by hand."""

import http.client
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import Invalid
from fairlead.serve.tensors import infer

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

PATH = "/v2/models/m/infer"
SCORES = (0.9994472, 0.99995464)
"""Of the two rows below: sigmoid(0.5 + 0 + 7 + 0) and sigmoid(9 + 0 + 0 + 1)."""
X = struct.pack("<8f", 0.5, 0, 7, 0, 9, 0, float("nan"), 1)


def tensor(name: str, datatype: str, shape: list[int], data: bytes, size: int = -1) -> dict[str, Any]:
    found = len(data) if size < 0 else size
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": found}}


def post(served: "Plant", request: Any, blob: bytes, text: str = "") -> tuple[int, Any, bytes]:
    """Status, the JSON of the answer, and the bytes behind it."""
    head = json.dumps(request).encode()
    line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    line.request("POST", PATH, head + blob, {"Inference-Header-Content-Length": text or str(len(head))})
    answer = line.getresponse()
    body = answer.read()
    line.close()
    size = answer.headers.get("Inference-Header-Content-Length")
    if size is None:
        return answer.status, json.loads(body), b""
    assert answer.headers["Content-Type"] == "application/octet-stream"
    return answer.status, json.loads(body[: int(size)]), body[int(size) :]


def texts(blob: bytes) -> list[str]:
    found = []
    while blob:
        size = int.from_bytes(blob[:4], "little")
        found.append(blob[4 : 4 + size].decode())
        blob = blob[4 + size :]
    return found


def test_a_matrix_in_and_raw_scores_out(served: "Plant") -> None:
    request = {"id": "7", "inputs": [tensor("X", "FP32", [2, 4], X)],
               "outputs": [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]}  # fmt: skip
    for _ in range(2):
        status, body, blob = post(served, request, X)
        assert status == 200 and body["id"] == "7"
        score, label = body["outputs"]
        assert score == {"name": "score", "datatype": "FP32", "shape": [2],
                         "parameters": {"binary_data_size": 8}}  # fmt: skip
        assert struct.unpack("<2f", blob) == pytest.approx(SCORES, abs=1e-6)
        assert label["data"] == ["yes", "yes"]
    # Another length on the same connection's head: nothing is remembered that should not be.
    request["id"] = "a longer name"
    assert post(served, request, X)[1]["id"] == "a longer name"
    kept = json.loads(served.wait(lambda: served.rows() and served.rows()[-1])["body"])
    assert kept == {"X": [9.0, 0.0, None, 1.0]}


def test_columns_in_and_everything_out_in_binary(served: "Plant") -> None:
    blobs = {"distance": ("FP32", struct.pack("<2f", 0.5, 9)),
             "carrier": ("BYTES", b"\2\0\0\0UA\2\0\0\0UA"),
             "hour": ("INT64", struct.pack("<2q", 7, 0)), "late": ("BOOL", b"\0\1")}  # fmt: skip
    inputs = [tensor(n, d, [2], b) for n, (d, b) in blobs.items()]
    request = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    status, body, blob = post(served, request, b"".join(b for _, b in blobs.values()))
    assert status == 200
    sizes = {o["name"]: o["parameters"]["binary_data_size"] for o in body["outputs"]}
    assert list(sizes) == ["score", "label", "prediction_id", "package"] and sum(sizes.values()) == len(blob)
    assert struct.unpack("<2f", blob[:8]) == pytest.approx(SCORES, abs=1e-6)
    words = texts(blob[8:])
    assert words[:2] == ["yes", "yes"] and len(words[2]) == 26 and words[4].startswith("package/m@")
    # One column in JSON among binary ones.
    inputs[2] = {"name": "hour", "datatype": "INT64", "shape": [2], "data": [7, 0]}
    rest = b"".join(b for n, (_, b) in blobs.items() if n != "hour")
    assert post(served, request, rest)[2][:8] == blob[:8]


@pytest.mark.parametrize(("inputs", "blob", "text", "pointer"), [
    ([tensor("X", "FP32", [2, 4], X)], X[:-1], "", "/inputs/0/parameters/binary_data_size"),
    ([tensor("X", "FP32", [2, 4], X)], X + b"?", "", ""),
    ([tensor("X", "FP32", [2, 4], X)], X, "99999", ""),
    ([tensor("X", "FP32", [2, 4], X)], X, "ten", ""),
    ([tensor("X", "FP32", [1, 4], X)], X, "", "/inputs/0/parameters/binary_data_size"),
    ([tensor("X", "FP32", [-1, 4], b"")], b"", "", "/inputs/0/parameters/binary_data_size"),
    ([tensor("X", "FP64", [2, 4], X)], X, "", "/inputs/0/shape"),
    ([tensor("distance", "FP32", [1], b"1234")], b"\0\0\x80\x7f", "", "/inputs/0/data/0"),
    ([tensor("distance", "FP31", [1], b"1234")], b"1234", "", "/inputs/0/datatype"),
    ([tensor("carrier", "BYTES", [1], b"\3\0\0\0UA")], b"\3\0\0\0UA", "", "/inputs/0"),
    ([tensor("carrier", "BYTES", [1], b"\1\0\0\0\xff")], b"\1\0\0\0\xff", "", "/inputs/0"),
])  # fmt: skip
def test_bytes_that_do_not_fit_are_refused(
    served: "Plant", inputs: list[Any], blob: bytes, text: str, pointer: str
) -> None:
    status, body, _ = post(served, {"inputs": inputs}, blob, text)
    assert status in (400, 422) and body["pointer"] == pointer
    # The protocol wants a plain text under "error".
    assert isinstance(body["error"], str) and body["hint"] and len(body["id"]) == 26


@given(body=st.binary(max_size=60), text=st.integers(-1, 80),
       size=st.one_of(st.none(), st.booleans(), st.integers(-5, 80), st.text(max_size=3)))  # fmt: skip
def test_any_bytes_are_a_question_or_refused(body: bytes, text: int, size: Any) -> None:
    head = json.dumps({"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP32",
                                   "parameters": {"binary_data_size": size}}]}).encode()  # fmt: skip
    for whole, length in ((body, text), (head + body, len(head)), (head + body, text)):
        try:
            question = infer(whole, length)
        except Invalid:
            continue
        assert all(b is None or b in whole for b in question.blobs)
