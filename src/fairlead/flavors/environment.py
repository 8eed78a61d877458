"""Environments: the libraries a model's answers depend on, written down with it and held to when it is opened."""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from fairlead.core.artifact import Flavor
from fairlead.core.ref import canonical
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors.files import Files, read

__all__ = ["FILE", "LIBRARIES", "demand", "record"]

FILE = "environment.json"
PYTHON = "python"
LIBRARIES: Mapping[Flavor, tuple[str, ...]] = {
    "skops": ("numpy", "scikit-learn", "scipy"), "lightgbm": ("lightgbm",), "xgboost": ("xgboost",),
}  # fmt: skip
"""Distributions that compute the answers, by flavor. ONNX names the version of its operators itself,
and the runtime refuses those it does not know."""
ALSO = {"xgboost": ("xgboost", "xgboost-cpu")}
"""Distributions that bring the same library."""
NONE = "nothing"


def record(folder: Path, names: Iterable[str]) -> None:
    """Write the versions that are installed here beside the model."""
    (folder / FILE).write_bytes(canonical(_installed(names)))


def demand(files: Files) -> None:
    """Hold what is installed here to what was written down. A package of before has no such file
    and is opened as it is. Raises Invalid naming what differs, Corrupt."""
    try:
        wanted = msgspec.json.decode(read(files, FILE), type=dict[str, str])
    except Missing:
        return
    except msgspec.DecodeError as error:
        raise Corrupt(f"{FILE} cannot be read: {error}", hint="package the model again") from None
    here = _installed(n for n in wanted if n != PYTHON)
    differ = [f"{name} {wanted[name]} (here is {here[name]})" for name in wanted if wanted[name] != here[name]]
    if differ:
        raise Invalid(f"the model was made with {', '.join(differ)}; train it again here, or install "
                      "what `fairlead environment` prints", hint="other versions may give other answers")  # fmt: skip


def _installed(names: Iterable[str]) -> dict[str, str]:
    """Versions by name; of Python the first two numbers."""
    major, minor, _ = platform.python_version_tuple()
    return {PYTHON: f"{major}.{minor}", **{name: _version(name) for name in sorted(names)}}


def _version(name: str) -> str:
    for distribution in ALSO.get(name, (name,)):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return NONE
