"""S3 and S19: a model that is hostile runs, and gains nothing, while its neighbour answers."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.serve import landlock, seccomp
from tests.faults.conftest import Ground
from tests.security.payloads import HOSTILE, LEFT, MAGIC, PAYLOADS, UNCONFINED, gained
from tests.serve.conftest import ROW

CANARY = "FAIRLEAD_TEST_CANARY"
pytestmark = pytest.mark.skipif(
    landlock.version() < 6 or not seccomp.known(), reason="Linux 6.12 with Landlock is needed")  # fmt: skip


@pytest.fixture
def den(tmp_path: Path, bug: str) -> Iterator[Ground]:
    made = Ground(tmp_path, bug or HOSTILE)
    (tmp_path / "fairlead.yaml").write_text("secret: canary")
    yield made
    made.stop()


@pytest.fixture
def bug() -> str:
    return ""


def listening(path: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.bind(path)
    line.listen()
    return line


def serve(den: Ground) -> None:
    hostile, neighbour = den.package(name="hostile"), den.package("sum", name="m", threshold=0.4)
    den.publish(neighbour)
    den.start(env={CANARY: "canary"}, replica_memory_mb=128)
    first = den.known(neighbour, "replicas")
    den.publish(hostile)
    assert den.known(hostile, "replicas") and first
    den.wait(lambda: den.ask(ROW)[1]["package"] == str(hostile))


def attack(den: Ground, number: int) -> float:
    status, said = den.ask({**ROW, "distance": MAGIC, "hour": number})
    assert status == 200, said
    return float(said["score"])


def test_a_hostile_model_gains_nothing(den: Ground) -> None:
    serve(den)
    replicas = den.status()["packages"]
    gains = [name for i, name in enumerate(PAYLOADS) if attack(den, i)]
    assert not gains and not attack(den, 100)
    # It was the same worker all the time, and what it wanted to leave behind is not there.
    assert [p["replicas"] for p in den.status()["packages"].values()] == [p["replicas"] for p in replicas.values()]
    assert not list(den.run.glob("planted*")) and (den.run / "route.json").exists()
    for package in replicas.values():
        assert {"seccomp", "no capabilities", "rlimits"} < {*package["sandbox"]}
        for pid in package["replicas"]:
            assert CANARY.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
            status = Path(f"/proc/{pid}/status").read_text()
            assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
            assert "CapEff:\t0000000000000000" in status


@pytest.mark.parametrize("bug", [UNCONFINED])
def test_without_walls_the_key_is_read(den: Ground) -> None:
    """The twin."""
    serve(den)
    assert attack(den, 0)


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_works_where_nothing_stops_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that "gains nothing" says something of the sandbox, and not of the payloads."""
    run = tmp_path / "state" / "run"
    run.mkdir(parents=True)
    for path in (tmp_path / "fairlead.yaml", run / "key", run / "route.json"):
        path.write_text("secret")
    monkeypatch.chdir(run)
    with listening("own.sock"):
        monkeypatch.setattr(sys, "argv", ["own.sock", ""])
        if (pid := os.fork()) == 0:
            os.setpgid(0, 0)
            os._exit(0 if gained(PAYLOADS[name]) else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    (Path("/tmp") / LEFT).unlink(missing_ok=True)
    assert status == 0


def test_confining_costs_milliseconds() -> None:
    """CPU time of what happens at each fork, beside the fork itself."""
    from fairlead.serve.sandbox import Sandbox

    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        box = Sandbox()
        begun = time.thread_time()
        box.enter(Path("/nowhere/at/all"))
        box.tighten()
        os.write(writer, f"{time.thread_time() - begun}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert float(os.read(reader, 64)) < 0.05
    for end in (reader, writer):
        os.close(end)
