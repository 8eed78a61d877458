"""Forests: trees of any library as the attributes of one ONNX node, and the graph around it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Invalid

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSETS", "Forest", "floor32", "graph"]

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""Operator sets of every graph written here: old enough for every runtime that is still alive."""
FIELDS = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids",
          "missing_value_tracks_true")  # fmt: skip


class Forest:
    """Nodes as they are added, tree by tree. Nodes of a tree are named by whole numbers; 0 is its root."""

    def __init__(self) -> None:
        self._nodes: dict[str, list[Any]] = {name: [] for name in FIELDS}
        self._leaves: dict[str, list[Any]] = {n: [] for n in ("treeids", "nodeids", "ids", "weights")}

    def leaf(self, tree: int, node: int, output: int, value: float) -> None:
        """`value` is added to the sum number `output`."""
        self._node(tree, node, 0, "LEAF", 0.0, 0, 0, 0)
        for name, cell in zip(self._leaves, (tree, node, output, float(np.float32(value))), strict=True):
            self._leaves[name].append(cell)

    def test(self, tree: int, node: int, feature: int, test: str, value: float, ways: tuple[int, int],
             missing: bool) -> None:  # fmt: skip
        """Goes to `ways[0]` where ``x <test> value`` holds ("LEQ", "LT"), else to `ways[1]`;
        `missing`: whether NaN goes to `ways[0]`."""
        self._node(tree, node, feature, f"BRANCH_{test}", value, *ways, int(missing))

    def member(self, tree: int, node: int, feature: int, values: Sequence[float], ways: tuple[int, int],
               missing: bool, fresh: int) -> int:  # fmt: skip
        """Goes to `ways[0]` where x is one of `values` (NaN too, if `missing`), else to `ways[1]`, by
        a chain of tests whose nodes are named from `fresh` on; the first name that is free then."""
        if not values:
            raise Invalid("a categorical split without categories", hint="report this estimator")
        for i, value in enumerate(values):
            last = i + 1 == len(values)
            self._node(tree, node, feature, "BRANCH_EQ", value, ways[0], ways[1] if last else fresh, int(missing))
            node, fresh = (node, fresh) if last else (fresh, fresh + 1)
        return fresh

    def attributes(self, outputs: int, base: Iterable[float]) -> dict[str, Any]:
        """Of the TreeEnsembleRegressor that gives the raw sums [rows, outputs]; `base` is added."""
        made: dict[str, Any] = {f"nodes_{name}": column for name, column in self._nodes.items()}
        made |= {f"target_{name}": column for name, column in self._leaves.items()}
        return made | {"n_targets": outputs, "base_values": [float(np.float32(b)) for b in base],
                       "aggregate_function": "SUM", "post_transform": "NONE"}  # fmt: skip

    def _node(self, *cells: object) -> None:
        for name, cell in zip(FIELDS, cells, strict=True):
            self._nodes[name].append(cell)


def floor32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 <= each value, so that x <= value decides alike for every float32 x."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    above = near.astype(np.float64) > values
    near[above] = np.nextafter(near[above], np.float32(-np.inf))
    return near


def graph(attributes: dict[str, Any], links: Sequence[str], width: int) -> "onnx.ModelProto":
    """A whole model: ``X`` float32 [rows, width] -> ``scores`` float32 [rows, k], through the
    operators `links`."""
    from onnx import TensorProto, helper

    chain = ("TreeEnsembleRegressor", *links)
    names = ["X", *(f"step{i}" for i in range(1, len(chain))), "scores"]
    nodes = []
    for i, operator in enumerate(chain):
        own = attributes if i == 0 else {"axis": 1} if operator == "Softmax" else {}
        domain = "ai.onnx.ml" if i == 0 else ""
        nodes.append(helper.make_node(operator, [names[i]], [names[i + 1]], domain=domain, **own))
    made = helper.make_graph(
        nodes, "fairlead",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, attributes["n_targets"]])],
    )  # fmt: skip
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(made, opset_imports=opsets, producer_name="fairlead", ir_version=9)
