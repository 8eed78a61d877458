"""A server under load: started on one CPU, asked for the right answer, loaded from another, ended."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from bench import machine
from bench.material import WORK, model_file
from bench.peers import VENVS, Peer

__all__ = ["LOAD_CPU", "SERVER_CPU", "Load", "Server", "load", "running"]

HERE = Path(__file__).parent
SERVER_CPU, LOAD_CPU = 0, 1
READY = 90.0
"""Seconds a server may take to its first right answer."""
FLOAT = re.compile(rb"-?\d+\.\d+(?:[eE][-+]\d+)?")


class Load(Struct, frozen=True):
    """What wrk says: microseconds for the percentiles."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int


class Server(Struct, frozen=True, kw_only=True):
    """One that answers rightly, `first_answer` seconds after its start."""

    peer: Peer
    process: "subprocess.Popen[bytes]"
    port: int
    first_answer: float


@contextlib.contextmanager
def running(peer: Peer, model: str, score: float) -> Iterator[Server]:
    """Start a server and wait for its first right answer. Raises RuntimeError when none comes."""
    binaries = VENVS / peer.venv / "bin" if peer.venv else Path(sys.executable).parent
    nginx = shutil.which("nginx") or str(VENVS / "nginx/usr/sbin/nginx")
    if peer.venv and not (VENVS / peer.venv).is_dir() and not (peer.venv == "nginx" and Path(nginx).exists()):
        raise RuntimeError("not installed (see --install)")
    port = peer.port or _free()
    names = {"bin": str(binaries), "port": str(port), "here": str(HERE), "work": str(WORK),
             "nginx": nginx, "model": model}  # fmt: skip
    path = str(HERE.parent) if not peer.venv else str(HERE / "servers/mlserver")
    env = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": path,
                        "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "1",
                        "BENCH_MODEL": str(model_file(model))}  # fmt: skip
    log = WORK / f"{peer.venv or 'ours'}.log"
    with log.open("wb") as out:
        if peer.prepare:
            subprocess.run(["sh", "-c", peer.prepare.format(**names)], env=env, check=True, cwd=WORK,
                           stdout=out, stderr=out)  # fmt: skip
        started = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", str(SERVER_CPU), "sh", "-c", "exec " + peer.command.format(**names)],
            env=env, cwd=WORK, stdout=out, stderr=out, start_new_session=True)  # fmt: skip
    try:
        _await(peer, process, port, score)
        first_answer = time.monotonic() - started
        yield Server(peer=peer, process=process, port=port, first_answer=first_answer)
    finally:
        machine.end(process.pid)
        process.wait()


def load(server: Server, rows: int, connections: int, seconds: float, pause: float = 0.0) -> Load:
    """Load it from the other CPU; `pause`: milliseconds each connection waits on average between
    two requests, so that the rate is given and not found."""
    peer = server.peer
    env = os.environ | {"B_PATH": peer.path, "B_BODY": str(_bodies(peer, rows)) if peer.form else "",
                        "B_HEX": "1" if peer.form == "binary" else "", "B_HEADERS": peer.headers,
                        "B_PAUSE": str(pause) if pause else ""}  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CPU), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s",
         "--timeout", "10s", "-s", str(HERE / "load.lua"), f"http://127.0.0.1:{server.port}"],
        env=env, capture_output=True, text=True, check=True, timeout=seconds + 60)  # fmt: skip
    line = next(x for x in done.stdout.splitlines() if x.startswith("JSON "))
    return Load(**json.loads(line[5:]))


def _await(peer: Peer, process: "subprocess.Popen[bytes]", port: int, score: float) -> None:
    limit, said = time.monotonic() + READY, "no answer"
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with status {process.returncode}")
        try:
            status, body = _ask(peer, port)
            said = f"{status} {body[:200]!r}"
            if status == 200 and (not peer.form or _holds(body, score)):
                return
        except (OSError, http.client.HTTPException) as error:
            said = repr(error)
        time.sleep(0.01)
    raise RuntimeError(f"no right answer within {READY:.0f} s: {said}")


def _holds(body: bytes, score: float) -> bool:
    """Whether the score of the first row is in the answer, as text or as its last four bytes."""
    found = [float(t) for t in FLOAT.findall(body)]
    found += struct.unpack("<f", body[-4:]) if len(body) > 3 else ()
    return any(abs(v - score) < 1e-4 for v in found)


def _ask(peer: Peer, port: int) -> tuple[int, bytes]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        if not peer.form:
            line.request("GET", peer.path)
        else:
            with _bodies(peer, 1).open() as file:
                text = file.readline().strip()
            data = bytes.fromhex(text) if peer.form == "binary" else text.encode()
            extra = dict([peer.headers.split(": ")]) if peer.headers else {}
            line.request("POST", peer.path, data, {"content-type": "application/json", **extra})
        answer = line.getresponse()
        return answer.status, answer.read()
    finally:
        line.close()


def _bodies(peer: Peer, rows: int) -> Path:
    return WORK / f"{peer.form}-{rows}.txt"


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
