"""Encodings: how named columns become the float32 matrix a model reads, exactly alike in training and serving."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from itertools import groupby
from math import nan
from operator import itemgetter
from typing import Any, TypeVar

from msgspec import Struct

from fairlead.errors import Invalid

__all__ = ["FLOAT32_MAX", "Codes", "ColumnEncoding", "Encoding", "Flag", "Moment", "Number", "Words",
           "compile_row", "words_in"]  # fmt: skip

FLOAT32_MAX = 3.4028234663852886e38
"""Larger magnitudes, infinity included, are clamped to this: a finite input never turns infinite."""


class Number(Struct, frozen=True, tag="number"):
    """float(x), clamped to what float32 holds; null is NaN."""

    column: str


class Flag(Struct, frozen=True, tag="flag"):
    """true 1, false 0, null NaN."""

    column: str


class Codes(Struct, frozen=True, tag="codes", kw_only=True):
    """Position in `vocabulary`; a value outside it is -1 when `unseen` is "other", an error when it is "error"; null NaN."""

    column: str
    vocabulary: tuple[str, ...]
    unseen: str = "other"


class Words(Struct, frozen=True, tag="words", kw_only=True):
    """Characters, words, then 1 or 0 for each of `tokens` (lower-case words); null: all NaN."""

    column: str
    tokens: tuple[str, ...]


class Moment(Struct, frozen=True, tag="moment"):
    """Whole UTC seconds, hour of day, day of week (Monday 0), day of year; null: all NaN."""

    column: str


ColumnEncoding = Number | Flag | Codes | Words | Moment


class Encoding(Struct, frozen=True):
    """Columns in the order of the matrix."""

    columns: tuple[ColumnEncoding, ...]

    @property
    def width(self) -> int:
        """Number of float32 values per row."""
        return sum(_width(c) for c in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """One name per float32 value, for importances and reports: ``column`` or ``column.part``."""
        return tuple(name for c in self.columns for name in _names(c))


def compile_row(encoding: Encoding) -> Callable[[Mapping[str, Any]], list[float]]:
    """The encoder of one row, the hot path of the gateway: column -> value in, `width` numbers out.

    A missing key is null. Datetimes arrive as ISO 8601 text (no offset: UTC), epoch seconds or
    `datetime`. The result may hold ints and bools where those were sent; as float32 it is
    bit-equal to the same row of `flavors.table.transform`. The encoder raises Invalid, with a
    JSON pointer to the column, for a value of the wrong type or out of a closed vocabulary.
    """
    runs = [_run(tuple(group)) for _, group in groupby(encoding.columns, key=_kind)]

    def encode(row: Mapping[str, Any]) -> list[float]:
        out: list[float] = []
        try:
            for run in runs:
                out += run(row)
        except (TypeError, ValueError, OverflowError, AttributeError):
            raise _fault(encoding, row) from None
        return out

    return encode


def words_in(text: str) -> list[str]:
    """The lower-case words of a text, in order, as `Words` counts them."""
    return _WORD(text.lower())


Run = Callable[[Mapping[str, Any]], list[float]]
T = TypeVar("T")

_WORD: Callable[[str], list[str]] = re.compile(r"\w+").findall
_EPOCH = date(1970, 1, 1).toordinal()


def _width(column: ColumnEncoding) -> int:
    match column:
        case Words(tokens=tokens):
            return 2 + len(tokens)
        case Moment():
            return 4
        case _:
            return 1


def _names(column: ColumnEncoding) -> tuple[str, ...]:
    match column:
        case Words(column=name, tokens=tokens):
            return (f"{name}.characters", f"{name}.words", *(f"{name}:{t}" for t in tokens))
        case Moment(column=name):
            return tuple(f"{name}.{part}" for part in ("seconds", "hour", "weekday", "yearday"))
        case _:
            return (column.column,)


def _kind(column: ColumnEncoding) -> str:
    """Neighbours of one kind share a run: one `itemgetter` call reads them all."""
    match column:
        case Number() | Flag():
            return "number"
        case Codes(unseen=unseen):
            return f"codes, {unseen}"
        case _:
            return column.column


def _run(columns: tuple[ColumnEncoding, ...]) -> Run:
    match columns[0]:
        case Number() | Flag():
            return _numbers(tuple(c.column for c in columns))
        case Codes():
            return _codes(tuple(c for c in columns if isinstance(c, Codes)))
        case Words() as column:
            return _words(column)
        case Moment(column=name):
            return _moment(name)


def _reader(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    get = itemgetter(*names) if len(names) > 1 else None

    def read(row: Mapping[str, Any]) -> Sequence[Any]:
        try:
            return get(row) if get is not None else (row[names[0]],)
        except KeyError:
            return [row.get(name) for name in names]

    return read


def _numbers(names: tuple[str, ...]) -> Run:
    read = _reader(names)

    def run(row: Mapping[str, Any], low: float = -FLOAT32_MAX, high: float = FLOAT32_MAX,
            ) -> list[float]:  # fmt: skip
        return [nan if v is None else v if low <= v <= high else _clamp(v) for v in read(row)]

    return run


def _clamp(value: float) -> float:
    return value if value != value else max(-FLOAT32_MAX, min(FLOAT32_MAX, value))


def _codes(columns: tuple[Codes, ...]) -> Run:
    read = _reader(tuple(c.column for c in columns))
    lookups = [_lookup(c) for c in columns]
    if columns[0].unseen == "other":
        getters = [lookup.get for lookup in lookups]

        def other(row: Mapping[str, Any]) -> list[float]:
            return [get(v, -1.0) for get, v in zip(getters, read(row), strict=True)]

        return other

    def error(row: Mapping[str, Any]) -> list[float]:
        values = read(row)
        try:
            return [lookup[v] for lookup, v in zip(lookups, values, strict=True)]
        except KeyError:
            raise ValueError from None

    return error


def _lookup(column: Codes) -> dict[str | None, float]:
    return {**{word: float(i) for i, word in enumerate(column.vocabulary)}, None: nan}


def _words(column: Words) -> Run:
    name, tokens, null = column.column, column.tokens, [nan] * _width(column)

    def run(row: Mapping[str, Any]) -> list[float]:
        text = row.get(name)
        if text is None:
            return null
        found = words_in(text)
        present = set(found)
        return [len(text), len(found), *[1.0 if t in present else 0.0 for t in tokens]]

    return run


def _moment(name: str) -> Run:
    null = [nan] * 4

    def run(row: Mapping[str, Any]) -> list[float]:
        value = row.get(name)
        if value is None:
            return null
        at = datetime.fromisoformat(value) if isinstance(value, str) else _instant(value)
        if at.tzinfo is not None and at.tzinfo is not UTC:
            at = at.astimezone(UTC)
        day = at.toordinal()
        seconds = (day - _EPOCH) * 86400 + at.hour * 3600 + at.minute * 60 + at.second
        return [seconds, at.hour, (day - 1) % 7, day - _new_year(at.year) + 1]

    return run


@cache
def _new_year(year: int) -> int:
    return date(year, 1, 1).toordinal()


def _instant(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)


def _fault(encoding: Encoding, row: Mapping[str, Any]) -> Invalid:
    """Find the column that could not be encoded; only ever run after a failure."""
    for column in encoding.columns:
        try:
            _run((column,))(row)
        except (TypeError, ValueError, OverflowError, AttributeError):
            return _refusal(column, row.get(column.column))
    return Invalid("the row could not be encoded", hint="send a JSON object: column to value")


def _refusal(column: ColumnEncoding, value: Any) -> Invalid:
    match column:
        case Number():
            wanted = "send a number or null"
        case Flag():
            wanted = "send true, false or null"
        case Codes(vocabulary=known) if isinstance(value, str):
            wanted = f"the model knows {len(known)} values: {', '.join(known[:5])}"
        case Moment():
            wanted = "send ISO 8601 like 2013-05-01T12:00:00Z, or seconds since 1970 UTC"
        case _:
            wanted = "send a string or null"
    pointer = "/" + column.column.replace("~", "~0").replace("/", "~1")
    return Invalid(f"column {column.column!r} cannot take {value!r:.80}", hint=wanted,
                   pointer=pointer)  # fmt: skip
