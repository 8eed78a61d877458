"""Messages: Open Inference Protocol v2 in Protocol Buffers, described compactly and read into tensors.

The protocol: github.com/kserve/open-inference-protocol, package ``inference`` (Apache-2.0); on the
wire only numbers and types count, so a map is spelled as the pairs that it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from fairlead.core.contract import Malformed
from fairlead.errors import Invalid, Missing
from fairlead.serve import tensors

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto
    from google.protobuf.message import Message

__all__ = ["SERVICE", "message", "question", "read", "response"]

SERVICE = "inference.GRPCInferenceService"

_FIELDS: Mapping[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": "name:string version:string",
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:string*",
    "ModelMetadataRequest": "name:string version:string",
    "ModelMetadataResponse": "name:string versions:string* platform:string inputs:Described* "
                             "outputs:Described*",
    "Described": "name:string datatype:string shape:int64*",
    "ModelInferRequest": "model_name:string model_version:string id:string parameters:Pair* "
                         "inputs:Tensor* outputs:Wanted* raw_input_contents:bytes*",
    "ModelInferResponse": "model_name:string model_version:string id:string parameters:Pair* "
                          "outputs:Tensor* raw_output_contents:bytes*",
    "Tensor": "name:string datatype:string shape:int64* parameters:Pair* contents:Contents",
    "Wanted": "name:string parameters:Pair*",
    "Pair": "key:string value:Parameter",
    "Parameter": "bool_param:bool? int64_param:int64? string_param:string? double_param:double? "
                 "uint64_param:uint64?",
    "Contents": "bool_contents:bool* int_contents:int32* int64_contents:int64* uint_contents:uint32* "
                "uint64_contents:uint64* fp32_contents:float* fp64_contents:double* bytes_contents:bytes*",
}  # fmt: skip
"""Fields in the order of their numbers; * repeated, ? one of."""
_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool", "INT8": "int", "INT16": "int", "INT32": "int", "INT64": "int64", "UINT8": "uint",
    "UINT16": "uint", "UINT32": "uint", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes",
}  # fmt: skip
"""Which typed contents hold a datatype; there are none for FP16."""


@cache
def message(name: str) -> type["Message"]:
    """The class of one message. Raises Missing without the extra."""
    return _classes()[f"inference.{name}"]


@cache
def _classes() -> Mapping[str, type["Message"]]:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise Missing("protobuf is not installed", hint='pip install "fairlead[grpc]"') from None
    file = descriptor_pb2.FileDescriptorProto(
        name="fairlead/inference.proto", package="inference", syntax="proto3")  # fmt: skip
    for name, fields in _FIELDS.items():
        _describe(file.message_type.add(name=name), fields.split())
    # A pool of its own: another library may know a package of this name too.
    classes: Mapping[str, type[Message]] = message_factory.GetMessages(
        [file], pool=descriptor_pool.DescriptorPool())  # fmt: skip
    return classes


def _describe(made: "DescriptorProto", fields: Sequence[str]) -> None:
    kinds = type(made.field.add())
    del made.field[:]
    for number, field in enumerate(fields, 1):
        name, _, kind = field.partition(":")
        bare = kind.rstrip("*?")
        added = made.field.add(name=name, number=number, label=kinds.LABEL_REPEATED
                               if kind.endswith("*") else kinds.LABEL_OPTIONAL)  # fmt: skip
        if bare in _FIELDS:
            added.type, added.type_name = kinds.TYPE_MESSAGE, f".inference.{bare}"
        else:
            added.type = kinds.Type.Value(f"TYPE_{bare.upper()}")
        if kind.endswith("?"):
            if not made.oneof_decl:
                made.oneof_decl.add(name="choice")
            added.oneof_index = 0


def read(name: str, data: bytes) -> Any:
    """A message of that name. Raises Malformed."""
    from google.protobuf.message import DecodeError

    try:
        return message(name).FromString(data)
    except DecodeError as error:
        raise Malformed(f"not a {name}", hint="send what the .proto of the protocol says") from error


def question(asked: Any) -> tensors.Question:
    """A ModelInferRequest as the other doors know it. Raises Invalid with a pointer."""
    raw: list[bytes | None] = list(asked.raw_input_contents)
    if raw and len(raw) != len(asked.inputs):
        raise Invalid(f"{len(raw)} raw contents for {len(asked.inputs)} tensors", pointer="/raw_input_contents",
                      hint="send the contents of all tensors raw, or of none")  # fmt: skip
    inputs = [_tensor(t, i, bool(raw)) for i, t in enumerate(asked.inputs)]
    blobs = raw or [_blob(t, i) for i, t in enumerate(asked.inputs)]
    outputs = [tensors.Wanted(o.name) for o in asked.outputs] or None
    parameters = _values(asked.parameters) | {tensors.ALL_BINARY: bool(raw)}
    return tensors.Question(tensors.Inference(inputs, asked.id, outputs, parameters), blobs)


def _tensor(tensor: Any, place: int, raw: bool) -> tensors.Tensor:
    filled = [f.name.removesuffix("_contents") for f, _ in tensor.contents.ListFields()]
    wanted = [] if raw else [_CONTENTS.get(tensor.datatype)]
    if filled and filled != wanted:
        raise Invalid(f"tensor {tensor.name!r} is {tensor.datatype} and its contents are {filled}",
                      hint=f"fill {wanted[0]}_contents only" if any(wanted) else "send raw contents only",
                      pointer=f"/inputs/{place}/contents")  # fmt: skip
    try:
        texts = [word.decode() for word in tensor.contents.bytes_contents]
    except UnicodeDecodeError:
        raise Invalid(f"tensor {tensor.name!r} holds bytes that are no UTF-8", hint="send text",
                      pointer=f"/inputs/{place}/contents") from None  # fmt: skip
    return tensors.Tensor(tensor.name, list(tensor.shape), tensor.datatype, texts)


def _blob(tensor: Any, place: int) -> bytes | None:
    """Typed numbers as raw contents; texts stay as they are."""
    kind = _CONTENTS.get(tensor.datatype, "bytes")
    if kind == "bytes":
        return None
    try:
        return tensors.pack(tensor.datatype, list(getattr(tensor.contents, f"{kind}_contents")))
    except OverflowError:
        raise Invalid(f"tensor {tensor.name!r} holds more than fits into {tensor.datatype}",
                      hint="send values of the datatype", pointer=f"/inputs/{place}/contents") from None  # fmt: skip


def _values(pairs: Iterable[Any]) -> dict[str, Any]:
    return {p.key: getattr(p.value, p.value.WhichOneof("choice") or "string_param") for p in pairs}


def response(request: tensors.Inference, answer: dict[str, Any]) -> bytes:
    """A ModelInferResponse: raw when the request was raw, typed otherwise."""
    raw = request.parameters[tensors.ALL_BINARY]
    made: Any = message("ModelInferResponse")(
        **{k: answer[k] for k in ("model_name", "model_version", "id")})  # fmt: skip
    for key, value in answer["parameters"].items():
        choice = "bool_param" if isinstance(value, bool) else "string_param"
        setattr(made.parameters.add(key=key).value, choice, value)
    for output in answer["outputs"]:
        kind, data = output["datatype"], output.pop("data")
        added = made.outputs.add(**output)
        if raw:
            made.raw_output_contents.append(tensors.pack(kind, data))
        else:
            values = [word.encode() for word in data] if kind == "BYTES" else data
            getattr(added.contents, f"{_CONTENTS[kind]}_contents").extend(values)
    return bytes(made.SerializeToString())
