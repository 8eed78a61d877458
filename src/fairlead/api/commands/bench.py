"""The command that loads the running service and says how it bore it."""

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Coroutine, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fairlead.api.client import found
from fairlead.api.commands.service import samples_of
from fairlead.api.console import emit, progress
from fairlead.api.folder import find
from fairlead.api.load import Answer, Client
from fairlead.api.present.latency import Figures, bench_view
from fairlead.errors import Invalid, Missing

__all__ = ["figures_of", "run"]

SLICE = 0.25
"""Seconds of requests that are sent before the clock is looked at."""
FIRST = 20
"""Requests per connection in the first slice."""
EDGES = tuple(m * 10.0**e for e in range(-1, 5) for m in (1, 1.5, 2, 3, 5, 7))
"""Upper bounds of the histogram in milliseconds, growing by about 1.5."""

T = TypeVar("T")


def run(
    given: Path | None, seconds: float, connections: int, rate: float, rows: int, *, as_json: bool
) -> int:
    """Send sample rows of the answering package for `seconds`, `rows` in each request; 1 when an
    answer was an error. `rate`: requests per second, 0 for as many as are answered.

    Raises Invalid, Missing (no sample rows), Unavailable (no service).
    """
    if not (0 < seconds <= 3600 and 1 <= connections <= 1000 and 0 <= rate <= 1e5 and 1 <= rows <= 10_000):
        raise Invalid(f"{seconds} s over {connections} connections, {rate}/s of {rows} rows",
                      hint="up to an hour, 1000 connections, 100,000 requests per second, 10,000 rows")  # fmt: skip
    root = find(given)
    where = found(root)
    samples = samples_of(root, where)
    if not samples:
        raise Missing("there are no sample rows: no package is ready", hint="fairlead status says more")
    bodies = _bodies(samples, rows)
    client = Client(where.host, where.port, connections, where.token)
    with progress(f"loading {where.url} for {seconds:g} s", quiet=as_json):
        load = _paced(client, bodies, seconds, rate) if rate else _load(client, bodies, seconds, connections)
        answers, took = _loop(load)
    figures = figures_of(answers, took, connections, rate, rows)
    emit(figures, bench_view(figures), as_json=as_json)
    return 1 if figures.errors else 0


def figures_of(
    answers: Sequence[Answer], seconds: float, connections: int, wanted: float = 0.0, rows: int = 1
) -> Figures:
    """Counts and percentiles; latencies are those of the right answers."""
    right = sorted(a.seconds * 1000 for a in answers if a.status == 200)
    errors = Counter(a.status for a in answers if a.status != 200)
    counts = Counter(bisect_left(EDGES, v) for v in right)
    places = range(min(counts), max(counts) + 1) if counts else range(0)
    histogram = [(EDGES[min(i, len(EDGES) - 1)], counts[i]) for i in places]
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    latency = {n: right[min(len(right) - 1, int(len(right) * q))] for n, q in shares.items() if right}
    return Figures(requests=len(answers), seconds=seconds, rate=len(answers) / seconds,
                   connections=connections, wanted=wanted, rows=rows, errors=dict(sorted(errors.items())),
                   latency_ms=latency, histogram=histogram)  # fmt: skip


async def _load(
    client: Client, bodies: Sequence[bytes], seconds: float, connections: int
) -> tuple[list[Answer], float]:
    """Every answer, and the seconds it took."""
    source, answers = cycle(bodies), list[Answer]()
    async with client:
        begun = time.perf_counter()
        end, count = begun + seconds, FIRST * connections
        while (now := time.perf_counter()) < end:
            found = await client.post("/predict", list(islice(source, count)))
            answers += [Answer(a.status, b"", a.seconds) for a in found]
            pace = len(found) / max(time.perf_counter() - now, 1e-6)
            left = max(0.0, min(SLICE, end - time.perf_counter()))
            count = max(connections, int(pace * left))
        return answers, time.perf_counter() - begun


async def _paced(
    client: Client, bodies: Sequence[bytes], seconds: float, rate: float
) -> tuple[list[Answer], float]:
    """Open loop: requests come when they are due, not when the service is ready for them."""
    async with client:
        begun = time.perf_counter()
        answers = await client.paced("/predict", cycle(bodies), rate, max(1, round(rate * seconds)))
        return answers, time.perf_counter() - begun


def _bodies(samples: Sequence[object], rows: int) -> list[bytes]:
    """One request from each sample on, round and round."""
    if rows == 1:
        return [msgspec.json.encode(row) for row in samples]
    return [msgspec.json.encode({"rows": list(islice(cycle(samples), i, i + rows))})
            for i in range(len(samples))]  # fmt: skip


def _loop(work: Coroutine[Any, Any, T]) -> T:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)
