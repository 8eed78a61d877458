"""Scores: what a library answers, brought into the one shape that packages answer in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import Task
from fairlead.errors import Invalid

__all__ = ["scores"]


def scores(found: Any, task: Task, classes: int, kind: str) -> NDArray[np.float32]:
    """Answers [n], [n, 1] or [n, classes] -> scores float32 [n, k] (see ModelSpec). Raises Invalid
    for another shape, and for what is not finite or no probability."""
    made = np.asarray(found, dtype=np.float32)
    if task == "binary" and made.ndim == 2 and made.shape[1] == 2:
        made = made[:, 1]
    wanted = classes if task == "multiclass" else 1
    if made.ndim not in (1, 2) or made.size != len(made) * wanted:
        raise Invalid(f"{kind} answers an array of {made.shape} for a {task} task; [rows, {wanted}] is expected",
                      hint="return a probability of each class, or one number for a regression")  # fmt: skip
    made = np.ascontiguousarray(made.reshape(len(made), wanted))
    bad = int((~np.isfinite(made)).any(axis=1).sum())
    if bad:
        raise Invalid(f"{kind} answers {bad:,} of {len(made):,} rows with no finite number",
                      hint="missing values are NaN in data.X")  # fmt: skip
    if task != "regression" and made.size and (made.min() < 0 or made.max() > 1):
        raise Invalid(f"{kind} answers {made.min():.3g} to {made.max():.3g}, which are no probabilities",
                      hint="answer probabilities: objective binary, multiclass, binary:logistic, multi:softprob")  # fmt: skip
    return made
