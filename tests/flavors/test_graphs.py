"""ONNX as it comes, and skops of somebody else's: other names and shapes, the same answers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import skops.io
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fairlead.core.artifact import Task
from fairlead.errors import Corrupt, Invalid
from fairlead.flavors import brought, frameworks
from fairlead.flavors import onnx as runtime

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(300, 4)).astype(np.float32)
BINARY = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])


def network(width: int, elements: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """sigmoid(x @ w) with names of its own, ours among them."""
    dtype = helper.tensor_dtype_to_np_dtype(elements)
    weights = helper.make_tensor("scores", elements, [4, width], np.ones((4, width), dtype).ravel())
    nodes = [helper.make_node("MatMul", ["numbers", "scores"], ["X"]), helper.make_node("Sigmoid", ["X"], ["out"])]
    given, answer = (helper.make_tensor_value_info(n, elements, ["n", w]) for n, w in (("numbers", 4), ("out", width)))
    return helper.make_model(helper.make_graph(nodes, "g", [given], [answer], [weights]), ir_version=10,
                             opset_imports=[helper.make_opsetid("", 18)])  # fmt: skip


CASES: list[tuple[str, Any, Task, int, Any]] = [
    ("maps", to_onnx(LogisticRegression().fit(X, BINARY), X[:1]), "binary", 2, lambda: LogisticRegression().fit(X, BINARY).predict_proba(X)[:, 1:]),
    ("matrix", to_onnx(LogisticRegression().fit(X, THREE), X[:1], options={"zipmap": False}), "multiclass", 3,
     lambda: LogisticRegression().fit(X, THREE).predict_proba(X)),
    ("number", to_onnx(Ridge().fit(X, X[:, 0]), X[:1]), "regression", 0, lambda: Ridge().fit(X, X[:, 0]).predict(X)[:, None]),
    ("doubles", network(1, TensorProto.DOUBLE), "binary", 2, lambda: 1 / (1 + np.exp(-X.sum(axis=1, keepdims=True)))),
    ("our names", network(1), "binary", 2, lambda: 1 / (1 + np.exp(-X.sum(axis=1, keepdims=True)))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "task", "classes", "truth"), CASES, ids=[c[0] for c in CASES])
def test_a_graph_answers_the_same_as_a_package(
    tmp_path: Path, name: str, model: Any, task: Task, classes: int, truth: Any
) -> None:
    flavor, proof, why = frameworks.export(model, X, task, classes, tmp_path)
    assert (flavor, why, proof.exact) == ("onnx", "", True)
    np.testing.assert_allclose(runtime.Scorer(tmp_path / "model.onnx")(X), truth(), atol=2e-6)
    np.testing.assert_allclose(frameworks.answers(model, X[:7], task, classes), truth()[:7], atol=2e-6)


def test_a_graph_that_reads_or_answers_something_else_is_refused(tmp_path: Path) -> None:
    model = network(1)
    with pytest.raises(Invalid, match="array of"):
        frameworks.export(network(5), X, "binary", 2, tmp_path)
    with pytest.raises(Invalid, match="does not run the graph"):
        frameworks.export(model, X[:, :3], "binary", 2, tmp_path)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    with pytest.raises(Invalid, match=r"numbers.*more"):
        frameworks.export(model, X, "binary", 2, tmp_path)
    assert not list(tmp_path.iterdir())


def save(folder: Path, model: Any) -> Path:
    skops.io.dump(model, folder / "model.skops")
    return folder / "model.skops"


def asked(path: Path, classes: tuple[str, ...], names: tuple[str, ...] = ("a", "b"), columns: str = "") -> Any:
    data = SimpleNamespace(names=names, classes=classes, task="binary")
    original, brought.__file__ = brought.__file__, str(path.with_name("brought.py"))
    try:
        return brought.train(data, {"form": "skops", "file": path.name, "columns": columns})
    finally:
        brought.__file__ = original


def test_a_classifier_that_learned_names_answers_by_their_places(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, np.where(BINARY, "yes", "no"))
    expected = model.predict_proba(X)
    found = asked(save(tmp_path, model), ("no", "yes"))
    assert found.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(found.predict_proba(X), expected)
    with pytest.raises(Invalid, match="learned the classes"):
        asked(tmp_path / "model.skops", ("yes", "no"))


def test_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, LogisticRegression().fit(X, BINARY))
    with pytest.raises(Invalid, match="the model reads b, a"):
        asked(path, ("no", "yes"), columns="b\na")


def test_types_that_nobody_trusts_are_not_opened(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(Path.exists), LogisticRegression())
    with pytest.raises(Invalid, match="the model holds"):
        asked(save(tmp_path, model), ("no", "yes"))
    (tmp_path / "model.skops").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(Corrupt):
        asked(tmp_path / "model.skops", ("no", "yes"))
    (tmp_path / "model.onnx").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(Corrupt):
        brought.opened(tmp_path / "model.onnx", "onnx")


def test_a_graph_that_reads_other_files_is_refused_wherever_it_says_so(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.zeros((2, 1), np.float32), "w")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="secret")
    plain = helper.make_model(helper.make_graph([], "g", [], [], initializer=[weights]))
    constant = helper.make_model(helper.make_graph([helper.make_node("Constant", [], ["w"], value=weights)], "g", [], []))
    for made in (plain, constant):
        (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
        with pytest.raises(Invalid, match="keeps its weights in other files"):
            brought.opened(tmp_path / "model.onnx", "onnx")
