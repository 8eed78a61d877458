"""Tensors: Open Inference Protocol v2, as JSON and with its binary tensor extension, into rows and out of answers."""

from collections.abc import Mapping, Sequence
from itertools import chain
from math import isfinite, isnan, prod
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fairlead.core.contract import Malformed
from fairlead.core.encoding import FLOAT32_MAX
from fairlead.core.schema import Dtype
from fairlead.errors import FairleadError, Invalid
from fairlead.serve.reader import Reader

__all__ = ["ALL_BINARY", "Inference", "Question", "Row", "Tensor", "Wanted", "describe", "infer", "pack", "pointed",
           "respond", "spell_inference", "split_inference"]  # fmt: skip

MATRIX = "X"
BINARY_SIZE, BINARY, ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
"""The parameters of the binary extension: of a tensor, of a wanted output, of the request."""
_KINDS: Mapping[str, tuple[type, ...]] = {
    "BOOL": (bool,), "BYTES": (str,),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"), (int,)),
    **dict.fromkeys(("FP16", "FP32", "FP64"), (int, float)),
}  # fmt: skip
_RAW: Mapping[str, str] = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1",
    "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_NAMES: Mapping[Dtype, str] = {"int": "INT64", "float": "FP64", "bool": "BOOL", "category": "BYTES",
                               "text": "BYTES", "datetime": "BYTES"}  # fmt: skip


class Tensor(Struct):
    """One input; `data` flat or nested, row-major; absent when its bytes follow the JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] = []
    parameters: dict[str, Any] = {}


class Wanted(Struct):
    """One output that the caller asks for."""

    name: str
    parameters: dict[str, Any] = {}


class Inference(Struct):
    """The JSON of an inference request."""

    inputs: list[Tensor]
    id: str = ""
    outputs: list[Wanted] | None = None
    parameters: dict[str, Any] = {}


class Question(Struct):
    """A whole inference request; `blobs`: the bytes of each input, None where JSON holds the data."""

    request: Inference
    blobs: list[bytes | None]


_infer = msgspec.json.Decoder(Inference).decode


def infer(body: bytes, text: int = -1) -> Question:
    """`text`: bytes of JSON at the start of `body`, -1 when it is all JSON. Raises Malformed."""
    if text > len(body):
        raise Malformed(f"{text} bytes of JSON are announced, the body has {len(body)}",
                        hint="Inference-Header-Content-Length counts the JSON only")  # fmt: skip
    try:
        request = _infer(body if text < 0 else body[:text])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(f"not an inference request: {error}"[:200],
                        hint="Open Inference Protocol v2 wants {\"inputs\": "
                             "[{name, shape, datatype, data}, ...]}") from error  # fmt: skip
    blobs: list[bytes | None] = []
    at = len(body) if text < 0 else text
    for i, tensor in enumerate(request.inputs):
        size = tensor.parameters.get(BINARY_SIZE)
        if size is None:
            blobs.append(None)
            continue
        if type(size) is not int or not 0 <= size <= len(body) - at:
            raise Malformed(f"{BINARY_SIZE} {size!r:.40} of {tensor.name!r:.60}; {len(body) - at} bytes are left",
                            hint="send the bytes of all tensors behind the JSON, in their order",
                            pointer=f"/inputs/{i}/parameters/{BINARY_SIZE}")  # fmt: skip
        blobs.append(body[at : at + size])
        at += size
    if at != len(body):
        raise Malformed(f"{len(body) - at} bytes belong to no tensor",
                        hint=f"every binary tensor names its {BINARY_SIZE}")  # fmt: skip
    return Question(request, blobs)


def split_inference(question: Question, reader: Reader) -> tuple[list[bytes], list[bytes] | None]:
    """Row bodies, and rows already encoded as float32 when the one tensor is ``X`` (else None).

    Raises Invalid with a pointer to the tensor.
    """
    inputs = question.request.inputs
    if not inputs or inputs[0].shape[:1] in ([], [0]):
        raise Invalid("there are no rows", hint="send one tensor per column", pointer="/inputs")
    first = inputs[0]
    if len(inputs) == 1 and first.name == MATRIX and MATRIX not in reader.contract.names:
        return _matrix(first, question.blobs[0], reader.encoder.width)
    columns = {t.name: _column(t, b, i, first)
               for i, (t, b) in enumerate(zip(inputs, question.blobs, strict=True))}  # fmt: skip
    rows = zip(*columns.values(), strict=True)
    return [msgspec.json.encode(dict(zip(columns, row, strict=True))) for row in rows], None


def _matrix(tensor: Tensor, blob: bytes | None, width: int) -> tuple[list[bytes], list[bytes]]:
    """Null, and NaN in a binary tensor, mean that the value is missing."""
    if len(tensor.shape) != 2 or tensor.shape[1] != width or tensor.datatype != "FP32":
        raise Invalid(f"X is {tensor.datatype} {tensor.shape}, the model reads FP32 [rows, {width}]",
                      hint="encode rows as the package does, or send one tensor per column",
                      pointer="/inputs/0/shape")  # fmt: skip
    try:
        flat = _flat(tensor, "/inputs/0") if blob is None else _unpacked(tensor, blob, "/inputs/0")
        wide = np.clip(np.array(flat, dtype=np.float64), -FLOAT32_MAX, FLOAT32_MAX)
        matrix = wide.astype("<f4").reshape(-1, width)
    except (TypeError, ValueError) as error:
        raise Invalid("X holds something that is not a number", hint="send numbers only",
                      pointer="/inputs/0/data") from error  # fmt: skip
    bodies = [msgspec.json.encode({MATRIX: row}) for row in matrix.tolist()]
    return bodies, [row.tobytes() for row in matrix]


def _column(tensor: Tensor, blob: bytes | None, place: int, first: Tensor) -> list[Any]:
    """One value for each row."""
    pointer = f"/inputs/{place}"
    rows = tensor.shape[0] if tensor.shape else 0
    if tensor.shape not in ([rows], [rows, 1]) or rows != first.shape[0]:
        raise Invalid(f"tensor {tensor.name!r} has the shape {tensor.shape}",
                      hint=f"a column is [{first.shape[0] if first.shape else 'rows'}]",
                      pointer=f"{pointer}/shape")  # fmt: skip
    kinds = _KINDS.get(tensor.datatype)
    if kinds is None:
        raise Invalid(f"no datatype {tensor.datatype!r}", hint=f"one of {', '.join(_KINDS)}",
                      pointer=f"{pointer}/datatype")  # fmt: skip
    if blob is not None:
        return _unpacked_column(tensor, blob, pointer)
    flat = _flat(tensor, pointer)
    for i, value in enumerate(flat):
        if value is not None and (type(value) is bool) != (bool in kinds):
            raise _mistyped(tensor, value, f"{pointer}/data/{i}")
        if value is not None and not isinstance(value, kinds):
            raise _mistyped(tensor, value, f"{pointer}/data/{i}")
    return flat


def _unpacked_column(tensor: Tensor, blob: bytes, pointer: str) -> list[Any]:
    """NaN means missing; an infinity is no value."""
    if tensor.datatype == "BYTES":
        return _words(tensor, blob, pointer)
    values: list[Any] = _unpacked(tensor, blob, pointer).tolist()
    if not tensor.datatype.startswith("FP"):
        return values
    for i, value in enumerate(values):
        if not (isfinite(value) or isnan(value)):
            raise _mistyped(tensor, value, f"{pointer}/data/{i}")
    return [None if isnan(v) else v for v in values]


def _unpacked(tensor: Tensor, blob: bytes, pointer: str) -> "np.ndarray[Any, np.dtype[Any]]":
    """The numbers of a binary tensor, flat, little-endian."""
    dtype, wanted = np.dtype(_RAW[tensor.datatype]), _count(tensor)
    if len(blob) != wanted * dtype.itemsize:
        raise Invalid(f"tensor {tensor.name!r} holds {len(blob)} bytes, its shape says {wanted * dtype.itemsize}",
                      hint="bytes and shape must agree",
                      pointer=f"{pointer}/parameters/{BINARY_SIZE}")  # fmt: skip
    return np.frombuffer(blob, dtype)


def _words(tensor: Tensor, blob: bytes, pointer: str) -> list[str]:
    """The texts of a binary tensor: each is its length (u32) and UTF-8."""
    words: list[str] = []
    at, wanted = 0, _count(tensor)
    try:
        while at < len(blob) and len(words) < wanted:
            start = at + 4
            at = start + int.from_bytes(blob[at:start], "little")
            words.append(blob[start:at].decode())
    except UnicodeDecodeError:
        at = -1
    if at != len(blob) or len(words) != wanted:
        raise Invalid(f"tensor {tensor.name!r} does not hold {wanted} texts",
                      hint="each text is 4 bytes of length and then UTF-8", pointer=pointer)  # fmt: skip
    return words


def _mistyped(tensor: Tensor, value: Any, pointer: str) -> Invalid:
    return Invalid(f"tensor {tensor.name!r} is {tensor.datatype} and holds {value!r:.60}",
                   hint="send values of the datatype, or null", pointer=pointer)  # fmt: skip


def _count(tensor: Tensor) -> int:
    """Values the shape says; -1 when it is none."""
    return prod(tensor.shape) if tensor.shape and min(tensor.shape) >= 0 else -1


def _flat(tensor: Tensor, pointer: str) -> list[Any]:
    data: list[Any] = tensor.data
    while data and isinstance(data[0], list):
        if not all(isinstance(d, list) for d in data):
            break
        data = list(chain.from_iterable(data))
    wanted = _count(tensor)
    if len(data) != wanted:
        raise Invalid(f"tensor {tensor.name!r} holds {len(data)} values, its shape says {wanted}",
                      hint="data and shape must agree", pointer=f"{pointer}/data")  # fmt: skip
    return data


class Row(Struct):
    """One answered row: `reader` and `scores` are None when the static fallback answered."""

    id: str
    package: str
    reader: Reader | None
    scores: list[float] | None
    fallback: bool


def respond(
    request: Inference, service: str, rows: Sequence[Row], logged: bool
) -> dict[str, Any]:
    """The response with the outputs that were asked for: score, scores or value; label; prediction
    ids; packages."""
    first, outputs = rows[0], _tensors(rows)
    if request.outputs:
        wanted = [w.name for w in request.outputs]
        outputs = [o for o in outputs if o["name"] in wanted]
    same = all(r.package == first.package for r in rows)
    parameters: dict[str, Any] = {"package": first.package if same else "several"}
    if len(rows) == 1:
        parameters["prediction"] = first.id
    if any(r.fallback for r in rows):
        parameters["fallback"] = True
    if not logged:
        parameters["logged"] = False
    version = first.package.partition("@")[2][:12]
    return {"model_name": service, "model_version": version, "id": request.id,
            "parameters": parameters, "outputs": outputs}  # fmt: skip


def spell_inference(request: Inference, response: dict[str, Any]) -> tuple[bytes, bytes | None]:
    """The JSON of a response, and the bytes of the outputs that were asked for in binary (None when
    none was)."""
    everything = request.parameters.get(ALL_BINARY) is True
    asked = {w.name: w.parameters[BINARY] is True for w in request.outputs or () if BINARY in w.parameters}
    blobs = [_packed(o) for o in response["outputs"] if asked.get(o["name"], everything)]
    return msgspec.json.encode(response), b"".join(blobs) if blobs else None


def _packed(output: dict[str, Any]) -> bytes:
    """The bytes of an output; its description then names their number in place of the data."""
    blob = pack(output["datatype"], output.pop("data"))
    output["parameters"] = {BINARY_SIZE: len(blob)}
    return blob


def pack(datatype: str, data: Sequence[Any]) -> bytes:
    """The binary form of a tensor's values. Raises OverflowError when one does not fit."""
    if datatype == "BYTES":
        words = [word.encode() for word in data]
        return b"".join([len(w).to_bytes(4, "little") + w for w in words])
    return np.array(data, dtype=_RAW[datatype]).tobytes()


def _tensors(rows: Sequence[Row]) -> list[dict[str, Any]]:
    n = len(rows)
    outputs = [
        _tensor("prediction_id", "BYTES", [n], [r.id for r in rows]),
        _tensor("package", "BYTES", [n], [r.package for r in rows]),
    ]
    readers = [r.reader for r in rows if r.reader is not None]
    if len(readers) < n or any(r.scores is None for r in rows):
        return outputs
    spec = readers[0].spec
    scores = [list(r.scores or ()) for r in rows]
    if spec.task != "regression":
        labels = [reader.label(s) for reader, s in zip(readers, scores, strict=True)]
        outputs.insert(0, _tensor("label", "BYTES", [n], labels))
    name = {"binary": "score", "multiclass": "scores", "regression": "value"}[spec.task]
    shape = [n, readers[0].k] if spec.task == "multiclass" else [n]
    return [_tensor(name, "FP32", shape, list(chain.from_iterable(scores))), *outputs]


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def describe(service: str, reader: Reader) -> dict[str, Any]:
    """Model metadata: one input for each column of the contract."""
    spec = reader.spec
    inputs = [{"name": c.name, "datatype": _NAMES[c.dtype], "shape": [-1]}
              for c in spec.contract.columns]  # fmt: skip
    name = {"binary": "score", "multiclass": "scores", "regression": "value"}[spec.task]
    shape = [-1, reader.k] if spec.task == "multiclass" else [-1]
    outputs = [{"name": name, "datatype": "FP32", "shape": shape}]
    if spec.task != "regression":
        outputs.append({"name": "label", "datatype": "BYTES", "shape": [-1]})
    return {"name": service, "versions": [reader.ref.digest[:12]],
            "platform": f"fairlead_{spec.flavor}", "inputs": inputs, "outputs": outputs}  # fmt: skip


def pointed(error: FairleadError, place: int) -> str:
    """Where in an inference request the column of an error about row `place` stands."""
    return f"/inputs{error.pointer}/data/{place}" if error.pointer else "/inputs"
