"""Gradient boosting of LightGBM and XGBoost: as ONNX where that is exact, else in their own safe forms."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.proof import Proof, compare
from fairlead.core.weights import check_form
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import lightgbm, xgboost
from fairlead.flavors import onnx as runtime
from fairlead.flavors.files import Files, read
from fairlead.flavors.forest import graph
from fairlead.flavors.scores import scores

__all__ = ["LIBRARIES", "STATES", "answers", "export", "recall", "remember", "scorer"]

LIBRARIES: dict[str, ModuleType] = {"lightgbm": lightgbm, "xgboost": xgboost}
"""By the name of the flavor, which is that of the library."""
STATES: dict[str, ModuleType] = {"state.lightgbm": lightgbm, "state.ubj": xgboost}
"""By the file that a training begins with."""
Matrix = NDArray[np.float32]


def export(
    estimator: Any, rows: Matrix, task: Task, classes: int, folder: Path
) -> tuple[Flavor, Proof, str]:
    """Write the model's files into `folder`; the flavor, its proof on `rows`, and why it is not
    ONNX ("" if it is). Raises Invalid when the estimator gives no usable answers, or when its own
    form does not answer as it does."""
    library = LIBRARIES[_flavor(estimator)]
    made, kind = library.booster(estimator), type(estimator).__name__
    if library.width(made) != rows.shape[1]:
        raise Invalid(f"train() returned {kind} that reads {library.width(made)} columns, data.X has {rows.shape[1]}",
                      hint="fit on data.X itself")  # fmt: skip
    expected = answers(estimator, rows, task, classes)
    proof, why = _to_onnx(library, made, rows, expected, task, folder)
    if proof is not None and proof.exact:
        return "onnx", proof, ""
    flavor: Flavor = _flavor(estimator)
    (folder / library.FILE).write_bytes(library.native(made))
    proof = compare(expected, scorer(folder, flavor, task, classes)(rows), task)
    if not proof.exact:
        raise Invalid(f"{kind} answers otherwise than what {flavor} saves of it: {proof}",
                      hint="a custom objective or a changed prediction is not saved: return the Booster")  # fmt: skip
    return flavor, proof, why


def answers(estimator: Any, rows: Matrix, task: Task, classes: int) -> Matrix:
    """What the estimator itself says, as scores [n, k] (see ModelSpec). Raises Invalid."""
    library, kind = LIBRARIES[_flavor(estimator)], type(estimator).__name__
    if kind == "Booster":
        return scores(library.raw(estimator, rows), task, classes, kind)
    if task == "regression":
        return scores(estimator.predict(rows), task, classes, kind)
    learned = np.asarray(getattr(estimator, "classes_", [])).tolist()
    if learned != list(range(classes)):
        raise Invalid(f"train() returned {kind} that learned the classes {learned[:5]}",
                      hint="fit a classifier on data.y, which holds class indexes 0, 1, ...")  # fmt: skip
    return scores(estimator.predict_proba(rows), task, classes, kind)


def scorer(
    files: Files, flavor: Flavor, task: Task, classes: int, *, threads: int = 1
) -> Callable[[Matrix], Matrix]:
    """Open what the library saved: [n, width] float32 -> scores [n, k], in one thread. Raises
    Missing (file, library), Corrupt."""
    library = LIBRARIES[flavor]
    data = read(files, library.FILE)
    check_form(library.FILE, data[:16])
    made = library.opened(data)

    def answer(rows: Matrix) -> Matrix:
        if rows.ndim != 2 or rows.shape[1] != library.width(made):
            raise Invalid(f"the matrix is {rows.shape}, the model reads [rows, {library.width(made)}]",
                          hint="encode the rows with the encoding of this very model")  # fmt: skip
        return scores(library.raw(made, rows), task, classes, "the model")

    return answer


def remember(estimator: Any, folder: Path) -> None:
    """Write the booster, for a training that goes on from it."""
    name, library = next((n, m) for n, m in STATES.items() if m is LIBRARIES[_flavor(estimator)])
    data = library.native(library.booster(estimator))
    check_form(name, data)
    (folder / name).write_bytes(data)


def recall(folder: Path) -> Any:
    """The booster that `remember` wrote, for `init_model` or `xgb_model`. Raises Missing, Corrupt."""
    for name, library in STATES.items():
        if (folder / name).exists():
            return library.opened(read(folder, name))
    raise Missing("no booster to begin with", hint="train without train.warm_start once")


def _flavor(estimator: Any) -> Any:
    """The library that an estimator is of, whoever made a class of their own from it."""
    packages = (kind.__module__.partition(".")[0] for kind in type(estimator).__mro__)
    return next(p for p in packages if p in LIBRARIES)


def _to_onnx(
    library: Any, made: Any, rows: Matrix, expected: Matrix, task: Task, folder: Path
) -> tuple[Proof | None, str]:
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise Missing("onnx is not installed", hint='pip install "fairlead[sklearn]"') from None
    try:
        attributes, links = library.exact(made)
        data = graph(attributes, links, rows.shape[1]).SerializeToString()
        proof = compare(expected, runtime.Scorer(data)(rows), task)
    except (Corrupt, Invalid) as error:
        return None, str(error)
    if not proof.exact:
        return proof, f"its ONNX form is not exact: {proof}"
    (folder / runtime.FILE).write_bytes(data)
    return proof, ""
