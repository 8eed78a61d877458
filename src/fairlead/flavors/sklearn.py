"""scikit-learn models: exported to ONNX when that is exact, else kept in skops with its types pinned."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.proof import Proof, compare
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import onnx as runtime
from fairlead.flavors import trees
from fairlead.flavors.files import Files, read
from fairlead.flavors.onnx import UNABLE
from fairlead.flavors.steady import steady

if TYPE_CHECKING:
    import onnx

__all__ = ["PROOF_ROWS", "STATE", "Skops", "answers", "export", "opened", "recall", "remember", "scorer"]

PROOF_ROWS = 5_000
SKOPS_FILE, TYPES_FILE = "model.skops", "types.json"
STATE = "state.skops", "state.types.json"
"""The same two files of an estimator that a training begins with."""
TRUSTED = ("sklearn.", "numpy.", "scipy.")
"""Modules whose types a skops file may hold beyond those skops itself trusts."""

Scores = NDArray[np.float32]


def export(
    estimator: Any, rows: Scores, task: Task, classes: int, folder: Path
) -> tuple[Flavor, Proof, str]:
    """Write the model's files into `folder`; the flavor, its proof, and why it is not ONNX ("" if it is).

    `rows`: float32 [n, width] to prove equality on (the first 5,000 are used); `classes`: how many
    classes the task has (0 for a regression). The estimator was fit on class indexes 0, 1, ...
    Raises Invalid when the estimator gives no usable answers, or holds types that no safe format
    may carry.
    """
    _refuse_unusable(estimator, rows.shape[1], task, classes)
    sample = rows[:PROOF_ROWS]
    expected = answers(estimator, sample, task, classes)
    bad = int((~np.isfinite(expected)).any(axis=1).sum())
    if bad:
        raise Invalid(f"the model answers {bad:,} of {len(sample):,} held-out rows with no finite number",
                      hint="missing values are NaN in data.X: impute them, or use HistGradientBoosting")  # fmt: skip
    proof, why = _to_onnx(estimator, sample, expected, (task, classes), folder)
    if proof is not None and proof.exact:
        return "onnx", proof, ""
    _to_skops(estimator, folder, why)
    again = Skops(folder, task, classes)(sample)
    return "skops", compare(expected, again, task), why


def scorer(
    files: Files, flavor: Flavor, task: Task, classes: int, *, threads: int = 1
) -> Callable[[Scores], Scores]:
    """Open the files that `export` wrote: [n, width] float32 -> scores [n, k].

    A skops file runs estimator code: open it in a job process only.
    """
    if flavor == "onnx":
        return runtime.Scorer(read(files, runtime.FILE), threads=threads)
    return Skops(files, task, classes)


class Skops:
    """A model in skops form, loaded with exactly the types pinned beside it."""

    def __init__(self, files: Files, task: Task, classes: int) -> None:
        """Raises Missing (file, skops) or Corrupt (another type inside than was pinned)."""
        self._estimator = _opened(files, SKOPS_FILE, TYPES_FILE)
        self._task, self._classes = task, classes

    def __call__(self, rows: Scores) -> Scores:
        try:
            return answers(self._estimator, rows, self._task, self._classes)
        except UNABLE as error:
            raise Invalid(f"the model does not read a matrix {rows.shape}: {error}",
                          hint="encode the rows with the encoding of this very model") from None  # fmt: skip


def remember(estimator: Any, folder: Path) -> None:
    """Write the whole estimator, for a training that begins with it. Raises Invalid when it holds
    types that no safe format may carry."""
    _to_skops(estimator, folder, "train.warm_start keeps the estimator", STATE)


def recall(folder: Path) -> Any:
    """The estimator that `remember` wrote; it runs its code: in a job process only. Raises Missing,
    Corrupt."""
    return _opened(folder, *STATE)


def opened(data: bytes) -> Any:
    """The estimator in a skops file of somebody else's. Raises Corrupt, or Invalid when it holds types
    that nobody here trusts."""
    sio = _skops()
    try:
        types = sio.get_untrusted_types(data=data)
        strange = sorted(t for t in types if not t.startswith(TRUSTED))
        if strange:
            raise Invalid(f"the model holds {', '.join(strange)[:300]}",
                          hint="only scikit-learn, numpy and scipy types are opened")  # fmt: skip
        return sio.loads(data, trusted=types)
    except (BadZipFile, *UNABLE) as error:
        raise Corrupt(f"the skops file cannot be opened: {error}", hint="save the model again") from None


def _opened(files: Files, content: str, pinned: str) -> Any:
    """The estimator in a skops file, with exactly the types pinned beside it."""
    sio = _skops()
    try:
        types = msgspec.json.decode(read(files, pinned), type=list[str])
        strange = [t for t in types if not t.startswith(TRUSTED)]
        if strange:
            raise Corrupt(f"{pinned} trusts {', '.join(strange)}",
                          hint="only scikit-learn, numpy and scipy types may be trusted")  # fmt: skip
        return sio.loads(read(files, content), trusted=types)
    except (BadZipFile, msgspec.DecodeError, *UNABLE) as error:
        raise Corrupt(f"{content} cannot be opened: {error}",
                      hint="train and package the model again") from None  # fmt: skip


def answers(estimator: Any, rows: Scores, task: Task, classes: int) -> Scores:
    """What the estimator itself says, as scores [n, k] (see ModelSpec)."""
    if task == "regression":
        return np.asarray(estimator.predict(rows), dtype=np.float32).reshape(len(rows), -1)
    chances = np.asarray(estimator.predict_proba(rows), dtype=np.float32)
    if task == "binary":
        return np.ascontiguousarray(chances[:, 1:2])
    full = np.zeros((len(rows), classes), dtype=np.float32)
    full[:, np.asarray(estimator.classes_, dtype=np.int64)] = chances
    return full


def _refuse_unusable(estimator: Any, width: int, task: Task, classes: int) -> None:
    kind = type(estimator).__name__
    if task == "regression":
        if not hasattr(estimator, "predict"):
            raise Invalid(f"train() returned {kind}, which cannot predict",
                          hint="return a fitted scikit-learn estimator or Pipeline")  # fmt: skip
    elif not hasattr(estimator, "predict_proba"):
        raise Invalid(
            f"train() returned {kind}, which gives no probabilities (no predict_proba)",
            hint="return a fitted classifier with predict_proba, "
                 "or wrap it: CalibratedClassifierCV(your_model).fit(data.X, data.y)",
        )  # fmt: skip
    elif not _learned(estimator, task, classes):
        seen = np.asarray(getattr(estimator, "classes_", [])).tolist()[:5]
        raise Invalid(f"train() returned {kind} that learned the classes {seen}",
                      hint="fit on data.y, which holds class indexes 0, 1, ...")  # fmt: skip
    seen_width = getattr(estimator, "n_features_in_", width)
    if seen_width != width:
        raise Invalid(f"train() returned {kind} that reads {seen_width} columns, data.X has {width}",
                      hint="fit on data.X itself; choose columns inside a Pipeline")  # fmt: skip


def _learned(estimator: Any, task: Task, classes: int) -> bool:
    learned = list(getattr(estimator, "classes_", []))
    if task == "binary":
        return learned == [0, 1]
    return len(learned) > 1 and set(learned) <= set(range(classes))


def _to_onnx(
    estimator: Any, sample: Scores, expected: Scores, of: tuple[Task, int], folder: Path
) -> tuple[Proof | None, str]:
    try:
        import onnx  # noqa: F401  named here so that its absence is told apart from a refusal
        import skl2onnx  # noqa: F401
    except ImportError:
        raise Missing("onnx or skl2onnx is not installed", hint='pip install "fairlead[sklearn]"') from None  # fmt: skip
    task, classes = of
    try:
        data = _graph(estimator, sample.shape[1], task, classes).SerializeToString()
        proof = compare(expected, runtime.Scorer(data)(sample), task)
    except (Corrupt, Invalid, *UNABLE) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return None, f"{type(estimator).__name__} has no ONNX form: {said[:200]}"
    if not proof.exact:
        return proof, f"its ONNX form is not exact: {proof}"
    (folder / runtime.FILE).write_bytes(data)
    return proof, ""


def _graph(estimator: Any, width: int, task: Task, classes: int) -> "onnx.ModelProto":
    plain = task != "multiclass" or len(estimator.classes_) == classes
    if trees.boosted(estimator) and plain:
        return trees.model(estimator, width)
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.preprocessing import StandardScaler

    _register_boosting()
    options: dict[Any, dict[str, Any]] = {StandardScaler: {"div": "div"}}
    if task != "regression":
        options[id(estimator)] = {"zipmap": False}
    made = convert_sklearn(
        estimator, "fairlead", [("X", FloatTensorType([None, width]))],
        target_opset=trees.OPSETS, options=options,
    )  # fmt: skip
    return _scores_only(made, task, estimator, classes)


def _scores_only(made: Any, task: Task, estimator: Any, classes: int) -> "onnx.ModelProto":
    """Drop the label output, and give what remains the name and the shape of `scores`."""
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    source = made.graph.output[0 if task == "regression" else 1].name
    cut = select_model_inputs_outputs(made, outputs=[source])
    graph = cut.graph
    operator, attributes, k = "Gather", {"axis": 1}, 1
    extra: NDArray[Any] = np.array([1], np.int64)
    if task == "regression":
        extra, operator, attributes = np.array([-1, 1], np.int64), "Reshape", {}
    elif task == "multiclass":
        extra = np.eye(classes, dtype=np.float32)[np.asarray(estimator.classes_, dtype=np.int64)]
        operator, attributes, k = "MatMul", {}, classes
    graph.initializer.append(numpy_helper.from_array(extra, "scores_extra"))
    graph.node.append(helper.make_node("Cast", [source], ["scores_cast"], to=TensorProto.FLOAT))
    last = helper.make_node(operator, ["scores_cast", "scores_extra"], ["scores"])
    last.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    graph.node.append(last)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, k]))
    return cut  # type: ignore[no-any-return]


def _register_boosting() -> None:
    """Teach skl2onnx our trees, for a HistGradientBoosting inside a pipeline or another ensemble."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    options = {"zipmap": [True, False, "columns"], "nocl": [True, False],
               "raw_scores": [True, False], "output_class_labels": [False, True]}  # fmt: skip
    update_registered_converter(
        HistGradientBoostingClassifier, "FairleadBoostingClassifier",
        calculate_linear_classifier_output_shapes, _convert_classifier, options=options,
    )  # fmt: skip
    update_registered_converter(
        HistGradientBoostingRegressor, "FairleadBoostingRegressor",
        calculate_linear_regressor_output_shapes, _convert_regressor,
    )  # fmt: skip


def _boosting(scope: Any, operator: Any, container: Any, *, raw: bool = False) -> str:
    """Add the trees and (unless `raw`) the link; the name of their output, float32 [n, k]."""
    estimator, name = operator.raw_operator, operator.inputs[0].full_name
    own: dict[str, Any] = trees.attributes(estimator)
    links = () if raw else trees.links(estimator)
    for kind in ("TreeEnsembleRegressor", *links):
        made = scope.get_unique_variable_name("boosting")
        more = own if kind == "TreeEnsembleRegressor" else {"axis": 1} if kind == "Softmax" else {}
        domain, version = ("ai.onnx.ml", 3) if more is own else ("", 13)
        container.add_node(kind, [name], [made], op_domain=domain, op_version=version,
                           name=scope.get_unique_operator_name(kind), **more)  # fmt: skip
        name = made
    return str(name)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    made = _boosting(scope, operator, container)
    container.add_node("Identity", [made], [operator.outputs[0].full_name],
                       name=scope.get_unique_operator_name("Identity"))  # fmt: skip


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto

    def add(kind: str, inputs: list[str], output: str = "", **more: Any) -> str:
        output = output or scope.get_unique_variable_name(kind)
        container.add_node(kind, inputs, [output], op_version=13,
                           name=scope.get_unique_operator_name(kind), **more)  # fmt: skip
        return output

    def constant(kind: int, values: list[Any]) -> str:
        name: str = scope.get_unique_variable_name("constant")
        container.add_initializer(name, kind, [len(values)], values)
        return name

    asked = container.get_options(operator.raw_operator, {"raw_scores": False})
    raw = asked["raw_scores"]  # calibration around it wants the sums before the link
    made = _boosting(scope, operator, container, raw=raw)
    learned = [int(c) for c in operator.raw_operator.classes_]
    label, chances = (o.full_name for o in operator.outputs)
    if len(learned) == 2:
        other = add("Sub", [constant(TensorProto.FLOAT, [0.0 if raw else 1.0]), made])
        add("Concat", [other, made], chances, axis=1)
    else:
        add("Identity", [made], chances)
    place = add("ArgMax", [chances], axis=1, keepdims=0)
    add("Gather", [constant(TensorProto.INT64, learned), place], label, axis=0)


def _to_skops(
    estimator: Any, folder: Path, why: str, files: tuple[str, str] = (SKOPS_FILE, TYPES_FILE)
) -> None:
    sio = _skops()
    try:
        (folder / files[0]).write_bytes(steady(sio.dumps(estimator)))
        types = sio.get_untrusted_types(file=folder / files[0])
    except UNABLE as error:
        raise Invalid(f"the model can be kept neither as ONNX nor as skops: {why}; skops: {error}",
                      hint="build it from scikit-learn parts only") from None  # fmt: skip
    strange = sorted(t for t in types if not t.startswith(TRUSTED))
    if strange:
        raise Invalid(
            f"the model holds {', '.join(strange)}, and {why}",
            hint="a model may hold scikit-learn, numpy and scipy types only: "
                 "move own functions and classes out of the estimator",
        )  # fmt: skip
    (folder / files[1]).write_bytes(msgspec.json.encode(sorted(types)))


def _skops() -> Any:
    try:
        import skops.io
    except ImportError:
        raise Missing("skops is not installed", hint='pip install "fairlead[sklearn]"') from None
    return skops.io
