"""In the middle of a canary the controller and the gateway are killed; the release carries on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from sklearn.datasets import load_breast_cancer

from fairlead.api.load import Client
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release
from fairlead.project import Project

CONNECTIONS = 8
MANIFEST = """
service: tumours
data: {source: tumours.csv, target: diagnosis}
train: {params: {max_iter: 20}}
release: {plan: canary, shares: [0.5], hold: 0s, patience: 1h, max_errors: 0.01, slow_ms: 900, max_slower: 0}
"""
TRAIN = """
from sklearn.ensemble import HistGradientBoostingClassifier

def train(data, params):
    return HistGradientBoostingClassifier(random_state=0, **params).fit(data.X, data.y)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    data = load_breast_cancer()
    columns = [str(n).replace(" ", "_") for n in data.feature_names]
    labels = pl.Series([str(data.target_names[t]) for t in data.target])
    frame = pl.DataFrame(data.data, schema=columns).with_columns(diagnosis=labels)
    frame.write_csv(tmp_path / "tumours.csv")
    (tmp_path / "fairlead.yaml").write_text(MANIFEST)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


@pytest.fixture
def served(root: Path) -> Iterator[tuple[Project, dict[str, Any], Ref]]:
    """A live package, a candidate that passed the gate, and the running service."""
    with Project.open(root) as project:
        project.snapshot()
        first, second = packaged(project, {}), packaged(project, {"max_iter": 25})
        project.start_release(first)
        project.tick()
        command = [sys.executable, "-m", "fairlead", "serve", "--project", str(root), "--port", "0"]
        with (root / "serve.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            try:
                facts = root / ".fairlead" / "run" / "serve.json"
                until(lambda: facts.exists() and running(facts)["ready"], 20)
                yield project, running(facts), second
            finally:
                process.terminate()
                process.wait(20)


def packaged(project: Project, params: dict[str, Any]) -> Ref:
    model = project.train(params=params)
    assert project.gate(model.ref).proceed or params
    return project.package(model.ref).ref


def running(facts: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(facts.read_text())
    return found


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something, at most `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


async def ask(client: Client, body: bytes, rounds: int) -> int:
    """Send a few hundred requests; how many were not answered."""
    failed = 0
    for _ in range(rounds):
        failed += sum(a.status != 200 for a in await client.post("/predict", [body] * 40))
    return failed


async def story(project: Project, facts: dict[str, Any], candidate: Ref) -> tuple[Release, int, int]:
    path = project.root / ".fairlead" / "run" / "serve.json"
    body = pl.read_csv(project.root / "tumours.csv").drop("diagnosis").head(1).write_ndjson().encode()
    begun = project.start_release(candidate, force="two models of a test")
    async with Client("127.0.0.1", facts["port"], CONNECTIONS) as client:
        unhurt = await ask(client, body, 2)
        assert project.records.release(begun.id).phase is Phase.RUNNING
        os.kill(facts["controller"], signal.SIGKILL)
        unhurt += await ask(client, body, 2)
        os.kill(facts["gateways"][0], signal.SIGKILL)
        hurt = 0
        end = time.monotonic() + 40
        while not project.records.release(begun.id).phase.final and time.monotonic() < end:
            hurt += await ask(client, body, 2)
        until(lambda: running(path)["controller"] != facts["controller"], 5)
        assert running(path)["gateways"] != facts["gateways"]
    return project.records.release(begun.id), unhurt, hurt


def test_the_release_is_promoted_all_the_same(served: tuple[Project, dict[str, Any], Ref]) -> None:
    project, facts, candidate = served
    release, unhurt, hurt = asyncio.run(story(project, facts, candidate))
    assert release.phase is Phase.PROMOTED and release.winner == candidate
    assert unhurt == 0, "without a controller every request is answered"
    assert hurt <= CONNECTIONS, "a killed gateway loses what it was just answering, no more"
    assert project.verify_audit() > 0
    route = project.router.published()
    assert route is not None and route.arms[0].package == candidate


def test_nobody_outlives_the_supervisor(served: tuple[Project, dict[str, Any], Ref]) -> None:
    project, _, _ = served
    facts = running(project.root / ".fairlead" / "run" / "serve.json")
    family = psutil.Process(facts["pid"]).children(recursive=True)
    assert {facts["controller"], *facts["gateways"]} <= {p.pid for p in family}
    os.kill(facts["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
