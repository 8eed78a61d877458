"""The ledger: every answer and every failure of a package goes to the journal and into the metrics."""

from collections.abc import Sequence
from time import perf_counter

from msgspec.structs import replace

from fairlead.core.journal import Batch, Note
from fairlead.core.veil import Veil
from fairlead.serve.batch import Ask
from fairlead.serve.metrics import Counter, Histogram, Metrics
from fairlead.serve.sink import Sink

__all__ = ["Ledger"]

Scores = Sequence[list[float] | None]


class Ledger:
    """Writes rows of one package down, as many at once as share their circumstances."""

    def __init__(self, service: str, sink: Sink, metrics: Metrics, veil: Veil | None = None) -> None:
        """`veil`: changes what is written, so that it never reaches the disk otherwise."""
        self.service, self.sink, self.metrics, self._veil = service, sink, metrics, veil
        self._cells: dict[tuple[str, bool, bool], tuple[Counter, Histogram]] = {}
        self._dropped: dict[str, Counter] = {}

    def record(self, package: str, asks: list[Ask], rows: Scores, reason: str) -> bool:
        """What `package` said to each row, or (None and `reason`) that it failed.

        False when the journal could not take all of it.
        """
        now = perf_counter()
        first = asks[0]
        at, epoch, live, propensity = first.at, first.epoch, first.live, first.propensity
        for a in asks:
            if a.at != at or a.epoch != epoch or a.live != live or a.propensity != propensity:
                break
        else:
            return self._write(package, asks, rows, reason, now)
        groups: dict[tuple[float, int, bool, float], list[int]] = {}
        for i, a in enumerate(asks):
            groups.setdefault((a.at, a.epoch, a.live, a.propensity), []).append(i)
        return all([
            self._write(package, [asks[i] for i in places], [rows[i] for i in places], reason, now)
            for places in groups.values()
        ])  # fmt: skip

    def note(self, note: Note) -> bool:
        """Write feedback down; False when the journal cannot take it now."""
        return self.sink.add(note)

    def dropped(self, package: str) -> None:
        """A mirrored row was not sent."""
        cell = self._dropped.get(package)
        if cell is None:
            cell = self._dropped[package] = self.metrics.counter(
                "fairlead_mirror_dropped_total", "Mirrored rows that were not sent.",
                package=package)  # fmt: skip
        cell.n += 1

    def _write(
        self, package: str, asks: list[Ask], rows: Scores, reason: str, now: float
    ) -> bool:
        first = asks[0]
        latencies = [now - a.started for a in asks]
        batch = Batch(
            service=self.service, package=package, at=first.at, epoch=first.epoch, live=first.live,
            propensity=first.propensity, ids=[a.id for a in asks], units=[a.unit for a in asks],
            bodies=[a.body for a in asks], features=[a.features for a in asks], outputs=list(rows),
            errors=[reason] * len(asks), fallback=[a.fallback for a in asks], latencies=latencies,
            said=[a.said for a in asks] if first.said else [],
        )  # fmt: skip
        if any([a.trace or a.wanted for a in asks]):
            batch = replace(batch, traces=[a.trace for a in asks], wanted=[a.wanted for a in asks])
        taken = self.sink.add(batch if self._veil is None else self._veil(batch))
        count, histogram = self._cell(package, first.live, bool(reason))
        count.n += len(asks)
        histogram.observe(latencies)
        return taken

    def _cell(self, package: str, live: bool, failed: bool) -> tuple[Counter, Histogram]:
        cell = self._cells.get((package, live, failed))
        if cell is None:
            labels = {"package": package, "live": "true" if live else "false",
                      "outcome": "failed" if failed else "answered"}  # fmt: skip
            cell = self._cells[package, live, failed] = (
                self.metrics.counter("fairlead_predictions_total",
                                     "Rows a package answered or failed; live false: mirrored.",
                                     **labels),
                self.metrics.histogram("fairlead_latency_seconds",
                                       "From the end of a request to its answer.", **labels),
            )  # fmt: skip
        return cell
