"""Settings: what jobs inherit of MLflow's."""

from pathlib import Path

import pytest

from fairlead.settings import job_environment

HERE = Path("/home/of/somebody")


@pytest.mark.parametrize(("named", "found", "root"), [
    ("sqlite:///mine.db", "sqlite:////home/of/somebody/mine.db", True),
    ("sqlite:////data/all.db", "sqlite:////data/all.db", True),
    ("mlruns", "/home/of/somebody/mlruns", True), ("file:runs", "file:/home/of/somebody/runs", True),
    ("http://host:5000", "http://host:5000", False), ("file:///data/runs", "file:///data/runs", False),
    ("databricks", "databricks", False), ("databricks://profile", "databricks://profile", False),
    ("postgresql://u@h/db", "postgresql://u@h/db", False),
])  # fmt: skip
def test_a_tracking_store_named_by_a_path_is_the_same_one_in_a_job(
    monkeypatch: pytest.MonkeyPatch, named: str, found: str, root: bool
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    made = job_environment(HERE)
    assert (made["MLFLOW_TRACKING_URI"], made["MLFLOW_DISABLE_TELEMETRY"]) == (found, "true")
    assert ("_MLFLOW_SERVER_ARTIFACT_ROOT" in made) is root


def test_without_a_store_none_is_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "MLFLOW_TRACKING_URI" not in job_environment(HERE)
