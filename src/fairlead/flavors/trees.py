"""Exact ONNX trees for scikit-learn's histogram gradient boosting, which no released converter translates."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Invalid
from fairlead.flavors.forest import OPSETS, Forest, floor32, graph

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSETS", "attributes", "boosted", "links", "model"]


def boosted(estimator: object) -> bool:
    """Whether this is a fitted HistGradientBoosting estimator."""
    return type(estimator).__name__ in (
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    ) and hasattr(estimator, "_predictors")


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
    forest, splits = Forest(), _Splits(estimator)
    trees = ((output, tree) for iteration in estimator._predictors for output, tree in enumerate(iteration))
    for number, (output, tree) in enumerate(trees):
        _grow(forest, number, tree, output, splits)
    return forest.attributes(estimator.n_trees_per_iteration_, estimator._baseline_prediction.ravel())


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


def _grow(forest: Forest, tree: int, predictor: Any, output: int, splits: _Splits) -> None:
    """Add one tree under scikit-learn's own numbers of its nodes."""
    nodes, fresh = predictor.nodes, len(predictor.nodes)
    limits = floor32(nodes["num_threshold"]).tolist()
    for place, node in enumerate(nodes):
        column, missing = int(node["feature_idx"]), bool(node["missing_go_to_left"])
        feature, ways = int(splits.order[column]), (int(node["left"]), int(node["right"]))
        if node["is_leaf"]:
            forest.leaf(tree, place, output, node["value"])
        elif not node["is_categorical"]:
            forest.test(tree, place, feature, "LEQ", limits[place], ways, missing)
        else:
            left, right = splits.sides(column, _bits(predictor.raw_left_cat_bitsets[node["bitset_idx"]][None, :])[0])
            tested, ways = (right, ways[::-1]) if missing else (left, ways)
            fresh = forest.member(tree, place, feature, tested, ways, False, fresh)
