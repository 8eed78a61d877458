"""`make bench`: every server in turn on one CPU, the load generator on the other, one table at the end."""

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
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from bench import machine
from bench.material import WORK, make
from bench.peers import PEERS, VENVS, Peer
from bench.report import Cell, Result, write

HERE = Path(__file__).parent
SERVER_CPU, LOAD_CPU = 0, 1
ROWS, CONNECTIONS = (1, 100), (1, 16, 64)
QUIET = 1.5
"""Load average above which nothing is measured, if it comes within `WAIT` seconds."""
WAIT = 60.0
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


def main() -> int:
    """Measure what is asked for; returns 1 when nothing could be measured."""
    parser = ArgumentParser(prog="python -m bench.serve", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (3)")
    parser.add_argument("--only", default="", help="names that contain this text")
    parser.add_argument("--install", action="store_true", help="install missing peers into bench/.venvs")
    parser.add_argument("--dry", action="store_true", help="do not write the results into README.md")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        _say("wrk is missing: install it (Debian: apt-get install wrk)")
        return 1
    score = make()
    chosen = [p for p in PEERS if options.only.lower() in p.name.lower()]
    if options.install:
        _install(chosen)
    before = _wait_for_quiet()
    results, skipped = list[Result](), list[str]()
    for peer in chosen:
        try:
            results.append(_measure(peer, score, options.seconds))
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            skipped.append(f"{peer.name}: {error}")
            _say(f"skipped  {skipped[-1]}")
    text = write(results, skipped, before)
    _say(text)
    if before > QUIET:
        _say(f"not written into README.md: the load average was {before:.2f}")
    elif not options.dry and not options.only:
        page = HERE / "README.md"
        head = page.read_text().partition("## Results")[0]
        page.write_text(f"{head}## Results\n\n{text}")
    return 0 if results else 1


def _install(peers: list[Peer]) -> None:
    for venv, requires in {p.venv: p.requires for p in peers if p.requires}.items():
        if not (VENVS / venv).is_dir():
            _say(f"installing {' '.join(requires)}")
            subprocess.run([sys.executable, "-m", "venv", str(VENVS / venv)], check=True)
            subprocess.run([str(VENVS / venv / "bin/pip"), "install", "-q", *requires], check=False)


def _wait_for_quiet() -> float:
    """The load average before the first measurement."""
    limit = time.monotonic() + WAIT
    while machine.load() > QUIET and time.monotonic() < limit:
        time.sleep(2)
    return machine.load()


def _measure(peer: Peer, score: float, seconds: float) -> Result:
    """Start a server, see that it answers rightly, load it in every combination, and end it."""
    with _running(peer, score) as (process, port, first_answer):
        _load(peer, port, 1, 16, 2.0)
        cells = []
        for rows in ROWS if peer.form else ROWS[:1]:
            for connections in CONNECTIONS:
                cells.append(_cell(peer, process.pid, port, rows, connections, seconds))
        used = machine.memory(machine.family(process.pid))
        return Result(peer=peer, first_answer=first_answer, memory=used, cells=cells)


def _cell(peer: Peer, pid: int, port: int, rows: int, connections: int, seconds: float) -> Cell:
    pids = machine.family(pid)
    busy, own = machine.busy(SERVER_CPU), machine.cpu_seconds(pids)
    found = _load(peer, port, rows, connections, seconds)
    busy = machine.busy(SERVER_CPU) - busy
    own = machine.cpu_seconds(machine.family(pid)) - own
    cell = Cell(rows=rows, connections=connections, rate=found.requests / found.seconds,
                p50=found.p50 / 1000, p99=found.p99 / 1000, errors=found.errors,
                foreign=max(0.0, busy - own) / found.seconds)  # fmt: skip
    _say(f"{peer.name:28} {rows:4} rows {connections:3} connections  {cell.rate:10,.0f}/s  "
         f"p50 {cell.p50:8.2f} ms  p99 {cell.p99:8.2f} ms  errors {cell.errors}  others {cell.foreign:.0%}")  # fmt: skip
    return cell


@contextlib.contextmanager
def _running(peer: Peer, score: float) -> Iterator[tuple["subprocess.Popen[bytes]", int, float]]:
    """The server, its port, and the seconds to its first right answer."""
    binaries = VENVS / peer.venv / "bin" if peer.venv else Path(sys.executable).parent
    nginx = shutil.which("nginx") or str(VENVS / "nginx/usr/sbin/nginx")
    if peer.venv and not (VENVS / peer.venv).is_dir() and not (peer.venv == "nginx" and Path(nginx).exists()):
        raise RuntimeError("not installed (see --install)")
    port = peer.port or _free()
    names = {"bin": str(binaries), "port": str(port), "here": str(HERE), "work": str(WORK), "nginx": nginx}
    path = str(HERE.parent) if not peer.venv else str(HERE / "servers/mlserver")
    env = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": path,
                        "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "1"}  # fmt: skip
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
        yield process, port, time.monotonic() - started
    finally:
        machine.end(process.pid)
        process.wait()


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


def _load(peer: Peer, port: int, rows: int, connections: int, seconds: float) -> Load:
    env = os.environ | {"B_PATH": peer.path, "B_BODY": str(_bodies(peer, rows)) if peer.form else "",
                        "B_HEX": "1" if peer.form == "binary" else "", "B_HEADERS": peer.headers}  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CPU), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s",
         "--timeout", "10s", "-s", str(HERE / "load.lua"), f"http://127.0.0.1:{port}"],
        env=env, capture_output=True, text=True, check=True, timeout=seconds + 60)  # fmt: skip
    line = next(x for x in done.stdout.splitlines() if x.startswith("JSON "))
    return Load(**json.loads(line[5:]))


def _bodies(peer: Peer, rows: int) -> Path:
    return WORK / f"{peer.form}-{rows}.txt"


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
