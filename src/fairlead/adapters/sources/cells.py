"""Cells: what a column of strings really holds, and the same column with that type."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from fairlead.adapters.sources.dialect import Finding
from fairlead.adapters.sources.moments import (
    MOSTLY,
    Reading,
    as_moment,
    dates,
    share,
    spaced,
    where,
)  # fmt: skip
from fairlead.core.schema import Column, string_dtype

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LOOSE_NULLS", "NULLS", "remarks", "typed", "typed_as"]

NULLS = ("", "NA", "N/A", "n/a", "na", "NaN", "nan", "null", "NULL", "Null", "None", "?", "-", "--",
         "#N/A", "<NA>", "NaT")  # fmt: skip
"""Cells that mean: no value."""

LOOSE_NULLS = ("none", "unknown", "missing", "n.a.", "nil", "undefined", "tba", "tbd", ".", "#div/0!",
               "#value!", "#ref!", "inf", "-inf", "+inf", "infinity", "-infinity", "0000-00-00",
               "00/00/0000", "00.00.0000", "0000-00-00 00:00:00", "0001-01-01")  # fmt: skip
"""Cells that mean: no value, but only among numbers or dates (compared in lower case)."""

_HINT = re.compile(r"date|day|time|(^|_)(dt|at|on|ts)$|^dt").search
"""Names of columns where 20130501 is a date and not a number."""

BOOLEANS = (("true", "false"), ("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"))
SAMPLE = 1000

_SHAPES = {
    "point": r"^[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?$",
    "comma": r"^[+-]?(\d{1,3}(\.\d{3})+|\d+)?(,\d+)?$",
    "space": r"^[+-]?\d{1,3}([ '\u{2019}\u{a0}\u{202f}]\d{3})*([.,]\d+)?$",
}
"""How numbers are written with a decimal point, a decimal comma, or thousands set apart."""


def typed(series: "pl.Series", *, comma: bool, target: bool = False, moment: bool = False) -> Reading:
    """A column of strings as int, float, bool, datetime or still strings, by what all cells hold.

    `comma`: the file is one where a lone comma is likelier a decimal one. A `target` keeps words
    like yes and no, for they name its classes. A `moment` is read as an instant if at all possible.
    """
    import polars as pl

    hinted = moment or bool(_HINT(series.name.lower()))
    quick = None if hinted else _quick(series, comma)
    if quick is not None:
        return quick, []
    values, findings = _nulls(series)
    if values.null_count() == len(values):
        return values.cast(pl.Float64), [_found(series, "no cell has a value", "kept, all null")]
    result, more = _best(values, _attempts(values, comma, target, hinted))
    findings += more
    if moment:
        result, more = as_moment(result)
        findings += more
    return result, findings


def typed_as(series: "pl.Series", column: Column, *, comma: bool) -> Reading:
    """A column of strings read as a contract wants it; still strings where that cannot be done.

    Dates that can be read two ways stay strings: a guess could contradict the earlier rows.
    """
    values, findings = _nulls(series)
    if column.dtype in ("category", "text") or values.null_count() == len(values):
        return values, findings
    readings = _numbers(values, comma)
    if column.dtype == "bool":
        readings = chain(_booleans(values, alone=True), readings)
    elif column.dtype == "datetime":
        instants = dates(values, hinted=True, guess=False, low=column.low)
        readings = chain(instants, ((as_moment(r)[0], f) for r, f in readings))
    result, more = _best(values, readings)
    return result, findings + more


def _quick(series: "pl.Series", comma: bool) -> "pl.Series | None":
    """The numbers of a column that holds nothing else: most columns, in a tenth of the time."""
    sample = spaced(series)
    if not len(sample) or _plain(sample).null_count() or (comma and _grouped(sample)):
        return None
    result = _plain(series)
    return result if result.null_count() == series.null_count() and not _is_code(series, result) else None


def remarks(series: "pl.Series") -> list[Finding]:
    """What is worth knowing about a typed column: one value only, a row counter, an identifier."""
    import polars as pl

    values = series.drop_nulls()
    if len(values) and values.min() == values.max():
        constant = len(values) == len(series)
        seen = f"every cell is {values.item(0)!r:.40}" + ("" if constant else " or null")
        return [_found(series, seen, "kept; a model can learn nothing from it" if constant else "kept")]
    if series.dtype.is_integer() and counts_rows(series):
        return [_found(series, "it counts the rows", "kept; list it under data.ignore, for it tells "
                       "a model nothing but the order")]  # fmt: skip
    if series.dtype == pl.String:
        return _identifier(series, values)
    return []


def counts_rows(series: "pl.Series") -> bool:
    """Whether whole numbers go up by one from row to row."""
    steps = series.diff().slice(1)
    return len(series) > 9 and series.null_count() == 0 and bool((steps == 1).all())


def _found(series: "pl.Series", seen: str, done: str) -> Finding:
    return Finding(column=series.name, seen=seen, done=done)


def _nulls(series: "pl.Series") -> Reading:
    """Blanks trimmed, words for "no value" made null and counted."""
    trimmed = series.str.strip_chars()
    absent = trimmed.is_in(NULLS).fill_null(False)
    if not absent.any():
        return trimmed, []
    counts = trimmed.filter(absent).value_counts(sort=True).rows()
    words = [f"{word!r} {n:,}×" for word, n in counts if word]
    findings = [_found(series, f"cells {', '.join(words)}", "read as missing")] if words else []
    return where(trimmed, ~absent), findings


def _attempts(values: "pl.Series", comma: bool, target: bool, hinted: bool) -> Iterator[Reading]:
    yield from _booleans(values, only_true_false=target)
    if hinted:
        yield from dates(values, hinted=True, guess=True)
    yield from _numbers(values, comma)
    if not hinted:
        yield from dates(values, hinted=False, guess=True)


def _best(values: "pl.Series", readings: Iterator[Reading]) -> Reading:
    """The first reading that fits every cell; else the strings, and why the nearest did not fit.

    A reading has nulls where it does not fit.
    """
    nearest: Reading | None = None
    for reading in readings:
        result = reading[0]
        if result.null_count() == values.null_count():
            return reading
        if nearest is None or result.null_count() < nearest[0].null_count():
            nearest = reading
    if nearest is None:
        return values, []
    result, findings = nearest
    odd = values.filter(result.is_null() & values.is_not_null())
    kind = "dates" if result.dtype.is_temporal() else "numbers"
    counts = odd.value_counts(sort=True).rows()
    shown = ", ".join(f"{word!r:.40} {n:,}×" for word, n in counts[:3])
    if all(word.lower() in LOOSE_NULLS for word, _ in counts):
        return result, [*findings, _found(values, f"{shown} among {kind}", "read as missing")]
    total = len(values) - values.null_count()
    if len(odd) > total * (1 - MOSTLY):
        return values, []
    row = int((result.is_null() & values.is_not_null()).arg_max() or 0) + 1
    seen = f"{len(odd):,} of {total:,} cells are not {kind}: {shown} (first in row {row:,})"
    return values, [_found(values, seen, f"read as strings; to have {kind}, correct or empty them")]


def _booleans(values: "pl.Series", only_true_false: bool = False, alone: bool = False,
              ) -> Iterator[Reading]:  # fmt: skip
    """`alone`: one of a pair is enough, even a lone T."""
    sample = {word.lower() for word in values.drop_nulls().head(SAMPLE)}
    pair = next((p for p in BOOLEANS if sample <= set(p)), None)
    if pair is None or (only_true_false and pair[0] != "true"):
        return
    lower = values.str.to_lowercase()
    if not alone and pair[0] not in ("true", "yes") and lower.drop_nulls().n_unique() < 2:
        return
    seen = f"cells {pair[0]}/{pair[1]}"
    findings = [] if pair[0] == "true" else [_found(values, seen, f"read as boolean, {pair[0]} is true")]
    yield where(lower == pair[0], lower.is_in(pair)), findings


def _numbers(values: "pl.Series", comma: bool) -> Iterator[Reading]:
    """Plain numbers; then those with currency, percent, thousands separators, decimal commas."""
    sample = spaced(values)
    plain = _plain(sample)
    if plain.null_count() <= len(sample) * (1 - MOSTLY):
        if _is_code(values, _plain(values)):
            return
        doubt = comma and _grouped(sample)
        yield _plain(values), [_doubt(values, sample.item(0), "decimals")] if doubt else []
        if plain.null_count() == 0:
            return
    symbols = sorted({c for cell in sample for c in cell} & set("$€£¥%"))
    dressed = values.str.replace_all(r"^[$€£¥]\s*|\s*[$€£¥%]$", "") if symbols else values
    findings = [_found(values, f"numbers with {' '.join(symbols)}", "read as numbers without it")] if symbols else []  # fmt: skip
    shapes = ("comma", "point", "space") if comma else ("point", "comma", "space")
    fitting = [n for n in shapes if share(spaced(dressed).str.contains(_SHAPES[n])) >= MOSTLY]
    for name in fitting:
        result = _undress(dressed, name)
        twice = name != "space" and {"comma", "point"} <= set(fitting) and _same_shape(dressed)
        meaning = "decimals" if name == "comma" else "thousands"
        yield result, findings + ([_doubt(values, sample.item(0), meaning)] if twice else [])


def _plain(values: "pl.Series") -> "pl.Series":
    import polars as pl

    whole = values.cast(pl.Int64, strict=False)
    if whole.null_count() == values.null_count():
        return whole
    result = values.cast(pl.Float64, strict=False)
    return where(result, result.is_finite())


def _is_code(values: "pl.Series", numbers: "pl.Series") -> bool:
    """Leading zeros, or more digits than a number keeps: numbers would lose what they say."""
    if numbers.dtype.is_integer():
        zeros = values.str.starts_with("0") & (values.str.len_bytes() > 1)
        return bool(zeros.any())
    huge = values.filter(numbers.abs() >= 1e18)
    return bool(huge.str.contains(r"^\d+$").any())


def _grouped(values: "pl.Series") -> bool:
    return bool(values.str.contains(r"^\d{1,3}\.\d{3}$").all())


def _same_shape(values: "pl.Series") -> bool:
    return bool(values.drop_nulls().str.contains(r"^[+-]?\d{1,3}([.,]\d{3})?$").all())


def _undress(values: "pl.Series", shape: str) -> "pl.Series":
    bare = where(values, values.str.contains(_SHAPES[shape]))
    match shape:
        case "point":
            bare = bare.str.replace_all(",", "", literal=True)
        case "comma":
            bare = bare.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        case _:
            bare = bare.str.replace_all(r"[ '\u{2019}\u{a0}\u{202f}]", "").str.replace(",", ".", literal=True)
    return _plain(bare)


def _doubt(values: "pl.Series", cell: str, done: str) -> Finding:
    return _found(values, f"cells like {cell!r} can be thousands or decimals",
                  f"read as {done}; write numbers like 1234.5 to be sure")  # fmt: skip


def _identifier(series: "pl.Series", values: "pl.Series") -> list[Finding]:
    rows, distinct = len(values), values.n_unique()
    words = int(values.str.count_matches(r"\s+").sum()) / max(rows, 1) + 1
    characters = int(values.str.len_chars().sum()) / max(rows, 1)
    dtype = string_dtype(rows=rows, distinct=distinct, characters=characters, words=words)
    if rows >= 100 and distinct > 0.9 * rows and words < 1.5:
        return [_found(series, f"{distinct:,} different cells in {rows:,} rows, an identifier",
                       "kept; a model learns nothing from it, list it under data.ignore")]  # fmt: skip
    if dtype == "text":
        return [_found(series, "free text", "kept; models see its length and its commonest words")]
    if values.str.contains(r"^\d+$").all():
        return [_found(series, "digits with leading zeros, or too many for a number",
                       "read as strings")]  # fmt: skip
    return []
