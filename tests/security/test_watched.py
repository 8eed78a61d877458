"""S1, S15, S17: a project is made, served and asked, while every process is watched."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fairlead.api.client import Client, found
from fairlead.errors import Unavailable
from tests.api.test_loop import write_table

HOOK = Path(__file__).parent / "hook" / "sitecustomize.py"
TRAINS = (" job ", " prove ", " explain ")
"""Processes that run the user's own code and open estimators; S1 is about all the others."""
INTERNALS = ("Traceback", "File \"", ".py", "fairlead.", "site-packages", "SELECT ", "sqlite", "/.fairlead", "0x7f")
SQL = ("' OR '1'='1", "'; DROP TABLE records; --", "\" OR \"\"=\"", "1 UNION SELECT * FROM events", "\\'; --",
       "%27%20OR%201=1", "x' AND randomblob(1e9) --", "../../etc/passwd", "\x00", "a" * 5000)  # fmt: skip


def watched(folder: Path) -> dict[str, str]:
    """The environment that puts the hook into every Python started with it."""
    folder.mkdir()
    shutil.copy(HOOK, folder)
    return {**os.environ, "PYTHONPATH": str(folder)}


def events(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "events").read_text().splitlines()
    # What has no Python behind it is the interpreter on its way into `-c` or `-m`.
    return [e for e in map(json.loads, lines) if e["by"]]


def fairlead(env: dict[str, str], root: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "fairlead", *arguments], cwd=root, env=env,
                          capture_output=True, text=True, timeout=100)  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def answering(root: Path) -> Client:
    end = time.monotonic() + 40
    while time.monotonic() < end:
        try:
            client = found(root)
            client.get("/v2/health/ready")
            return client
        except Unavailable:
            time.sleep(0.05)
    raise AssertionError("nothing answers")


@pytest.mark.security
@pytest.mark.timeout(300)
def test_a_loop_runs_no_data_and_leaves_nothing_open(tmp_path: Path) -> None:
    root, hook = tmp_path / "loans", tmp_path / "hook"
    root.mkdir()
    env = watched(hook)
    write_table(root / "loans.csv", 800)
    fairlead(env, root, "init", "--from", "loans.csv", "--target", "status", "--time", "approved_on", "--into", ".")
    manifest = root / "fairlead.yaml"
    manifest.write_text(manifest.read_text().replace("max_iter: 200", "max_iter: 5"))
    fairlead(env, root, "run")
    process = subprocess.Popen([sys.executable, "-m", "fairlead", "serve", "--port", "0"], cwd=root, env=env)
    try:
        answering(root)
        row = '{"approved_on": "2024-03-01T00:00:00Z", "income": 9000, "region": "south"}'
        answer = json.loads(fairlead(env, root, "predict", row, "--json"))
        fairlead(env, root, "feedback", answer["id"], "default")
        fairlead(env, root, "status")
        assert answer["id"] in fairlead(env, root, "why", answer["id"])
        open_to_others = [p for p in [root / ".fairlead", *(root / ".fairlead").rglob("*")] if p.lstat().st_mode & 0o077]
        assert not [p for p in open_to_others if not p.is_symlink()]
        before = fairlead(env, root, "audit", "log", "--json")
        for text in SQL:
            if "\0" not in text:
                said = subprocess.run([sys.executable, "-m", "fairlead", "why", text], cwd=root, env=env,
                                      capture_output=True, text=True)  # fmt: skip
                heard = "".join((said.stdout + said.stderr).split("\n")).replace(text, "")
                assert said.returncode and not _internals(heard), text
        assert fairlead(env, root, "audit", "log", "--json") == before
    finally:
        process.terminate()
        process.wait(30)
    ran = [e for e in events(hook) if not any(word in e["process"] for word in TRAINS)]
    assert not ran, ran[:3]


def _internals(text: str) -> list[str]:
    return [word for word in INTERNALS if word in text]


def test_the_watch_sees_what_runs_data(tmp_path: Path) -> None:
    """The twin."""
    env, program = watched(tmp_path / "hook"), tmp_path / "unpickles"
    program.write_text("import collections, pickle\n"
                       "pickle.loads(pickle.dumps(collections.OrderedDict()))\neval('1')\n")  # fmt: skip
    subprocess.run([sys.executable, str(program)], env=env, check=True)
    assert {"pickle.find_class", "compile", "exec"} <= {e["event"] for e in events(tmp_path / "hook")}


def test_refusals_of_the_gateway_show_no_internals(served: Any) -> None:
    """S12, S15: hostile texts wherever a caller may put one."""
    seen = 0
    for text in SQL:
        row = {"distance": text, "carrier": text, "hour": text, text[:50]: text}
        for path, body in (("/predict", row), ("/predict", {"rows": [row]}), ("/predict", text),
                           ("/feedback", {"prediction": text, "value": text}),
                           ("/v2/models/m/infer", {"inputs": [{"name": text, "datatype": text, "shape": [1], "data": [text]}]})):  # fmt: skip
            status, said = served.raw(body, path)
            assert 400 <= status < 500, (path, text)
            # What the caller said itself may come back.
            assert not _internals(said.decode().replace(json.dumps(text)[1:-1], "")), said
            seen += 1
    assert seen == 5 * len(SQL)
