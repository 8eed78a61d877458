"""The bad candidate behind a real gateway: measured on running processes, not simulated.

`python -m prove.gateway` measures it again; `python -m prove` then writes it into the page.
"""

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace as changed
from sklearn.datasets import load_breast_cancer

from fairlead.api import client
from fairlead.api.load import Client
from fairlead.core.ref import Ref
from fairlead.core.release import Phase
from fairlead.project import Project

__all__ = ["MEASURED", "Measured", "Run", "measure", "section", "short"]

MEASURED = Path(__file__).with_name("gateway.json")
RUNS, RATE, SHARE, ERRORS = 20, 200, 0.05, 0.3
TURN = 0.025
"""Seconds between two handfuls of requests."""

MANIFEST = """
service: tumours
data: {source: tumours.csv, target: diagnosis}
train: {params: {max_iter: 10}}
release: {plan: canary, shares: [0.05], hold: 1m, patience: 1h}
"""
TRAIN = """
from sklearn.ensemble import HistGradientBoostingClassifier

def train(data, params):
    return HistGradientBoostingClassifier(random_state=0, **params).fit(data.X, data.y)
"""


class Run(Struct, frozen=True, kw_only=True):
    """`stable`: seconds from the first bad signal a caller could see until the gateway gave the
    candidate nothing more; `bad`: requests the candidate failed (the baseline answered them);
    `failed`: requests without an answer; `asked`: all of them."""

    stable: float
    bad: int
    failed: int
    asked: int

    @property
    def kept(self) -> bool:
        return self.stable <= 2 and self.bad <= 30 and self.failed == 0


class Measured(Struct, frozen=True, kw_only=True):
    """Every run, and the machine."""

    machine: str
    runs: tuple[Run, ...]


def section() -> str:
    """The measured figures for the page."""
    told = msgspec.json.decode(MEASURED.read_bytes(), type=Measured)
    runs = told.runs
    stable, bad = sorted(r.stable for r in runs), sorted(r.bad for r in runs)
    kept = sum(r.kept for r in runs)
    return f"""
## Measured on running processes

Neither simulated nor seeded: `make prove` measures it anew, and the figures differ a little. One
`fairlead serve`, {RATE} requests a second, a canary of {100 * SHARE:.0f} %, and a candidate that fails
{100 * ERRORS:.0f} % of its requests, released {len(runs)} times ({told.machine}). Measured from the
first request that it failed until the gateway gave it nothing more:

- stable after the first bad signal: median {stable[len(runs) // 2]:.1f} s, longest {stable[-1]:.1f} s (bar: 2 s);
- requests that the candidate failed, each answered by the baseline: median {bad[len(runs) // 2]}, most {bad[-1]} (bar: 30);
- requests that failed: {sum(r.failed for r in runs)} of {sum(r.asked for r in runs):,} (bar: 0);
- all three bars kept in {kept} of {len(runs)} runs.

Two failures convict it while the baseline has none, and it fails three requests a second, at random:
in about 1 of 200 runs the second one comes too late for 2 s, whatever the test.
"""


def measure(runs: int = RUNS, told: Callable[[str], object] = str) -> Measured:
    """Release the bad candidate so many times; `told` hears of each run."""
    rng, made = np.random.default_rng(), list[Run]()
    with TemporaryDirectory() as folder, _served(Path(folder)) as (project, bad, fine, large):
        for i in range(runs):
            made.append(asyncio.run(_run(project, bad, (fine, large), rng)))
            told(f"run {i + 1}: {made[-1]}")
    return Measured(machine=f"{platform.system()}, {_cores()} cores", runs=tuple(made))


async def _run(project: Project, bad: Ref, rows: tuple[list[bytes], list[bytes]],
               rng: np.random.Generator) -> Run:  # fmt: skip
    service = client.found(project.root)
    asked = failed = stood_in = 0
    first, end = 0.0, time.monotonic() + 60
    release = project.start_release(bad, force="it is to fail")
    async with Client(service.host, service.port, 16) as caller:
        due = time.monotonic()
        while time.monotonic() < end:
            bodies = [rows[i][int(rng.integers(len(rows[i])))]
                      for i in (rng.random(int(RATE * TURN)) < ERRORS).astype(int)]  # fmt: skip
            answers = await caller.post("/predict", bodies)
            now = time.monotonic()
            asked += len(answers)
            failed += sum(a.status != 200 for a in answers)
            stood_in += sum(b'"fallback":true' in a.body for a in answers)
            first = first or (now if stood_in else 0.0)
            if first and all(a["package"] != str(bad) for a in service.get("/status")["arms"]):
                break
            due += TURN
            await asyncio.sleep(max(0.0, due - time.monotonic()))
    ended = project.records.release(release.id)
    assert ended.phase is Phase.ROLLED_BACK, ended
    return Run(stable=round(now - first, 3), bad=stood_in, failed=failed, asked=asked)


@contextmanager
def _served(root: Path) -> Iterator[tuple[Project, Ref, list[bytes], list[bytes]]]:
    """A running service, the bad package, and requests it can and cannot answer."""
    frame = _table()
    frame.write_csv(root / "tumours.csv")
    (root / "fairlead.yaml").write_text(MANIFEST)
    (root / "train.py").write_text(TRAIN)
    command = [sys.executable, "-m", "fairlead", "serve", "--project", str(root), "--port", "0"]
    large = pl.col("size") == "large"
    with Project.open(root) as project, (root / "serve.log").open("wb") as log:
        bad = _prepare(project, frame.filter(~large))
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            facts, end = root / ".fairlead" / "run" / "serve.json", time.monotonic() + 30
            while not (facts.exists() and json.loads(facts.read_bytes())["ready"]):
                assert time.monotonic() < end, (root / "serve.log").read_text()
                time.sleep(0.05)
            yield project, bad, _bodies(frame.filter(~large)), _bodies(frame.filter(large))
        finally:
            process.terminate()
            process.wait(20)


def _prepare(project: Project, small: pl.DataFrame) -> Ref:
    """Release a good package; return one that learnt nothing of large tumours and refuses them."""
    project.snapshot()
    good = project.package(project.train().ref).ref
    project.start_release(good, force="the first")
    project.tick()
    small.write_csv(project.root / "small.csv")
    few, _ = project.snapshot(project.root / "small.csv", accept_breaking=True)
    whole = project.manifest
    project.manifest = changed(whole, train=changed(whole.train, unseen="error"))
    bad = project.package(project.train(dataset=few.ref).ref).ref
    project.manifest = whole
    return bad


def _table() -> pl.DataFrame:
    data = load_breast_cancer()
    columns = [str(n).replace(" ", "_") for n in data.feature_names]
    frame = pl.DataFrame(data.data, schema=columns).select(columns[:8])
    size = pl.when(pl.col("mean_radius") > 15).then(pl.lit("large")).otherwise(pl.lit("small"))
    labels = pl.Series("diagnosis", [str(data.target_names[t]) for t in data.target])
    mixed = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("middle")).otherwise(size)
    sizes = pl.when(size == "large").then(size).otherwise(mixed)
    return frame.with_columns(sizes.alias("size"), labels)


def _bodies(frame: pl.DataFrame) -> list[bytes]:
    rows: list[dict[str, Any]] = frame.drop("diagnosis").to_dicts()
    return [msgspec.json.encode(row) for row in rows]


def _cores() -> int:
    return os.cpu_count() or 1


def short() -> str:
    """Which bar the figures on file miss; "" when none."""
    told = msgspec.json.decode(MEASURED.read_bytes(), type=Measured)
    missed = sum(not run.kept for run in told.runs)
    return f"candidate behind a real gateway: {missed} of {len(told.runs)} runs" if missed else ""


def main() -> None:
    """Measure and keep the figures; `python -m prove` shows and judges them."""
    found = measure(told=lambda text: sys.stdout.write(f"{text}\n"))
    MEASURED.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


if __name__ == "__main__":
    main()
