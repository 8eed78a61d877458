"""XGBoost: its trees as ONNX, its own UBJSON form, and what answers from that."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors.forest import Forest

__all__ = ["FILE", "booster", "exact", "native", "opened", "raw", "width"]

FILE = "model.ubj"
Matrix = NDArray[np.float32]
HINT = "it is kept in XGBoost's own form"


def booster(estimator: Any) -> Any:
    """The booster inside a fitted estimator, up to the best iteration. Raises Invalid when it was
    not fitted, takes something else than NaN for missing, or has no trees."""
    made = estimator if type(estimator).__name__ == "Booster" else _inside(estimator)
    if msgspec.json.decode(made.save_config())["learner"]["gradient_booster"]["name"] == "gblinear":
        raise Invalid("train() returned gblinear of XGBoost", hint="take a linear model of scikit-learn, or gbtree")
    return made


def _inside(estimator: Any) -> Any:
    if not hasattr(estimator, "get_booster"):
        raise Invalid(f"train() returned {type(estimator).__name__}", hint="return an XGBClassifier, XGBRegressor or Booster")
    missing = estimator.missing
    if missing is not None and missing == missing:
        raise Invalid(f"the model takes {missing} for missing", hint="leave `missing` out: missing values are NaN in data.X")
    try:
        made = estimator.get_booster()
    except ValueError as error:  # its NotFittedError
        raise Invalid(f"train() returned a model that is not fitted: {error}", hint="fit it on data.X, data.y") from None
    best = made.attr("best_iteration")
    return made if best is None else made[: int(best) + 1]


def width(made: Any) -> int:
    """Columns that a booster reads."""
    return int(made.num_features())


def raw(made: Any, rows: Matrix) -> NDArray[Any]:
    """What a booster answers: [n], or [n, classes]."""
    made.set_param({"nthread": 1})
    return np.asarray(made.inplace_predict(rows, validate_features=False))


def native(made: Any) -> bytes:
    """The UBJSON form."""
    return bytes(made.save_raw("ubj"))


def opened(data: bytes) -> Any:
    """The booster from the UBJSON form. Raises Missing (no xgboost), Corrupt."""
    try:
        import xgboost
    except ImportError:
        raise Missing("xgboost is not installed", hint='pip install "fairlead[xgboost]"') from None
    made = xgboost.Booster({"nthread": 1})
    try:
        made.load_model(bytearray(data))
    except (xgboost.core.XGBoostError, ValueError) as error:
        said = str(error).splitlines()[-1][-200:]
        raise Corrupt(f"{FILE} cannot be opened: {said}", hint="package the model again") from None
    return made


def exact(made: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The attributes of its trees, and the operators from their sums to the answer. Thresholds are
    float32 as x is: nothing is rounded. Raises Invalid where there is no exact form."""
    learner = msgspec.json.decode(bytes(made.save_raw("json")))["learner"]
    boosting, parameters = learner["gradient_booster"], learner["learner_model_param"]
    objective = learner["objective"]["name"]
    if boosting["name"] != "gbtree" or parameters["num_target"] != "1":
        raise Invalid(f"booster {boosting['name']} with {parameters['num_target']} targets has no ONNX form here", hint=HINT)
    outputs = max(int(parameters["num_class"]), 1)
    links, base = _links(objective), _base(parameters["base_score"], objective, outputs)
    forest, model = Forest(), boosting["model"]
    for number, (tree, output) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        _grow(forest, number, tree, output)
    return forest.attributes(outputs, base), links


def _links(objective: str) -> tuple[str, ...]:
    known = {"binary:logistic": ("Sigmoid",), "reg:logistic": ("Sigmoid",), "multi:softprob": ("Softmax",),
             "count:poisson": ("Exp",), "reg:gamma": ("Exp",), "reg:tweedie": ("Exp",),
             **dict.fromkeys(("reg:squarederror", "reg:absoluteerror", "reg:quantileerror",
                              "reg:pseudohubererror"), ())}  # fmt: skip
    if objective not in known:
        raise Invalid(f"the objective {objective!r} has no ONNX form here", hint=HINT)
    return known[objective]


def _base(text: str, objective: str, outputs: int) -> list[float]:
    """The sums without any tree: the model names them as answers."""
    found = [float(v) for v in text.strip("[]").split(",")]
    answers = np.array(found * outputs if len(found) == 1 else found, dtype=np.float64)
    if objective.endswith(":logistic"):
        answers = -np.log(1 / answers - 1)
    elif objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        answers = np.log(answers)
    return [float(a) for a in answers]


def _grow(forest: Forest, tree: int, made: dict[str, Any], output: int) -> None:
    """Add one tree under XGBoost's own names of its nodes."""
    left, right, fresh = made["left_children"], made["right_children"], len(made["left_children"])
    sets = {node: made["categories"][start : start + size] for node, start, size in zip(
        made["categories_nodes"], made["categories_segments"], made["categories_sizes"], strict=True)}  # fmt: skip
    for node, value in enumerate(made["split_conditions"]):
        feature, missing = made["split_indices"][node], bool(made["default_left"][node])
        if left[node] < 0:
            forest.leaf(tree, node, output, value)
        elif not made["split_type"][node]:
            forest.test(tree, node, feature, "LT", value, (left[node], right[node]), missing)
        else:  # what is none of the set goes left
            ways = right[node], left[node]
            fresh = forest.member(tree, node, feature, sets[node], ways, not missing, fresh)
