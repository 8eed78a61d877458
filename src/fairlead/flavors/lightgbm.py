"""LightGBM: its trees as ONNX, its own text form, and what answers from that."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors.forest import Forest, floor32

__all__ = ["FILE", "booster", "exact", "native", "opened", "raw", "width"]

FILE = "model.lightgbm"
Matrix = NDArray[np.float32]


def booster(estimator: Any) -> Any:
    """The booster inside a fitted estimator. Raises Invalid when it was not fitted."""
    kind = type(estimator)
    if kind.__name__ == "Booster":
        return estimator
    if not hasattr(kind, "booster_"):
        raise Invalid(f"train() returned {kind.__name__}", hint="return an LGBMClassifier, LGBMRegressor or Booster")
    try:
        return estimator.booster_
    except ValueError as error:  # its NotFittedError
        raise Invalid(f"train() returned a model that is not fitted: {error}", hint="fit it on data.X, data.y") from None


def width(made: Any) -> int:
    """Columns that a booster reads."""
    return int(made.num_feature())


def raw(made: Any, rows: Matrix) -> NDArray[Any]:
    """What a booster answers: [n], or [n, classes]."""
    return np.asarray(made.predict(rows, num_threads=1))


def native(made: Any) -> bytes:
    """The text form, up to the best iteration."""
    return str(made.model_to_string()).encode()


def opened(data: bytes) -> Any:
    """The booster from the text form. Raises Missing (no lightgbm), Corrupt."""
    try:
        import lightgbm
    except ImportError:
        raise Missing("lightgbm is not installed", hint='pip install "fairlead[lightgbm]"') from None
    try:
        return lightgbm.Booster(model_str=data.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise Corrupt(f"{FILE} cannot be opened: {error}", hint="package the model again") from None


def exact(made: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The attributes of its trees, and the operators from their sums to the answer.

    A threshold is a double, x a float32: `floor32` keeps every decision. Raises Invalid where
    there is no exact form.
    """
    dumped = made.dump_model()
    trees, outputs = dumped["tree_info"], dumped["num_tree_per_iteration"]
    share = outputs / max(len(trees), 1) if dumped["average_output"] else 1.0
    forest = Forest()
    for number, tree in enumerate(trees):
        _grow(forest, number, tree["tree_structure"], number % outputs, share)
    return forest.attributes(outputs, [0.0] * outputs), _links(dumped.get("objective", ""))


def _links(objective: str) -> tuple[str, ...]:
    name, _, rest = objective.partition(" ")
    known = {"binary": ("Sigmoid",), "multiclass": ("Softmax",), "cross_entropy": ("Sigmoid",),
             "poisson": ("Exp",), "gamma": ("Exp",), "tweedie": ("Exp",),
             **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape"), ())}  # fmt: skip
    plain = {"binary": rest == "sigmoid:1", "regression": not rest}.get(name, True)
    if name not in known or not plain:
        raise Invalid(f"the objective {objective!r} has no ONNX form here", hint="it is kept as LightGBM's own text")
    return known[name]


def _grow(forest: Forest, tree: int, root: dict[str, Any], output: int, share: float) -> None:
    """Add one tree; nodes are named in the order in which they are met."""
    todo, fresh = [(0, root)], 1
    while todo:
        name, node = todo.pop()
        if "leaf_value" in node:
            if "leaf_const" in node:
                raise Invalid("linear trees have no ONNX form", hint="they are kept as LightGBM's own text")
            forest.leaf(tree, name, output, node["leaf_value"] * share)
            continue
        ways, fresh = (fresh, fresh + 1), fresh + 2
        todo += [(ways[0], node["left_child"]), (ways[1], node["right_child"])]
        fresh = _split(forest, tree, name, node, ways, fresh)


def _split(forest: Forest, tree: int, name: int, node: dict[str, Any], ways: tuple[int, int], fresh: int) -> int:
    feature, missing = node["split_feature"], node["missing_type"]
    if node["decision_type"] == "==":
        values = [float(v) for v in node["threshold"].split("||")]
        return forest.member(tree, name, feature, values, ways, False, fresh)
    if missing == "Zero":
        raise Invalid("zero_as_missing has no ONNX form", hint="it is kept as LightGBM's own text")
    threshold = float(node["threshold"])
    # Where no value was missing in training, LightGBM reads NaN as 0.
    left = node["default_left"] if missing == "NaN" else threshold >= 0
    forest.test(tree, name, feature, "LEQ", float(floor32(np.array([threshold]))[0]), ways, left)
    return fresh
