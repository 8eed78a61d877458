"""MLflow: models fetched from its registry and runs, and runs written to it; nothing of a model is opened."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fairlead.errors import Invalid, Missing, Unavailable

__all__ = ["Mlflow"]

MLMODEL = "MLmodel"
MOST = 1 << 20
"""Bytes of an MLmodel file."""
LOGIN = re.compile(r"//[^/@\s]+@")
"""Who asks, in an address of a store."""


class Mlflow:
    """The Tracker port. `place`: the tracking server or store. Raises Missing without mlflow."""

    def __init__(self, place: str) -> None:
        try:
            import mlflow
        except ImportError:
            raise Missing("mlflow is not installed", hint='pip install "fairlead[mlflow]"') from None
        self._mlflow, self._place = mlflow, place

    def fetch(self, uri: str, target: Path) -> tuple[Path, Mapping[str, Any]]:
        """The folder of a model, copied beneath `target`, and its MLmodel file. Raises Missing, Invalid."""
        with self._words(uri):
            self._mlflow.set_tracking_uri(self._place)
            where = Path(self._mlflow.artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(target), tracking_uri=self._place or None))  # fmt: skip
        path = where / MLMODEL
        if not path.is_file() or path.stat().st_size > MOST:
            raise Missing(f"{uri} holds no {MLMODEL}", hint="name the model: runs:/RUN/NAME or models:/NAME/VERSION")
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no such day
            raise Invalid(f"{MLMODEL} cannot be read: {error}", hint="log the model again") from None
        if not isinstance(said, dict):
            raise Invalid(f"{MLMODEL} holds no keys", hint="log the model again")
        return where, said

    def publish(
        self, experiment: str, name: str, *, params: Mapping[str, Any], metrics: Mapping[str, float],
        tags: Mapping[str, str], folder: Path, document: Mapping[str, Any] | None,
    ) -> tuple[str, str]:  # fmt: skip
        """Write a run with its model (the files of `folder`, and its MLmodel file where there is a
        `document`); the ids of the run and of the model. Raises Unavailable."""
        with self._words(experiment):
            client = self._mlflow.MlflowClient(tracking_uri=self._place or None)
            known = client.get_experiment_by_name(experiment)
            where = known.experiment_id if known else client.create_experiment(experiment)
            run = client.create_run(where, run_name=name, tags=dict(tags)).info.run_id
            for key, value in params.items():
                client.log_param(run, key, value)
            for key, number in metrics.items():
                client.log_metric(run, key, number)
            if document is None:
                client.log_artifacts(run, str(folder), "package")
                model = ""
            else:
                model = client.create_logged_model(where, name=name, source_run_id=run, tags=dict(tags)).model_id
                said = {**document, "run_id": run, "model_id": model, "model_uuid": model,
                        "mlflow_version": self._mlflow.__version__}  # fmt: skip
                (folder / MLMODEL).write_text(yaml.safe_dump(said), encoding="utf-8")
                client.log_model_artifacts(model, str(folder))
                client.finalize_logged_model(model, "READY")
                client.log_outputs(run, [self._mlflow.entities.LoggedModelOutput(model_id=model, step=0)])
            client.set_terminated(run)
        return run, model

    @contextmanager
    def _words(self, what: str) -> Iterator[None]:
        """What MLflow raises, in our words, and without the logins it repeats."""
        try:
            yield
        except self._mlflow.exceptions.MlflowException as error:
            said = LOGIN.sub("//***@", str(error.message or error)).partition("\n")[0]
            text = f"MLflow, {what}: {said[:300]}"
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                raise Missing(text, hint="is it the right tracking store? MLFLOW_TRACKING_URI names it") from None
            raise Unavailable(text, hint="is it the right tracking store, and up?") from None
        except ImportError as error:
            raise Missing(f"MLflow, {what}: {error}", hint="install what this kind of tracking store needs") from None
        except OSError as error:
            raise Missing(f"MLflow, {what}: {error}", hint="is it the right tracking store?") from None
