"""The material: one model trained on seeded data, and request bodies in every server's form."""

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINARY_HEAD", "COLUMNS", "FORMS", "WORK", "make"]

WORK = Path(__file__).parent / ".work"
SEED, WIDTH, TREES = 0, 30, 200
COLUMNS = tuple(f"f{i}" for i in range(WIDTH))
COUNTS = {1: 512, 100: 16}
"""Distinct bodies by rows per body; the load generator cycles through them."""
FORMS = ("named", "tensor", "binary", "inputs", "rows", "x")


def make() -> float:
    """Write ``model.onnx`` and the bodies into `WORK`; returns the score of the first row."""
    expected = WORK / "expected.json"
    if not expected.is_file():
        WORK.mkdir(exist_ok=True)
        score = _train()
        expected.write_text(json.dumps(score))
    return float(json.loads(expected.read_text()))


def _train() -> float:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import HistGradientBoostingClassifier

    from fairlead.flavors.sklearn import export

    made, y = make_classification(20_000, WIDTH, n_informative=15, n_redundant=5, random_state=SEED)
    x = np.round(made, 6).astype(np.float32)
    model = HistGradientBoostingClassifier(max_iter=TREES, random_state=SEED, early_stopping=False)
    model.fit(x[:16_000], y[:16_000])
    flavor, proof, why = export(model, x[16_000:], "binary", 2, WORK)
    sys.stdout.write(f"trained {TREES} trees on {WIDTH} features, held-out accuracy "
                     f"{model.score(x[16_000:], y[16_000:]):.3f}; {flavor} {proof} {why}\n")  # fmt: skip
    for rows, count in COUNTS.items():
        parts = [x[i * rows : (i + 1) * rows] for i in range(count)]
        for form in FORMS:
            lines = [_body(form, part) for part in parts]
            (WORK / f"{form}-{rows}.txt").write_text("\n".join(lines) + "\n")
    return float(model.predict_proba(x[:1])[0, 1])


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
    """The JSON before the bytes; padded, so that one header length fits all bodies of a kind."""
    wanted = [{"name": "score", "parameters": {"binary_data": True}}]
    sized = tensor | {"parameters": {"binary_data_size": size}}
    return _json({"inputs": [sized], "outputs": wanted}).encode().ljust(BINARY_HEAD)


BINARY_HEAD = 200


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
