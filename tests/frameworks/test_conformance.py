"""What every flavor promises, asked of real models over HTTP: the same answers, or none at all."""

import json
import pickle
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.adapters.compute.local import LocalCompute
from fairlead.core.artifact import Artifact, Flavor, ModelSpec, PackageSpec
from fairlead.core.encoding import compile_row
from fairlead.core.manifest import DataSection, Manifest, TrainSection
from fairlead.core.proof import TOLERANCE
from fairlead.errors import FairleadError, Invalid
from fairlead.flavors import frameworks
from fairlead.flow.reproduce import reproduce
from fairlead.settings import child_environment
from tests.flow.conftest import Lab

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
ROWS, BATCH, SINGLE = 1_000, 100, 50
SAME = 1e-6
"""A row alone and among others: a matrix product adds up in another order."""


class Case(Struct, frozen=True):
    """`flavor` that models/NAME.py is to become; `needs`: the framework's module and distribution;
    `net`: drawn from the seed of the job, and learns on."""

    flavor: Flavor
    needs: tuple[str, str] = ("sklearn", "scikit-learn")
    net: bool = False


CASES = {
    "boosting": Case("onnx"),
    "splines": Case("skops"),
    "lightgbm_trees": Case("onnx", ("lightgbm", "lightgbm")),
    "lightgbm_linear": Case("lightgbm", ("lightgbm", "lightgbm")),
    "xgboost_trees": Case("onnx", ("xgboost", "xgboost-cpu")),
    "xgboost_dart": Case("xgboost", ("xgboost", "xgboost-cpu")),
    "river_scaled": Case("onnx", ("river", "river")),
    "pytorch": Case("onnx", ("torch", "torch"), net=True),
    "tensorflow": Case("onnx", ("keras", "tensorflow"), net=True),
}


def _parameter(name: str) -> Any:
    """Of all cases `make test` has time for one."""
    module = CASES[name].needs[0]
    missing = pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed")
    return pytest.param(name, marks=[missing] if name == "splines" else [missing, pytest.mark.frameworks])


class Served:
    """A model of some 4,000 real flights, packaged, behind a gateway of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.case, self.lab, self.own = CASES[name], Lab(folder), folder / "own.npy"
        shutil.copy(HERE / "models" / f"{name}.py", folder / "train.py")
        processes = LocalCompute(child_environment({}))
        if self.case.needs[0] != "sklearn":  # which this process has imported already
            self.lab.doors["compute"] = processes
        params: dict[str, Any] = {"own": str(self.own), "rows": ROWS}
        self.lab.manifest = Manifest(
            service="late", train=TrainSection(params=params, warm_start=self.case.net),
            data=DataSection(source="flights.parquet", target="late", time="decided_at", ignore=("flight", "landed_at")),
        )  # fmt: skip
        frame = pl.read_parquet(ROOT / "examples" / "flights" / "data" / "flights.parquet")
        self.frame = frame.filter(pl.col("late").is_not_null()).gather_every(80)
        self.model = self.lab.train(self.lab.commit(self.frame))
        self.package = self.lab.package(self.model)
        self.lab.doors["compute"] = processes
        self.folder = folder / "packages" / self.package.ref.digest
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, "-m", "fairlead", "alone", str(self.folder), "127.0.0.1", str(self.port)],
                                        stdin=subprocess.PIPE, cwd=folder, env=child_environment({}))  # fmt: skip
        self._until_ready()

    def _until_ready(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise AssertionError("no gateway answers")

    def ask(self, rows: list[dict[str, Any]]) -> NDArray[np.float64]:
        answer = self.post({"rows": rows})[1]
        return np.array([one["score"] for one in answer["predictions"]])

    def post(self, body: Any) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/predict", json.dumps(body, default=str).encode())
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def rows(self, n: int) -> list[dict[str, Any]]:
        assert isinstance(self.package.spec, PackageSpec)
        return self.frame.sort("decided_at").select(self.package.spec.contract.names).head(n).to_dicts()

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module", params=[_parameter(name) for name in CASES])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = Served(request.param, tmp_path_factory.mktemp(request.param))
    yield one
    one.stop()


def model(artifact: Artifact) -> ModelSpec:
    assert isinstance(artifact.spec, ModelSpec)
    return artifact.spec


def test_it_answers_as_the_framework_does_on_a_thousand_real_rows(served: Served) -> None:
    rows, own = served.rows(ROWS), np.load(served.own)
    got = np.concatenate([served.ask(rows[i : i + BATCH]) for i in range(0, ROWS, BATCH)])
    assert model(served.model).flavor == served.case.flavor
    assert np.std(own) > 0.01, "a model that learnt something"
    worst = float(np.abs(got - own).max())
    assert worst <= TOLERANCE
    print(f"\n{served.model.ref.short} {served.case.flavor}: {ROWS:,} rows agree within {worst:.1e}")  # noqa: T201


def test_a_row_alone_is_answered_as_among_others(served: Served) -> None:
    rows = served.rows(SINGLE)
    alone = np.concatenate([served.ask([row]) for row in rows])
    np.testing.assert_allclose(alone, served.ask(rows), rtol=0, atol=SAME)


def test_a_wrong_request_is_refused_by_name_and_a_wrong_matrix_by_shape(served: Served) -> None:
    row = served.rows(1)[0]
    status, answer = served.post(row | {"distance": "far"})
    assert (status, answer["error"]["pointer"]) == (422, "/distance")
    width = model(served.model).encoding.width
    scorer = frameworks.scorer(served.folder, served.case.flavor, "binary", 2)
    with pytest.raises(Invalid):
        scorer(np.zeros((1, width + 1), np.float32))


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


def test_nothing_planted_is_run(served: Served, tmp_path: Path) -> None:
    """A pickle under each name that the model has, as if somebody had signed that."""
    canary = tmp_path / "canary"
    files = {p.name: p.read_bytes() for p in served.folder.iterdir() if p.name.startswith("model.")}
    assert files
    for name in files:
        with pytest.raises(FairleadError):
            frameworks.scorer(files | {name: pickle.dumps(Payload(canary))}, served.case.flavor, "binary", 2)
    assert not canary.exists()


def test_a_changed_package_is_not_served(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / served.folder.name
    shutil.copytree(served.folder, folder)
    file = next(p for p in folder.iterdir() if p.name.startswith("model."))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    done = subprocess.run([sys.executable, "-m", "fairlead", "replica", str(folder), str(tmp_path / "s"),
                           '{"hang":1,"load":30,"memory":0}'], capture_output=True, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, env=child_environment({}))  # fmt: skip
    assert done.returncode == 3 and "does not match its digest" in (tmp_path / "s.failed").read_text()


def test_contributions_add_up_to_what_it_answers(served: Served) -> None:
    spec = model(served.model)
    encode = compile_row(spec.encoding)
    rows = [{n: v.isoformat() if hasattr(v, "isoformat") else v for n, v in row.items()} for row in served.rows(50)]
    matrix = np.array([encode(row) for row in rows], dtype=np.float32)
    scorer = frameworks.scorer(served.folder, spec.flavor, "binary", 2)
    explainer = frameworks.explainer(served.folder, scorer, spec.encoding, matrix[:30], 0)
    assert (explainer.method == "gradients") == served.case.net
    for row in matrix[40:45]:
        found = explainer(row)
        assert found.base + found.amounts.sum() == pytest.approx(explainer.answers(row[None])[0], abs=1e-3)
        if served.case.net:
            assert found.error <= 0.03 * np.abs(found.amounts).sum()


@pytest.mark.frameworks
def test_training_again_gives_the_same_bytes(served: Served) -> None:
    done = reproduce(served.model, **served.lab.doors)
    assert done.same, done.files
    assert done.difference == 0.0


@pytest.mark.frameworks
def test_the_next_training_begins_with_what_was_learnt(served: Served) -> None:
    if not served.case.net:
        pytest.skip("this model does not learn on")
    after = served.lab.train(served.lab.commit(served.frame), last=served.model)
    assert after.ref != served.model.ref and after.parents[1] == served.model.ref


@pytest.mark.frameworks
def test_what_is_served_as_onnx_needs_no_framework(served: Served) -> None:
    if served.case.flavor != "onnx":
        pytest.skip("another form")
    maps = [path.read_text() for path in Path("/proc").glob("[0-9]*/maps")
            if served.folder.name.encode() in (path.parent / "cmdline").read_bytes()]  # fmt: skip
    assert maps
    assert not [word for word in ("libtorch", "libtensorflow", "sklearn") if any(word in m for m in maps)]


def test_the_environment_names_the_framework(served: Served) -> None:
    lines = served.lab.blobs.get(model(served.model).environment).decode().splitlines()
    assert any(line.startswith(f"{served.case.needs[1]}==") for line in lines)


def test_other_seeds_give_other_models(served: Served) -> None:
    """So that the same bytes are no accident."""
    if not served.case.net:
        pytest.skip("the seeds of these models stand in their code")
    section = replace(served.lab.manifest.train, seed=7)
    served.lab.manifest = replace(served.lab.manifest, train=section)
    assert served.lab.train(served.lab.commit(served.frame)).ref != served.model.ref
