"""ONNX as it comes: a graph somebody else exported, with their names, answers as packages do."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.proof import Proof, compare
from fairlead.errors import Invalid
from fairlead.flavors import onnx as runtime
from fairlead.flavors.scores import scores

__all__ = ["answers", "export", "recall", "remember"]

Matrix = NDArray[np.float32]
INNER = "brought_"
"""Before every name of the graph, so that ours are free."""
ZIPMAP = "ZipMap"
"""Makes a map of class and probability out of a matrix; nobody here reads maps."""


def export(
    estimator: Any, rows: Matrix, task: Task, classes: int, folder: Path
) -> tuple[Flavor, Proof, str]:
    """See `flow.job.Flavors`. Raises Invalid for a graph that reads or answers something else."""
    plain, output = _plain(estimator)
    found = _asked(plain, output, rows)
    expected = scores(found, task, classes, "the ONNX model")
    data = _wrapped(plain, output, rows.shape[1], found, expected.shape[1]).SerializeToString()
    proof = compare(expected, runtime.Scorer(data)(rows), task)
    if not proof.exact:
        raise Invalid(f"the graph answers otherwise under our names: {proof}", hint="report the model's operators")
    (folder / runtime.FILE).write_bytes(data)
    return "onnx", proof, ""


def answers(estimator: Any, rows: Matrix, task: Task, classes: int) -> Matrix:
    """See `flow.job.Flavors`."""
    return scores(_asked(*_plain(estimator), rows), task, classes, "the ONNX model")


def remember(estimator: Any, folder: Path) -> None:
    """Raises Invalid: a graph is not trained on."""
    raise Invalid("an ONNX graph cannot be trained further", hint="set train.warm_start to false")


def recall(folder: Path) -> Any:
    """Raises Invalid."""
    raise Invalid("an ONNX graph cannot be trained further", hint="set train.warm_start to false")


def _plain(model: Any) -> tuple[Any, str]:
    """The graph without maps, and its output with the scores: the last of floating numbers."""
    from onnx import ModelProto, TensorProto, helper

    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    for node in [n for n in graph.node if n.op_type == ZIPMAP]:
        for out in [o for o in graph.output if o.name == node.output[0]]:
            out.CopyFrom(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, [None, None]))
        graph.node.remove(node)
    kinds = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
    floats = [o.name for o in graph.output if o.type.tensor_type.elem_type in kinds]
    if not floats or len(_inputs(made)) != 1:
        raise Invalid(f"the graph has inputs {[i.name for i in _inputs(made)]} and {len(floats)} outputs of numbers",
                      hint="export it with one matrix of all columns as input, and probabilities as output")  # fmt: skip
    return made, floats[-1]


def _inputs(model: Any) -> list[Any]:
    weights = {w.name for w in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in weights]


def _asked(model: Any, output: str, rows: Matrix) -> NDArray[Any]:
    """What the graph itself says of `rows`, under its own names."""
    import onnxruntime as ort
    from onnx import helper

    given = _inputs(model)[0]
    dtype = helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
    if dtype.kind != "f":
        raise Invalid(f"the graph reads {dtype}, packages give it float32", hint="export it with a float input")
    ort.disable_telemetry_events()
    try:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return np.asarray(session.run([output], {given.name: rows.astype(dtype)})[0])
    except runtime.refusals() as error:
        raise Invalid(f"ONNX Runtime does not run the graph: {str(error)[:300]}",
                      hint="does it read as many columns as its signature names?") from None  # fmt: skip


def _wrapped(model: Any, output: str, width: int, found: NDArray[Any], k: int) -> Any:
    """The graph with one float32 input ``X`` [rows, width] and one output ``scores`` [rows, k]."""
    from onnx import TensorProto, compose, helper

    made = compose.add_prefix(model, INNER)
    graph, given = made.graph, _inputs(made)[0]
    kind, last, name = given.type.tensor_type.elem_type, INNER + output, given.name
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width]))
    graph.node.insert(0, helper.make_node("Cast", ["X"], [name], to=kind))
    if found.ndim == 2 and found.shape[1] == 2 and k == 1:  # of two chances the second
        graph.initializer.append(helper.make_tensor("second", TensorProto.INT64, [1], [1]))
        graph.node.append(helper.make_node("Gather", [last, "second"], ["chosen"], axis=1))
        last = "chosen"
    graph.initializer.append(helper.make_tensor("form", TensorProto.INT64, [2], [-1, k]))
    graph.node.append(helper.make_node("Cast", [last], ["numbers"], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Reshape", ["numbers", "form"], ["scores"]))
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, k]))
    return made
