"""Models of river: learnt row by row, exported as exact ONNX, and carried on by the next training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.proof import Proof, compare
from fairlead.errors import Invalid, Missing
from fairlead.flavors import onnx as runtime
from fairlead.flavors.forest import OPSETS, Forest, floor32, graph
from fairlead.flavors.scores import scores
from fairlead.flavors.state import read, written

if TYPE_CHECKING:
    import onnx

__all__ = ["STATE", "answers", "export", "recall", "remember"]

STATE = "state.river"
LIBRARY = "river"
LINKS = {"Log": ("Sigmoid",), "Squared": ()}
"""The operators from the weighted sum to the answer, by the loss of a linear model."""
LEAVES = {"HoeffdingTreeClassifier": ("mc", "LeafMajorityClass"), "HoeffdingTreeRegressor": ("mean", "LeafMean")}
"""Of each tree the only kind of leaf that answers every row alike."""
ADVICE = ("return StandardScaler() | LogisticRegression() or LinearRegression(), HoeffdingTreeClassifier("
          'leaf_prediction="mc") or HoeffdingTreeRegressor(leaf_prediction="mean")')  # fmt: skip

Matrix = NDArray[np.float32]


def export(
    estimator: Any, rows: Matrix, task: Task, classes: int, folder: Path
) -> tuple[Flavor, Proof, str]:
    """Write model.onnx into `folder`; there is no other form. Raises Invalid for what has none."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise Missing("onnx is not installed", hint='pip install "fairlead[river]"') from None
    *steps, last = _steps(estimator)
    kind, scaled = type(last).__name__, [type(s).__name__ for s in steps]
    if kind in LEAVES and not steps:
        made = _tree(last, task, classes, rows.shape[1])
    elif kind in ("LogisticRegression", "LinearRegression") and scaled in ([], ["StandardScaler"]):
        made = _linear(last, steps[0] if steps else None, rows.shape[1])
    else:
        raise Invalid(f"{' | '.join([*scaled, kind])} of river has no exact ONNX form here", hint=ADVICE)
    data = made.SerializeToString()
    proof = compare(answers(estimator, rows, task, classes), runtime.Scorer(data)(rows), task)
    if not proof.exact:
        raise Invalid(f"the ONNX form of {kind} answers otherwise: {proof}",
                      hint="name features by their place and leave missing values out, as docs/retraining.md does")  # fmt: skip
    (folder / runtime.FILE).write_bytes(data)
    return "onnx", proof, ""


def answers(estimator: Any, rows: Matrix, task: Task, classes: int) -> Matrix:
    """What the estimator itself says of each row, its features named 0, 1, ...; missing ones absent."""
    asked = [{i: v for i, v in enumerate(row) if v == v} for row in rows.tolist()]
    kind = type(estimator).__name__
    if task == "regression":
        return scores([estimator.predict_one(x) for x in asked], task, classes, kind)
    said = [estimator.predict_proba_one(x) for x in asked]
    return scores([[p.get(c, 0.0) for c in range(classes)] for p in said], task, classes, kind)


def remember(estimator: Any, folder: Path) -> None:
    """Write all that it has learnt and counted. Raises Invalid for an object of elsewhere in it."""
    (folder / STATE).write_bytes(written(estimator, LIBRARY))


def recall(folder: Path) -> Any:
    """The estimator that `remember` wrote. Raises Missing, Corrupt."""
    try:
        import river  # noqa: F401
    except ImportError:
        raise Missing("river is not installed", hint='pip install "fairlead[river]"') from None
    return read((folder / STATE).read_bytes(), LIBRARY)


def _steps(estimator: Any) -> list[Any]:
    return list(estimator.steps.values()) if type(estimator).__name__ == "Pipeline" else [estimator]


def _linear(model: Any, scaler: Any, width: int) -> "onnx.ModelProto":
    """``link(sum of w (x - mean) / sd + b)`` in double precision; what is missing adds nothing."""
    loss = type(model.loss).__name__
    if loss not in LINKS or (scaler is not None and scaler.window_size is not None):
        raise Invalid(f"{type(model).__name__} with the loss {loss} has no exact ONNX form here", hint=ADVICE)
    weights = np.array([float(model.weights.get(i, 0.0)) for i in range(width)])
    means, sds = np.zeros(width), np.ones(width)
    if scaler is not None:
        means = np.array([float(scaler.means.get(i, 0.0)) for i in range(width)])
        if scaler.with_std:
            sds = np.array([float(scaler.vars.get(i, 0.0)) ** 0.5 for i in range(width)])
    steep = np.divide(weights, sds, out=np.zeros(width), where=sds > 0)  # river: nothing varies, nothing counts
    return _sum(means, steep, float(model.intercept), LINKS[loss])


def _sum(means: NDArray[np.float64], steep: NDArray[np.float64], base: float, links: tuple[str, ...]) -> "onnx.ModelProto":
    from onnx import TensorProto, helper, numpy_helper

    width, node = len(means), helper.make_node
    chain = ["sum", *(f"link{i}" for i in range(len(links)))]
    nodes = [
        node("Cast", ["X"], ["wide"], to=TensorProto.DOUBLE), node("IsNaN", ["wide"], ["gone"]),
        node("Sub", ["wide", "means"], ["far"]), node("Where", ["gone", "nothing", "far"], ["known"]),
        node("MatMul", ["known", "steep"], ["product"]), node("Add", ["product", "base"], ["sum"]),
        *(node(link, [chain[i]], [chain[i + 1]]) for i, link in enumerate(links)),
        node("Cast", [chain[-1]], ["scores"], to=TensorProto.FLOAT),
    ]  # fmt: skip
    given = {"means": means, "steep": steep[:, None], "base": np.array(base), "nothing": np.array(0.0)}
    made = helper.make_graph(
        nodes, "fairlead", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 1])],
        initializer=[numpy_helper.from_array(array, name) for name, array in given.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSETS[""])],
                             producer_name="fairlead", ir_version=9)  # fmt: skip


def _tree(model: Any, task: Task, classes: int, width: int) -> "onnx.ModelProto":
    """The tree with its leaves as they answer now: of many classes once for each."""
    outputs, forest = classes if task == "multiclass" else 1, Forest()
    for output in range(outputs):
        todo, fresh = [(model._root, 0)], 1
        while todo:
            node, place = todo.pop()
            if type(node).__name__ == "NumericBinaryBranch":
                ways, (likely, _) = (fresh, fresh + 1), node.most_common_path()
                limit = float(floor32(np.array([node.threshold]))[0])
                forest.test(output, place, int(node.feature), "LEQ", limit, ways, missing=likely == 0)
                todo += zip(node.children, ways, strict=True)
                fresh += 2
            else:
                said = _said(model, node)
                known = said if task == "regression" else said.get(1 if task == "binary" else output, 0.0)
                forest.leaf(output, place, output, known)
    return graph(forest.attributes(outputs, [0.0] * outputs), (), width)


def _said(model: Any, node: Any) -> Any:
    """What a leaf answers to whatever row. Raises Invalid when that depends on the row."""
    kind, (wanted, leaf) = type(node).__name__, LEAVES[type(model).__name__]
    if node is not None and kind != leaf:
        raise Invalid(f"{type(model).__name__} has a {kind}, which has no exact ONNX form here",
                      hint=f'leaf_prediction="{wanted}" and no nominal_attributes')  # fmt: skip
    if node is None:
        return 0.0 if leaf == "LeafMean" else {}
    return node.prediction({}, tree=model)
