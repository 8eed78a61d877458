"""Contracts: a schema compiled into a fast reader of request rows that says exactly what is wrong."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from fairlead.core.schema import Column, Dtype, Schema
from fairlead.errors import Invalid

__all__ = ["Contract", "Malformed", "Refused", "Scalar", "Violation"]

Scalar = str | int | float | bool | None
"""What a cell of a row may hold."""

_TYPES: dict[Dtype, Any] = {
    "int": int, "float": float, "bool": bool, "category": str, "text": str,
    "datetime": datetime | int | float,
}  # fmt: skip
_WANTED: dict[Dtype, tuple[str, str]] = {
    "int": ("a whole number", "send a JSON number without quotes, for example 3"),
    "float": ("a number", "send a JSON number without quotes, for example 12.5"),
    "bool": ("true or false", "send true or false without quotes"),
    "category": ("a string", 'send a JSON string, for example "A"'),
    "text": ("a string", "send a JSON string"),
    "datetime": ("an instant", 'send ISO 8601, for example "2026-05-01T14:30:00Z", or UTC seconds'),
}
SHOWN = 60
"""Characters of an offending value that are repeated to the caller."""
NEAR = 0.75
"""How alike two column names are (difflib ratio) before one is taken for a typo of the other."""
KEYS = 10_000
"""Keys of one row: reading a body slowly and exactly must not hold up everybody else."""
STRANGERS = 32
"""Unknown names that are compared with a missing one: comparing is slow, and bodies are hostile."""


class Malformed(Invalid):
    """The bytes are not a JSON object with distinct keys."""


class Violation(Struct, frozen=True, kw_only=True):
    """One thing wrong with one row: where, what was seen, and how to put it right."""

    code: str
    pointer: str
    message: str
    hint: str


class Refused(Invalid):
    """A row breaks the contract; `violations` says everything that is wrong with it."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(first.message + more, hint=first.hint, pointer=first.pointer)
        self.violations = tuple(violations)


class Contract:
    """Reads rows of a schema: `names` is the order of the values that `read` returns.

    `extras` are columns that the model does not need but the request may carry (a sticky unit, the
    entity of a feature view): any scalar, None when absent. Datetimes come out as UTC seconds; one
    without an offset is taken as UTC. `ignored` counts unknown columns that were passed over.
    """

    def __init__(self, schema: Schema, extras: Iterable[str] = ()) -> None:
        self.columns = schema.columns
        known = set(schema.names)
        self.extras = tuple(dict.fromkeys(e for e in extras if e and e not in known))
        self.names = schema.names + self.extras
        self.ignored = 0
        self._known = known | set(self.extras)
        self._moments = [i for i, c in enumerate(self.columns) if c.dtype == "datetime"]
        self._width, self._absent = len(self.names), list[None]()
        self._decode = _decoder(self.columns, self.extras, self._absent)

    def read(self, body: bytes | memoryview | msgspec.Raw) -> tuple[Scalar, ...]:
        """The values of one JSON object, in the order of `names`.

        Raises Malformed (not a JSON object, a key twice) or Refused (the contract is broken).
        """
        if type(body) is not bytes:
            body = bytes(body)
        seen = self._width
        try:
            values = astuple(self._decode(body))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return self._explain(body)
        finally:
            if self._absent:
                seen -= len(self._absent)
                self._absent.clear()
        # No more colons than columns, or no more quotes than columns and strings take: then no key
        # came twice. Anything else is looked at closely.
        if body.count(b":") != seen and body.count(b'"') != 2 * (seen + _strings(values)):
            _parse(body)
        return self._timed(values) if self._moments else values

    def check(self, row: Mapping[str, Any]) -> list[Violation]:
        """Everything that is wrong with a decoded row; empty when nothing is."""
        unknown = [k for k in row if k not in self._known]
        found: list[Violation] = []
        for column in self.columns:
            if column.name not in row:
                found.extend(_absent(column, unknown))
            elif row[column.name] is None:
                found.extend(() if column.nullable else (_null(column),))
            else:
                found.extend(_wrong(column, row[column.name]))
        for name in self.extras:
            if not isinstance(row.get(name), Scalar):
                found.append(_violation("type", name, f"column {name!r} is not a single value",
                                        "send a string or a number"))  # fmt: skip
        return found

    def _timed(self, values: tuple[Any, ...]) -> tuple[Scalar, ...]:
        """Instants become seconds."""
        out = list(values)
        for i in self._moments:
            value = out[i]
            if isinstance(value, datetime):
                out[i] = _seconds(value)
        return tuple(out)

    def _explain(self, body: bytes) -> tuple[Scalar, ...]:
        """The slow, exact way: every violation, or the values when the row is right after all."""
        row = _parse(body)
        violations = self.check(row)
        if violations:
            raise Refused(violations)
        self.ignored += sum(1 for k in row if k not in self._known)
        cells = [_cell(c, row.get(c.name)) for c in self.columns]
        return tuple(cells) + tuple(row.get(e) for e in self.extras)


def _decoder(
    columns: Sequence[Column], extras: Sequence[str], absent: list[None]
) -> Callable[..., Any]:
    """A msgspec struct whose fields are the columns: types and closed categories are checked while
    decoding, in C. Every column that is not there, and need not be, adds one item to `absent`."""
    missing = msgspec.field(default_factory=lambda: absent.append(None))
    fields: list[tuple[Any, ...]] = []
    rename: dict[str, str] = {}
    for i, column in enumerate(columns):
        rename[f"c{i}"] = column.name
        kind = _kind(column)
        fields.append((f"c{i}", kind | None, missing) if column.nullable else (f"c{i}", kind))
    for i, name in enumerate(extras):
        rename[f"x{i}"] = name
        fields.append((f"x{i}", Scalar, missing))
    row = msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True,
                            kw_only=True, gc=False)  # fmt: skip
    decode: Callable[..., Any] = msgspec.json.Decoder(row).decode
    return decode


def _kind(column: Column) -> Any:
    """The type that msgspec checks a cell for."""
    kind = _TYPES[column.dtype]
    return Literal[column.categories] if kind is str and column.closed and column.categories else kind


def _strings(values: tuple[Any, ...]) -> int:
    return sum(1 for v in values if isinstance(v, str | datetime))


def _parse(body: bytes) -> dict[str, Any]:
    """The object, with every key once. Raises Malformed."""
    if min(body.count(b":"), body.count(b'"') // 2) > KEYS:
        raise Malformed(f"the row has more than {KEYS} keys", hint="send the model's columns only")
    twice: list[str] = []

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(k for k, _ in pairs)
            twice.append(counts.most_common(1)[0][0])
        return found

    try:
        row = msgspec.json.decode(body)
        if not isinstance(row, dict):
            raise Malformed(f"a row must be a JSON object, not {_shown(row)}",
                            hint='send {"column": value, ...}')  # fmt: skip
        json.loads(body, object_pairs_hook=distinct)
    except (msgspec.DecodeError, ValueError) as error:
        raise Malformed(f"the body is not JSON: {_clean(error)}",
                        hint="NaN, Infinity and trailing commas are not JSON; null is") from error  # fmt: skip
    except RecursionError as error:
        raise Malformed("the body is nested too deeply",
                        hint="a row is flat: one value for each column") from error  # fmt: skip
    if twice:
        raise Malformed(f"the key {twice[0]!r} appears twice in one object",
                        hint="send each column once", pointer=_pointer(twice[0]))  # fmt: skip
    return row


def _clean(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ")[:SHOWN]


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _violation(code: str, name: str, message: str, hint: str) -> Violation:
    return Violation(code=code, pointer=_pointer(name), message=message, hint=hint)


def _absent(column: Column, unknown: Sequence[str]) -> list[Violation]:
    """A missing column: a fault when it is needed, or when an unknown one looks like its typo."""
    plain = {u.casefold().replace("_", "").replace("-", ""): u
             for u in unknown[:STRANGERS] if len(u) <= 2 * len(column.name) + 8}  # fmt: skip
    near = get_close_matches(column.name.casefold().replace("_", ""), plain, n=1, cutoff=NEAR)
    if near:
        typo = plain[near[0]]
        return [_violation("unknown", typo, f"unknown column {typo!r}, and {column.name!r} is missing",
                           f"rename {typo!r} to {column.name!r}")]  # fmt: skip
    if column.nullable:
        return []
    return [_violation("missing", column.name, f"column {column.name!r} is missing",
                       f"send {column.name!r}: {_WANTED[column.dtype][0]}")]  # fmt: skip


def _null(column: Column) -> Violation:
    return _violation("missing", column.name, f"column {column.name!r} is null",
                      f"it was never null in training: send {_WANTED[column.dtype][0]}")  # fmt: skip


def _wrong(column: Column, value: Any) -> list[Violation]:
    """What is wrong with a value that is present."""
    wanted, remedy = _WANTED[column.dtype]
    if not _fits(column.dtype, value):
        return [_violation("type", column.name,
                           f"column {column.name!r} must be {wanted}, not {_shown(value)}", remedy)]  # fmt: skip
    if isinstance(value, int | float) and not _finite(value):
        return [_violation("range", column.name, f"column {column.name!r} is not finite",
                           "send a finite number, or null where the column allows it")]  # fmt: skip
    if column.closed and column.categories and value not in column.categories:
        near = get_close_matches(value, column.categories, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(
            repr(c) for c in column.categories[:8])  # fmt: skip
        return [_violation("category", column.name, f"column {column.name!r} does not know the "
                           f"value {_shown(value)}", hint)]  # fmt: skip
    return []


def _finite(value: int | float) -> bool:
    """Whether a float can hold it."""
    try:
        return isfinite(value)
    except OverflowError:
        return False


def _fits(dtype: Dtype, value: Any) -> bool:
    """Whether a JSON value is of the column's type; 3.0 is a whole number, true is not."""
    match dtype:
        case "bool":
            return isinstance(value, bool)
        case "category" | "text":
            return isinstance(value, str)
        case "int":
            return isinstance(value, int | float) and not isinstance(value, bool) and (
                isinstance(value, int) or value.is_integer())  # fmt: skip
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "datetime":
            return not isinstance(value, bool) and _instant(value) is not None


def _instant(value: Any) -> float | None:
    """UTC seconds of an ISO 8601 string or a number; None when it is neither."""
    try:
        if isinstance(value, int | float):
            return float(value)
        return _seconds(datetime.fromisoformat(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _cell(column: Column, value: Any) -> Scalar:
    """A checked value in the form the encoder reads."""
    if value is None:
        return None
    if column.dtype == "datetime":
        return _instant(value)
    if column.dtype == "int":
        return int(value)
    return float(value) if column.dtype == "float" else value
