"""Rows: the table of a model as a job reads it from its folder, and which rows are held out."""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, Split, Task
from fairlead.core.feature import FeatureView
from fairlead.core.schema import Schema
from fairlead.core.target import label
from fairlead.errors import Invalid, Missing
from fairlead.flow import data
from fairlead.ports import Blobs

if TYPE_CHECKING:
    import polars as pl

__all__ = ["KNOWN", "ROW", "Table", "fetch", "halves", "numbers_of", "read", "seconds_of",
           "table_of"]  # fmt: skip

ROW, KNOWN = "prediction_id", "label_known_at"
"""Columns of a table made from the prediction log: whose row it is, and since when its truth was
known where the project names no column for it."""

FEWEST = 10
"""Rows that each half must have."""


class Table(Struct, frozen=True, kw_only=True):
    """A table whose parts lie in a job folder, each under its digest.

    `known_at`: column that says when the truth of a row is known, "" when at once.
    """

    spec: DatasetSpec | FeaturesSpec
    known_at: str = ""

    @property
    def schema(self) -> Schema:
        """Columns and roles."""
        return self.spec.contract if isinstance(self.spec, DatasetSpec) else self.spec.schema

    @property
    def views(self) -> tuple[FeatureView, ...]:
        """What was joined to it."""
        return () if isinstance(self.spec, DatasetSpec) else self.spec.views

    @property
    def rows(self) -> int:
        return sum(p.rows for p in self.spec.parts)


class _Folder:
    """The verified files of a job folder, to be read as blobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str) -> bytes:
        return (self._folder / digest).read_bytes()

    def has(self, digest: str) -> bool:
        return (self._folder / digest).exists()

    def fetch(self, digest: str, target: Path) -> None:
        raise Missing(f"a job reads {digest[:12]} in place")

    def put(self, data: bytes | Path) -> str:
        raise Missing("a job stores nothing: it leaves files in its folder")

    def delete(self, digest: str) -> None:
        raise Missing("a job deletes nothing: its folder goes with it")


def table_of(artifact: Artifact, known_at: str = "") -> Table:
    """A dataset or features as a table. Raises Invalid for anything else."""
    if not isinstance(artifact.spec, DatasetSpec | FeaturesSpec):
        raise Invalid(f"{artifact.ref.short} is no table", hint="name a dataset or features")
    names = Table(spec=artifact.spec).schema.names
    known = next((name for name in (known_at, KNOWN) if name in names), "")
    return Table(spec=artifact.spec, known_at=known)


def fetch(table: Table, blobs: Blobs, folder: Path) -> None:
    """Put the parts into the job `folder`; what is there already is kept.

    Raises Missing or Corrupt for a blob that is gone or damaged.
    """
    for part in table.spec.parts:
        if not (folder / part.digest).exists():
            blobs.fetch(part.digest, folder / part.digest)


def read(folder: Path, table: Table, split: Split, columns: Sequence[str]) -> "pl.DataFrame":
    """Rows within the bounds of `split` that have a target, in the order of the table: `columns`,
    the target, the time and `known_at`.

    Raises Missing for a column that the table lacks, Invalid for bounds without a time.
    """
    import polars as pl

    schema = table.schema
    roles = (schema.target, schema.time, table.known_at)
    wanted = list(dict.fromkeys(c for c in (*columns, *roles) if c))
    parts = data.scan(table.spec, _Folder(folder), wanted, split.since or -inf, split.until or inf)
    return pl.concat([part.drop_nulls(schema.target) for part in parts])


def halves(
    frame: "pl.DataFrame", table: Table, split: Split
) -> tuple["pl.DataFrame", "pl.DataFrame"]:
    """(rows to learn from, rows held out).

    Rows whose truth was not yet known when the first held-out prediction was asked belong to
    neither. Raises Invalid when a half has too few rows.
    """
    time = table.schema.time
    learn, held = data.split(frame, time=time, test_share=split.test, seed=split.seed)
    if time and table.known_at:
        late = seconds_of(learn, table.known_at) >= seconds_of(held, time).min()
        learn = learn.filter(~late)  # no moment is NaN, which is never late: known at once
    if min(learn.height, held.height) < FEWEST:
        raise Invalid(
            f"{frame.height:,} rows make {learn.height:,} to learn from and {held.height:,} held out",
            hint=f"each half needs {FEWEST}: use more rows, a longer window or another train.test",
        )
    return learn, held


def seconds_of(frame: "pl.DataFrame", column: str) -> NDArray[np.float64]:
    """A column of datetimes (or numbers) as UTC seconds; NaN where there is none."""
    import polars as pl

    series = frame.get_column(column)
    if series.dtype.is_temporal():
        series = series.dt.epoch("us") / 1e6
    values: NDArray[np.float64] = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values


def numbers_of(
    frame: "pl.DataFrame", target: str, task: Task, classes: Sequence[str]
) -> NDArray[np.float64]:
    """The target as metrics read it: class indexes, or values; NaN for a class not in `classes`.

    Raises Invalid when a regression's target holds no numbers.
    """
    import polars as pl

    series = frame.get_column(target)
    if task == "regression":
        if not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
            raise Invalid(f"target {target!r} holds {series.dtype}, a regression needs numbers",
                          hint="set data.task to binary or multiclass, or cast the column")  # fmt: skip
        return series.cast(pl.Float64).to_numpy()
    places = {name: float(i) for i, name in enumerate(classes)}
    values = series.unique()
    numbers = [places.get(label(v), float("nan")) for v in values]
    return series.replace_strict(values, numbers, return_dtype=pl.Float64).to_numpy()
