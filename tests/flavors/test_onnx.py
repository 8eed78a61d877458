"""The scorer opens exactly what was exported, and refuses everything else before asking it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import trees
from fairlead.flavors.onnx import CHUNK, Scorer


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def boosting() -> bytes:
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    model = HistGradientBoostingRegressor(max_iter=5).fit(x, x[:, 0])
    data: bytes = trees.model(model, 3).SerializeToString()
    return data


def graph(name: str, kind: int) -> bytes:
    """A model that copies its input, whose parts have the given name and type."""
    value: Any = helper.make_tensor_value_info(name, kind, [None, 3])
    out: Any = helper.make_tensor_value_info("scores", kind, [None, 3])
    made = helper.make_graph([helper.make_node("Identity", [name], ["scores"])], "g", [value], [out])
    opsets = [helper.make_opsetid("", 18)]
    data: bytes = helper.make_model(made, opset_imports=opsets, ir_version=9).SerializeToString()
    return data


def test_many_rows_answer_as_one_by_one() -> None:
    scorer = Scorer(boosting())
    rows = np.random.default_rng(1).normal(size=(CHUNK + 17, 3)).astype(np.float32)
    together = scorer(rows)
    assert together.shape == (len(rows), 1)
    for i in (0, CHUNK - 1, CHUNK, len(rows) - 1):
        np.testing.assert_allclose(scorer(rows[i : i + 1])[0], together[i], atol=1e-6)
    assert scorer(rows[:0]).shape == (0, 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x05cos\nsystem\n", graph("rows", TensorProto.FLOAT), graph("X", TensorProto.DOUBLE)],
    ids=["empty", "pickle", "other name", "other type"],
)
def test_what_is_no_such_model_is_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        Scorer(data)


def test_a_cut_file_is_corrupt_and_an_absent_one_missing(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(boosting()[:-40])
    with pytest.raises(Corrupt):
        Scorer(tmp_path / "model.onnx")
    with pytest.raises(Missing):
        Scorer(tmp_path / "absent.onnx")


@pytest.mark.parametrize("shape", [(4, 2), (3,), (1, 1, 3)])
def test_a_matrix_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Invalid, match="the model reads"):
        Scorer(boosting())(np.zeros(shape, dtype=np.float32))
