"""Moments: strings and numbers that mean instants, in the formats that tables are written in."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import product
from typing import TYPE_CHECKING

from msgspec import Struct

from fairlead.adapters.sources.dialect import Finding

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MOSTLY", "Reading", "as_moment", "dates", "share", "spaced", "where"]

Reading = tuple["pl.Series", list[Finding]]
"""A typed column, null where a cell does not fit the type, and what to tell about it."""

SAMPLE = 1000
MOSTLY = 0.5
"""Share of numbers, or of dates, from which on the other cells of a column are exceptions."""

_TIMES = ("", " %H:%M:%S%.f", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %I:%M%p", " %H%M%S")
_ZONES = ("", "%z", " %z")
_UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"))


class Shape(Struct, frozen=True):
    """A way to write dates: how it looks, what it may mean (two ways: ambiguous, the likelier
    first), each in one or more spellings; `hinted`: numbers look so too, the name has to hint."""

    looks: str
    ways: tuple[tuple[str, ...], ...]
    hinted: bool = False


def dates(values: "pl.Series", *, hinted: bool, guess: bool, low: float | None = None,
          ) -> Iterator[Reading]:  # fmt: skip
    """Strings as UTC instants in each format that most of a sample has.

    Text without an offset is UTC. `hinted`: the column should hold dates, so 20130501 is one.
    Where day and month can be swapped and no cell tells, it is read so that it begins at `low`
    (the earliest instant known), or that the rows are in order; else, with `guess`, month first
    for slashes and day first for dots and dashes; without it, not at all.
    """
    sample = spaced(values)
    clean = None
    for shape in _shapes():
        if shape.hinted and not hinted:
            continue
        if share(sample.str.contains(shape.looks)) < MOSTLY:
            continue
        clean = _clean(values) if clean is None else clean
        yield from _read(clean, shape, guess, low)


def as_moment(series: "pl.Series") -> Reading:
    """Numbers as UTC instants: years, or seconds (or finer, by their size) since 1970; other
    columns as they are."""
    import polars as pl

    if not series.dtype.is_numeric() or series.null_count() == len(series):
        return series, []
    low, high = (float(edge) for edge in series.to_frame().select(
        pl.all().min().alias("low").cast(pl.Float64), pl.all().max().alias("high").cast(pl.Float64)).row(0))  # fmt: skip
    if series.dtype.is_integer() and low >= 1000 and high < 3000:
        text = series.cast(pl.String).str.to_datetime("%Y", strict=False, time_unit="us")
        return text.dt.replace_time_zone("UTC"), [_found(series, "years", "read as their first day")]
    size = max(abs(low), abs(high))
    scale, unit = next(((s, u) for at, s, u in _UNITS if size >= at), (1.0, "seconds"))
    micros = (series.cast(pl.Float64) * (1e6 / scale)).round().cast(pl.Int64, strict=False)
    done = f"read as {unit} since 1970 UTC"
    if size < 1e8:
        done += "; too small for today, but their order and distances hold"
    return micros.cast(pl.Datetime("us", "UTC")), [_found(series, "numbers for instants", done)]


def spaced(values: "pl.Series") -> "pl.Series":
    """About 1,000 of the non-null values, evenly spaced."""
    full = values.drop_nulls()
    return full.gather_every(max(1, len(full) // SAMPLE))


def where(series: "pl.Series", mask: "pl.Series") -> "pl.Series":
    """The series, null where `mask` is not true."""
    import polars as pl

    return pl.select(pl.when(mask).then(series).alias(series.name)).to_series()


def share(mask: "pl.Series") -> float:
    """The share of values that are true; 0 of none."""
    return int(mask.sum()) / len(mask) if len(mask) else 0.0


def _shapes() -> Iterator[Shape]:
    rest = r"(?:[T ]|$)"
    for s in "-/.":
        yield Shape(rf"^\d{{4}}\{s}\d{{1,2}}\{s}\d{{1,2}}{rest}", ((f"%Y{s}%m{s}%d",),))
    for s, (digits, year) in product("/.-", (("{4}", "%Y"), ("{2}", "%y"))):
        ways = (f"%d{s}%m{s}{year}",), (f"%m{s}%d{s}{year}",)
        looks = rf"^\d{{1,2}}\{s}\d{{1,2}}\{s}\d{digits}{rest}"
        yield Shape(looks, ways[::-1] if s == "/" else ways)
    for s, (digits, year) in product(("-", " ", ". ", "/"), (("{4}", "%Y"), ("{2}", "%y"))):
        tail = s.lstrip(".")
        looks = rf"^\d{{1,2}}{s.replace('.', '[.]')}\pL{{3,9}}{tail}\d{digits}{rest}"
        yield Shape(looks, (tuple(f"%d{s}{month}{tail}{year}" for month in ("%b", "%B")),))
    yield Shape(r"^\pL{3,9} \d{1,2},? \d{4}", (("%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y"),))
    yield Shape(r"^\pL{3}, \d{1,2} \pL{3} \d{4} ", (("%a, %d %b %Y",),))
    yield Shape(r"^\d{8}T\d{6}", (("%Y%m%d",),))
    yield Shape(r"^\d{8}( \d{6})?$", (("%Y%m%d",),), True)


def _clean(values: "pl.Series") -> "pl.Series":
    """One spelling of what stands behind the date: blank, point before fractions, full offset."""
    if int(values.str.len_bytes().max() or 0) <= 10:  # type: ignore[arg-type]
        return values
    return (values.str.replace(r"(\d)T(\d)", "$1 $2").str.replace(r"(:\d\d),(\d+)", "$1.$2")
            .str.replace(r"[zZ]$", "+0000").str.replace(r"(:\S*[+-]\d\d)$", "${1}00"))  # fmt: skip


def _read(values: "pl.Series", shape: Shape, guess: bool, low: float | None) -> Iterator[Reading]:
    read = [_parse(values, way) for way in shape.ways]
    fewest = min(r.null_count() for r in read)
    rivals = [(r, way) for r, way in zip(read, shape.ways, strict=True) if r.null_count() == fewest]
    if len(rivals) == 1 or rivals[0][0].equals(rivals[1][0]):
        yield rivals[0][0], []
        return
    begins = [r for r in rivals if low is not None and r[0].dt.timestamp("us").min() == round(low * 1e6)]
    ordered = [r for r in rivals if r[0].drop_nulls().is_sorted()]
    if len(begins) != 1 and len(ordered) != 1 and not guess:
        return
    reasons = ((begins, "as in earlier rows"), (ordered, "so that the rows are in order"),
               (rivals, "by its separator"))  # fmt: skip
    (result, way), why = next((r[0], why) for r, why in reasons if len(r) == 1 or r is rivals)
    cell = values.drop_nulls().item(0)
    yield result, [_found(values, f"dates like {cell!r} can start with day or month",
                          f"read as {'month' if way[0].startswith('%m') else 'day'} first, {why}; "
                          "write 2013-05-31 to be sure")]  # fmt: skip


def _parse(values: "pl.Series", dates: Sequence[str]) -> "pl.Series":
    """The instants, null where no format fits; formats that a sample uses are tried first."""
    import polars as pl

    sample = spaced(values)
    formats = [d + t + z for d, t, z in product(dates, _TIMES, _ZONES) if t or not z]
    hits = {f: len(sample) - _strict(sample, f).null_count() for f in formats}
    found = pl.Series(values.name, [None], dtype=pl.Datetime("us")).new_from_index(0, len(values))
    for form in sorted(formats, key=lambda f: -hits[f]):
        left = (found.is_null() & values.is_not_null()).arg_true()
        if not len(left):
            break
        found = found.scatter(left, _strict(values.gather(left), form))
    return found.dt.replace_time_zone("UTC")


def _strict(values: "pl.Series", form: str) -> "pl.Series":
    """Naive UTC; years before 1000 are two-digit years read wrongly, hence null."""

    read = values.str.to_datetime(form, strict=False, time_unit="us")
    if "%z" in form:
        read = read.dt.replace_time_zone(None)
    return where(read, read >= datetime(1000, 1, 1))


def _found(series: "pl.Series", seen: str, done: str) -> Finding:
    return Finding(column=series.name, seen=seen, done=done)
