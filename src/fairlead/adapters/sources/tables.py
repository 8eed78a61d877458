"""Tables from files: CSV of any dialect and Parquet, typed by what the cells hold."""

import csv
from collections.abc import Collection
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from msgspec import Struct

from fairlead.adapters.sources import dialect
from fairlead.adapters.sources.cells import counts_rows, remarks, typed, typed_as
from fairlead.adapters.sources.dialect import Dialect, Finding
from fairlead.adapters.sources.moments import as_moment
from fairlead.core.schema import Schema
from fairlead.errors import Invalid, Missing

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Finding", "Table", "read"]

CHUNK = 1 << 20


class Table(Struct, frozen=True):
    """A file's rows, and what the user should know about how they were read."""

    frame: "pl.DataFrame"
    findings: tuple[Finding, ...]


def read(path: Path, *, target: str = "", moments: Collection[str] = (),
         contract: Schema | None = None) -> Table:  # fmt: skip
    """Read a CSV (any separator and encoding, .gz, .bz2, .xz or .zip too) or Parquet file.

    Columns of strings become int, float, bool or datetime (UTC) when every cell fits; cells that
    mean "no value" become null. With a `contract` its columns are read as it says, or stay
    strings where that is impossible (the commit then names the cell). `target` keeps words like
    yes and no; `moments` are columns that have to be instants, numbers included.

    Raises Invalid, saying what to change in the file; Missing when polars is not installed.
    """
    try:
        import polars as pl
    except ImportError:
        raise Missing("polars is not installed", hint='pip install "fairlead[lab]"') from None
    if path.is_dir():
        raise Invalid(f"{path} is a folder", hint="name one CSV or Parquet file")
    if dialect.head_of(path).startswith(b"PAR1"):
        columns, findings, comma = *_parquet(path), False
    else:
        columns, findings, comma = _text(path)
    done: list[pl.Series] = []
    while columns:
        series, more = _typed(columns.pop(0), comma, target, moments, contract)
        done.append(series.rechunk())
        findings += more
    if not done or not len(done[0]):
        raise Invalid(f"{path} has no rows", hint="a table needs at least one row of data")
    return Table(pl.DataFrame(done), tuple(findings))


def _typed(series: "pl.Series", comma: bool, target: str, moments: Collection[str],
           contract: Schema | None) -> tuple["pl.Series", list[Finding]]:  # fmt: skip
    import polars as pl

    known = {c.name: c for c in contract.columns if not c.unknown} if contract else {}
    moment = series.name in moments
    if series.dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
    if series.dtype != pl.String:
        result, findings = as_moment(series) if moment else (series, [])
    elif series.name in known:
        return typed_as(series, known[series.name], comma=comma)
    else:
        result, findings = typed(series, comma=comma, target=series.name == target, moment=moment)
    return result, findings + ([] if contract else remarks(result))


def _parquet(path: Path) -> tuple[list["pl.Series"], list[Finding]]:
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise Invalid(f"{path} is not a whole Parquet file: {first}", hint="write it again") from None
    kept, findings = [], []
    for series in frame.get_columns():
        if series.dtype.is_nested() or series.dtype in (pl.Binary, pl.Object):
            findings.append(Finding(column=series.name, seen=f"cells are {series.dtype}", done=(
                "left out; flatten it into columns of single values to use it")))  # fmt: skip
        else:
            kept.append(series)
    return kept, findings


def _text(path: Path) -> tuple[list["pl.Series"], list[Finding], bool]:
    """Columns of strings, findings, and whether a lone comma is likelier a decimal one."""
    with TemporaryDirectory(prefix="fairlead-") as scratch:
        text, findings = dialect.plain(path, Path(scratch))
        form = dialect.look(text)
        names, renamed = _names(form.names)
        frame, mended = _parse(path, text, form, names, Path(scratch))
    findings += [*form.findings, *renamed, *mended]
    blank = _all_empty(frame)
    if blank.any():
        findings.append(Finding(column="", seen=f"{blank.sum():,} empty lines", done="skipped"))
        frame = frame.filter(~blank)
    columns = frame.get_columns()
    for at in dict.fromkeys((len(columns) - 1, 0)):
        reason = _useless(columns[at]) if not form.names[at] else ""
        if reason:
            findings.append(Finding(column="", seen=f"column {at + 1} has no name and {reason}",
                                    done="left out"))  # fmt: skip
            columns.pop(at)
    return columns, findings, form.separator == ";"


def _names(given: tuple[str, ...]) -> tuple[list[str], list[Finding]]:
    """Names that are not empty and not twice, with a finding for each that had to change."""
    names: list[str] = []
    findings = []
    for place, raw in enumerate(given, 1):
        wanted = " ".join(raw.split()) or f"column_{place}"
        name, count = wanted, 1
        while name in names or (count > 1 and name in given):
            count += 1
            name = f"{wanted}_{count}"
        if count > 1:
            findings.append(Finding(column=name, seen=f"a second column called {wanted!r}",
                                    done=f"called {name!r} here"))  # fmt: skip
        names.append(name)
    return names, findings


def _useless(series: "pl.Series") -> str:
    import polars as pl

    if _all_empty(series.to_frame()).all():
        return "no cell with a value"
    whole = series.cast(pl.Int64, strict=False)
    return "counts the rows" if counts_rows(whole) else ""


def _all_empty(frame: "pl.DataFrame") -> "pl.Series":
    """Per row: whether no cell holds anything."""
    import polars as pl

    return frame.select(pl.all_horizontal(pl.all().str.len_bytes().fill_null(0) == 0)).to_series()


def _parse(path: Path, text: Path, form: Dialect, names: list[str], scratch: Path,
           ) -> tuple["pl.DataFrame", list[Finding]]:  # fmt: skip
    """All cells as strings. Fast if every line has as many fields as the header, else with care."""
    import polars as pl

    try:
        frame = _csv(text, form, names)
        if len(names) == 1 or _even(text, form, frame):
            return frame, []
    except pl.exceptions.PolarsError:
        pass  # why, and in which line, is for the careful reading to say
    copy = scratch / "even.csv"
    findings = _mend(path, text, form, copy)
    return _csv(copy, Dialect(separator=",", names=form.names, skip=0), names), findings


def _csv(text: Path, form: Dialect, names: list[str]) -> "pl.DataFrame":
    import polars as pl

    return pl.read_csv(text, has_header=False, schema=dict.fromkeys(names, pl.String),
                       separator=form.separator, skip_lines=form.skip, glob=False)  # fmt: skip


def _even(text: Path, form: Dialect, frame: "pl.DataFrame") -> bool:
    """Whether no line is short or long: all separators of the file are accounted for.

    A short line is silently filled with nulls by the fast parser, and half a line lost that way.
    """
    import polars as pl

    separator = form.separator.encode()
    with text.open("rb") as file:
        for _ in range(form.skip):
            file.readline()
        separators = sum(chunk.count(separator) for chunk in iter(partial(file.read, CHUNK), b""))
    gaps = frame.width - 1
    if separators == gaps * frame.height:
        return True
    inside = pl.all().str.count_matches(form.separator, literal=True).sum()
    between = separators - int(frame.select(pl.sum_horizontal(inside)).item())
    blank = int(_all_empty(frame).sum())
    return between in (gaps * frame.height, gaps * (frame.height - blank))


def _mend(path: Path, text: Path, form: Dialect, copy: Path) -> list[Finding]:
    """Write every record with the right number of fields, or say in which lines that fails."""
    width = len(form.names)
    long: list[int] = []
    short: list[int] = []
    broken: list[int] = []
    last, record = 0, [""]
    with copy.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        for number, (line, record) in enumerate(dialect.records(text, form)):
            if len(record) > width and any(record[width:]):
                long.append(line)
            elif 0 < len(record) < width:
                broken += [line] if short and last == number - 1 else []
                short.append(line)
                last = number
            writer.writerow((record + [""] * width)[:width])
    swallowed = record[-1].rstrip("\n").count("\n") if record else 0
    if swallowed and not text.read_bytes().rstrip().endswith(b'"'):
        raise Invalid(f"{path}: a quote is opened in line {line - swallowed:,} and never closed",
                      hint='close it, or double it ("") where it belongs to the text')  # fmt: skip
    if long or broken:
        raise _ragged(path, form, long, broken)
    if not short:
        return []
    return [Finding(column="", seen=f"fewer fields than the header in {_lines(short)}",
                    done="the missing cells are null; check that no line is cut off")]  # fmt: skip


def _ragged(path: Path, form: Dialect, long: list[int], broken: list[int]) -> Invalid:
    if long:
        return Invalid(f"{path}: more than {len(form.names)} fields in {_lines(long)}",
                       hint=f"put quotes around cells that hold the separator {form.separator!r}, "
                       "or save the table with another separator")  # fmt: skip
    return Invalid(f"{path}: broken in two, it seems: {_lines(broken)}",
                   hint="put quotes around cells that hold a line break, or take the break out")  # fmt: skip


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(f"{n:,}" for n in numbers[:5])
    more = f" and {len(numbers) - 5:,} more" if len(numbers) > 5 else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
