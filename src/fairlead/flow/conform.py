"""Conform: give a frame the six column types, infer its contract, or hold it against one."""

from collections.abc import Collection, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from fairlead.core.schema import CATEGORY_CAP, Column, Dtype, Schema, string_dtype
from fairlead.errors import Invalid, Missing

if TYPE_CHECKING:
    import polars as pl

__all__ = ["canonical", "cast", "conform", "infer_contract"]

_REMEDIES: Mapping[Dtype, str] = {
    "int": "write whole numbers, and nothing where unknown",
    "float": "write numbers with a decimal point, and nothing where unknown",
    "bool": "write true or false, and nothing where unknown",
    "category": "write strings",
    "text": "write strings",
    "datetime": "write ISO 8601 such as 2013-05-01T12:00:00Z",
}


def canonical(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The frame with columns Int64, Float64, Boolean, String and Datetime(us, UTC) only.

    Datetimes without a zone are UTC; durations and times of day become seconds; NaN and
    infinities become null; a column without any value is a null float. Raises Invalid for
    columns that hold lists, structs, bytes or objects.
    """
    import polars as pl

    odd = [f"{s.name} ({s.dtype})" for s in frame.get_columns() if _odd(s.dtype)]
    if odd:
        raise Invalid(f"columns that do not hold single values: {', '.join(odd)}",
                      hint="flatten them into columns of numbers, strings or dates, or ignore them")  # fmt: skip
    return pl.DataFrame([_canonical(s) for s in frame.get_columns()])


def infer_contract(frame: "pl.DataFrame", *, target: str = "", time: str = "", entity: str = "",
                   ignore: Collection[str] = (), like: Schema | None = None) -> Schema:  # fmt: skip
    """What a table promises: types, nullability, ranges, and up to 1,000 known categories.

    `ignore`: columns left out. `like`: a contract whose choice between category and text is kept.
    Raises Missing, with the nearest name, for a role no column has; Invalid when `time` does not
    hold instants.
    """
    frame = canonical(frame.drop(ignore, strict=False))
    known = {c.name: c.dtype for c in like.columns} if like else {}
    roles = {"target": target, "time": time, "entity": entity}
    for role, name in roles.items():
        if name and name not in frame.columns:
            near = get_close_matches(name, frame.columns, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else ""
            raise Missing(f"{role}: the table has no column {name!r}",
                          hint=hint or f"columns: {', '.join(frame.columns)}")  # fmt: skip
    columns = tuple(_infer(s, known.get(s.name)) for s in frame.get_columns())
    contract = Schema(columns=columns, target=target, time=time, entity=entity)
    if time and contract.column(time).dtype != "datetime":
        value = frame.get_column(time).drop_nulls().head(1).to_list()
        raise Invalid(f"time: column {time!r} does not hold instants but {value or 'nothing'}",
                      hint=_REMEDIES["datetime"])  # fmt: skip
    return contract


def conform(frame: "pl.DataFrame", contract: Schema, start: int = 0,
            ) -> tuple["pl.DataFrame", list[str]]:  # fmt: skip
    """A canonical frame with the types of the contract, its columns first and in order, and
    everything that keeps it from that: column, value seen, remedy.

    A column the contract does not know stays as it is; one that is absent is left out. `start`:
    rows of the table before the frame, for the row numbers in messages.
    """
    columns, faults = [], []
    for column in contract.columns:
        if column.name not in frame.columns:
            continue
        series = frame.get_column(column.name)
        fitted = _fit(series, column)
        if fitted is None:
            faults.append(_mistyped(series, column, start))
        columns.append(series if fitted is None else fitted)
        faults += _closed(columns[-1], column, start)
    known = set(contract.names)
    columns += [s for s in frame.get_columns() if s.name not in known]
    return type(frame)(columns), faults


def cast(frame: "pl.DataFrame", contract: Schema) -> "pl.DataFrame":
    """A stored part as the contract has it now: wider types, columns that came later as null."""
    import polars as pl

    wanted = [pl.col(c.name).cast(_physical(c.dtype)) if c.name in frame.columns
              else pl.lit(None, dtype=_physical(c.dtype)).alias(c.name)
              for c in contract.columns]  # fmt: skip
    return frame.select(wanted)


def _odd(dtype: "pl.DataType") -> bool:
    import polars as pl

    return dtype.is_nested() or dtype in (pl.Binary, pl.Object)


def _physical(dtype: Dtype) -> Any:
    import polars as pl

    kinds = {"int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean, "category": pl.String,
             "text": pl.String, "datetime": pl.Datetime("us", "UTC")}  # fmt: skip
    return kinds[dtype]


def _canonical(series: "pl.Series") -> "pl.Series":
    import polars as pl

    dtype = series.dtype
    if dtype in (pl.Int64, pl.Boolean, pl.String, pl.Datetime("us", "UTC")):
        return series
    if dtype.is_integer():
        whole = series.cast(pl.Int64, strict=False)
        exact = whole.null_count() == series.null_count()
        return whole if exact else series.cast(pl.Float64)
    if dtype == pl.Date:
        return series.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(dtype, pl.Datetime):
        micros = series.dt.cast_time_unit("us")
        return (micros.dt.convert_time_zone("UTC") if dtype.time_zone
                else micros.dt.replace_time_zone("UTC"))  # fmt: skip
    if dtype == pl.Duration:
        return series.dt.total_microseconds() / 1e6
    if dtype == pl.Time:
        return series.cast(pl.Int64) / 1e9
    if dtype in (pl.Categorical, pl.Enum):
        return series.cast(pl.String)
    numbers = series.cast(pl.Float64)
    finite = numbers.is_finite()
    if int(finite.sum()) == len(numbers) - numbers.null_count():
        return numbers
    return pl.select(pl.when(finite).then(numbers).alias(series.name)).to_series()


def _infer(series: "pl.Series", known: Dtype | None) -> Column:
    import polars as pl

    name, nullable = series.name, series.null_count() > 0
    values = series.drop_nulls() if nullable else series
    if not len(values):
        return Column(name=name, dtype="float", nullable=True)
    if series.dtype == pl.Boolean:
        return Column(name=name, dtype="bool", nullable=nullable)
    if series.dtype == pl.String:
        return _infer_string(values, nullable, known)
    physical = values.to_physical()
    scale = 1e6 if series.dtype.is_temporal() else 1
    low, high = (float(edge) / scale for edge in (physical.min(), physical.max()))  # type: ignore[arg-type]
    dtype: Dtype = "datetime" if scale != 1 else "int" if series.dtype == pl.Int64 else "float"
    return Column(name=name, dtype=dtype, nullable=nullable, low=low, high=high)


def _infer_string(values: "pl.Series", nullable: bool, known: Dtype | None) -> Column:
    import polars as pl

    counts = values.value_counts(name="n")
    dtype = known if known in ("category", "text") else _string_dtype(values, counts.height)
    if dtype == "text":
        return Column(name=values.name, dtype="text", nullable=nullable)
    order = [-pl.col("n").cast(pl.Int64), pl.col(values.name)]
    top = counts.sort(order).head(CATEGORY_CAP).get_column(values.name)
    return Column(name=values.name, dtype="category", nullable=nullable, categories=tuple(top))


def _string_dtype(values: "pl.Series", distinct: int) -> Dtype:
    rows = len(values)
    characters = int(values.str.len_chars().sum()) / rows
    words = int(values.str.count_matches(r"\s+").sum()) / rows + 1
    return string_dtype(rows=rows, distinct=distinct, characters=characters, words=words)


def _fit(series: "pl.Series", column: Column) -> "pl.Series | None":
    """The column as its contract wants it, or wider (int to float); None when it cannot be."""
    import polars as pl

    wanted = _physical(column.dtype)
    if series.dtype == wanted or column.unknown:
        return series
    if series.null_count() == len(series):
        return pl.Series(series.name, [None], dtype=wanted).new_from_index(0, len(series))
    numbers = series.dtype.is_numeric()
    match column.dtype:
        case "int" if series.dtype == pl.Float64:
            whole = bool(((series == series.round()) & (series.abs() < 2**53)).all())
            return series.cast(pl.Int64) if whole else series
        case "int" | "float" if numbers or series.dtype == pl.Boolean:
            return series.cast(wanted)
        case "bool" if numbers and bool(series.is_in([0, 1]).all()):
            return series.cast(pl.Boolean)
    return None


def _mistyped(series: "pl.Series", column: Column, start: int) -> str:
    import polars as pl

    bad = series.is_not_null()
    if series.dtype == pl.String and column.dtype in ("int", "float"):
        bad = bad & series.cast(pl.Float64, strict=False).is_null()
    elif series.dtype.is_numeric() and column.dtype == "bool":
        bad = bad & ~series.is_in([0, 1])
    row = int(bad.arg_max() or 0)
    value = series.item(row)
    shown = value.isoformat() if isinstance(value, datetime) else repr(value)
    return (f"{column.name}: {shown:.60} in row {start + row + 1:,} is not of type {column.dtype}: "
            f"{_REMEDIES[column.dtype]}")  # fmt: skip


def _closed(series: "pl.Series", column: Column, start: int) -> list[str]:
    import polars as pl

    if not (column.closed and column.categories) or series.dtype != pl.String:
        return []
    bad = series.is_not_null() & ~series.is_in(column.categories)
    if not bad.any():
        return []
    row = int(bad.arg_max() or 0)
    near = get_close_matches(series.item(row), column.categories, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(column.categories[:5])}"
    return [f"{column.name}: {series.item(row)!r:.60} in row {start + row + 1:,} is not among the closed "
            f"categories: {remedy}"]  # fmt: skip
