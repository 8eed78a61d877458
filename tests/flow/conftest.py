"""A laboratory for training, evaluation, gate and package: real data, real files, jobs in this process."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead import jobs
from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, DatasetSpec, name_of
from fairlead.core.decision import Decision
from fairlead.core.manifest import DataSection, Manifest, TrainSection
from fairlead.errors import Invalid
from fairlead.flow import data, gate, package, train
from fairlead.ports import Change

BOOSTING = """
    from sklearn.ensemble import HistGradientBoostingClassifier

    def train(data, params):
        model = HistGradientBoostingClassifier(random_state=0, max_iter=30)
        return model.set_params(**params).fit(data.X, data.y)
"""


class Clock:
    def __init__(self) -> None:
        self.time = 1_700_000_000.0

    def now(self) -> float:
        self.time += 1.0
        return self.time


class Here:
    """Compute without a process: the same job, in this interpreter."""

    def run(self, job: Sequence[str], workdir: Path, env: Mapping[str, str]) -> None:
        if jobs.main(job):
            raise Invalid(f"{job[0]} failed")


class Lab:
    """A project without its command line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = LocalBlobs(root / "blobs")
        self.records = MemoryRecords()
        self.doors: dict[str, Any] = {
            "records": self.records, "blobs": self.blobs, "compute": Here(), "clock": Clock(),
            "jobs": root / "jobs", "actor": "tester",
        }  # fmt: skip
        self.manifest = Manifest(
            service="late", train=TrainSection(),
            data=DataSection(source="flights.csv", target="late", time="at"),
        )  # fmt: skip
        self.code(BOOSTING)

    def code(self, text: str) -> None:
        (self.root / "train.py").write_text(dedent(text))

    def commit(self, frame: pl.DataFrame, previous: Artifact | None = None) -> Artifact:
        section = self.manifest.data
        before = previous.spec if previous is not None else None
        assert before is None or isinstance(before, DatasetSpec)
        spec, _ = data.snapshot(frame, self.blobs, previous=before, target=section.target,
                                time=section.time, entity=section.entity)  # fmt: skip
        made = Artifact(ref=name_of("late", spec), spec=spec, created_at=0.0)
        self.records.store(Change(at=0.0, actor="", verb="", subject="", artifacts=(made,)))
        return made

    def train(self, table: Artifact, **more: Any) -> Artifact:
        return train.train(table, self.manifest.data, self.manifest.train, name="late",
                           root=self.root, **self.doors, **more)  # fmt: skip

    def gate(self, model: Artifact, baseline: Artifact | None = None) -> Decision:
        return gate.gate(model, baseline, self.manifest, **self.doors)

    def package(self, model: Artifact) -> Artifact:
        return package.package(model, name="late", packages=self.root / "packages", **self.doors)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "train", raising=False)
    with threadpool_limits(1):  # two busy cores would spin on the threads' barriers
        yield Lab(tmp_path)
    sys.modules.pop("train", None)


@pytest.fixture
def flights() -> pl.DataFrame:
    """3,000 rows over 100 days, oldest first: numbers, categories, gaps, and a target to learn."""
    rng = np.random.default_rng(7)
    n = 3_000
    distance, wind = rng.gamma(3.0, 300.0, n), rng.normal(10.0, 4.0, n)
    carrier = rng.choice(["AA", "B6", "DL", "UA"], n)
    sex = rng.choice(["f", "m"], n)
    risk = (distance - 900) / 400 + (wind - 10) / 3 + (carrier == "UA") * 1.5
    wind[rng.random(n) < 0.05] = np.nan
    at = pl.Series(1_600_000_000 + np.arange(n) * 2_880).cast(pl.Int64) * 1_000_000
    return pl.DataFrame({
        "at": at.cast(pl.Datetime("us", "UTC")),
        "carrier": carrier, "distance": distance, "wind": wind, "sex": sex,
        "seats": rng.integers(20, 300, n), "late": risk + rng.logistic(size=n) > 0,
    }).with_columns(pl.col("wind").fill_nan(None))  # fmt: skip
