"""The wire: request bodies into rows and answers into bodies, in our own JSON and in Open Inference Protocol v2."""

from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw, Struct

from fairlead.core.contract import Malformed
from fairlead.core.encoding import FLOAT32_MAX
from fairlead.core.schema import Dtype
from fairlead.errors import FairleadError, Invalid
from fairlead.serve.reader import Reader

__all__ = ["Inference", "describe", "infer", "many", "spell_inference", "split_inference"]

MATRIX = "X"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "BOOL": (bool,), "BYTES": (str,),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"), (int,)),
    **dict.fromkeys(("FP16", "FP32", "FP64"), (int, float)),
}  # fmt: skip
_NAMES: Mapping[Dtype, str] = {"int": "INT64", "float": "FP64", "bool": "BOOL", "category": "BYTES",
                               "text": "BYTES", "datetime": "BYTES"}  # fmt: skip


class Many(Struct):
    """Several rows in one request."""

    rows: list[Raw]


class Tensor(Struct):
    """One input; `data` flat or nested, row-major."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Wanted(Struct):
    """One output that the caller asks for."""

    name: str


class Inference(Struct):
    """The body of an inference request."""

    inputs: list[Tensor]
    id: str = ""
    outputs: list[Wanted] | None = None


_many = msgspec.json.Decoder(Many).decode
_infer = msgspec.json.Decoder(Inference).decode


def many(body: bytes) -> list[bytes] | None:
    """The rows of {"rows": [...]}, each as raw JSON; None when the body is no such thing."""
    try:
        return [bytes(row) for row in _many(body).rows]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def infer(body: bytes) -> Inference:
    """Raises Malformed."""
    try:
        return _infer(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(f"not an inference request: {error}"[:200],
                        hint="Open Inference Protocol v2 wants {\"inputs\": "
                             "[{name, shape, datatype, data}, ...]}") from error  # fmt: skip


def split_inference(request: Inference, reader: Reader) -> tuple[list[bytes], list[bytes] | None]:
    """Row bodies, and rows already encoded as float32 when the one tensor is ``X`` (else None).

    Raises Invalid with a pointer to the tensor.
    """
    if not request.inputs or request.inputs[0].shape[:1] in ([], [0]):
        raise Invalid("there are no rows", hint="send one tensor per column", pointer="/inputs")
    first = request.inputs[0]
    if len(request.inputs) == 1 and first.name == MATRIX and MATRIX not in reader.contract.names:
        return _matrix(first, reader.encoder.width)
    columns = {t.name: _column(t, i, first) for i, t in enumerate(request.inputs)}
    rows = zip(*columns.values(), strict=True)
    return [msgspec.json.encode(dict(zip(columns, row, strict=True))) for row in rows], None


def _matrix(tensor: Tensor, width: int) -> tuple[list[bytes], list[bytes]]:
    flat = _flat(tensor, "/inputs/0")
    if len(tensor.shape) != 2 or tensor.shape[1] != width or tensor.datatype != "FP32":
        raise Invalid(f"X is {tensor.datatype} {tensor.shape}, the model reads FP32 [rows, {width}]",
                      hint="encode rows as the package does, or send one tensor per column",
                      pointer="/inputs/0/shape")  # fmt: skip
    try:
        wide = np.clip(np.array(flat, dtype=np.float64), -FLOAT32_MAX, FLOAT32_MAX)
        matrix = wide.astype("<f4").reshape(-1, width)
    except (TypeError, ValueError) as error:
        raise Invalid("X holds something that is not a number", hint="send numbers only",
                      pointer="/inputs/0/data") from error  # fmt: skip
    bodies = [msgspec.json.encode({MATRIX: row}) for row in matrix.tolist()]
    return bodies, [row.tobytes() for row in matrix]


def _column(tensor: Tensor, place: int, first: Tensor) -> list[Any]:
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
    flat = _flat(tensor, pointer)
    for i, value in enumerate(flat):
        if value is not None and (type(value) is bool) != (bool in kinds):
            raise _mistyped(tensor, value, f"{pointer}/data/{i}")
        if value is not None and not isinstance(value, kinds):
            raise _mistyped(tensor, value, f"{pointer}/data/{i}")
    return flat


def _mistyped(tensor: Tensor, value: Any, pointer: str) -> Invalid:
    return Invalid(f"tensor {tensor.name!r} is {tensor.datatype} and holds {value!r:.60}",
                   hint="send values of the datatype, or null", pointer=pointer)  # fmt: skip


def _flat(tensor: Tensor, pointer: str) -> list[Any]:
    data: list[Any] = tensor.data
    while data and isinstance(data[0], list):
        if not all(isinstance(d, list) for d in data):
            break
        data = list(chain.from_iterable(data))
    wanted = prod(tensor.shape) if tensor.shape else 0
    if len(data) != wanted or min(tensor.shape, default=0) < 0:
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


def spell_inference(request: Inference, service: str, rows: Sequence[Row]) -> bytes:
    """The response: score, scores or value; label; prediction ids; packages."""
    n, first = len(rows), rows[0]
    outputs = _tensors(rows)
    if request.outputs:
        wanted = [w.name for w in request.outputs]
        outputs = [o for o in outputs if o["name"] in wanted]
    same = all(r.package == first.package for r in rows)
    parameters: dict[str, Any] = {"package": first.package if same else "several"}
    if n == 1:
        parameters["prediction"] = first.id
    if any(r.fallback for r in rows):
        parameters["fallback"] = True
    version = first.package.partition("@")[2][:12]
    return msgspec.json.encode({"model_name": service, "model_version": version, "id": request.id,
                                "parameters": parameters, "outputs": outputs})  # fmt: skip


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
