"""Dialects: what a delimited text file is written in: compression, encoding, separator, header."""

import bz2
import codecs
import csv
import gzip
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from fairlead.errors import Invalid

__all__ = ["Dialect", "Finding", "look", "plain", "records"]

CHUNK = 1 << 20
HEAD = 1 << 18
SAMPLE = 200
"""Records of the head that vote on the separator and the header."""

_PACKED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open,
}  # fmt: skip
"""How a file starts, and what opens it for reading."""
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"),
         (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_NUMBER = re.compile(r"[+-]?[$€£]?(\d[\d.,' ]*|\.\d+)([eE][+-]?\d+)?%?|\d{4}-\d\d-\d\d.*").fullmatch


class Finding(Struct, frozen=True, kw_only=True):
    """Something the user should know: in which column ("" for the whole table), what was seen,
    and what was done about it or has to be changed."""

    column: str
    seen: str
    done: str

    def __str__(self) -> str:
        return f"{self.column or 'table'}: {self.seen}; {self.done}"


class Dialect(Struct, frozen=True, kw_only=True):
    """How to read plain UTF-8 text: column names in order, one per field ("" where the file has
    none), `skip` lines before the first record of data."""

    separator: str
    names: tuple[str, ...]
    skip: int
    findings: tuple[Finding, ...] = ()


def plain(path: Path, folder: Path) -> tuple[Path, list[Finding]]:
    """The same text as plain UTF-8 with \\n line ends: `path` itself, or a copy inside `folder`.

    Raises Invalid for archives with several tables and for files that are not text.
    """
    with _unpacked(path) as stream:
        head = stream.read(HEAD)
    if not head.strip():
        raise Invalid(f"{path} is empty", hint="a table needs a header and at least one row")
    if head.lstrip()[:1] in (b"{", b"["):
        raise Invalid(f"{path} looks like JSON", hint="save the table as CSV or Parquet")
    encoding = _encoding(path, head)
    old_mac = b"\r" in head and b"\n" not in head and "16" not in encoding
    packed = zipfile.is_zipfile(path) or any(head_of(path).startswith(m) for m in _PACKED)
    if encoding == "utf-8" and not old_mac and not packed:
        return path, []
    target = folder / "plain.csv"
    try:
        _transcode(path, target, encoding, old_mac)
    except UnicodeDecodeError as error:
        if encoding != "cp1252":
            raise Invalid(f"{path} starts like {encoding} but does not continue so: {error}",
                          hint="save it again as UTF-8") from None  # fmt: skip
        encoding = "latin-1"
        _transcode(path, target, encoding, old_mac)
    if encoding.startswith("utf-8"):
        return target, []
    done = f"read as {encoding}" + ("; save it as UTF-8 if letters look wrong" if "utf" not in encoding else "")
    return target, [Finding(column="", seen="the text is not UTF-8", done=done)]


def look(text: Path) -> Dialect:
    """Separator and header of plain UTF-8 `text`, from its head."""
    with text.open(encoding="utf-8-sig", newline="") as file:
        head = file.read(HEAD)
    if len(head) == HEAD:
        head = head[: head.rfind("\n") + 1] or head
    said = re.match(r"sep=(.)\r?\n", head)
    skip = 1 if said else 0
    lines = head.splitlines(keepends=True)[skip:]
    separator = said[1] if said else _separator(lines)
    rows = list(_records(lines, separator, limit=SAMPLE))
    width = _width([r for _, r in rows])
    at = next((i for i, (_, r) in enumerate(rows) if len(r) in (width, width - 1) and any(r)), 0)
    first = [cell.strip() for cell in rows[at][1]]
    body = [r for _, r in rows[at + 1 :] if len(r) == width]
    findings = [_preamble(rows[:at])] if any(any(r) for _, r in rows[:at]) else []
    if _headless(first, body):
        findings.append(Finding(column="", seen="the first line looks like data, not like names",
                                done="columns are called column_1, column_2, ...; add a header line to name them"))  # fmt: skip
        before = rows[at - 1][0] if at else 0
        return Dialect(separator=separator, names=("",) * width, skip=skip + before,
                       findings=tuple(findings))  # fmt: skip
    if len(first) == width - 1:
        # A separator too many ends every line of data; or R left out the name of the row names.
        first = [*first, ""] if not any(r[-1] for r in body) else ["", *first]
    return Dialect(separator=separator, names=tuple(first), skip=skip + rows[at][0],
                   findings=tuple(findings))  # fmt: skip


def records(text: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Every record of data with the line it ends on (from 1), read leniently and slowly."""
    with text.open(encoding="utf-8-sig", newline="") as file:
        for _ in range(dialect.skip):
            file.readline()
        for line, record in _records(file, dialect.separator):
            yield line + dialect.skip, record


def head_of(path: Path) -> bytes:
    """The first bytes of a file, enough to tell what it is. Raises Invalid when unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", hint="check the path") from None


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    magic = head_of(path)
    opener = next((o for m, o in _PACKED.items() if magic.startswith(m)), _open)
    try:
        if magic.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive)) as file:
                yield file
        else:
            with opener(path) as file:
                yield file
    except (gzip.BadGzipFile, EOFError, lzma.LZMAError, zipfile.BadZipFile, zlib.error) as error:
        raise Invalid(f"{path} cannot be unpacked: {error}", hint="copy the file again") from None


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
    if "[Content_Types].xml" in names:
        raise Invalid(f"{path} is an Office document", hint="save the sheet as CSV, then use that")
    tables = [n for n in names if n.lower().endswith((".csv", ".tsv", ".txt"))] or names
    if len(tables) != 1:
        raise Invalid(f"{path} holds {len(tables)} files: {', '.join(tables[:5])}",
                      hint="unpack it and name the one table to read")  # fmt: skip
    return tables[0]


def _encoding(path: Path, head: bytes) -> str:
    """By byte order mark, by zero bytes, by whether everything is valid UTF-8; else cp1252."""
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    zeros = [head[i : 4096 : 2].count(0) for i in (0, 1)]
    if max(zeros) > min(len(head), 4096) // 5:
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    if 0 in head:
        raise Invalid(f"{path} is not text: it holds zero bytes",
                      hint="a table is CSV (also .gz or .zip) or Parquet")  # fmt: skip
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with _unpacked(path) as stream:
            while chunk := stream.read(CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _transcode(path: Path, target: Path, encoding: str, old_mac: bool) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    with _unpacked(path) as stream, target.open("wb") as out:
        done = False
        while not done:
            chunk = stream.read(CHUNK)
            done = not chunk
            text = decoder.decode(chunk, final=done)
            out.write((text.replace("\r", "\n") if old_mac else text).encode())


def _records(lines: "Sequence[str] | IO[str]", separator: str, limit: int = 0,
             ) -> Iterator[tuple[int, list[str]]]:  # fmt: skip
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != " ")
    try:
        for count, record in enumerate(reader, 1):
            yield reader.line_num, record
            if count == limit:
                return
    except csv.Error as error:
        raise Invalid(f"line {reader.line_num} cannot be read: {error}",
                      hint='look for a quote (") that is opened and never closed') from None  # fmt: skip


def _separator(lines: Sequence[str]) -> str:
    """The candidate that cuts most records into the same number of fields, above one."""
    best, chosen = (0.0, False, 0), ","
    for candidate in (",", ";", "\t", "|", " "):
        rows = [r for _, r in _records(lines, candidate, limit=SAMPLE) if r]
        width = _width(rows)
        if width < 2 or (candidate == " " and best[0] > 0.5):
            continue
        share = sum(len(r) == width for r in rows) / len(rows)
        score = (round(share, 1), len(rows[0]) in (width, width - 1), width)
        if score > best:
            best, chosen = score, candidate
    return chosen


def _width(rows: Sequence[Sequence[str]]) -> int:
    """The usual number of fields; the larger of two equally usual ones."""
    counts = Counter(len(r) for r in rows if r)
    return max(counts, key=lambda n: (counts[n], n), default=1)


def _preamble(rows: Sequence[tuple[int, list[str]]]) -> Finding:
    text = " ".join(" ".join(r) for _, r in rows).strip()[:60]
    return Finding(column="", seen=f"{text!r} stands before the header",
                   done="skipped")  # fmt: skip


def _headless(first: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is data: a number stands wherever all lines below have one."""
    if not body or len(first) != len(body[0]):
        return False
    numeric = [i for i, column in enumerate(zip(*body, strict=True))
               if all(_NUMBER(c.strip()) or not c.strip() for c in column) and any(c.strip() for c in column)]  # fmt: skip
    cells = [first[i] for i in numeric]
    if not cells or not all(_NUMBER(c) or not c for c in cells) or not any(cells):
        return False
    whole = [int(c) for c in cells if c.isdigit()]
    years = len(whole) > 1 and all(b - a == 1 for a, b in pairwise(whole))
    return not (years and len(whole) == len(cells))
