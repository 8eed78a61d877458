"""Nets: what PyTorch and Keras models share, from what their outputs mean to the graph that gives scores."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.proof import Proof, compare
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import onnx as runtime
from fairlead.flavors.forest import OPSETS
from fairlead.flavors.onnx import UNABLE

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "PRODUCER", "SAID", "Nets"]

OPSET = OPSETS[""]
PRODUCER = "fairlead.net"
"""Who made the graph; its answers have slopes."""
SAID = "outputs_are"
"""Attribute of a model that says what its outputs are: "logits" or "probabilities"."""
PROOF_ROWS = 5_000
CHUNK = 1_000
"""Rows a framework is asked at once: bounds what the layers hold."""
WHOLE = 1e-4
"""Probabilities of one row add up to 1 within this."""
ROUND = 1e-6
SHAPING = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
BENT = ("Exp", "Log", "Neg", "Relu", "Softplus", "Tanh")
"""Last operators that make neither logits nor probabilities."""

Matrix = NDArray[np.float32]
Weights = Mapping[str, NDArray[Any]]
Meaning = Literal["logits", "probabilities"]


class Nets(Struct, frozen=True, kw_only=True):
    """Implements `frameworks.Framework` upon what one framework knows of its own models.

    `ready`: a model on the CPU, set to answer. `raw`: its outputs [n] or [n, k] for rows. `graph`: its
    ONNX form for a width; raises Missing without its converter. `weights`, `restored`: its numbers by
    name, and what `data.last` is made of them. `state`: the file they are kept in.
    """

    ready: Callable[[Any], Any]
    raw: Callable[[Any, Matrix], NDArray[Any]]
    graph: Callable[[Any, int], "onnx.ModelProto"]
    weights: Callable[[Any], Weights]
    restored: Callable[[Weights], Any]
    state: str

    def export(
        self, estimator: Any, rows: Matrix, task: Task, classes: int, folder: Path
    ) -> tuple[Flavor, Proof, str]:
        """Write the model's graph, proven on up to 5,000 `rows`; "onnx", its proof, "".

        Raises Invalid when the model gives no usable outputs, when nobody can tell what they are,
        or when it has no ONNX form that answers alike; Missing without the converter.
        """
        model, sample = self.ready(estimator), rows[:PROOF_ROWS]
        outputs = self._outputs(model, sample, task, classes)
        graph = self._graph(model, rows.shape[1])
        meaning = _meaning(model, outputs, task, _last(graph))
        setattr(model, SAID, meaning)  # what `answers` goes by from now on
        _finish(graph, rows.shape[1], outputs.shape[1], _links(task, outputs.shape[1], meaning))
        data = graph.SerializeToString(deterministic=True)
        try:
            proof = compare(_scores(outputs, task, meaning), runtime.Scorer(data)(sample), task)
        except UNABLE as error:
            raise _formless(model, error) from None
        if not proof.exact:
            raise Invalid(f"the ONNX form of {type(model).__name__} does not answer as it does: {proof}",
                          hint="look for random or running layers in it; float32 throughout keeps it exact")  # fmt: skip
        (folder / runtime.FILE).write_bytes(data)
        return "onnx", proof, ""

    def answers(self, estimator: Any, rows: Matrix, task: Task, classes: int) -> Matrix:
        """What the model itself says, as scores [n, k] (see ModelSpec). Raises Invalid."""
        model = self.ready(estimator)
        outputs = self._outputs(model, rows, task, classes)
        return _scores(outputs, task, _meaning(model, outputs, task, ""))

    def remember(self, estimator: Any, folder: Path) -> None:
        """Write the weights; their names and shapes are all that the next training needs."""
        with (folder / self.state).open("wb") as file:
            np.savez(file, **self.weights(self.ready(estimator)))  # type: ignore[arg-type]

    def recall(self, folder: Path) -> Any:
        """The weights that `remember` wrote. Raises Missing, Corrupt."""
        try:
            with np.load(folder / self.state, allow_pickle=False) as file:
                return self.restored(dict(file))
        except FileNotFoundError:
            raise Missing(f"no file {self.state}", hint="train once with train.warm_start: true") from None
        except (BadZipFile, ValueError) as error:
            raise Corrupt(f"{self.state} cannot be opened: {error}", hint="train from the start") from None

    def _outputs(self, model: Any, rows: Matrix, task: Task, classes: int) -> NDArray[np.float64]:
        """[n, k], all finite."""
        kind = type(model).__name__
        try:
            parts = [np.asarray(self.raw(model, rows[i : i + CHUNK]), dtype=np.float64)
                     for i in range(0, len(rows), CHUNK)]  # fmt: skip
            outputs = np.concatenate(parts).reshape(len(rows), -1)
        except UNABLE as error:
            raise Invalid(f"{kind} does not read data.X, float32 {list(rows.shape)}: {_first(error)}",
                          hint="its forward takes the matrix [rows, columns] and returns one tensor") from None  # fmt: skip
        wanted = {"regression": (1,), "binary": (1, 2), "multiclass": (classes,)}[task]
        if outputs.shape[1] not in wanted:
            raise Invalid(f"{kind} returns {outputs.shape[1]} outputs a row; {task} takes {' or '.join(map(str, wanted))}",
                          hint="data.classes says how many classes there are")  # fmt: skip
        bad = int((~np.isfinite(outputs)).any(axis=1).sum())
        if bad:
            raise Invalid(f"{kind} answers {bad:,} of {len(rows):,} held-out rows with no finite number",
                          hint="missing values are NaN in data.X: fill them inside the model")  # fmt: skip
        return outputs

    def _graph(self, model: Any, width: int) -> "onnx.ModelProto":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # converters speak of their own internals
                return self.graph(model, width)
        except UNABLE as error:
            raise _formless(model, error) from None


def _formless(model: Any, error: Exception) -> Invalid:
    return Invalid(f"{type(model).__name__} has no ONNX form: {_first(error)}",
                   hint="see docs/frameworks.md: what converts, and what to do about the rest")  # fmt: skip


def _first(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _meaning(model: Any, outputs: NDArray[np.float64], task: Task, last: str) -> Meaning:
    """What the model says its outputs are; else what they must be. Raises Invalid when neither tells.

    Numbers outside [0, 1] are no probabilities. Rows that all add up to 1 are no logits, nor is what
    a sigmoid or a softmax gives. `last`: the operator that makes the outputs.
    """
    said = getattr(model, SAID, "")
    if task == "regression" or said == "logits":
        return "logits"
    inside = bool((np.abs(outputs - 0.5) <= 0.5 + ROUND).all())
    adds_up = outputs.shape[1] > 1 and np.allclose(outputs.sum(axis=1), 1, atol=WHOLE)
    squashed = last == ("Sigmoid" if outputs.shape[1] == 1 else "Softmax")
    if inside and (adds_up or squashed or said == "probabilities"):
        return "probabilities"
    if not (inside or said or last in BENT):
        return "logits"
    raise Invalid(f"{type(model).__name__} answers from {outputs.min():.3g} to {outputs.max():.3g}"
                  f"{f', and {SAID} is {said!r}' if said else ''}: logits or probabilities?",
                  hint=f'say it in train(): model.{SAID} = "logits", or "probabilities"')  # fmt: skip


def _scores(outputs: NDArray[np.float64], task: Task, meaning: Meaning) -> Matrix:
    """What `_links` makes of outputs [n, k] in the graph."""
    for operator in _links(task, outputs.shape[1], meaning):
        if operator == "Sigmoid":
            outputs = (1 + np.tanh(outputs / 2)) / 2
        elif operator == "Softmax":
            powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            outputs = powers / powers.sum(axis=1, keepdims=True)
        else:
            outputs = outputs[:, 1:]
    return np.ascontiguousarray(outputs, dtype=np.float32)


def _links(task: Task, k: int, meaning: Meaning) -> tuple[str, ...]:
    """Operators from the outputs [n, k] to the scores; "Gather" takes the second of two columns."""
    squash = ("Sigmoid" if k == 1 else "Softmax",) if meaning == "logits" and task != "regression" else ()
    return (*squash, "Gather") if task == "binary" and k == 2 else squash


def _last(model: "onnx.ModelProto") -> str:
    """The operator that makes the output's values."""
    made = {name: node for node in model.graph.node for name in node.output}
    name = model.graph.output[0].name
    while name in made and made[name].op_type in SHAPING:
        name = made[name].input[0]
    return str(made[name].op_type) if name in made else ""


def _finish(model: "onnx.ModelProto", width: int, k: int, links: tuple[str, ...]) -> None:
    """Give a graph one input ``X`` [n, width], one output ``scores``, and nothing of where it was made."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    source, name = graph.input[0].name, graph.output[0].name
    if source != "X":
        graph.node.insert(0, helper.make_node("Identity", ["X"], [source]))
    graph.initializer.append(numpy_helper.from_array(np.array([-1, k], np.int64), "scores_shape"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "scores_second"))
    for i, operator in enumerate(("Reshape", *links, "Identity")):
        more = {"Reshape": ["scores_shape"], "Gather": ["scores_second"]}.get(operator, [])
        made = "scores" if operator == "Identity" else f"scores_{i}"
        axis: dict[str, Any] = {"axis": 1} if operator in ("Softmax", "Gather") else {}
        graph.node.append(helper.make_node(operator, [name, *more], [made], **axis))
        name = made
    del graph.input[:], graph.output[:], graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    out = 1 if "Gather" in links else k
    graph.input.append(helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width]))
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, out]))
    model.producer_name, model.doc_string, graph.name, graph.doc_string = PRODUCER, "", "fairlead", ""
    for part in (*graph.node, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]  # file names and source lines
    if not any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        _settle(graph)  # else names are used in inner graphs, too


def _settle(graph: "onnx.GraphProto") -> None:
    """Names by order of use, and each constant once: converters name and merge as memory falls."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names, kept = {"": "", "X": "X"}, dict[bytes, Any]()
    for place, node in enumerate(graph.node):
        node.name = f"n{place}"
        for i, name in enumerate(node.input):
            if name not in names:
                tensor = constants[name]
                tensor.name = ""
                same = kept.setdefault(tensor.SerializeToString(deterministic=True), tensor)
                same.name = names[name] = same.name or f"c{len(kept)}"
            node.input[i] = names[name]
        for i, name in enumerate(node.output):
            names.setdefault(name, f"v{place}.{i}" if name != "scores" else name)
            node.output[i] = names[name]
    settled = sorted(kept.values(), key=lambda tensor: int(tensor.name[1:]))
    del graph.initializer[:]
    graph.initializer.extend(settled)
