"""Nets become scores by what their outputs are; asked here of nets written down in NumPy and ONNX."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.artifact import Task
from fairlead.core.encoding import Encoding, Number
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import boosters, frameworks, keras, sklearn, torch
from fairlead.flavors.net import OPSET, SAID, Nets

if TYPE_CHECKING:
    import onnx

X = np.random.default_rng(0).normal(size=(2_500, 3)).astype(np.float32)
BENDS: dict[str, Callable[[Any], NDArray[Any]]] = {
    "": lambda z: z, "unheard of": lambda z: z, "Sigmoid": lambda z: 1 / (1 + np.exp(-z)), "Tanh": np.tanh,
    "Softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    "HardSigmoid": lambda z: np.clip(0.2 * z + 0.5, 0, 1), "LogSoftmax": lambda z: z - np.log(np.exp(z).sum(axis=1, keepdims=True)),
}  # fmt: skip


def net(k: int, bend: str = "", width: int = 3, **more: Any) -> Any:
    """A layer with `k` outputs and an activation."""
    weights = np.random.default_rng(k).normal(size=(width, k)).astype(np.float32)
    return SimpleNamespace(**{"weights": weights, "bend": bend, "noise": 0.0, "name": "w"} | more)


def raw(model: Any, rows: Any) -> NDArray[Any]:
    return np.asarray(BENDS[model.bend](rows @ model.weights) + model.noise)


def graph(model: Any, width: int) -> "onnx.ModelProto":
    from onnx import TensorProto, helper, numpy_helper

    if model.bend == "unheard of":
        raise NotImplementedError("no such operator\nand more")
    nodes = [helper.make_node("MatMul", ["in", model.name], ["z"], name=model.name, doc_string="/home/somebody/train.py")]
    along: dict[str, Any] = {"axis": 1} if "oftmax" in model.bend else {}
    nodes.append(helper.make_node(model.bend or "Identity", ["z"], ["bent"], **along))
    nodes.append(helper.make_node("Flatten", ["bent"], ["out"]))
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(model.weights, model.name)])  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


NUMPY = Nets(ready=lambda m: m, raw=raw, graph=graph, weights=lambda m: {"w": m.weights}, restored=dict, state="state.npz")


@pytest.mark.parametrize(("task", "k", "bend", "meaning"), [
    ("binary", 1, "", "logits"), ("binary", 1, "Sigmoid", "probabilities"), ("binary", 2, "", "logits"),
    ("binary", 2, "Softmax", "probabilities"), ("multiclass", 4, "", "logits"), ("multiclass", 4, "Softmax", "probabilities"),
    ("multiclass", 4, "LogSoftmax", "logits"), ("regression", 1, "", "logits"),
])  # fmt: skip
def test_logits_and_probabilities_become_the_same_scores(task: Task, k: int, bend: str, meaning: str, tmp_path: Path) -> None:
    model, classes = net(k, bend), {"binary": 2, "multiclass": 4, "regression": 0}[task]
    flavor, proof, why = NUMPY.export(model, X, task, classes, tmp_path)
    assert (flavor, proof.exact, why, getattr(model, SAID)) == ("onnx", True, "", meaning)
    z = (X @ model.weights).astype(np.float64)
    wanted = z
    if task != "regression":
        wanted = BENDS["Sigmoid" if k == 1 else "Softmax"](z)[:, 1 if k == 2 else 0 :]
    scores = frameworks.scorer(tmp_path, "onnx", task, classes)(X)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    np.testing.assert_allclose(NUMPY.answers(model, X[:7], task, classes), wanted[:7], atol=1e-5)
    assert b"somebody" not in (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize(("k", "bend", "task"), [(1, "HardSigmoid", "binary"), (1, "Tanh", "binary"), (3, "Sigmoid", "multiclass")])
def test_what_nobody_can_tell_is_asked_for_and_believed_when_said(k: int, bend: str, task: Task, tmp_path: Path) -> None:
    model = net(k, bend)
    with pytest.raises(Invalid, match=r"logits or probabilities\?") as caught:
        NUMPY.export(model, X, task, 3, tmp_path)
    assert SAID in caught.value.hint and not list(tmp_path.iterdir())
    setattr(model, SAID, "logits")
    NUMPY.export(model, X, task, 3, tmp_path)
    outputs = raw(model, X).astype(np.float64)
    np.testing.assert_allclose(NUMPY.answers(model, X, task, 3), BENDS["Sigmoid" if k == 1 else "Softmax"](outputs), atol=1e-6)


@pytest.mark.parametrize(("model", "said"), [
    (net(4), "returns 4 outputs a row; multiclass takes 3"), (net(3, width=2), "does not read data.X"),
    (net(3, "unheard of"), "no ONNX form: no such operator$"), (net(3, outputs_are="probabilities"), "and outputs_are is"),
])  # fmt: skip
def test_models_that_cannot_be_served_are_refused_by_name(model: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=said):
        NUMPY.export(model, X, "multiclass", 3, tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_values_and_other_answers_are_refused(tmp_path: Path) -> None:
    holes = X.copy()
    holes[5, 0] = np.nan
    with pytest.raises(Invalid, match="1 of 2,500 held-out rows with no finite") as caught:
        NUMPY.export(net(1), holes, "binary", 2, tmp_path)
    assert "fill them inside the model" in caught.value.hint
    model = net(1)
    model.noise = 1e-3
    with pytest.raises(Invalid, match="does not answer as it does: 2,5"):
        NUMPY.export(model, X, "regression", 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_come_back_as_they_were_or_not_at_all(tmp_path: Path) -> None:
    model = net(2)
    NUMPY.remember(model, tmp_path)
    first = (tmp_path / "state.npz").read_bytes()
    np.testing.assert_array_equal(NUMPY.recall(tmp_path)["w"], model.weights)
    NUMPY.remember(model, tmp_path)
    assert (tmp_path / "state.npz").read_bytes() == first, "no time of day in it"
    np.savez(tmp_path / "state.npz", w=np.array([object()]))
    with pytest.raises(Corrupt, match="allow_pickle"):
        NUMPY.recall(tmp_path)
    (tmp_path / "state.npz").unlink()
    with pytest.raises(Missing):
        NUMPY.recall(tmp_path)


def test_the_same_net_is_the_same_file_whatever_its_converter_called_things(tmp_path: Path) -> None:
    made = []
    for name in ("const_axes__9", "const_starts__35"):
        NUMPY.export(net(3, name=name), X, "multiclass", 3, tmp_path)
        made.append((tmp_path / "model.onnx").read_bytes())
    assert made[0] == made[1]
    NUMPY.export(net(3, "Softmax"), X, "multiclass", 3, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() != made[0]


def test_a_net_is_explained_by_its_slopes(tmp_path: Path) -> None:
    model = net(1)
    NUMPY.export(model, X, "binary", 2, tmp_path)
    scorer = frameworks.scorer(tmp_path, "onnx", "binary", 2)
    explainer = frameworks.explainer(tmp_path, scorer, Encoding(tuple(Number(f"c{i}") for i in range(3))), X[:20], 0)
    assert (explainer.method, explainer.space) == ("gradients", "log-odds")
    found = explainer(X[30])
    wanted = (X[30] - X[:20].mean(axis=0)) * model.weights[:, 0]
    np.testing.assert_allclose(found.amounts, wanted, atol=1e-3)
    assert found.base + found.amounts.sum() == pytest.approx(explainer.answers(X[30:31])[0], abs=1e-6)


class _Late:
    """A class that says it comes from a framework, as a user's own subclass does."""


@pytest.mark.parametrize(("bases", "module"), [(("torch.nn.modules.module",), "torch"), (("keras.src.models.model", "torch.nn.modules.module"), "keras"),
                                               (("lightgbm.sklearn", "sklearn.base"), "boosters"), ((), "sklearn")])  # fmt: skip
def test_the_nearest_framework_speaks_for_a_class(bases: tuple[str, ...], module: str) -> None:
    kind: type = _Late
    for place in reversed(bases):
        kind = type("Base", (kind,), {"__module__": place})
    mine = type("Net", (kind,), {"__module__": "train"})
    wanted = {"torch": torch.modules, "keras": keras.models, "boosters": boosters, "sklearn": sklearn}[module]
    assert frameworks.framework(mine()) is wanted
