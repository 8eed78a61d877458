"""Parts: rows as content-addressed Parquet files, and rows known again by their values."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from fairlead.core.artifact import Part
from fairlead.ports import Blobs

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PART_ROWS", "content", "known", "load", "store"]

PART_ROWS = 262_144
"""Rows of a full part: some 20 MB on disk for 30 columns."""
GROUP_ROWS = 131_072


def store(frame: "pl.DataFrame", blobs: Blobs) -> tuple[Part, ...]:
    """Write a canonical frame as parts; the same rows give the same bytes, hence digests."""
    return tuple(_store(frame.slice(start, PART_ROWS), blobs)
                 for start in range(0, frame.height, PART_ROWS))  # fmt: skip


def load(part: Part, blobs: Blobs, columns: Sequence[str] | None = None) -> "pl.DataFrame":
    """The rows of a part, verified. `columns`: only those of them that the part has.

    Raises Missing or Corrupt.
    """
    import polars as pl

    data = BytesIO(blobs.get(part.digest))
    if columns is not None:
        stored = set(pl.read_parquet_schema(data))
        data.seek(0)
        columns = [c for c in columns if c in stored]
    return pl.read_parquet(data, columns=columns)


def known(frame: "pl.DataFrame", parts: Sequence[Part]) -> Iterator[tuple[Part, "pl.DataFrame", bool]]:
    """Lay the parts along the frame: each with its slice and whether the values are the same.

    Slices that end beyond the frame are short, hence never the same.
    """
    start = 0
    for part in parts:
        rows = frame.slice(start, part.rows)
        same = rows.height == part.rows and part.content == content(rows)
        yield part, rows, same
        start += part.rows


def content(frame: "pl.DataFrame") -> str:
    """SHA-256 of the values of a canonical frame, row order included, column order not.

    Blind to what widening a contract changes: whole floats equal ints, and a column without any
    value counts as absent.
    """
    found = sha256(str(frame.height).encode())
    for name in sorted(frame.columns):
        series = frame.get_column(name)
        if series.null_count() < len(series):
            found.update(_digest(series))
    return found.hexdigest()


def _store(rows: "pl.DataFrame", blobs: Blobs) -> Part:
    rows = rows.rechunk()
    out = BytesIO()
    rows.write_parquet(out, compression="zstd", compression_level=3, row_group_size=GROUP_ROWS)
    data = out.getvalue()
    return Part(blobs.put(data), rows.height, len(data), content(rows))


def _digest(series: "pl.Series") -> bytes:
    import polars as pl

    found = sha256()
    if series.dtype == pl.String:
        kind, values = "s", series.str.len_bytes().fill_null(0).to_numpy()
        found.update(series.str.join("").item().encode())
    elif series.dtype == pl.Boolean:
        kind, values = "b", np.packbits(series.fill_null(False).to_numpy())
    elif series.dtype == pl.Float64:
        kind, values = "n", _whole(series.fill_null(0.0).to_numpy())
    else:
        kind = "n" if series.dtype == pl.Int64 else "t"
        values = series.to_physical().fill_null(0).to_numpy()
    found.update(np.ascontiguousarray(values).data)
    if series.null_count():
        found.update(np.packbits(series.is_null().to_numpy()).data)
    return sha256(f"{series.name}\0{kind}\0{values.dtype}\0".encode() + found.digest()).digest()


def _whole(values: "np.ndarray[tuple[int], np.dtype[np.float64]]",
           ) -> "np.ndarray[tuple[int], np.dtype[np.int64 | np.float64]]":  # fmt: skip
    """As integers when nothing is lost by it; -0.0 is 0."""
    if (np.abs(values) < 2**53).all() and (values == np.trunc(values)).all():
        return values.astype(np.int64)
    return values + 0.0
