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
from tests.serve.conftest import ROW, Plant


def splines(plant: Plant, spoil: str = "") -> Ref:
    """A real package in skops form; `spoil`: the version of scikit-learn that it names."""
    made = plant.root / f"model{spoil}"
    made.mkdir()
    rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    model = make_pipeline(SplineTransformer(), LogisticRegression()).fit(rows, (rows[:, 0] > 0).astype(int))
    assert frameworks.export(model, rows, "binary", 2, made)[0] == "skops"
    if spoil:
        file = made / "environment.json"
        file.write_text(file.read_text().replace('"scikit-learn":"1', f'"scikit-learn":"{spoil}'))
    files = {p.name: p.read_bytes() for p in made.iterdir()}
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
    ours, others = splines(plant), splines(plant, spoil="0")
    plant.publish(ours)
    plant.start()
    plant.wait(lambda: plant.status()["packages"][str(ours)]["state"] == "ready")
    plant.publish(others)
    reason = plant.wait(lambda: plant.status()["packages"].get(str(others), {}).get("reason"))
    assert "made with scikit-learn 0." in reason and "train it again here" in reason and "numpy" not in reason
    status, said = plant.ask(ROW)
    assert (status, said["package"]) == (200, str(ours))
