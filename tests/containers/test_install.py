"""What it takes to serve without an image: `fairlead[serve]` alone, counted, weighed, and asked."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.containers.test_containers import ROOT, fairlead, free, run, say, until

PACKAGES, MEBIBYTES = 25, 170
pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
WEIGH = """
import json, os
from importlib.metadata import distributions

known = {d.metadata["Name"]: d for d in distributions() if d.metadata["Name"] not in ("pip", "setuptools", "wheel")}
files = [f.locate() for d in known.values() for f in d.files or () if f.suffix != ".pyc"]
print(json.dumps([sorted(known), sum(os.path.getsize(f) for f in files if os.path.exists(f))]))
"""
"""Names, and bytes as the wheels bring them: bytecode is Python's own."""


def test_serving_alone_is_small_and_answers(tmp_path: Path) -> None:
    home = tmp_path / "venv"
    run(sys.executable, "-m", "venv", home)
    run(home / "bin" / "pip", "install", "-q", "--disable-pip-version-check", f"{ROOT}[serve]")
    names, size = json.loads(run(home / "bin" / "python", "-I", "-c", WEIGH))
    say(f"fairlead[serve]: {len(names)} packages, {size / 2**20:.0f} MiB")
    assert "polars" not in names and "scikit-learn" not in names
    project = tmp_path / "project"
    project.mkdir()
    table = {"size": [float(i % 97) for i in range(600)], "late": [i % 97 > 40 for i in range(600)]}
    pl.DataFrame(table).write_csv(project / "trips.csv")
    fairlead("init", "--from", "trips.csv", "--target", "late", cwd=project)
    fairlead("run", cwd=project)
    (package,) = (project / ".fairlead" / "packages").iterdir()
    port = free()
    with subprocess.Popen([home / "bin" / "fairlead", "serve", "--package", str(package), "--port", str(port)],
                          cwd=tmp_path) as process:  # fmt: skip
        try:
            found = json.loads(until(f"http://127.0.0.1:{port}/predict", 30, body=b'{"size": 90}'))
        finally:
            process.terminate()
    assert found["label"] == "true"
    assert len(names) <= PACKAGES, names
    assert size <= MEBIBYTES << 20
