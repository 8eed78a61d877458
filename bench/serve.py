"""`make bench`: every server in turn on one CPU, the load generator on the other, one table at the end."""

import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

from bench import machine
from bench.inside import claims
from bench.material import DENSE, TREES, make
from bench.peers import PEERS, VENVS, Peer
from bench.report import Cell, Result, write
from bench.server import SERVER_CPU, Server, load, running

HERE = Path(__file__).parent
ROWS, CONNECTIONS = (1, 100), (1, 16, 64)
QUIET = 1.5
"""Load average above which nothing is measured, if it comes within `WAIT` seconds."""
WAIT = 60.0


def main() -> int:
    """Measure what is asked for; returns 1 when nothing could be measured."""
    parser = ArgumentParser(prog="python -m bench.serve", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (3)")
    parser.add_argument("--only", default="", help="names that contain this text")
    parser.add_argument("--model", default="", choices=["", TREES, DENSE], help="one of them only")
    parser.add_argument("--own", action="store_true", help="only what our own parts cost")
    parser.add_argument("--install", action="store_true", help="install missing peers into bench/.venvs")
    parser.add_argument("--dry", action="store_true", help="do not write the results into README.md")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        _say("wrk is missing: install it (Debian: apt-get install wrk)")
        return 1
    scores = make()
    chosen = [p for p in PEERS if options.only.lower() in p.name.lower() and not options.own]
    if options.install:
        _install(chosen)
    before, results, skipped = _wait_for_quiet(), list[Result](), list[str]()
    for model in (TREES, DENSE):
        # The second model is for the comparison: variants of our own and a constant add nothing.
        peers = chosen if model == TREES else [p for p in chosen if p.form and (p.bar or p is PEERS[0])]
        for peer in peers if options.model in ("", model) else ():
            try:
                results.append(_measure(peer, model, scores[model], options.seconds))
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                skipped.append(f"{peer.name}, {model}: {error}")
                _say(f"skipped  {skipped[-1]}")
    own = [] if options.only or options.model else claims(scores[TREES], options.seconds, _say)
    text = write(results, own, skipped, before)
    _say(text)
    if before > QUIET:
        _say(f"not written into README.md: the load average was {before:.2f}")
    elif not (options.dry or options.only or options.own or options.model):
        page = HERE / "README.md"
        head = page.read_text().partition("## Results")[0]
        page.write_text(f"{head}## Results\n\n{text}")
    return 0 if results or own else 1


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


def _measure(peer: Peer, model: str, score: float, seconds: int) -> Result:
    """Start a server, load it in every combination, and end it."""
    with running(peer, model, score) as server:
        load(server, 1, 16, 2)
        cells = [_cell(server, model, rows, connections, seconds)
                 for rows in (ROWS if peer.form else ROWS[:1]) for connections in CONNECTIONS]  # fmt: skip
        used = machine.memory(machine.family(server.process.pid))
        return Result(peer=peer, model=model, first_answer=server.first_answer, memory=used, cells=cells)


def _cell(server: Server, model: str, rows: int, connections: int, seconds: int) -> Cell:
    pids = machine.family(server.process.pid)
    busy, own = machine.busy(SERVER_CPU), machine.cpu_seconds(pids)
    found = load(server, rows, connections, seconds)
    busy = machine.busy(SERVER_CPU) - busy
    own = machine.cpu_seconds(machine.family(server.process.pid)) - own
    cell = Cell(rows=rows, connections=connections, rate=found.requests / found.seconds,
                p50=found.p50 / 1000, p99=found.p99 / 1000, errors=found.errors,
                cost=1e6 * own / max(1, found.requests), foreign=max(0.0, busy - own) / found.seconds)  # fmt: skip
    _say(f"{server.peer.name:28} {model} {rows:4} rows {connections:3} connections  {cell.rate:10,.0f}/s  "
         f"p50 {cell.p50:8.2f} ms  p99 {cell.p99:8.2f} ms  {cell.cost:8.1f} us of CPU  errors {cell.errors}  "
         f"others {cell.foreign:.0%}")  # fmt: skip
    return cell


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
