"""Columns and schemas: what a table promises, and what changed between two promises."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from fairlead.errors import Missing

__all__ = ["CATEGORY_CAP", "Change", "Column", "Dtype", "Schema", "SchemaDiff", "diff",
           "string_dtype", "widen"]  # fmt: skip

Dtype = Literal["int", "float", "bool", "category", "text", "datetime"]
"""`category`: short strings that recur; `text`: free text; `datetime`: an instant, UTC."""

Size = Literal["same", "wider", "breaking"]

CATEGORY_CAP = 1000
"""Known values a column lists at most; a full list says nothing about values outside it."""

_SIZES: tuple[Size, ...] = ("same", "wider", "breaking")
_GROWN = {("int", "float"), ("category", "text"), ("text", "category")}
_SHOWN = 5


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

    @property
    def unknown(self) -> bool:
        """No value was ever seen: an all-null column is inferred as a nullable float, no range."""
        return self.dtype == "float" and self.nullable and self.low is None


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
    """How far `new` went from `old`, for who reads rows (models) and who writes them (callers).

    same: nobody notices; wider: every row valid before is valid still, readers may meet more
    (a null, a new category, a value out of range); breaking: a row valid before is refused now,
    or something a reader relies on is gone. `changes` of size "same" are only worth knowing.
    """

    size: Size
    changes: tuple[Change, ...] = ()


def diff(old: Schema, new: Schema) -> SchemaDiff:
    """Compare two schemas: roles, then the columns of `old` in order, then what `new` adds."""
    changes = [*_roles(old, new)]
    after = {c.name: c for c in new.columns}
    for column in old.columns:
        if column.name in after:
            changes += _compare(column, after[column.name])
        else:
            changes.append(_change(column, "breaking", "is gone: what reads it has nothing to read"))
    known = set(old.names)
    changes += [_added(column) for column in new.columns if column.name not in known]
    size = _SIZES[max((_SIZES.index(c.size) for c in changes), default=0)]
    return SchemaDiff(size=size, changes=tuple(changes))


def widen(contract: Schema, seen: Schema) -> Schema:
    """The smallest contract that holds for both: nothing of `contract` narrows, roles stay.

    Columns only in `seen` come last and are nullable, because earlier rows lack them. Dtypes
    that do not widen into each other (see `diff`) must have been refused before.
    """
    found = {c.name: c for c in seen.columns}
    known = set(contract.names)
    columns = [_union(c, found[c.name]) if c.name in found else replace(c, nullable=True)
               for c in contract.columns]  # fmt: skip
    columns += [replace(c, nullable=True) for c in seen.columns if c.name not in known]
    return replace(contract, columns=tuple(columns))


def string_dtype(*, rows: int, distinct: int, characters: float, words: float) -> Dtype:
    """`category` or `text` for a column of strings, from its non-null `rows` and their means.

    Free text has more than three words or 40 characters on average and hardly recurs (over half
    of the values are distinct). A single word that never recurs, more than 1,000 of them, is an
    identifier: `text` too, because no list of known values could describe it.
    """
    if rows == 0 or distinct * 2 <= rows:
        return "category"
    if (words > 3 or characters > 40) and distinct > 20:
        return "text"
    return "text" if distinct > CATEGORY_CAP else "category"


def _roles(old: Schema, new: Schema) -> Iterator[Change]:
    for role in ("target", "time", "entity"):
        before, after = getattr(old, role), getattr(new, role)
        if before == after:
            continue
        size: Size = "wider" if not before and role != "target" else "breaking"
        text = f"the {role} was {before or 'unset'}, now it is {after or 'unset'}"
        yield Change(column=after or before, size=size, text=text)


def _change(column: Column, size: Size, text: str) -> Change:
    return Change(column=column.name, size=size, text=text)


def _added(column: Column) -> Change:
    if column.nullable:
        return _change(column, "wider", f"is new ({column.dtype}, may be null)")
    return _change(column, "breaking", f"is new and never null ({column.dtype}): "
                   "rows written before, and callers who do not know it, lack it")  # fmt: skip


def _compare(old: Column, new: Column) -> Iterator[Change]:
    if old.unknown != new.unknown:
        text = f"has values for the first time ({new.dtype})" if old.unknown else "has no values now"
        yield _change(new, "wider" if old.unknown else "same", text)
    elif old.dtype != new.dtype:
        grown = (old.dtype, new.dtype) in _GROWN and not new.closed
        text = f"was {old.dtype}, now it is {new.dtype}"
        yield _change(new, "wider" if grown else "breaking", text)
    if new.nullable and not old.nullable:
        yield _change(new, "wider", "may now be null")
    elif old.nullable and not new.nullable:
        yield _change(new, "breaking", "may no longer be null: callers who send null are refused")
    yield from _ranges(old, new)
    yield from _values(old, new)


def _ranges(old: Column, new: Column) -> Iterator[Change]:
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return
    if "datetime" in (old.dtype, new.dtype) and old.dtype != new.dtype:
        return
    size: Size = "wider" if new.low < old.low or new.high > old.high else "same"
    if (old.low, old.high) != (new.low, new.high):
        verb = "widened" if size == "wider" else "narrowed"
        yield _change(new, size, f"range {verb} from {_span(old)} to {_span(new)}")


def _values(old: Column, new: Column) -> Iterator[Change]:
    if new.dtype != "category" or old.dtype != "category":
        return
    if new.closed and not old.closed:
        yield _change(new, "breaking", "is closed now: values outside the list are refused")
    elif old.closed and not new.closed:
        yield _change(new, "wider", "is open now: values outside the list are served")
    gone = [v for v in old.categories if v not in set(new.categories)]
    more = [v for v in new.categories if v not in set(old.categories)]
    if more and len(old.categories) < CATEGORY_CAP:
        yield _change(new, "wider", f"has {_count(more, 'new')}: {_list(more)}")
    if gone and len(new.categories) < CATEGORY_CAP:
        size: Size = "breaking" if new.closed and old.closed else "same"
        yield _change(new, size, f"lost {_count(gone, 'known')}: {_list(gone)}")


def _union(old: Column, new: Column) -> Column:
    nullable = old.nullable or new.nullable
    if old.unknown or new.unknown:
        return replace(new if old.unknown else old, nullable=nullable)
    both = {old.dtype, new.dtype}
    dtype: Dtype = "float" if both == {"int", "float"} else old.dtype
    lows = [x for x in (old.low, new.low) if x is not None]
    highs = [x for x in (old.high, new.high) if x is not None]
    known = set(old.categories)
    values = old.categories + tuple(v for v in new.categories if v not in known)
    return replace(old, dtype=dtype, nullable=nullable, low=min(lows, default=None),
                   high=max(highs, default=None),
                   categories=values[:CATEGORY_CAP] if dtype == "category" else ())  # fmt: skip


def _count(values: list[str], kind: str) -> str:
    return f"{len(values)} {kind} value{'s' if len(values) > 1 else ''}"


def _list(values: list[str]) -> str:
    shown = ", ".join(repr(v) for v in values[:_SHOWN])
    return shown if len(values) <= _SHOWN else f"{shown}, …"


def _span(column: Column) -> str:
    return f"{_show(column, column.low)}..{_show(column, column.high)}"


def _show(column: Column, value: float | None) -> str:
    if value is None or column.dtype != "datetime":
        return f"{value:,.6g}" if value is not None else "?"
    if not -62135596800 <= value < 253402300800:
        return f"{value:g} s"
    return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
