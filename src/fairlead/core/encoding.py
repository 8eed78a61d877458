"""Encodings: how named columns become the float32 matrix a model reads, exactly alike in training and serving."""

from msgspec import Struct

__all__ = ["Codes", "ColumnEncoding", "Encoding", "Flag", "Moment", "Number", "Words"]


class Number(Struct, frozen=True, tag="number"):
    """float(x); null is NaN."""

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
    """Characters, words, then 1 or 0 for each of `tokens`; null: all NaN."""

    column: str
    tokens: tuple[str, ...]


class Moment(Struct, frozen=True, tag="moment"):
    """UTC seconds, hour of day, day of week (Monday 0), day of year; null: all NaN."""

    column: str


ColumnEncoding = Number | Flag | Codes | Words | Moment


class Encoding(Struct, frozen=True):
    """Columns in the order of the matrix."""

    columns: tuple[ColumnEncoding, ...]

    @property
    def width(self) -> int:
        """Number of float32 values per row."""
        return sum(_width(c) for c in self.columns)


def _width(column: ColumnEncoding) -> int:
    match column:
        case Words(tokens=tokens):
            return 2 + len(tokens)
        case Moment():
            return 4
        case _:
            return 1
