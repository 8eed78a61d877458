"""Exact ONNX trees for scikit-learn's histogram gradient boosting, which no released converter translates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Invalid
from fairlead.flavors.forest import FIELDS, OPSETS, graph

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSETS", "attributes", "boosted", "floor32", "links", "model"]

Columns = dict[str, list[Any]]


def boosted(estimator: object) -> bool:
    """Whether this is a fitted HistGradientBoosting estimator."""
    return type(estimator).__name__ in (
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    ) and hasattr(estimator, "_predictors")


def floor32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 <= each value, so that x <= value decides alike for every float32 x."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    above = near.astype(np.float64) > values
    near[above] = np.nextafter(near[above], np.float32(-np.inf))
    return near


def links(estimator: Any) -> tuple[str, ...]:
    """ONNX operators from the raw sum to the prediction. Raises Invalid for an unknown link."""
    name = type(estimator._loss.link).__name__
    known = {"LogitLink": ("Sigmoid",), "MultinomialLogit": ("Softmax",),
             "IdentityLink": (), "LogLink": ("Exp",)}  # fmt: skip
    if name not in known:
        raise Invalid(
            f"loss {estimator.loss!r} uses the link {name}, which has no ONNX form here",
            hint=f"choose a loss whose link is one of {', '.join(known)}",
        )
    return known[name]


def attributes(estimator: Any) -> dict[str, Any]:
    """Attributes of the TreeEnsembleRegressor node that gives the raw sums [rows, k].

    Numeric splits keep their routing exactly (`floor32`); a categorical split becomes a chain of
    equality tests on the raw value, whose end is where a missing or unknown value goes.
    """
    rows: Columns = {name: [] for name in FIELDS}
    leaves: dict[str, list[NDArray[Any]]] = {n: [] for n in ("treeids", "nodeids", "ids", "weights")}
    splits = _Splits(estimator)
    tree = 0
    for iteration in estimator._predictors:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            _append(rows, _numeric(nodes, tree, splits.order))
            _chain(rows, predictor, tree, splits)
            ends = np.flatnonzero(nodes["is_leaf"])
            leaves["treeids"].append(np.full(len(ends), tree))
            leaves["nodeids"].append(ends)
            leaves["ids"].append(np.full(len(ends), target))
            leaves["weights"].append(nodes["value"][ends].astype(np.float32))
            tree += 1
    out: dict[str, Any] = {f"nodes_{name}": column for name, column in rows.items()}
    out |= {f"target_{name}": np.concatenate(parts).tolist() for name, parts in leaves.items()}
    return out | {
        "n_targets": estimator.n_trees_per_iteration_,
        "base_values": estimator._baseline_prediction.ravel().astype(np.float32).tolist(),
        "aggregate_function": "SUM",
        "post_transform": "NONE",
    }


def model(estimator: Any, width: int) -> "onnx.ModelProto":
    """A whole graph: ``X`` float32 [rows, width] -> ``scores`` float32 [rows, k]."""
    return graph(attributes(estimator), links(estimator), width)


class _Splits:
    """How the estimator's own column order and category codes map back to the matrix it was given."""

    def __init__(self, estimator: Any) -> None:
        width = estimator.n_features_in_
        categorical = estimator.is_categorical_
        self.order = np.arange(width)
        self.values: list[NDArray[np.float64]] = []
        self.known: NDArray[np.bool_] = np.zeros((0, 256), dtype=bool)
        self.place: NDArray[np.uint32] = np.zeros(width, dtype=np.uint32)
        if categorical is None:
            return
        self.order = np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])
        encoder = estimator._preprocessor.named_transformers_["encoder"]
        self.values = [np.asarray(c, dtype=np.float64) for c in encoder.categories_]
        bitsets, self.place = estimator._bin_mapper.make_known_categories_bitsets()
        self.known = _bits(bitsets)

    def sides(self, feature: int, left: NDArray[np.bool_]) -> tuple[list[float], list[float]]:
        """Raw values that go left, and the other known ones that go right."""
        known = self.known[self.place[feature]]
        values = self.values[feature]

        def raw(codes: NDArray[np.bool_]) -> list[float]:
            return [float(values[c]) for c in np.flatnonzero(codes[: len(values)])
                    if values[c] == values[c]]  # fmt: skip

        return raw(left), raw(known & ~left)


def _bits(bitsets: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """[n, 8] words of 32 bits -> [n, 256] flags."""
    flags = (bitsets[:, :, None] >> np.arange(32, dtype=np.uint32)) & 1
    return flags.reshape(len(bitsets), 256).astype(bool)


def _numeric(nodes: NDArray[Any], tree: int, order: NDArray[np.int64]) -> Columns:
    """One ONNX node per node of the tree; categorical splits are replaced afterwards."""
    leaf = nodes["is_leaf"].astype(bool)
    return {
        "treeids": [tree] * len(nodes),
        "nodeids": list(range(len(nodes))),
        "featureids": np.where(leaf, 0, order[nodes["feature_idx"]]).tolist(),
        "modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "values": np.where(leaf, np.float32(0), floor32(nodes["num_threshold"])).tolist(),
        "truenodeids": np.where(leaf, 0, nodes["left"]).tolist(),
        "falsenodeids": np.where(leaf, 0, nodes["right"]).tolist(),
        "missing_value_tracks_true": np.where(leaf, 0, nodes["missing_go_to_left"]).tolist(),
    }


def _append(rows: Columns, more: Columns) -> None:
    for name in FIELDS:
        rows[name].extend(more[name])


def _chain(rows: Columns, predictor: Any, tree: int, splits: _Splits) -> None:
    """Replace each categorical split of the tree just appended by its chain of equality tests."""
    nodes = predictor.nodes
    start = len(rows["nodeids"]) - len(nodes)
    fresh = len(nodes)
    for at in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)):
        node = nodes[at]
        left = _bits(predictor.raw_left_cat_bitsets[node["bitset_idx"]][None, :])[0]
        goes_left, goes_right = splits.sides(int(node["feature_idx"]), left)
        if node["missing_go_to_left"]:
            tested, hit, rest = goes_right, int(node["right"]), int(node["left"])
        else:
            tested, hit, rest = goes_left, int(node["left"]), int(node["right"])
        feature = int(splits.order[node["feature_idx"]])
        fresh = _tests(rows, (tree, start, int(at), fresh), feature, tested, (hit, rest))


def _tests(
    rows: Columns, where: tuple[int, int, int, int], feature: int, values: Sequence[float],
    ends: tuple[int, int],
) -> int:  # fmt: skip
    """Node `at` becomes ``x == v0 ? hit : x == v1 ? hit : ... rest``; the next free node id."""
    tree, start, at, fresh = where
    hit, rest = ends
    if not values:
        raise Invalid("a categorical split without categories", hint="report this estimator")
    for i, value in enumerate(values):
        follows = rest if i + 1 == len(values) else fresh
        made = (tree, at, feature, "BRANCH_EQ", value, hit, follows, 0)
        if i == 0:
            for name, cell in zip(FIELDS, made, strict=True):
                rows[name][start + at] = cell
        else:
            _append(rows, {name: [cell] for name, cell in zip(FIELDS, made, strict=True)})
        if i + 1 < len(values):
            at, fresh = fresh, fresh + 1
    return fresh
