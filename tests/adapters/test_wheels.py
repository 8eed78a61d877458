"""What of wheels goes into an image: all that is imported there, and not much else."""

import zipfile
from pathlib import Path

import pytest

from fairlead.adapters.images import wheels

NUMPY = ("numpy/__init__.py", "numpy/f2py/__init__.py", "numpy/tests/test_a.py", "numpy/core.pyi")


def wheel(folder: Path, name: str, *files: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.writestr(file, "")
    return path


@pytest.mark.parametrize(("others", "kept"), [((), False), (("scipy",), True), (("scipyx",), False)])
def test_scipy_finds_every_name_of_numpy(tmp_path: Path, others: tuple[str, ...], kept: bool) -> None:
    """An image of a scikit-learn package does not start without."""
    made = [wheel(tmp_path, "numpy", *NUMPY), *(wheel(tmp_path, o, f"{o}/__init__.py") for o in others)]
    names = {name for name, _ in wheels.content(made, "lib")}
    assert ("lib/numpy/f2py/__init__.py" in names) == kept
    assert "lib/numpy/__init__.py" in names and "lib/numpy/tests/test_a.py" not in names


def test_each_flavor_names_what_its_image_needs() -> None:
    found = {line.partition(">")[0] for line in wheels.needs("serve", "scikit-learn", "skops")}
    assert {"onnxruntime", "numpy", "scikit-learn", "skops"} <= found and "polars" not in found
