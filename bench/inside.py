"""What Fairlead's own parts cost: a shadow, the split with log and metrics, memory, the first answer."""

import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from msgspec import Struct

from bench import machine
from bench.material import COLUMNS, TREES, WORK, table
from bench.ours import BARE
from bench.peers import ours
from bench.server import SERVER_CPU, Server, load, running

__all__ = ["Claim", "claims"]

TURNS = "ABBAABBA"
"""The order in which two servers are loaded: what drifts slowly meets both alike."""
CALLERS, PAUSE = 32, 10.0
"""Connections, and milliseconds between their requests: about 3,000 a second, a third of a core."""
SHADOW_SHARE, SHADOW_MS = 0.05, 0.5
FEATURES = 0.15
MEMORY = 150.0
FIRST = 1.0
STARTS = 3
CLI = str(Path(sys.executable).with_name("fairlead"))


class Claim(Struct, frozen=True, kw_only=True):
    """One bar of our own: what was measured, in words with units, and whether it was met."""

    what: str
    bar: str
    figure: str
    met: bool


class Turn(Struct, frozen=True, kw_only=True):
    """One measurement of a pair: as `Load`, and the CPU seconds of all the server's processes."""

    requests: int
    seconds: float
    p50: float
    p99: float
    cpu: float


def claims(score: float, seconds: float, say: Callable[[str], None]) -> list[Claim]:
    """Measure all of them; `seconds` of each measurement."""
    measures: list[Callable[[], Claim]] = [
        partial(_shadow, score, seconds), partial(_features, score, seconds),
        partial(_memory, score, seconds), _first_answer,
    ]  # fmt: skip
    found = []
    for measure in measures:
        claim = measure()
        say(f"{claim.what}: {claim.figure} (bar: {claim.bar})")
        found.append(claim)
    return found


def _shadow(score: float, seconds: float) -> Claim:
    with _pair("alone", "shadow", score) as (alone, shadowed):
        without, with_it = _turns(alone, shadowed, CALLERS, seconds, PAUSE)
    p50 = [median(x.p50 for x in side) / 1000 for side in (without, with_it)]
    p99 = [median(x.p99 for x in side) / 1000 for side in (without, with_it)]
    cost = p99[1] - p99[0]
    rate = sum(x.requests for x in with_it) / sum(x.seconds for x in with_it)
    return Claim(
        what=f"A shadow at 100 % on the same core, {rate:,.0f} requests/s from {CALLERS} connections",
        bar=f"≤ {SHADOW_SHARE:.0%} of p99 or {SHADOW_MS:g} ms",
        figure=f"p99 {p99[0]:.2f} → {p99[1]:.2f} ms ({cost:+.2f} ms), p50 {p50[0]:.2f} → {p50[1]:.2f} ms",
        met=cost <= max(SHADOW_MS, SHADOW_SHARE * p99[0]))  # fmt: skip


def _features(score: float, seconds: float) -> Claim:
    with _pair(BARE, "canary", score) as (bare, full):
        without, with_it = _turns(bare, full, 64, seconds)
    rates = [sum(x.requests for x in side) / sum(x.seconds for x in side) for side in (without, with_it)]
    cpu = [1e6 * sum(x.cpu for x in side) / sum(x.requests for x in side) for side in (without, with_it)]
    cost = 1 - rates[1] / rates[0]
    return Claim(
        what="Canary split, prediction log and metrics together, one row, 64 connections",
        bar=f"≤ {FEATURES:.0%} of throughput",
        figure=f"{rates[0]:,.0f} → {rates[1]:,.0f} answers/s ({-cost:+.0%}), CPU time of an answer "
               f"{cpu[0]:.1f} → {cpu[1]:.1f} µs", met=cost <= FEATURES)  # fmt: skip


def _memory(score: float, seconds: float) -> Claim:
    """Gateway and replica are two processes each: one that serves, one that can fork the next."""
    with running(ours("Fairlead", route="alone"), TREES, score) as server:
        load(server, 1, 64, seconds)
        load(server, 100, 16, seconds)
        pids = machine.family(server.process.pid)
        parts = {name: machine.memory([p for p in pids if name in machine.command(p)])
                 for name in ("gateway", "replica")}  # fmt: skip
        everything = machine.memory(pids)
    used = sum(parts.values())
    return Claim(
        what="Memory of the gateway and one replica after the load", bar=f"< {MEMORY:g} MB",
        figure=f"{used:.0f} MB ({', '.join(f'{n} {v:.0f}' for n, v in parts.items())}; "
               f"with the supervisor {everything:.0f})", met=used < MEMORY)  # fmt: skip


def _first_answer() -> Claim:
    with tempfile.TemporaryDirectory(prefix="project-", dir=WORK) as folder:
        root = Path(folder)
        table(root / "rows.csv", 2000)
        for words in (["init", "--from", "rows.csv", "--target", "y"], ["run"]):
            subprocess.run([CLI, *words], cwd=root, check=True, capture_output=True)
        found = [_start(root) for _ in range(STARTS)]
    return Claim(
        what="First answer after `fairlead serve`, controller included, on one core", bar=f"< {FIRST:g} s",
        figure=f"{median(found):.2f} s (median of {STARTS}: {', '.join(f'{x:.2f}' for x in found)})",
        met=median(found) < FIRST)  # fmt: skip


def _start(root: Path) -> float:
    """Seconds from the command to its first prediction."""
    body = json.dumps(dict.fromkeys(COLUMNS, 0.5))
    port = 18100
    started = time.monotonic()
    process = subprocess.Popen(["taskset", "-c", str(SERVER_CPU), CLI, "serve", "--port", str(port)], cwd=root,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)  # fmt: skip
    try:
        while time.monotonic() - started < 30:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                line.request("POST", "/predict", body, {"content-type": "application/json"})
                if line.getresponse().status == 200:
                    return time.monotonic() - started
            except OSError:
                time.sleep(0.005)
            finally:
                line.close()
        raise RuntimeError("`fairlead serve` gave no answer within 30 s")
    finally:
        machine.end(process.pid)
        process.wait()


@contextmanager
def _pair(first: str, second: str, score: float) -> Iterator[tuple[Server, Server]]:
    with ExitStack() as stack:
        a, b = (stack.enter_context(running(ours(r, route=r), TREES, score)) for r in (first, second))
        for server in (a, b):
            load(server, 1, 16, 2)
        yield a, b


def _turns(
    a: Server, b: Server, connections: int, seconds: float, pause: float = 0.0
) -> tuple[list[Turn], list[Turn]]:
    found: dict[str, list[Turn]] = {"A": [], "B": []}
    for turn in TURNS:
        server = a if turn == "A" else b
        pids = machine.family(server.process.pid)
        before = machine.cpu_seconds(pids)
        seen = load(server, 1, connections, seconds, pause)
        cpu = machine.cpu_seconds(pids) - before
        found[turn].append(Turn(requests=seen.requests, seconds=seen.seconds, p50=seen.p50, p99=seen.p99, cpu=cpu))
    return found["A"], found["B"]
