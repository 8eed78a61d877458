"""Outlines: the profile of a dataset's columns, kept beside it and added to as it grows."""

from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import msgpack
from msgspec.structs import replace

from fairlead.core.profile import (
    ColumnProfile,
    TableProfile,
    profile_labels,
    profile_numbers,
    quantile_edges,
)
from fairlead.core.profile import merge as merge_columns
from fairlead.core.schema import Column, Schema
from fairlead.ports import Blobs

if TYPE_CHECKING:
    import polars as pl

__all__ = ["load", "merge", "profile", "store", "values"]

SAMPLE = 100_000
"""Values that histogram edges are chosen from, evenly spaced over the rows."""


def profile(frame: "pl.DataFrame", contract: Schema, like: TableProfile | None = None) -> TableProfile:
    """What the columns of a table that has the contract's types hold.

    Numbers and datetimes (UTC seconds) by quantile bins, categories and booleans by label, texts
    by their number of characters. `like`: a profile whose edges and labels are used again.
    """
    earlier = {c.name: c for c in like.columns} if like else {}
    with np.errstate(over="ignore"):  # values near the end of float64 have an infinite variance
        columns = tuple(_column(frame.get_column(c.name), c, earlier.get(c.name))
                        for c in contract.columns)  # fmt: skip
    return TableProfile(n=frame.height, columns=columns)


def values(series: "pl.Series", column: Column) -> Any:
    """A column's values as its profile counts them: float64 (n,), NaN where there is none, or the
    labels as a list with None."""
    import polars as pl

    if column.dtype in ("bool", "category"):
        return series.cast(pl.String).to_list()
    return _numbers(series, column)


def merge(old: TableProfile, new: TableProfile) -> TableProfile:
    """The profile of the rows of both, with the columns of `new`, which `old` may lack."""
    earlier = {c.name: c for c in old.columns}
    columns = tuple(_merged(earlier.get(c.name), c, old.n) for c in new.columns)
    return TableProfile(n=old.n + new.n, columns=columns)


def store(profile: TableProfile, blobs: Blobs) -> str:
    """Write a profile, return its digest. (MessagePack: JSON has no infinity.)"""
    return blobs.put(msgpack.encode(profile, order="deterministic"))


def load(digest: str, blobs: Blobs) -> TableProfile:
    """Read a profile. Raises Missing or Corrupt."""
    return msgpack.decode(blobs.get(digest), type=TableProfile)


def _column(series: "pl.Series", column: Column, like: ColumnProfile | None) -> ColumnProfile:
    same = like if like is not None and like.values else None
    if column.dtype in ("bool", "category"):
        return _labels(series, column, same)
    values = _numbers(series, column)
    if same is not None:
        return profile_numbers(column.name, values, same.edges)
    finite = values[np.isfinite(values)]
    return profile_numbers(column.name, values, quantile_edges(finite[:: max(1, len(finite) // SAMPLE)]))


def _labels(series: "pl.Series", column: Column, like: ColumnProfile | None) -> ColumnProfile:
    import polars as pl

    counts = series.drop_nulls().cast(pl.String).value_counts(name="n")
    return profile_labels(column.name, dict(counts.iter_rows()), series.null_count(),
                          known=tuple(like.labels) if like else None)  # fmt: skip


def _numbers(series: "pl.Series", column: Column) -> np.ndarray[Any, np.dtype[np.float64]]:
    import polars as pl

    if column.dtype == "text":
        series = series.str.len_chars()
    elif column.dtype == "datetime":
        series = series.to_physical() / 1e6
    values: np.ndarray[Any, np.dtype[np.float64]] = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return values


def _merged(old: ColumnProfile | None, new: ColumnProfile, rows: int) -> ColumnProfile:
    if old is None or not old.values:
        return replace(new, n=new.n + rows, nulls=new.nulls + rows)
    return merge_columns(old, new)
