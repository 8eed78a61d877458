"""Encodings of one row: every kind of column, every form a value arrives in, every refusal."""

from datetime import UTC, datetime, timedelta, timezone
from math import isnan, nan
from typing import Any

import numpy as np
import pytest

from fairlead.core.encoding import (
    FLOAT32_MAX,
    Codes,
    Encoding,
    Flag,
    Moment,
    Number,
    Words,
    compile_row,
    words_in,
)
from fairlead.errors import Invalid

EVERYTHING = Encoding((
    Number("age"), Flag("member"), Codes(column="city", vocabulary=("Bonn", "Köln")),
    Moment("at"), Words(column="note", tokens=("late", "größe")), Number("height"),
))  # fmt: skip


def test_a_whole_row() -> None:
    row = {"age": 41, "member": True, "city": "Köln", "at": "2024-03-01T13:00:00+01:00",
           "note": "Late, LATE: Größe 5!", "height": 1.75}  # fmt: skip
    seconds = datetime(2024, 3, 1, 12, tzinfo=UTC).timestamp()
    assert compile_row(EVERYTHING)(row) == [41, 1, 1, seconds, 12, 4, 61, 20, 4, 1, 1, 1.75]
    assert EVERYTHING.width == len(EVERYTHING.names) == 12
    assert EVERYTHING.names[3:10] == ("at.seconds", "at.hour", "at.weekday", "at.yearday",
                                      "note.characters", "note.words", "note:late")  # fmt: skip


@pytest.mark.parametrize("row", [{}, dict.fromkeys(c.column for c in EVERYTHING.columns)])
def test_nothing_is_null_is_nan(row: dict[str, None]) -> None:
    assert all(isnan(v) for v in compile_row(EVERYTHING)(row))


def one(column: Any, value: Any) -> list[float]:
    return compile_row(Encoding((column,)))({column.column: value})


def test_numbers_are_clamped_to_float32() -> None:
    assert one(Number("x"), 1e300) == [FLOAT32_MAX]
    assert one(Number("x"), -1e300) == [-FLOAT32_MAX]
    assert one(Number("x"), 10**400) == [FLOAT32_MAX]
    assert isnan(one(Number("x"), nan)[0])
    assert np.isfinite(np.array(one(Number("x"), 1e300), dtype=np.float32)).all()


def test_an_unseen_category() -> None:
    column = Codes(column="city", vocabulary=("Bonn",))
    assert one(column, "Aachen") == [-1.0]
    closed = Encoding((Codes(column="a/b", vocabulary=("Bonn",), unseen="error"),
                       Codes(column="city", vocabulary=("Ulm",), unseen="error")))  # fmt: skip
    assert compile_row(closed)({"a/b": "Bonn", "city": "Ulm"}) == [0.0, 0.0]
    assert isnan(compile_row(closed)({"city": "Ulm"})[0])
    with pytest.raises(Invalid, match="'city' cannot take 'Bonn'") as caught:
        compile_row(closed)({"a/b": "Bonn", "city": "Bonn"})
    assert caught.value.pointer == "/city"
    with pytest.raises(Invalid) as caught:
        compile_row(closed)({"a/b": "Ulm", "city": "Ulm"})
    assert caught.value.pointer == "/a~1b"


MIDNIGHT = datetime(2023, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    ["2023-12-31T00:00:00Z", "2023-12-31", "2023-12-31 00:00:00", "2023-12-31T02:30:00+02:30",
     "2023-12-31T00:00:00.999999", MIDNIGHT, MIDNIGHT.replace(tzinfo=None), MIDNIGHT.timestamp(),
     int(MIDNIGHT.timestamp()), MIDNIGHT.astimezone(timezone(timedelta(hours=-8)))],
)  # fmt: skip
def test_an_instant_in_every_form(value: Any) -> None:
    assert one(Moment("at"), value) == [MIDNIGHT.timestamp(), 0, 6, 365]


def test_instants_before_1970_and_at_the_ends_of_time() -> None:
    assert one(Moment("at"), "1969-12-31T23:59:59.5Z") == [-1, 23, 2, 365]
    assert one(Moment("at"), -0.5) == [-1, 23, 2, 365]
    assert one(Moment("at"), "0001-01-01")[1:] == [0, 0, 1]
    assert one(Moment("at"), "9999-12-31T23:00:00Z")[1:] == [23, 4, 365]


@pytest.mark.parametrize(
    ("column", "value"),
    [(Number("x"), "12"), (Number("x"), [1]), (Flag("x"), "yes"), (Codes(column="x", vocabulary=()), [1]),
     (Codes(column="x", vocabulary=("a",), unseen="error"), 5), (Words(column="x", tokens=()), 5),
     (Moment("x"), "yesterday"), (Moment("x"), 1e30), (Moment("x"), [1]),
     (Moment("x"), "0001-01-01T00:00:00+01:00")],
)  # fmt: skip
def test_what_cannot_be_encoded_is_refused_by_name(column: Any, value: Any) -> None:
    encoding = Encoding((Number("fine"), column))
    with pytest.raises(Invalid, match="column 'x' cannot take") as caught:
        compile_row(encoding)({"fine": 1, "x": value})
    assert caught.value.pointer == "/x" and caught.value.hint


def test_words_are_lower_case_runs_of_letters_and_digits() -> None:
    assert words_in("Don't stop; ÄRGER_1 2x — 東京") == ["don", "t", "stop", "ärger_1", "2x", "東京"]
    assert words_in(" \t\n") == []
