"""MLflow, the real one: models come in through the gate, packages go out, train.py logs as it always did."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fairlead.api.cli import main
from fairlead.settings import job_environment, quiet_mlflow

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore")]

quiet_mlflow()
mlflow = pytest.importorskip("mlflow", reason="`make test-frameworks` installs it")

NAMES = ("b", "a", "c")
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(400, 3)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
AUTOLOG = """
import mlflow
import mlflow.sklearn
from sklearn.linear_model import LogisticRegression

def train(data, params):
    mlflow.sklearn.autolog(log_models=False)
    with mlflow.start_run():
        model = LogisticRegression().fit(data.X, data.y)
        mlflow.sklearn.log_model(model, name="model", serialization_format="skops")
    return model
"""


class Bomb:
    """A model whose pickle leaves a trace when anybody opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose table has the columns of the models in another order."""
    root = tmp_path_factory.mktemp("project")
    rows = DRAW.normal(size=(2000, 3)).astype(np.float32)
    label = np.where(rows[:, 0] + rows[:, 1] + DRAW.normal(0, 0.3, 2000) > 0, "yes", "no")
    pl.DataFrame({"c": rows[:, 2], "a": rows[:, 1], "b": rows[:, 0], "label": label}).write_csv(root / "t.csv")
    assert main(["init", "--from", str(root / "t.csv"), "--target", "label", "--into", str(root)]) == 0
    return root


@pytest.fixture
def logging_train(project: Path) -> Iterator[None]:
    """A train.py that logs, as users write it."""
    before = (project / "train.py").read_text()
    (project / "train.py").write_text(AUTOLOG)
    assert main(["data", "commit", "-C", str(project)]) == 0
    yield
    (project / "train.py").write_text(before)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tracking store of a user who works in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    mlflow.set_tracking_uri(None)
    yield "sqlite:///mine.db"
    mlflow.set_tracking_uri(None)


def signature() -> Any:
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(inputs=Schema([ColSpec("float", n) for n in NAMES]))


def logged(kind: str) -> str:
    """The address of a model that the flavor of its library logged."""
    with mlflow.start_run() as run:
        if kind == "sklearn":
            from sklearn.linear_model import LogisticRegression

            mlflow.sklearn.log_model(LogisticRegression().fit(X, Y), name="model", signature=signature(),
                                     serialization_format="skops")  # fmt: skip
        elif kind == "onnx":
            from skl2onnx import to_onnx
            from sklearn.linear_model import LogisticRegression

            mlflow.onnx.log_model(to_onnx(LogisticRegression().fit(X, Y), X[:1]), name="model", signature=signature())
        elif kind == "lightgbm":
            import lightgbm

            booster = lightgbm.train({"verbose": -1, "objective": "binary"}, lightgbm.Dataset(X, Y), 5)
            mlflow.lightgbm.log_model(booster, name="model", signature=signature())
        else:
            import xgboost

            mlflow.xgboost.log_model(xgboost.XGBClassifier(n_estimators=5).fit(X, Y), name="model", signature=signature())
        return f"mlflow:{run.info.run_id}" if kind == "sklearn" else f"mlflow:runs:/{run.info.run_id}/model"


def said(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["sklearn", "onnx", "lightgbm", "xgboost"])
def test_a_model_comes_in_through_the_gate(
    project: Path, store: str, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    pytest.importorskip({"sklearn": "sklearn"}.get(kind, kind))
    found = said(capsys, "import", logged(kind), "-C", str(project))
    assert {v["check"]["name"] for v in found["gate"]["because"]} >= {"better than a constant", "answers every row"}
    skill = next(v for v in found["gate"]["because"] if v["check"]["name"] == "better than a constant")
    assert skill["outcome"] == "pass", "the columns are read in the model's own order"
    assert said(capsys, "package", found["model"].partition("@")[2], "-C", str(project))["ref"].startswith("package/t@")
    assert not list((project / ".fairlead" / "jobs").iterdir())


def test_a_pickle_is_refused_and_never_opened(
    project: Path, store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "opened")))
    facts = "{pickled_model: model.pkl, serialization_format: cloudpickle}"
    for text in (f"flavors: {{sklearn: {facts}}}", "flavors: {sklearn: {pickled_model: model.pkl, serialization_format: skops}}",
                 "flavors: {onnx: {data: model.pkl}}"):  # fmt: skip
        (folder / "MLmodel").write_text(text)
        assert main(["import", f"mlflow:{folder}", "-C", str(project)]) == 2
    assert "load_model" in capsys.readouterr().err
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(("store", "status", "told"), [
    ("http://ann:s3cret@127.0.0.1:1", 5, "//***@127.0.0.1:1"), ("mysql://ann:s3cret@127.0.0.1:1/x", 3, "No module named")])  # fmt: skip
def test_a_store_that_does_not_open_is_told_without_its_login(
    project: Path, capsys: pytest.CaptureFixture[str], store: str, status: int, told: str
) -> None:
    assert main(["import", "mlflow:models:/trips/1", "--tracking", store, "-C", str(project)]) == status
    error = capsys.readouterr().err
    assert told in error and "s3cret" not in error


def test_a_package_goes_out_and_mlflow_loads_and_asks_it(
    project: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = said(capsys, "import", logged("sklearn"), "-C", str(project))
    package = said(capsys, "package", found["model"].partition("@")[2], "-C", str(project))
    told = said(capsys, "export", "mlflow:outside", "-C", str(project))
    run = mlflow.MlflowClient().get_run(told["run"])
    assert (run.info.status, run.data.tags["fairlead.package"]) == ("FINISHED", package["ref"])
    assert {"fairlead.model", "fairlead.dataset", "fairlead.gate", "fairlead.code"} <= run.data.tags.keys()
    assert run.data.metrics["auc"] > 0.9
    assert run.data.params["form"] == "skops"

    model = mlflow.pyfunc.load_model(f"models:/{told['model']}")
    assert model.predict(X[:5])["scores"].shape == (5, 1)
    assert mlflow.onnx.load_model(f"models:/{told['model']}").graph.input[0].name == "X"
    assert main(["export", "mlflow:outside", "--tracking", "http://127.0.0.1:1", "-C", str(project)]) == 5


def test_train_py_logs_to_the_users_store_and_leaves_nothing_else(
    project: Path, store: str, logging_train: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "-C", str(project)]) == 0
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert "training_accuracy_score" in run.data.metrics
    (made,) = client.search_logged_models(["0"])
    assert (Path(made.artifact_location.removeprefix("file://")) / "model.skops").is_file()
    assert {p.name for p in tmp_path.iterdir()} <= {"mine.db", "mlruns"}
    assert not list((project / ".fairlead" / "jobs").iterdir())
    assert said(capsys, "import", f"mlflow:models:/{made.model_id}", "-C", str(project))["gate"]["because"]


def test_without_a_store_it_goes_with_the_job(
    project: Path, logging_train: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = {p.name for p in project.iterdir()}
    assert main(["train", "-C", str(project)]) == 0
    assert {p.name for p in project.iterdir()} == before
    assert not list(tmp_path.iterdir())
    assert not list((project / ".fairlead" / "jobs").iterdir())


def test_nothing_is_reported_to_anybody() -> None:
    asked = "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    plain = {k: v for k, v in job_environment(Path.cwd()).items() if not k.startswith(("PYTEST", "CI", "GITHUB"))}
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=plain, check=True)
    assert done.stdout.strip() == "True"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
