"""Proofs: whether two ways to compute the same answers agree, and by how much they differ."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Task

__all__ = ["NEAR", "TOLERANCE", "Proof", "compare"]

TOLERANCE = 1e-5
"""Largest difference of a probability; of a regression, relative to its size plus its spread."""

NEAR = 1e-6
"""A decision may differ only where the expected score lies this near to the threshold."""


class Proof(Struct, frozen=True, kw_only=True):
    """`rows` compared; `worst`: largest difference, in the units of TOLERANCE; `off`: rows beyond
    it; `flips`: decisions that differ although the expected score was not near the threshold."""

    rows: int
    worst: float
    off: int = 0
    flips: int = 0

    @property
    def exact(self) -> bool:
        """Rows were compared and all of them agree."""
        return self.rows > 0 and not self.off and not self.flips

    def __str__(self) -> str:
        if not self.rows:
            return "no rows to compare"
        if self.exact:
            return f"{self.rows:,} rows agree within {self.worst:.1e}"
        return (
            f"{max(self.off, self.flips):,} of {self.rows:,} rows differ, by up to {self.worst:.3g}"
        )


def compare(
    expected: NDArray[np.float32], got: NDArray[np.float32], task: Task, threshold: float = 0.5
) -> Proof:
    """Compare two score matrices [rows, k] of the same task.

    A shape that differs counts as every row off; NaN equals nothing.
    """
    rows = len(expected)
    if expected.shape != got.shape:
        return Proof(rows=rows, worst=float("inf"), off=rows)
    if not rows:
        return Proof(rows=0, worst=0.0)
    ours, theirs = expected.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.abs(ours - theirs)
    if task == "regression":
        gap /= np.maximum(np.abs(ours) + np.std(ours), np.finfo(np.float64).tiny)
    gap = np.nan_to_num(gap, nan=np.inf).max(axis=1)
    return Proof(rows=rows, worst=float(gap.max()), off=int((gap > TOLERANCE).sum()),
                 flips=_flips(ours, theirs, task, threshold))  # fmt: skip


def _flips(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], task: Task, threshold: float
) -> int:
    if task == "regression":
        return 0
    if task == "binary":
        differ = (ours[:, 0] >= threshold) != (theirs[:, 0] >= threshold)
        near = np.abs(ours[:, 0] - threshold) <= NEAR
    else:
        differ = ours.argmax(axis=1) != theirs.argmax(axis=1)
        top = np.sort(ours, axis=1)[:, -2:]
        near = top[:, 1] - top[:, 0] <= NEAR
    return int((differ & ~near).sum())
