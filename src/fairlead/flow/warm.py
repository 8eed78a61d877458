"""Warm starts: a training begins with the estimator, and the encoding, that the last one left behind."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Artifact, ModelSpec
from fairlead.core.encoding import Encoding
from fairlead.core.ref import Ref
from fairlead.errors import Invalid
from fairlead.flow.job import Flavors
from fairlead.flow.rows import seconds_of
from fairlead.ports import Blobs

if TYPE_CHECKING:
    import polars as pl

__all__ = ["STATE", "Last", "Start", "fetch", "fresh", "keep", "last_of", "start"]

STATE = "state."
"""How the files begin that a model leaves behind for the next training; no replica is given them."""
LEARNT = f"{STATE}json"


class Last(Struct, frozen=True, kw_only=True):
    """The model to begin with: how it read columns, its classes, its state as blobs by file name."""

    model: Ref
    encoding: Encoding
    classes: tuple[str, ...]
    files: dict[str, str]


class Start(Struct, frozen=True, kw_only=True, eq=False):
    """What the last training left in a job folder: the fitted estimator, and the moment (UTC
    seconds) of the newest row it learnt from."""

    estimator: Any
    newest: float


def last_of(model: Artifact | None) -> Last | None:
    """The start that a model offers; None when it kept no state."""
    spec = model.spec if model is not None else None
    if model is None or not isinstance(spec, ModelSpec) or LEARNT not in spec.files:
        return None
    return Last(model=model.ref, encoding=spec.encoding, classes=spec.classes,
                files={n: spec.files[n] for n in sorted(spec.files) if n.startswith(STATE)})  # fmt: skip


def fetch(last: Last | None, blobs: Blobs, folder: Path) -> None:
    """Put the state into the job folder. Raises Missing or Corrupt."""
    if last is not None:
        (folder / "last").mkdir()
        for name, digest in last.files.items():
            blobs.fetch(digest, folder / "last" / name)


def start(last: Last | None, classes: tuple[str, ...], folder: Path,
          flavors: Flavors) -> Start | None:  # fmt: skip
    """Open the state in the job process. Raises Invalid when the classes are others now."""
    if last is None:
        return None
    if classes != last.classes:
        raise Invalid(f"the classes are {', '.join(classes)}, those of {last.model.short} were "
                      f"{', '.join(last.classes)}", hint="train once with train.warm_start: false")  # fmt: skip
    newest = msgspec.json.decode((folder / "last" / LEARNT).read_bytes(), type=float)
    return Start(estimator=flavors.recall(folder / "last"), newest=newest)


def fresh(begun: Start | None, time: NDArray[np.float64] | None, rows: int) -> NDArray[np.bool_]:
    """Of each row, whether the last training had not learnt from it; all of them without a time."""
    if begun is None or time is None:
        return np.ones(rows, dtype=np.bool_)
    return np.asarray(~(time <= begun.newest))


def keep(estimator: Any, part: "pl.DataFrame", time: str, folder: Path, flavors: Flavors) -> None:
    """Leave behind what the next training begins with. Raises Invalid for an estimator that no
    safe format may carry."""
    flavors.remember(estimator, folder)
    newest = float(np.nanmax(seconds_of(part, time))) if time else 0.0
    (folder / LEARNT).write_bytes(msgspec.json.encode(newest))
