"""Columns and schemas: what a table promises, and what changed between two promises."""

from typing import Literal

from msgspec import Struct

from fairlead.errors import Missing

__all__ = ["Change", "Column", "Dtype", "Schema", "SchemaDiff", "diff"]

Dtype = Literal["int", "float", "bool", "category", "text", "datetime"]
"""`category`: short strings that recur; `text`: free text; `datetime`: an instant, UTC."""

Size = Literal["same", "wider", "breaking"]


class Column(Struct, frozen=True, kw_only=True):
    """One column and what was seen in it when the contract was inferred.

    `low`/`high`: the observed range (numbers as they are, datetimes as UTC seconds).
    `categories`: known values, most frequent first, capped; `closed` says that another value
    is a violation (the default is open: an unseen category is served and counted as drift).
    """

    name: str
    dtype: Dtype
    nullable: bool = False
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    closed: bool = False


class Schema(Struct, frozen=True, kw_only=True):
    """Columns in order, and the roles some of them play ("" where there is none)."""

    columns: tuple[Column, ...]
    target: str = ""
    time: str = ""
    entity: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name. Raises Missing."""
        for column in self.columns:
            if column.name == name:
                return column
        raise Missing(f"no column {name!r}", hint=f"known columns: {', '.join(self.names)}")


class Change(Struct, frozen=True, kw_only=True):
    """One difference: which column, what kind of change, in words a person reads."""

    column: str
    size: Size
    text: str


class SchemaDiff(Struct, frozen=True, kw_only=True):
    """same: old readers and writers both fine; wider: old readers fine; breaking: neither."""

    size: Size
    changes: tuple[Change, ...] = ()


def diff(old: Schema, new: Schema) -> SchemaDiff:
    """Compare two schemas, column by column, in the order of `old`."""
    raise NotImplementedError
