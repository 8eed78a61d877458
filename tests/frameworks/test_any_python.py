"""A model of any Python keeps what every flavor promises, once it is trusted."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fairlead.adapters.compute.local import LocalCompute
from fairlead.adapters.keys.local import LocalSigner
from fairlead.core import trust
from fairlead.core.artifact import ModelSpec, PackageSpec
from fairlead.core.manifest import DataSection, Manifest, TrainSection
from fairlead.core.proof import TOLERANCE
from fairlead.core.trust import Trust
from fairlead.flow.reproduce import reproduce
from fairlead.settings import child_environment
from tests.flow.conftest import Lab
from tests.serve.conftest import Plant

pytestmark = pytest.mark.frameworks
ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
ROWS, BATCH = 1_000, 100


class Trusted:
    """8,000 real flights, learnt, packaged, trusted and served."""

    def __init__(self, folder: Path) -> None:
        self.lab, self.plant, self.own = Lab(folder), Plant(folder / "plant"), folder / "own.npy"
        shutil.copy(HERE / "models" / "anything.py", folder / "train.py")
        shutil.copy(HERE / "models" / "anything.py", folder / "model.py")
        self.lab.doors["compute"] = LocalCompute(child_environment({}))
        params: dict[str, Any] = {"own": str(self.own), "rows": ROWS}
        self.lab.manifest = Manifest(
            service="late", train=TrainSection(params=params, serve="model.py"),
            data=DataSection(source="flights.parquet", target="late", time="decided_at", ignore=("flight", "landed_at")),
        )  # fmt: skip
        frame = pl.read_parquet(ROOT / "examples" / "flights" / "data" / "flights.parquet")
        self.frame = frame.filter(pl.col("late").is_not_null()).gather_every(40)
        self.model = self.lab.train(self.lab.commit(self.frame))
        self.package = self.lab.package(self.model)
        digest, now = self.package.ref.digest, time.time()
        shutil.copytree(folder / "packages" / digest, self.plant.state / "packages" / digest)
        key = LocalSigner(folder / "key")
        word = Trust(package=self.package.ref, by="ann", reason="read", environment="here", at=now, expires_at=now + 600)
        (self.plant.state / "trust").mkdir()
        (self.plant.state / "trust" / trust.place(digest)).write_bytes(trust.seal(word, key.key, key.sign))
        self.plant.publish(self.package.ref)
        self.plant.start(keys={"here": key.key})
        self.plant.wait(lambda: self.plant.served["ready"])

    def rows(self, n: int) -> list[dict[str, Any]]:
        assert isinstance(self.package.spec, PackageSpec)
        return self.frame.sort("decided_at").select(self.package.spec.contract.names).head(n).to_dicts()

    def ask(self, rows: list[dict[str, Any]]) -> list[float]:
        status, said = self.plant.ask(json.dumps({"rows": rows}, default=str).encode())
        assert status == 200, said
        return [one["score"] for one in said["predictions"]]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:
    made = Trusted(tmp_path_factory.mktemp("anything"))
    yield made
    made.plant.stop()


def test_it_answers_a_thousand_real_rows_as_what_was_trained(trusted: Trusted) -> None:
    rows, own = trusted.rows(ROWS), np.load(trusted.own)
    got = np.concatenate([trusted.ask(rows[i : i + BATCH]) for i in range(0, ROWS, BATCH)])
    assert isinstance(trusted.model.spec, ModelSpec) and trusted.model.spec.flavor == "python"
    assert np.std(own) > 0.01 and float(np.abs(got - own).max()) <= TOLERANCE


def test_a_row_alone_is_answered_as_among_others(trusted: Trusted) -> None:
    rows = trusted.rows(50)
    alone = [trusted.ask([row])[0] for row in rows]
    np.testing.assert_allclose(alone, trusted.ask(rows), rtol=0, atol=1e-6)


def test_a_wrong_request_is_refused_by_name(trusted: Trusted) -> None:
    status, said = trusted.plant.ask(json.dumps(trusted.rows(1)[0] | {"distance": "far"}, default=str).encode())
    assert (status, said["error"]["pointer"]) == (422, "/distance")


def test_it_runs_behind_all_walls(trusted: Trusted) -> None:
    (here,) = trusted.plant.status()["packages"].values()
    assert {"seccomp", "no capabilities", "rlimits"} < {*here["sandbox"]}


def test_training_again_gives_the_same_bytes(trusted: Trusted) -> None:
    done = reproduce(trusted.model, **trusted.lab.doors)
    assert done.same, done.files
