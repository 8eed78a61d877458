"""Tables as models see them; the law: a frame and its rows are encoded to the same bits."""

from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.core.encoding import Codes, Encoding, Flag, Moment, Number, Words, compile_row
from fairlead.core.schema import Column, Dtype, Schema
from fairlead.errors import Invalid, Missing
from fairlead.flavors import table
from fairlead.flavors.table import fit_encoding, transform

EARLY, LATE = datetime(1700, 1, 1), datetime(2260, 1, 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DTYPES: dict[Dtype, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
    "float": (pl.Float64, st.floats(allow_nan=False)),
    "bool": (pl.Boolean, st.booleans()),
    "category": (pl.String, st.sampled_from(["a", "b", "ß", "", "東京", "é", "é"])),
    "text": (pl.String, TEXT | st.sampled_from(["Late again", "İstanbul LATE", "ΣΑΣ σας", "a b"])),
    "datetime": (pl.Datetime("us", "UTC"), st.datetimes(EARLY, LATE, timezones=st.just(UTC))),
}


def schema(**dtypes: Dtype) -> Schema:
    return Schema(columns=tuple(Column(name=n, dtype=d) for n, d in dtypes.items()))


@st.composite
def frames(draw: st.DrawFn) -> tuple[pl.DataFrame, Schema]:
    rows = draw(st.integers(1, 12))
    dtypes = ["int", *draw(st.lists(st.sampled_from(list(DTYPES)), max_size=5))]
    columns, described = [], []
    for i, dtype in enumerate(dtypes):
        kind, values = DTYPES[dtype]
        cells = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns.append(pl.Series(f"c{i}", [draw(values), *cells], dtype=kind))
        described.append(Column(name=f"c{i}", dtype=dtype))
    return pl.DataFrame(columns), Schema(columns=tuple(described))


def same_bits(frame: pl.DataFrame, encoding: Encoding) -> None:
    matrix, encode = transform(frame, encoding), compile_row(encoding)
    assert matrix.shape == (frame.height, encoding.width) and matrix.dtype == np.float32
    for i, row in enumerate(frame.iter_rows(named=True)):
        assert np.array(encode(row), dtype=np.float32).tobytes() == matrix[i].tobytes(), row


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(frames(), st.integers(1, 4))
def test_law_a_frame_and_its_rows_are_the_same_bits(
    drawn: tuple[pl.DataFrame, Schema], most: int
) -> None:
    frame, described = drawn
    same_bits(frame, fit_encoding(frame, described, max_categories=most, tokens=most))


@given(st.lists(st.none() | st.datetimes(EARLY, LATE), min_size=1, max_size=8),
       st.sampled_from([None, "UTC", "Asia/Kathmandu", "America/New_York"]),
       st.sampled_from(["us", "ms", "ns"]))  # fmt: skip
def test_law_instants_in_every_zone_unit_and_spelling(
    instants: list[datetime | None], zone: str | None, unit: Literal["us", "ms", "ns"]
) -> None:
    given = pl.Series("at", instants, dtype=pl.Datetime("us")).dt.cast_time_unit(unit)
    at = given.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else given
    encoding = Encoding((Moment("at"),))
    same_bits(at.to_frame(), encoding)
    matrix, encode = transform(at.to_frame(), encoding), compile_row(encoding)
    for i, value in enumerate(at):
        for spelled in (value and value.isoformat(), value and value.isoformat(" ")):
            assert np.array(encode({"at": spelled}), np.float32).tobytes() == matrix[i].tobytes()
        seconds = value and (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        assert np.array(encode({"at": seconds}), np.float32).tobytes() == matrix[i].tobytes()


def test_law_holds_for_other_physical_types_and_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BLOCK", 3)
    frame = pl.DataFrame({
        "small": pl.Series([1, None, -3, 4] * 2, dtype=pl.Int8),
        "single": pl.Series([0.1, 1e38, None, -0.0] * 2, dtype=pl.Float32),
        "city": pl.Series(["a", "b", None, "a"] * 2, dtype=pl.Categorical),
        "day": pl.Series([datetime(1931, 2, 28), None, datetime(2024, 2, 29), None] * 2).cast(pl.Date),
        "note": ["late train", None, "no train", "late bus"] * 2,
    })  # fmt: skip
    described = schema(small="int", single="float", city="category", day="datetime", note="text")
    encoding = fit_encoding(frame, described)
    dates = frame.with_columns(pl.col("day").cast(pl.Datetime("us")))
    assert transform(frame, encoding).tobytes() == transform(dates, encoding).tobytes()
    same_bits(dates, encoding)


def test_an_encoding_is_fitted_by_frequency_in_a_fixed_order() -> None:
    frame = pl.DataFrame({
        "note": ["the train was late", "the bus was late", "the train was fine"] * 50,
        "city": ["b", "a", "c"] * 50, "n": range(150), "ok": [True, False, None] * 50,
        "at": [datetime(2024, 1, 1)] * 150, "label": ["x", "y", "x"] * 50,
    })  # fmt: skip
    described = Schema(
        columns=schema(note="text", city="category", n="int", ok="bool", at="datetime",
                       label="category").columns, target="label")  # fmt: skip
    words = Words(column="note", tokens=("late", "train", "bus", "fine"))
    every, cut = ("a", "b", "c"), ("a", "b")
    for most, codes in ((3, Codes(column="city", vocabulary=every, unseen="error")),
                        (2, Codes(column="city", vocabulary=cut, unseen="other"))):  # fmt: skip
        found = fit_encoding(frame, described, max_categories=most, unseen="error")
        assert found.columns == (Number("n"), Flag("ok"), codes, Moment("at"), words)


def test_columns_that_teach_nothing_are_left_out() -> None:
    frame = pl.DataFrame({
        "id": [f"user-{i}" for i in range(2000)], "empty": pl.Series([None] * 2000, dtype=pl.Float64),
        "tail": [f"N{i % 300}" for i in range(2000)], "x": range(2000),
    })  # fmt: skip
    described = schema(id="text", empty="float", tail="category", x="int")
    found = fit_encoding(frame, described)
    assert [c.column for c in found.columns] == ["x", "tail"]
    assert isinstance(found.columns[1], Codes) and len(found.columns[1].vocabulary) == 254
    with pytest.raises(Invalid, match="no column to learn from"):
        fit_encoding(frame, schema(id="text", empty="float"))


def test_refusals_name_the_column() -> None:
    encoding = Encoding((Codes(column="city", vocabulary=("a",), unseen="error"),))
    with pytest.raises(Invalid, match="'city' cannot take 'b'"):
        transform(pl.DataFrame({"city": ["a", None, "b"]}), encoding)
    with pytest.raises(Missing, match="no column 'city'"):
        transform(pl.DataFrame({"town": ["a"]}), encoding)
    with pytest.raises(Invalid, match="holds Int64, not strings"):
        transform(pl.DataFrame({"city": [1]}), encoding)
    with pytest.raises(Invalid, match="not numbers"):
        transform(pl.DataFrame({"n": ["1"]}), Encoding((Number("n"),)))
    with pytest.raises(Invalid, match="not datetimes"):
        transform(pl.DataFrame({"at": [1]}), Encoding((Moment("at"),)))


def test_no_rows_no_matrix() -> None:
    frame = pl.DataFrame({"x": [1]})
    assert transform(frame.clear(), fit_encoding(frame, schema(x="int"))).shape == (0, 1)
