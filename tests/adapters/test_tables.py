"""Ugly files as people have them: each works, or the error says what to change."""

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.adapters.sources.tables import Table, read
from fairlead.core.schema import Column, Dtype, Schema
from fairlead.errors import Invalid


def table(folder: Path, data: str | bytes, **options: Any) -> Table:
    path = folder / "table.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read(path, **options)


def columns(found: Table) -> dict[str, list[Any]]:
    return found.frame.to_dict(as_series=False)


def told(found: Table) -> str:
    return "\n".join(str(f) for f in found.findings)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


GERMAN = "Größe;Preis;Datum;Kunde\r\n1,75;1.234,50;31.12.2023;Müller\r\n1,80;99,00;01.01.2024;Groß\r\n1,65;;;\r\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_a_german_spreadsheet_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    found = table(tmp_path, GERMAN.encode(encoding))
    assert columns(found) == {
        "Größe": [1.75, 1.8, 1.65], "Preis": [1234.5, 99.0, None],
        "Datum": [at(2023, 12, 31), at(2024, 1, 1), None], "Kunde": ["Müller", "Groß", None]}  # fmt: skip


def test_the_encoding_is_told_when_it_was_guessed(tmp_path: Path) -> None:
    assert not table(tmp_path, GERMAN).findings
    assert "read as cp1252; save it as UTF-8" in told(table(tmp_path, GERMAN.encode("cp1252")))
    found = table(tmp_path, b"a,b\n1,\x81\xe4\n2,x\n")
    assert columns(found)["b"] == ["\x81ä", "x"] and "read as latin-1" in told(found)
    with pytest.raises(Invalid, match="starts like utf-16"):
        table(tmp_path, codecs.BOM_UTF16_LE + "a,b\n".encode("utf-16-le") + b"\x00\xd8\x00")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_and_quotes(tmp_path: Path, separator: str) -> None:
    text = 'a,b,c\n1,"x, y\nz",3\n2,"say ""hi""",4\n'
    found = table(tmp_path, text.replace(",", separator))
    assert columns(found) == {"a": [1, 2], "b": [f"x{separator} y\nz", 'say "hi"'], "c": [3, 4]}


def test_packed_files(tmp_path: Path) -> None:
    plain = columns(table(tmp_path, GERMAN))
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        assert columns(table(tmp_path, pack(GERMAN.encode("cp1252")))) == plain
    for names in (("d/a.csv", "__MACOSX/a.csv"), ("a.csv", "LICENSE")):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in names:
                archive.writestr(name, GERMAN)
        assert columns(table(tmp_path, packed.getvalue())) == plain


@pytest.mark.parametrize(
    ("text", "names", "told_of"),
    [
        ("a,a,b,,a\n1,2,3,4,5\n", ["a", "a_2", "b", "column_4", "a_3"], "a second column called 'a'"),
        (" a , b\tc,\"d\ne\"\n1,2,3\n", ["a", "b c", "d e"], ""),
        ("39, Private, 77516\n50, State, 83311\n", ["column_1", "column_2", "column_3"], "add a header"),
        ("country,2001,2002\nDE,1,2\nFR,3,5\n", ["country", "2001", "2002"], ""),
        ("Sales 2024\nby region\n\na;b;c\n1;2;3\n4;5;6\n", ["a", "b", "c"], "'Sales 2024 by region'"),
        ("sep=;\na;b\n1;2\n", ["a", "b"], ""),
        ("a,b,c\n1,2,3,\n4,5,6,\n", ["a", "b", "c"], "column 4 has no name and no cell"),
        (",x\n" + "".join(f"{i},{i % 3}\n" for i in range(12)), ["x"], "counts the rows; left out"),
        ("x y\n" + "".join(f"{i} {i % 3} 7.5\n" for i in range(12)), ["x", "y"], "counts the rows"),
        ("a,b\r1,2\r3,4\r", ["a", "b"], ""),
        ("only\n1\n2\n", ["only"], ""),
    ],
)  # fmt: skip
def test_headers(tmp_path: Path, text: str, names: list[str], told_of: str) -> None:
    found = table(tmp_path, text)
    assert found.frame.columns == names
    assert told_of in told(found)


@pytest.mark.parametrize(
    ("cells", "values", "told_of"),
    [
        (["1", "-2", "+3"], [1, -2, 3], ""),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0], ""),
        (["1,234", "12,345.5", "7"], [1234.0, 12345.5, 7.0], ""),
        (["1,234", "2,345", "3,456"], [1234, 2345, 3456], "thousands or decimals; read as thousands"),
        (["1,5", "1.234,25", "7"], [1.5, 1234.25, 7.0], ""),
        (["1 234", "12 345,5", "7"], [1234.0, 12345.5, 7.0], ""),
        (["1'234.50", "12'000.00", "1"], [1234.5, 12000.0, 1.0], ""),
        (["$1,200.50", "$3", "$ 4"], [1200.5, 3.0, 4.0], "numbers with $"),
        (["5,00 €", "6,50 €", "7"], [5.0, 6.5, 7.0], "numbers with €"),
        (["12.5%", "13 %", "1"], [12.5, 13.0, 1.0], "numbers with %"),
        (["1", "", "NA"], [1, None, None], "'NA' 1×; read as missing"),
        (["1.5", "nan", "?"], [1.5, None, None], "read as missing"),
        (["1", "2", "unknown"], [1.0, 2.0, None], "'unknown' 1× among numbers; read as missing"),
        (["1.5", "2", "inf"], [1.5, 2.0, None], "'inf' 1× among numbers"),
        (["1", "2", "x17"], ["1", "2", "x17"], "1 of 3 cells are not numbers: 'x17' 1× (first in row 3)"),
        (["01234", "99999", "12345"], ["01234", "99999", "12345"], "leading zeros"),
        (["12345678901234567890", "1", "2"], ["12345678901234567890", "1", "2"], "too many for a number"),
        (["0.5", "00.5", "1"], [0.5, 0.5, 1.0], ""),
        (["yes", "no", "YES"], [True, False, True], "yes is true"),
        (["true", "False", "TRUE"], [True, False, True], ""),
        (["Y", "N", "-"], [True, False, None], "y is true"),
        (["T", "T", "T"], ["T", "T", "T"], "every cell is 'T'"),
        (["f", "m", "f"], ["f", "m", "f"], ""),
        (["yes", "no", "maybe"], ["yes", "no", "maybe"], ""),
        (["", "NA", "null"], [None, None, None], "no cell has a value"),
        (["7", "7", ""], [7, 7, None], "every cell is 7 or null"),
        (["7", "7", "7"], [7, 7, 7], "can learn nothing"),
        ([" a ", "a", "b"], ["a", "a", "b"], ""),
    ],
)  # fmt: skip
def test_cells(tmp_path: Path, cells: list[str], values: list[Any], told_of: str) -> None:
    text = "other\tx\n" + "".join(f"o{c}\t{cell}\n" for c, cell in zip("pqr", cells, strict=True))
    found = table(tmp_path, text)
    assert columns(found)["x"] == values
    assert [type(v) for v in columns(found)["x"]] == [type(v) for v in values]
    assert told_of in told(found) if told_of else "x:" not in told(found)


def test_a_semicolon_file_reads_a_lone_comma_as_decimal(tmp_path: Path) -> None:
    found = table(tmp_path, "a;b;c\n1,234;5;1.234\n2,345;6;7.000\n")
    assert columns(found) == {"a": [1.234, 2.345], "b": [5, 6], "c": [1.234, 7.0]}
    assert "a: cells like '1,234' can be thousands or decimals; read as decimals" in told(found)
    assert "c: cells like '1.234' can be thousands or decimals" in told(found)


NOON = at(2013, 5, 13, 12)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("2013-05-13", at(2013, 5, 13)), ("2013-05-13 12:00:00", NOON), ("2013-05-13T12:00:00Z", NOON),
        ("2013-05-13T12:00:00.000+00:00", NOON), ("2013-05-13 14:00:00+02:00", NOON),
        ("2013-05-13T14:00:00+0200", NOON), ("2013-05-13 14:00:00+02", NOON), ("2013-05-13 12:00", NOON),
        ("2013-05-13 12:00:00,000", NOON), ("2013/05/13 12:00", NOON), ("2013.05.13", at(2013, 5, 13)),
        ("13.05.2013 12:00", NOON), ("5/13/2013 12:00 PM", NOON), ("5/13/13 12:00:00 PM", NOON),
        ("13-May-2013", at(2013, 5, 13)), ("13 May 13", at(2013, 5, 13)), ("13. May 2013", at(2013, 5, 13)),
        ("May 13, 2013", at(2013, 5, 13)), ("Mon, 13 May 2013 12:00:00 +0000", NOON),
        ("20130513T120000", NOON), ("20130513", at(2013, 5, 13)), ("20130513 120000", NOON),
    ],
)  # fmt: skip
def test_dates_in_common_formats(tmp_path: Path, cell: str, value: datetime) -> None:
    found = table(tmp_path, f'made_on,x\n"{cell}",a\n,b\n"{cell}",c\n')
    assert columns(found)["made_on"] == [value, None, value]


def test_dates_of_mixed_precision_and_a_placeholder(tmp_path: Path) -> None:
    cells = ["2013-05-13", "2013-05-13 12:00:00", "2013-05-13T12:00:00.5Z", "0000-00-00"]
    found = table(tmp_path, "x,n\n" + "".join(f"{c},1\n" for c in cells))
    assert columns(found)["x"] == [at(2013, 5, 13), NOON, NOON.replace(microsecond=500_000), None]
    assert "'0000-00-00' 1× among dates; read as missing" in told(found)


def test_a_year_cut_short_is_not_the_first_century(tmp_path: Path) -> None:
    found = table(tmp_path, "x\n13.05.2013\n14.05.2013\n15.05.13\n")
    assert columns(found)["x"][2] == "15.05.13"
    assert "1 of 3 cells are not dates: '15.05.13' 1× (first in row 3)" in told(found)


def test_day_or_month_first(tmp_path: Path) -> None:
    told_apart = table(tmp_path, "x\n13/05/2013\n01/06/2013\n")
    assert columns(told_apart)["x"] == [at(2013, 5, 13), at(2013, 6, 1)] and not told_apart.findings
    by_order = table(tmp_path, "x\n01/02/2013\n03/04/2013\n02/05/2013\n")
    assert columns(by_order)["x"][0] == at(2013, 2, 1)
    assert "read as day first, so that the rows are in order" in told(by_order)
    slashes = table(tmp_path, "x\n05/06/2013\n01/02/2013\n")
    assert columns(slashes)["x"][0] == at(2013, 5, 6)
    assert "month first, by its separator; write 2013-05-31 to be sure" in told(slashes)
    assert columns(table(tmp_path, "x\n05.06.2013\n01.02.2013\n"))["x"][0] == at(2013, 6, 5)
    assert columns(table(tmp_path, "x\n05.05.2013\n01.01.2013\n"))["x"] == [at(2013, 5, 5), at(2013, 1, 1)]


@pytest.mark.parametrize(
    ("cells", "first", "told_of"),
    [
        (["1370000000", "1370000060.5"], at(2013, 5, 31, 11, 33, 20), "read as seconds"),
        (["1370000000000", "1370000060000"], at(2013, 5, 31, 11, 33, 20), "milliseconds"),
        (["1370000000000000", "1370000060000000"], at(2013, 5, 31, 11, 33, 20), "microseconds"),
        (["0", "100"], at(1970, 1, 1), "their order and distances hold"),
        (["2001", "2002"], at(2001, 1, 1), "read as their first day"),
        (["20130501", "20130502"], at(2013, 5, 1), ""),
    ],
)  # fmt: skip
def test_a_column_of_moments_takes_numbers(
    tmp_path: Path, cells: list[str], first: datetime, told_of: str
) -> None:
    found = table(tmp_path, "t,y\n" + "".join(f"{c},1\n" for c in cells), moments=("t",))
    assert columns(found)["t"][0] == first and told_of in told(found)


def test_eight_digits_are_a_number_where_nothing_hints_at_a_date(tmp_path: Path) -> None:
    assert columns(table(tmp_path, "code\n20130501\n20130502\n"))["code"] == [20130501, 20130502]


def test_a_target_keeps_its_words(tmp_path: Path) -> None:
    text = "y,z\nyes,true\nno,false\n"
    assert columns(table(tmp_path, text, target="y"))["y"] == ["yes", "no"]
    assert columns(table(tmp_path, text, target="z"))["z"] == [True, False]


def test_identifiers_free_text_and_row_counters_are_told(tmp_path: Path) -> None:
    note = "the parcel number {} came {} days late and was wet"
    text = "key,note,row\n" + "".join(f"K-{i:05},{note.format(i, i % 7)},{i}\n" for i in range(200))
    found = told(table(tmp_path, text))
    assert "key: 200 different cells in 200 rows, an identifier" in found
    assert "note: free text" in found
    assert "row: it counts the rows; kept; list it under data.ignore" in found


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "is empty", "header and at least one row"),
        (b"a,b\n", "has no rows", "one row of data"),
        (b'""\n""\n', "has no rows", "one row of data"),
        (bytes(range(256)) * 10, "is not text", "CSV"),
        (b'[{"a": 1}]', "looks like JSON", "save the table as CSV"),
        (b"a,b,c\n1,2,3\n4,5,6,7\n8,9,0\n1,2,3,4\n", "more than 3 fields in lines 3, 5", "quotes around"),
        (b"a,b,c\n1,ok,3\n2,hel\nlo,4\n3,x,1\n", "broken in two, it seems: line 4", "line break"),
        (b'a,b\n1,x\n2,"y\n3,z\n', "a quote is opened in line 3 and never closed", "double it"),
        (b'a,b\n1,"x\n2,y\n3,z\n', "a quote is opened in line 2 and never closed", "double it"),
        (b'a,b\n1,x\n2,"y\n3,z\n' + b"4,u\n" * 50_000, "line .* cannot be read", "never closed"),
        (gzip.compress(b"a;b\n1;2\n" * 10_000, mtime=0)[:60], "cannot be unpacked", "copy the file again"),
        (b"PAR1 and then nonsense", "not a whole Parquet file", "write it again"),
        (b"PK\x03\x04 and then nonsense", "cannot be unpacked", "copy"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_a_remedy(
    tmp_path: Path, data: bytes, message: str, hint: str
) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        table(tmp_path, data)
    assert hint in caught.value.hint


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot read"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(Invalid, match="is a folder"):
        read(tmp_path)
    for names, message in ((("a.csv", "b.csv"), "holds 2 files"), (("[Content_Types].xml",), "Office")):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name in names:
                archive.writestr(name, "x\n1\n")
        with pytest.raises(Invalid, match=message):
            table(tmp_path, packed.getvalue())


def test_short_lines_blank_lines_and_sloppy_quotes(tmp_path: Path) -> None:
    short = table(tmp_path, "a,b,c\n1,x,3\n\n2,y,5\n3,z\n")
    assert columns(short)["c"] == [3, 5, None]
    assert "fewer fields than the header in line 5" in told(short)
    blank = table(tmp_path, "a,b\n1,2\n\n3,4\n\n\n")
    assert columns(blank) == {"a": [1, 3], "b": [2, 4]} and "3 empty lines" in told(blank)
    sloppy = table(tmp_path, 'a, b\n1, "x, y"\n2, 5" pipe\n')
    assert columns(sloppy) == {"a": [1, 2], "b": ["x, y", '5" pipe']}


def test_a_contract_says_how_cells_are_read(tmp_path: Path) -> None:
    def contract(**dtypes: Dtype) -> Schema:
        return Schema(columns=tuple(Column(name=n, dtype=d) for n, d in dtypes.items()))

    wanted = contract(zip="category", yes="category", n="int", ok="bool", at="datetime")
    text = 'zip,yes,n,ok,at,new\n123,no,"1,234",Y,1370000000,5\n99,yes,7,N,1370000060,6\n'
    found = table(tmp_path, text, contract=wanted)
    assert columns(found) == {
        "zip": ["123", "99"], "yes": ["no", "yes"], "n": [1234, 7], "ok": [True, False],
        "at": [at(2013, 5, 31, 11, 33, 20), at(2013, 5, 31, 11, 34, 20)], "new": [5, 6]}  # fmt: skip
    half = table(tmp_path, "ok,b\nY,1\n,0\n", contract=contract(ok="bool", b="bool"))
    assert columns(half) == {"ok": [True, None], "b": [1, 0]}
    wrong = table(tmp_path, "n\nabc\n5\n7\n", contract=contract(n="int"))
    assert columns(wrong)["n"] == ["abc", "5", "7"]
    empty = table(tmp_path, "n,m\n,1\n,2\n", contract=contract(n="int"))
    assert columns(empty)["n"] == [None, None]


def test_a_contract_settles_what_ambiguous_dates_mean(tmp_path: Path) -> None:
    text = "day,n\n05/06/2013,1\n01/02/2013,2\n"
    guessed = table(tmp_path, text).frame["day"].to_list()

    def contract(low: datetime) -> Schema:
        return Schema(columns=(Column(name="day", dtype="datetime", low=low.timestamp()),))

    assert columns(table(tmp_path, text, contract=contract(min(guessed))))["day"] == guessed
    day_first = table(tmp_path, text + "04/03/2013,3\n", contract=contract(at(2013, 2, 1)))
    assert columns(day_first)["day"] == [at(2013, 6, 5), at(2013, 2, 1), at(2013, 3, 4)]
    doubtful = table(tmp_path, text, contract=contract(at(2012, 1, 1)))
    assert columns(doubtful)["day"] == ["05/06/2013", "01/02/2013"]


def test_parquet_keeps_its_types_and_reads_its_strings(tmp_path: Path) -> None:
    frame = pl.DataFrame({
        "n": pl.Series([1, 2], dtype=pl.Int16), "day": [date(2024, 1, 1), None], "price": ["1,50", "2,25"],
        "city": pl.Series(["a", "b"], dtype=pl.Categorical), "cost": [Decimal("1.10"), None],
        "tags": [["x"], []], "at": [1370000000, 1370000060], "same": [7, 7],
    })  # fmt: skip
    frame.write_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", moments=("at",))
    assert columns(found)["price"] == [1.5, 2.25] and columns(found)["city"] == ["a", "b"]
    assert columns(found)["at"][0] == at(2013, 5, 31, 11, 33, 20)
    assert found.frame.schema["n"] == pl.Int16 and found.frame.schema["day"] == pl.Date
    assert "same: every cell is 7" in told(found)
    assert "tags" not in found.frame.columns and "tags: cells are List(String); left out" in told(found)


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.tuples(CELL, CELL), min_size=2, max_size=8), st.sampled_from(",;\t|"))
def test_law_well_quoted_text_survives(
    tmp_path: Path, rows: list[tuple[str, str]], separator: str
) -> None:
    frame = pl.DataFrame({
        "key": [f"k{i}" for i in range(len(rows))], "left": [f"x{a}y" for a, _ in rows],
        "right": [f"x{b}y" for _, b in rows]})  # fmt: skip
    frame.write_csv(tmp_path / "t.csv", separator=separator)
    assert read(tmp_path / "t.csv").frame.equals(frame)
