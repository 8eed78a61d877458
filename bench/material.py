"""The material: two models trained on seeded data, and request bodies in every server's form."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINARY_HEAD", "COLUMNS", "DENSE", "FORMS", "TREES", "WORK", "make", "model_file", "table"]

WORK = Path(__file__).parent / ".work"
SEED, WIDTH = 0, 30
TREES, DENSE = "trees", "dense"
"""Gradient boosting with 200 trees; a network of two hidden layers, 64 and 32 wide."""
COLUMNS = tuple(f"f{i}" for i in range(WIDTH))
COUNTS = {1: 512, 100: 16}
"""Distinct bodies by rows per body; the load generator cycles through them."""
FORMS = ("named", "tensor", "binary", "inputs", "rows", "x")
BINARY_HEAD = 200
"""Bytes of JSON before the tensor of a binary body: one header length fits all bodies of a kind."""


def model_file(model: str) -> Path:
    """The model that every server computes."""
    return WORK / model / "model.onnx"


def make() -> dict[str, float]:
    """Write the models and the bodies into `WORK`; returns each model's score of the first row."""
    expected = WORK / "expected.json"
    if not expected.is_file() or not all(model_file(m).is_file() for m in (TREES, DENSE)):
        x, y = _data()
        scores = {m: _train(m, estimator, x, y) for m, estimator in _estimators().items()}
        _write_bodies(x[16_000:])
        expected.write_text(json.dumps(scores))
    found: dict[str, float] = json.loads(expected.read_text())
    return found


def table(path: Path, rows: int) -> None:
    """The first rows as a CSV with the column ``y``, as a newcomer's table."""
    x, y = _data()
    head = ",".join((*COLUMNS, "y"))
    np.savetxt(path, np.column_stack([x, y])[:rows], "%.6f," * WIDTH + "%d", header=head, comments="")


def _data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import make_classification

    made, y = make_classification(20_000, WIDTH, n_informative=15, n_redundant=5, random_state=SEED)
    return np.round(made, 6).astype(np.float32), y


def _estimators() -> dict[str, Callable[[], Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        TREES: lambda: HistGradientBoostingClassifier(
            max_iter=200, random_state=SEED, early_stopping=False),
        DENSE: lambda: make_pipeline(StandardScaler(), MLPClassifier(
            (64, 32), max_iter=30, early_stopping=True, random_state=SEED)),
    }  # fmt: skip


def _train(
    model: str, estimator: Callable[[], Any], x: NDArray[np.float32], y: NDArray[np.int64]
) -> float:
    """Write one model; its score of the first row that it did not see."""
    from fairlead.flavors.sklearn import export

    model_file(model).parent.mkdir(parents=True, exist_ok=True)
    fitted = estimator().fit(x[:16_000], y[:16_000])
    flavor, proof, why = export(fitted, x[16_000:], "binary", 2, model_file(model).parent)
    sys.stdout.write(f"trained {model} on {WIDTH} features, held-out accuracy "
                     f"{fitted.score(x[16_000:], y[16_000:]):.3f}; {flavor} {proof} {why}\n")  # fmt: skip
    return float(fitted.predict_proba(x[16_000:16_001])[0, 1])


def _write_bodies(x: NDArray[np.float32]) -> None:
    for rows, count in COUNTS.items():
        parts = [x[i * rows : (i + 1) * rows] for i in range(count)]
        for form in FORMS:
            lines = [_body(form, part) for part in parts]
            (WORK / f"{form}-{rows}.txt").write_text("\n".join(lines) + "\n")


def _body(form: str, part: NDArray[np.float32]) -> str:
    """One body on one line; the binary form in hexadecimal."""
    nested = [[round(float(v), 6) for v in row] for row in part]
    flat = [v for row in nested for v in row]
    tensor: dict[str, object] = {"name": "X", "shape": list(part.shape), "datatype": "FP32"}
    match form:
        case "named":
            named = [dict(zip(COLUMNS, row, strict=True)) for row in nested]
            return _json(named[0] if len(named) == 1 else {"rows": named})
        case "tensor":
            return _json({"inputs": [tensor | {"data": flat}]})
        case "binary":
            blob = part.astype("<f4").tobytes()
            return (_binary_head(tensor, len(blob)) + blob).hex()
        case _:
            return _json({form: nested})


def _binary_head(tensor: dict[str, object], size: int) -> bytes:
    """The JSON before the bytes, padded."""
    wanted = [{"name": "score", "parameters": {"binary_data": True}}]
    sized = tensor | {"parameters": {"binary_data_size": size}}
    return _json({"inputs": [sized], "outputs": wanted}).encode().ljust(BINARY_HEAD)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
