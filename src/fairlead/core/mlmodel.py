"""MLmodel files: which of the forms of an MLflow model may be opened here, and with which columns. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fairlead.core.artifact import PackageSpec
from fairlead.core.ref import UNREADABLE
from fairlead.errors import Invalid

__all__ = ["Brought", "Form", "brought", "document"]

Form = Literal["onnx", "skops", "lightgbm", "xgboost"]
PICKLED = ("pickle", "cloudpickle", "joblib", "dill")
REMEDY = ("whoever trusts it loads it in train.py, where it runs with their rights: "
          "`return mlflow.{flavor}.load_model(URI)`; or log it again as ONNX or skops")


class Brought(Struct, frozen=True, kw_only=True):
    """`file`: of the model, in its folder. `columns`: what it reads, in order; () when it does not say."""

    form: Form
    file: str
    columns: tuple[str, ...] = ()
    run: str = ""
    model: str = ""


def brought(said: Mapping[str, Any]) -> Brought:
    """What an MLmodel file (read as YAML) offers that runs no code of its own. Raises Invalid, with
    what to do, for pickles and for forms that nobody here opens."""
    flavors = said.get("flavors")
    if not isinstance(flavors, dict) or not flavors:
        raise Invalid("the MLmodel file names no flavor", hint="was it logged by mlflow.<flavor>.log_model?")
    columns, run, model = _columns(said.get("signature")), str(said.get("run_id") or ""), str(said.get("model_id") or "")
    for name, facts in flavors.items():
        if (found := _safe(name, facts)) is not None:
            form, file = found
            return Brought(form=form, file=_plain(file), columns=columns, run=run, model=model)
    names = [n for n in flavors if n != "python_function"]
    flavor = names[0] if names else "pyfunc"
    match flavors.get(flavor):
        case {"serialization_format": str(kind)}:
            pass
        case _:
            kind = "its own code"
    why = f"a {kind}, which runs code when it is opened" if kind in PICKLED else f"{kind} of flavor {flavor}"
    raise Invalid(f"the model is {why}: it is not opened here", hint=REMEDY.format(flavor=flavor))


def _safe(name: str, facts: Any) -> tuple[Form, str] | None:
    """The form and the file of a flavor that may be opened."""
    match name, facts:
        case "onnx", {"data": str(file)}:
            return "onnx", file
        case "sklearn", {"serialization_format": "skops", "pickled_model": str(file)}:
            return "skops", file
        case "lightgbm", {"data": str(file)} if file.endswith((".lgb", ".txt")):
            return "lightgbm", file
        case "xgboost", {"data": str(file)} if file.endswith((".ubj", ".json", ".xgb")):
            return "xgboost", file
    return None


def _plain(file: str) -> str:
    if not file or "/" in file or "\\" in file or file.startswith("."):
        raise Invalid(f"the MLmodel file names {file!r:.80}", hint="a model is a file beside it")
    return file


def _columns(signature: Any) -> tuple[str, ...]:
    """Names of the inputs; () for a tensor, and without a signature."""
    text = signature.get("inputs") if isinstance(signature, dict) else None
    try:
        inputs = msgspec.json.decode(text) if isinstance(text, str) else []
    except UNREADABLE:
        inputs = []
    names = [i.get("name") for i in (inputs if isinstance(inputs, list) else ()) if isinstance(i, dict) and i.get("type") != "tensor"]
    return tuple(n for n in names if isinstance(n, str)) if all(names) else ()


def document(spec: PackageSpec) -> dict[str, Any]:
    """The MLmodel file of a model in ONNX, as `mlflow.onnx` and `mlflow.pyfunc` load it. It reads the
    encoded columns: their names are the input of the signature's tensor."""
    width = spec.encoding.width
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, width]}, "name": "X"}]
    return {
        "flavors": {
            "onnx": {"data": "model.onnx", "providers": ["CPUExecutionProvider"], "onnx_session_options": None, "code": None},
            "python_function": {"loader_module": "mlflow.onnx", "data": "model.onnx"},
        },
        "signature": {"inputs": msgspec.json.encode(tensor).decode(), "outputs": None, "params": None},
        "metadata": {"fairlead.columns": list(spec.encoding.names)},
    }  # fmt: skip
