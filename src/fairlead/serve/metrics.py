"""Metrics: counters and histograms that cost a tenth of a microsecond, spelled for Prometheus."""

from bisect import bisect_left
from collections.abc import Callable, Iterable

__all__ = ["Counter", "Histogram", "Metrics"]

EDGES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency buckets, seconds."""


class Counter:
    """Add to `n` directly."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Histogram:
    """Counts by bucket; the last one is everything above the highest edge."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES) + 1)
        self.total = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Seconds."""
        counts, total = self.counts, 0.0
        for value in values:
            counts[bisect_left(EDGES, value)] += 1
            total += value
        self.total += total


class Metrics:
    """All families of one process. Asking twice for the same name and labels gives the same cell."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, str]] = {}
        self._counters: dict[tuple[str, str], Counter] = {}
        self._histograms: dict[tuple[str, str], Histogram] = {}
        self._gauges: dict[tuple[str, str], Callable[[], float]] = {}

    def counter(self, name: str, text: str, /, **labels: str) -> Counter:
        """`name` ends in _total; `text` is its help line."""
        self._kinds.setdefault(name, ("counter", text))
        return self._counters.setdefault((name, _labels(labels)), Counter())

    def histogram(self, name: str, text: str, /, **labels: str) -> Histogram:
        """Of seconds."""
        self._kinds.setdefault(name, ("histogram", text))
        return self._histograms.setdefault((name, _labels(labels)), Histogram())

    def gauge(
        self, name: str, text: str, read: Callable[[], float], /, **labels: str
    ) -> None:
        """`read` is called at every scrape."""
        self._kinds.setdefault(name, ("gauge", text))
        self._gauges[name, _labels(labels)] = read

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        lines: list[str] = []
        for name, (kind, text) in sorted(self._kinds.items()):
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
            for (n, labels), counter in self._counters.items():
                if n == name:
                    lines.append(f"{n}{_braced(labels)} {counter.n}")
            for (n, labels), read in self._gauges.items():
                if n == name:
                    lines.append(f"{n}{_braced(labels)} {read():g}")
            for (n, labels), histogram in self._histograms.items():
                if n == name:
                    lines += _buckets(n, labels, histogram)
        return ("\n".join(lines) + "\n").encode()


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{k}="{_escaped(v)}"' for k, v in sorted(labels.items()))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _buckets(name: str, labels: str, histogram: Histogram) -> list[str]:
    lines, seen, comma = [], 0, "," if labels else ""
    for edge, count in zip((*map(str, EDGES), "+Inf"), histogram.counts, strict=True):
        seen += count
        lines.append(f'{name}_bucket{{{labels}{comma}le="{edge}"}} {seen}')
    return [*lines, f"{name}_sum{_braced(labels)} {histogram.total:.6f}",
            f"{name}_count{_braced(labels)} {seen}"]  # fmt: skip
