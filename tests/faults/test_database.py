"""R11: the database is locked, then gone, the controller dead: predictions go on, promotions say why not."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from fairlead.core.ref import Ref
from fairlead.project import Project
from fairlead.serve.supervisor import RENEW
from tests.faults.bar import Bar, twin
from tests.faults.caller import Calls
from tests.faults.conftest import ROOT
from tests.stories.test_killed_in_a_canary import packaged, root, running, until

__all__ = ["root"]
pytestmark = pytest.mark.faults
RATE, LOCKED, GONE = 300, 20.0, 14.0


@pytest.fixture
def served(root: Path, bug: str) -> Iterator[tuple[Path, Ref, Path]]:
    """A live package, another one to promote, and the running service."""
    with Project.open(root) as project:
        project.snapshot()
        first, second = packaged(project, {}), packaged(project, {"max_iter": 25})
        project.start_release(first)
        project.tick()
    command = [sys.executable, "-m", "tests.faults.planted", bug or "tests.faults.planted.sound", "command",
               "serve", "--project", str(root), "--port", "0"]  # fmt: skip
    facts = root / ".fairlead" / "run" / "serve.json"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=env) as process:
        try:
            until(lambda: facts.exists() and running(facts)["ready"], 30)
            yield root, second, facts
        finally:
            process.terminate()


def promote(root: Path, package: Ref) -> tuple[int, str]:
    """What somebody gets to read who promotes a package now."""
    told = subprocess.run(
        [sys.executable, "-m", "fairlead", "release", "start", package.digest[:12], "--force", "now",
         "--project", str(root)], capture_output=True, text=True)  # fmt: skip
    return told.returncode, told.stderr or told.stdout


@pytest.mark.parametrize("bug", ["", twin("tests.faults.bugs.asks_the_database")])
def test_r11_without_a_database(served: tuple[Path, Ref, Path], bar: Bar, bug: str) -> None:
    root, second, facts = served
    row = json.loads(pl.read_csv(root / "tumours.csv").drop("diagnosis").head(1).write_ndjson())
    records, lock_for, gone_for = root / ".fairlead" / "records.db", *((3.0, 4.0) if bug else (LOCKED, GONE))
    # A kill costs what is in flight (R1); here one retry is part of the promise.
    calls = Calls(running(facts)["port"], (RATE, lock_for + gone_for), bodies=[row], retry=True)
    begin, refused = time.monotonic(), list[str]()
    with contextlib.closing(sqlite3.connect(records, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        status, said = promote(root, second)
        refused += [said] * (status != 0)
        until(lambda: time.monotonic() > begin + lock_for, lock_for + 5)
    for path in records.parent.glob("records.db*"):
        path.rename(path.with_name(f"gone-{path.name}"))
    os.kill(running(facts)["controller"], signal.SIGKILL)
    os.kill(running(facts)["gateways"][0], signal.SIGKILL)
    status, said = promote(root, second)
    refused += [said] * (status != 0)
    os.kill(running(facts)["pid"], RENEW)
    answers = calls.answers()
    bar(f"predictions failed of {len(answers):,} with the database locked, then gone",
        sum(a.status != 200 for a in answers), "= 0")  # fmt: skip
    bar("promotions refused with a reason, of 2", len(refused), "= 2")
