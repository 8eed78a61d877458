"""Brought: a fitted model of another tool's making, opened from a file that runs no code of its own.

A job runs this file as if it were somebody's train.py, with the model beside it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairlead.core.mlmodel import Form
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import boosters, sklearn

__all__ = ["opened", "train"]


def train(data: Any, params: dict[str, Any]) -> Any:
    """The model in the file ``params["file"]`` of the form ``params["form"]``, as `flow.train` wants it.

    Raises Invalid when its columns or its classes are not those of the table.
    """
    wanted = tuple(params["columns"].split("\n")) if params["columns"] else data.names
    if data.names != wanted:
        raise Invalid(f"the model reads {', '.join(wanted)}; of the table they become {', '.join(data.names)}",
                      hint="a model is brought with columns of numbers; prepare others before it")  # fmt: skip
    model = opened(Path(__file__).with_name(params["file"]), params["form"])
    if params["form"] == "skops" and data.task != "regression":
        _renumber(model, data.classes)
    return model


def opened(path: Path, form: Form) -> Any:
    """The model in a file. Raises Missing (a library), Corrupt, Invalid (types that are not trusted)."""
    data = path.read_bytes()
    if form in boosters.LIBRARIES:
        return boosters.LIBRARIES[form].opened(data)
    if form == "skops":
        return sklearn.opened(data)
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise Missing("onnx is not installed", hint='pip install "fairlead[sklearn]"') from None
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise Corrupt(f"{path.name} is no ONNX model: {error}", hint="log the model again") from None
    if any(t.external_data for t in _tensors(model)):
        raise Invalid(f"{path.name} keeps its weights in other files", hint="save it as one file")
    return model


def _tensors(part: Any) -> Iterator[Any]:
    """Every tensor in an ONNX model: those of inner graphs, of functions and of attributes, too."""
    for field, held in part.ListFields():
        if field.message_type is not None:
            for inner in held if isinstance(held, Sequence) else [held]:
                if field.message_type.name == "TensorProto":
                    yield inner
                else:
                    yield from _tensors(inner)


def _renumber(model: Any, classes: tuple[str, ...]) -> None:
    """Have a classifier that learned names answer by their places. Raises Invalid for other classes."""
    import numpy as np

    learned = np.asarray(getattr(model, "classes_", [])).tolist()
    if learned == list(range(len(classes))) or learned == [False, True][: len(classes)]:
        return
    if [str(c) for c in learned] != list(classes):
        raise Invalid(f"the model learned the classes {learned[:5]}, the table has {list(classes[:5])}",
                      hint="train it on the same target")  # fmt: skip
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    last.classes_ = np.arange(len(classes))
