"""A package made with other libraries is refused by its replica in words, and what serves goes on serving."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer

from fairlead.core.ref import Ref
from fairlead.flavors import frameworks
from fairlead.flavors.environment import FILE
from tests.serve.conftest import ROW, Plant


def splines(plant: Plant) -> dict[str, bytes]:
    """A real model in skops form, by file."""
    made = plant.root / "model"
    made.mkdir()
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    model = make_pipeline(SplineTransformer(), LogisticRegression()).fit(rows, (rows[:, 0] > 0).astype(int))
    assert frameworks.export(model, rows, "binary", 2, made)[0] == "skops"
    return {p.name: p.read_bytes() for p in made.iterdir()}


def laid(plant: Plant, files: dict[str, bytes]) -> Ref:
    """The package of these files, where it is served from."""
    ref = plant.package(name="m", flavor="skops", files={n: sha256(d).hexdigest() for n, d in files.items()})
    for name, data in files.items():
        (plant.state / "packages" / ref.digest / name).write_bytes(data)
    return ref


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    made = Plant(tmp_path)
    yield made
    made.stop()


def test_another_version_is_refused_and_the_old_package_answers(plant: Plant) -> None:
    files = splines(plant)
    lock = files[FILE].replace(b'"scikit-learn":"1', b'"scikit-learn":"0')
    ours, others = laid(plant, files), laid(plant, files | {FILE: lock})
    plant.publish(ours)
    plant.start()
    plant.wait(lambda: plant.status()["packages"][str(ours)]["state"] == "ready")
    plant.publish(others)
    reason = plant.wait(lambda: plant.status()["packages"].get(str(others), {}).get("reason"))
    assert "made with scikit-learn 0." in reason and "train it again here" in reason and "numpy" not in reason
    status, said = plant.ask(ROW)
    assert (status, said["package"]) == (200, str(ours))
