"""Tables as models see them: fit an encoding on training rows, turn a frame into a float32 matrix."""

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fairlead.core.encoding import (
    FLOAT32_MAX,
    Codes,
    ColumnEncoding,
    Encoding,
    Flag,
    Moment,
    Number,
    Words,
    words_in,
)  # fmt: skip
from fairlead.core.schema import Column, Schema
from fairlead.errors import Invalid, Missing

if TYPE_CHECKING:
    import polars as pl

__all__ = ["fit_encoding", "transform"]

Matrix = np.ndarray[Any, np.dtype[np.float32]]

BLOCK = 65_536
"""Rows encoded at a time: temporary memory stays at a few MB whatever the table's size."""
SAMPLE = 20_000
"""Texts read to choose tokens, evenly spaced over the rows."""
RARE = 5
"""A high-cardinality column only learns values seen this often: identifiers drop out."""


def fit_encoding(frame: "pl.DataFrame", schema: Schema, *, max_categories: int = 254,
                 tokens: int = 32, unseen: Literal["other", "error"] = "other",
                 ) -> Encoding:  # fmt: skip
    """Choose how each column of `schema` but its target becomes numbers, from the training rows.

    category: the `max_categories` most frequent values, by frequency then value (`unseen` says
    what becomes of a value that training never saw; where values had to be left out, it is
    "other"); text: the `tokens` words that most texts share (in 1 % to 95 % of them), or, when it
    is single words, as a category; numbers, booleans and datetimes need no fit. Numbers come
    first, then categories, datetimes and texts. Left out: columns without a value, and
    identifiers (more values than `max_categories`, none of them seen 5 times).
    Raises Missing when `frame` lacks a column, Invalid when no column is left.
    """
    found = []
    for column in schema.columns:
        if column.name == schema.target:
            continue
        series = _column(frame, column.name)
        if series.null_count() < len(series):
            encoding = _fit(series, column, max_categories, tokens, unseen)
            found += [encoding] if encoding is not None else []
    if not found:
        raise Invalid("no column to learn from: all are empty or identifiers",
                      hint="keep at least one column beside the target")  # fmt: skip
    order = (Number, Flag, Codes, Moment, Words)
    return Encoding(tuple(sorted(found, key=lambda c: order.index(type(c)))))


def transform(frame: "pl.DataFrame", encoding: Encoding) -> Matrix:
    """The float32 matrix [rows, encoding.width]; row i is bit-equal to `compile_row` of row i.

    Works in blocks into one preallocated array. Raises Missing when `frame` lacks a column,
    Invalid for values of another type or, with ``unseen="error"``, out of the vocabulary.
    """
    out: Matrix = np.empty((frame.height, encoding.width), dtype=np.float32)
    series = [_column(frame, c.column) for c in encoding.columns]
    for start in range(0, frame.height, BLOCK):
        block, left = out[start : start + BLOCK], 0
        for column, values in zip(encoding.columns, series, strict=True):
            part = values.slice(start, BLOCK)
            match column:
                case Number() | Flag():
                    block[:, left] = _numbers(part)
                case Codes():
                    block[:, left] = _codes(part, column)
                case Moment():
                    block[:, left : left + 4] = _moments(part)
                case Words():
                    _words(part, column, block[:, left : left + 2 + len(column.tokens)])
            left += Encoding((column,)).width
    return out


def _column(frame: "pl.DataFrame", name: str) -> "pl.Series":
    if name not in frame.columns:
        raise Missing(f"the table has no column {name!r}", hint=f"it has: {', '.join(frame.columns)}")
    return frame.get_column(name)


def _fit(series: "pl.Series", column: Column, most: int, tokens: int, unseen: str,
         ) -> ColumnEncoding | None:  # fmt: skip
    match column.dtype:
        case "int" | "float":
            return Number(column.name)
        case "bool":
            return Flag(column.name)
        case "datetime":
            return Moment(column.name)
        case "text":
            chosen = _tokens(series, tokens)
            if chosen is not None:
                return Words(column=column.name, tokens=chosen)
    vocabulary, whole = _vocabulary(series, most)
    if not vocabulary:
        return None
    return Codes(column=column.name, vocabulary=vocabulary, unseen=unseen if whole else "other")


def _vocabulary(series: "pl.Series", most: int) -> tuple[tuple[str, ...], bool]:
    """The values to tell apart, and whether these are all."""
    import polars as pl

    counts = _strings(series).drop_nulls().value_counts(name="n")
    whole = counts.height <= most
    if not whole:
        counts = counts.filter(pl.col("n") >= RARE)
    top = counts.sort(-pl.col("n").cast(pl.Int64), pl.col(series.name)).head(most)
    return tuple(top.get_column(series.name)), whole


def _tokens(series: "pl.Series", most: int) -> tuple[str, ...] | None:
    """Words by the share of sampled texts that hold them; None when texts are single words."""
    texts = _strings(series).drop_nulls()
    texts = texts.gather_every(max(1, len(texts) // SAMPLE))
    seen: Counter[str] = Counter()
    several = 0
    for text in texts:
        words = set(words_in(text))
        several += len(text.split()) > 1
        seen.update(words)
    if several * 2 < len(texts):
        return None
    low, high = max(2, len(texts) // 100), len(texts) * 95 // 100
    shared = [(-n, w) for w, n in seen.items() if low <= n <= high and not w.isdigit()]
    return tuple(w for _, w in sorted(shared)[:most])


def _strings(series: "pl.Series") -> "pl.Series":
    import polars as pl

    if series.dtype == pl.String:
        return series
    if series.dtype in (pl.Categorical, pl.Enum, pl.Null):
        return series.cast(pl.String)
    raise _mistyped(series, "strings")


def _mistyped(series: "pl.Series", wanted: str) -> Invalid:
    return Invalid(f"column {series.name!r} holds {series.dtype}, not {wanted}",
                   hint="read the table through its contract, or fit the encoding again")  # fmt: skip


def _numbers(part: "pl.Series") -> np.ndarray[Any, np.dtype[np.float64]]:
    import polars as pl

    if not (part.dtype.is_numeric() or part.dtype in (pl.Boolean, pl.Null)):
        raise _mistyped(part, "numbers")
    values = part.cast(pl.Float64).fill_null(np.nan).to_numpy()
    # Python floats and numpy round a double to float32 alike, so the cast may happen here.
    clamped: np.ndarray[Any, np.dtype[np.float64]] = np.clip(values, -FLOAT32_MAX, FLOAT32_MAX)
    clamped[np.isnan(clamped)] = np.nan
    return clamped


def _codes(part: "pl.Series", column: Codes) -> np.ndarray[Any, np.dtype[np.float64]]:
    import polars as pl

    texts = _strings(part)
    known = pl.Series(column.vocabulary, dtype=pl.String)
    codes = texts.replace_strict(known, np.arange(len(known), dtype=np.float64), default=-1.0,
                                 return_dtype=pl.Float64)  # fmt: skip
    values = codes.to_numpy().copy()
    values[texts.is_null().to_numpy()] = np.nan
    if column.unseen == "error" and (values == -1).any():
        first = texts.item(int(np.flatnonzero(values == -1)[0]))
        raise Invalid(f"column {column.column!r} cannot take {first!r}",
                      hint=f"the model knows {len(known)} values")  # fmt: skip
    return values


def _moments(part: "pl.Series") -> np.ndarray[Any, np.dtype[np.float64]]:
    """[rows, 4] float64: whole UTC seconds, hour, weekday, day of year."""
    import polars as pl

    if part.dtype == pl.Date:
        part = part.cast(pl.Datetime("us"))
    elif not isinstance(part.dtype, pl.Datetime):
        raise _mistyped(part, "datetimes")
    elif part.dtype.time_zone is not None:
        part = part.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    part = part.dt.cast_time_unit("us")
    columns = [part.to_physical() // 1_000_000, part.dt.hour(), part.dt.weekday() - 1,
               part.dt.ordinal_day()]  # fmt: skip
    return np.column_stack([c.cast(pl.Float64).fill_null(np.nan).to_numpy() for c in columns])


def _words(part: "pl.Series", column: Words, out: Matrix) -> None:
    """Fill `out` [rows, 2 + tokens]; Python and not Polars, so that a word is one thing everywhere."""
    texts = _strings(part)
    places = {token: i + 2 for i, token in enumerate(column.tokens)}
    out[:] = 0.0
    rows: list[int] = []
    hits: list[int] = []
    counts: list[tuple[float, float]] = []
    for row, text in enumerate(texts):
        if text is None:
            counts.append((np.nan, np.nan))
            continue
        found = words_in(text)
        counts.append((len(text), len(found)))
        places_here = {places[word] for word in found if word in places}
        hits += places_here
        rows += [row] * len(places_here)
    out[rows, hits] = 1.0
    out[:, :2] = counts
    out[texts.is_null().to_numpy()] = np.nan
