"""Measuring: scores and truths of held-out rows become evidence, whole, by group and in pairs."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from fairlead.core.artifact import Task
from fairlead.core.catalogue import GAIN, SCALE
from fairlead.core.drift import psi, psi_noise
from fairlead.core.encoding import Encoding
from fairlead.core.evidence import Evidence
from fairlead.core.fairness import CROSS, parts
from fairlead.core.metrics import METRICS, Metric, metric_interval, paired_gain
from fairlead.core.profile import ColumnProfile
from fairlead.core.ref import Ref
from fairlead.core.schema import Column, Schema
from fairlead.core.shapley import ATTRIBUTION, RANK
from fairlead.core.target import label
from fairlead.errors import Invalid
from fairlead.flow.job import Flavors, Matrix, Scorer
from fairlead.flow.outline import profile

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Rows", "attributions", "gains", "groups", "latency", "moves", "numbers", "trivial"]

Vector = NDArray[np.float64]

GROUPS = 50
"""Groups of one column that are measured: the largest."""
FEWEST = 20
"""Rows a group needs to be measured."""
BANDS = 4
EXPLAINED, BACKGROUND = 32, 64
"""Held-out rows whose contributions are added up, and those they are held against."""
CALLS, SLOW_CALLS, PATIENCE = 2_000, 100, 1.0
"""One-row calls that a latency is measured on (of them to warm up), within so many seconds."""

SKILL = changed(METRICS["r2"], name="skill", tasks=("binary",))
"""1 - Brier / Brier of the base rate: a calibration that does not depend on how rare class 1 is."""


class Rows(Struct, frozen=True, kw_only=True, eq=False):
    """Held-out rows with their truth: `y` as metrics read it; `blocks`: the entity of each row."""

    task: Task
    y: Vector
    level: float = 0.95
    since: float = 0.0
    until: float = 0.0
    blocks: NDArray[np.int64] | None = None

    def where(self, chosen: NDArray[np.bool_]) -> "Rows":
        blocks = None if self.blocks is None else self.blocks[chosen]
        return changed(self, y=self.y[chosen], blocks=blocks)

    def evidence(
        self, subject: Ref, measure: str, found: tuple[float, float, float], slice: str = "",
        against: Ref | None = None, n: int | None = None,
    ) -> Iterator[Evidence]:  # fmt: skip
        """One piece, unless the number is undefined on these rows. `n`: rows that bear on it (all)."""
        if all(map(isfinite, found)):
            yield Evidence(subject=subject, measure=measure, value=found[0],
                           n=len(self.y) if n is None else n,
                           low=found[1], high=found[2], level=self.level, slice=slice,
                           against=against, since=self.since, until=self.until)  # fmt: skip

    @property
    def grouping(self) -> NDArray[np.int64] | None:
        """Blocks that can bear an interval: two at least."""
        if self.blocks is None or len(np.unique(self.blocks)) < 2:
            return None
        return self.blocks


def numbers(subject: Ref, rows: Rows, scores: Vector, slice: str = "") -> Iterator[Evidence]:
    """Every metric of the task with its interval. `scores` [n, k] as the model gave them."""
    answers = _of(scores, rows.task)
    for metric in _metrics(rows.task):
        found = metric_interval(metric, rows.y, answers, level=rows.level, blocks=rows.grouping)
        yield from rows.evidence(subject, metric.name, found, slice, n=metric.support(rows.y, answers))


def gains(
    subject: Ref, against: Ref, rows: Rows, ours: Vector, theirs: Vector, slice: str = "",
    prefix: str = GAIN, only: Sequence[str] = (),
) -> Iterator[Evidence]:  # fmt: skip
    """The gain of `subject` over `against` on the same rows, for every metric with a better side."""
    for metric in _metrics(rows.task):
        if metric.higher_is_better is None or (only and metric.name not in only):
            continue
        found = paired_gain(metric, rows.y, _of(ours, rows.task), _of(theirs, rows.task),
                            level=rows.level, blocks=rows.grouping)  # fmt: skip
        yield from rows.evidence(subject, prefix + metric.name, found, slice, against)


def trivial(subject: Ref, rows: Rows, scores: Vector) -> Iterator[Evidence]:
    """"gain_trivial": squared error (Brier) gained over the best constant answer to these rows."""
    if rows.task == "multiclass":
        truth = np.eye(scores.shape[1])[rows.y.astype(np.intp)]
    else:
        truth = rows.y[:, None]
    theirs = ((truth - truth.mean(axis=0)) ** 2).sum(axis=1)
    ours = ((truth - scores) ** 2).sum(axis=1)
    scale = float(theirs.mean()) or 1.0  # in shares of the constant's error, free of the unit
    found = paired_gain(METRICS["mae"], np.zeros(len(truth)), ours / scale, theirs / scale,
                        level=rows.level, blocks=rows.grouping)  # fmt: skip
    yield from rows.evidence(subject, "gain_trivial", found)


def groups(
    frame: "pl.DataFrame", columns: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """``column=value`` and its rows, for the groups of each column (or of an intersection, ``a+b``)
    that are large enough."""
    import polars as pl

    for column in columns:
        made = [_grouped(frame.get_column(c)) for c in parts(column, frame.columns)]
        names = made[0] if len(made) == 1 else pl.select(pl.concat_str(
            [s.fill_null("(missing)") for s in made], separator=CROSS)).to_series()  # fmt: skip
        counts = names.value_counts(sort=True).head(GROUPS)
        for name, n in counts.iter_rows():
            if n >= FEWEST:
                flags = names.is_null() if name is None else (names == name).fill_null(False)
                shown = "(missing)" if name is None else name
                yield f"{column}={shown}", flags.to_numpy()


def latency(subject: Ref, scorer: Scorer, rows: Matrix) -> Iterator[Evidence]:
    """Milliseconds for one row, median and 99th percentile, in this process."""
    spans: list[float] = []
    rows = rows[:1_000]
    start = perf_counter()
    for i in range(CALLS):
        one = rows[i % len(rows)][None, :]
        before = perf_counter()
        scorer(one)
        spans.append(perf_counter() - before)
        if before - start > PATIENCE and i > SLOW_CALLS:
            break
    measured = np.array(spans[len(spans) // 10 :]) * 1e3
    for measure, share in (("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)):
        yield Evidence(subject=subject, measure=measure, value=float(np.quantile(measured, share)),
                       n=len(measured))  # fmt: skip


def attributions(
    subject: Ref, folder: Path, flavors: Flavors, scorer: Scorer, encoding: Encoding, matrix: Matrix
) -> Iterator[Evidence]:
    """``attribution:column`` and ``rank:column`` of a model, from held-out rows evenly spaced."""
    places = np.linspace(0, len(matrix) - 1, min(len(matrix), BACKGROUND)).astype(np.int64)
    explainer = flavors.explainer(folder, scorer, encoding, matrix[places], 0)
    some = matrix[np.linspace(0, len(matrix) - 1, min(len(matrix), EXPLAINED)).astype(np.int64)]
    size = np.mean([np.abs(explainer(row).amounts) for row in some], axis=0)
    shares = size / (size.sum() or 1.0)
    for rank, i in enumerate(np.argsort(-shares, kind="stable").tolist(), start=1):
        name = explainer.players[i]
        yield Evidence(subject=subject, measure=ATTRIBUTION + name, value=float(shares[i]), n=len(some))
        yield Evidence(subject=subject, measure=RANK + name, value=rank, n=len(some))


def moves(
    subject: Ref, against: Ref, now: "pl.DataFrame", before: "pl.DataFrame",
    columns: Sequence[Column], family: str,
) -> Iterator[Evidence]:  # fmt: skip
    """`family` + column: PSI of `now` from `before` beyond what chance explains; and for numbers
    that moved, SCALE + column: ratio of the medians of their sizes."""
    schema = Schema(columns=tuple(columns))
    reference = profile(before, schema)
    window = profile(now, schema, like=reference)
    for column, old, new in zip(columns, reference.columns, window.columns, strict=True):
        p, q = _counts(old), _counts(new)
        far = max(psi(p, q) - psi_noise(len(p), old.n, new.n, 0.001), 0.0)
        yield Evidence(subject=subject, measure=family + column.name, value=far, n=new.n,
                       against=against)  # fmt: skip
        if far > 0 and column.dtype in ("int", "float"):
            ratio = _middle(now.get_column(column.name)) / _middle(before.get_column(column.name))
            if isfinite(ratio):
                yield Evidence(subject=subject, measure=SCALE + column.name, value=ratio,
                               n=new.n, against=against)  # fmt: skip


def _counts(profile: ColumnProfile) -> list[int]:
    """Histogram with the nulls as a bin of their own."""
    return [*(profile.counts or (profile.values,)), profile.nulls]


def _middle(series: "pl.Series") -> float:
    """Median size; NaN when that is 0 or there is none."""
    found = series.abs().median()
    return float(found) if isinstance(found, float) and found > 0 else float("nan")


def _grouped(series: "pl.Series") -> "pl.Series":
    """The group of each row as text: the value, or the quartile band of a column of measures."""
    import polars as pl

    if series.dtype.is_temporal():
        raise Invalid(f"slices: {series.name!r} holds times",
                      hint="slice by a column of categories or numbers")  # fmt: skip
    if series.dtype.is_numeric() and series.n_unique() > 12:
        return _bands(series)
    values = series.unique()
    names = [None if v is None else label(v) for v in values]
    return series.replace_strict(values, names, return_dtype=pl.String)


def _bands(series: "pl.Series") -> "pl.Series":
    """Quartile bands, named by what they hold: ``18 to 31``; null stays null."""
    import polars as pl

    values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = np.isfinite(values)
    cuts = np.unique(np.quantile(values[known], [i / BANDS for i in range(1, BANDS)]))
    places = np.where(known, np.searchsorted(cuts, values, side="right"), -1)
    names: list[str | None] = []
    found = np.unique(places).tolist()
    for place in found:
        inside = values[places == place]
        names.append(None if place < 0 else f"{inside.min():g} to {inside.max():g}")
    return pl.Series(series.name, places).replace_strict(found, names, return_dtype=pl.String)


def _metrics(task: Task) -> list[Metric]:
    return [m for m in (*METRICS.values(), SKILL) if task in m.tasks]


def _of(scores: Vector, task: Task) -> Vector:
    return scores if task == "multiclass" else scores[:, 0]
