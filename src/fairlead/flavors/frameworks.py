"""Frameworks: which module of this room speaks for an estimator, and which for the files of a package."""

import re
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.proof import Proof
from fairlead.errors import Invalid
from fairlead.flavors import boosters, environment, graphs, keras, python, river, sklearn, torch
from fairlead.flavors.environment import demand
from fairlead.flavors.explain import Explainer as explainer
from fairlead.flavors.files import Files
from fairlead.flavors.python import declared
from fairlead.flavors.table import fit_encoding, transform

__all__ = ["Framework", "answers", "declared", "demand", "explainer", "export", "fit_encoding", "recall", "remember",
           "scorer", "seed", "transform"]  # fmt: skip
"""As a module this is a `flow.job.Flavors`."""

Scores = NDArray[np.float32]


class Framework(Protocol):
    """What one module says of the estimators of one framework; importing it imports no framework."""

    def export(
        self, estimator: Any, rows: Scores, task: Task, classes: int, folder: Path
    ) -> tuple[Flavor, Proof, str]:
        """See `flow.job.Flavors`. Raises Invalid, Missing."""

    def answers(self, estimator: Any, rows: Scores, task: Task, classes: int) -> Scores:
        """See `flow.job.Flavors`."""

    def remember(self, estimator: Any, folder: Path) -> None:
        """See `flow.job.Flavors`. Raises Invalid."""

    def recall(self, folder: Path) -> Any:
        """See `flow.job.Flavors`. Raises Missing, Corrupt."""


class Opener(Protocol):
    """Opens the files of one flavor: [n, width] float32 -> scores [n, k]."""

    def __call__(
        self, files: Files, flavor: Flavor, task: Task, classes: int, *, threads: int = 1
    ) -> Callable[[Scores], Scores]:
        """Raises Missing, Corrupt."""


FRAMEWORKS: Mapping[str, Framework] = {"fairlead": python, "keras": keras.models, "lightgbm": boosters, "onnx": graphs, "river": river,
                                      "sklearn": sklearn, "torch": torch.modules, "xgboost": boosters}  # fmt: skip
"""By the top-level package in which a class is defined; nearest in the order of inheritance."""
OTHERWISE: Framework = sklearn
"""Estimators of no known framework are read as scikit-learn's, whose interface many keep."""
STATES: Mapping[str, Framework] = {
    keras.models.state: keras.models, torch.modules.state: torch.modules, river.STATE: river, sklearn.STATE[0]: sklearn,
    **dict.fromkeys(boosters.STATES, boosters)}
"""By a file that `remember` of that framework writes."""
SEEDS = {"keras": keras.seed, "tensorflow": keras.seed, "torch": torch.seed}
"""By the package that draws; Python and NumPy are seeded by the job itself."""
OPENERS: Mapping[Flavor, Opener] = {"onnx": sklearn.scorer, "skops": sklearn.scorer,
                                      "lightgbm": boosters.scorer, "xgboost": boosters.scorer,
                                      "python": python.scorer}  # fmt: skip


def framework(estimator: Any) -> Framework:
    """The module that speaks for an estimator, told by the packages its classes come from."""
    packages = (kind.__module__.partition(".")[0] for kind in type(estimator).__mro__)
    return next((FRAMEWORKS[p] for p in packages if p in FRAMEWORKS), OTHERWISE)


def seed(number: int, source: str) -> None:
    """Have the frameworks that were imported, or that the code `source` will import, draw and compute
    alike in every run."""
    named = re.findall(r"^\s*(?:import|from)\s+(\w+)", source, re.MULTILINE)
    for name in SEEDS:
        if name in sys.modules or (name in named and find_spec(name)):
            SEEDS[name](number)


def export(
    estimator: Any, rows: Scores, task: Task, classes: int, folder: Path
) -> tuple[Flavor, Proof, str]:
    """Write the model's files into `folder`; the flavor, its proof on `rows`, why it is not ONNX ("")."""
    flavor, proof, why = framework(estimator).export(estimator, rows, task, classes, folder)
    if flavor in environment.LIBRARIES:
        environment.record(folder, environment.LIBRARIES[flavor])
    return flavor, proof, why


def answers(estimator: Any, rows: Scores, task: Task, classes: int) -> Scores:
    """What the estimator itself says, as scores [n, k] (see ModelSpec)."""
    return framework(estimator).answers(estimator, rows, task, classes)


def remember(estimator: Any, folder: Path) -> None:
    """Write what the next training begins with. Raises Invalid when no safe format may carry it."""
    framework(estimator).remember(estimator, folder)


def recall(folder: Path) -> Any:
    """What `remember` wrote. Raises Missing, Corrupt."""
    found = (STATES[name] for name in STATES if (folder / name).exists())
    return next(found, OTHERWISE).recall(folder)


def scorer(
    files: Files, flavor: Flavor, task: Task, classes: int, *, threads: int = 1
) -> Callable[[Scores], Scores]:
    """Open the files that `export` wrote. Raises Missing, Corrupt, or Invalid for an unknown flavor."""
    if flavor not in OPENERS:
        raise Invalid(f"nothing here opens a model of flavor {flavor!r}",
                      hint="serve it by the version of Fairlead that packaged it")  # fmt: skip
    return OPENERS[flavor](files, flavor, task, classes, threads=threads)
