"""Schemas: what may change without anybody noticing, what widens, what breaks."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fairlead.core.schema import CATEGORY_CAP, Column, Dtype, Schema, diff, string_dtype, widen
from fairlead.errors import Missing

AGE = Column(name="age", dtype="int", low=18, high=90)


def schema(*columns: Column, **roles: str) -> Schema:
    return Schema(columns=columns, **roles)


def change(before: Column, **fields: Any) -> tuple[str, str]:
    """Size and texts of the diff when one column changes."""
    found = diff(schema(before), schema(replace(before, **fields)))
    return found.size, "; ".join(c.text for c in found.changes)


def test_a_schema_is_the_same_as_itself() -> None:
    found = diff(schema(AGE, target="age"), schema(AGE, target="age"))
    assert (found.size, found.changes) == ("same", ())


def test_nulls() -> None:
    assert change(AGE, nullable=True) == ("wider", "may now be null")
    size, text = change(replace(AGE, nullable=True), nullable=False)
    assert size == "breaking" and "callers who send null" in text


def test_ranges() -> None:
    assert change(AGE, high=120.0) == ("wider", "range widened from 18..90 to 18..120")
    assert change(AGE, low=20.0) == ("same", "range narrowed from 18..90 to 20..90")
    when = Column(name="at", dtype="datetime", low=0, high=86400)
    size, text = change(when, high=172800.0)
    assert size == "wider" and text.endswith("to 1970-01-01T00:00:00+00:00..1970-01-03T00:00:00+00:00")


@pytest.mark.parametrize(
    ("before", "after", "size"),
    [("int", "float", "wider"), ("float", "int", "breaking"), ("category", "text", "wider"),
     ("text", "category", "wider"), ("int", "category", "breaking"), ("bool", "int", "breaking"),
     ("datetime", "text", "breaking")],
)  # fmt: skip
def test_types(before: Any, after: Any, size: str) -> None:
    found = diff(schema(Column(name="x", dtype=before)), schema(Column(name="x", dtype=after)))
    assert found.size == size
    assert found.changes[0].text == f"was {before}, now it is {after}"


def test_columns_come_and_go() -> None:
    assert diff(schema(AGE), schema()).size == "breaking"
    new = Column(name="income", dtype="float", nullable=True)
    assert diff(schema(AGE), schema(AGE, new)).size == "wider"
    found = diff(schema(AGE), schema(AGE, replace(new, nullable=False)))
    assert found.size == "breaking" and found.changes[0].column == "income"


def test_categories() -> None:
    sex = Column(name="sex", dtype="category", categories=("f", "m"))
    assert change(sex, categories=("f", "m", "x")) == ("wider", "has 1 new value: 'x'")
    assert change(sex, categories=("f",)) == ("same", "lost 1 known value: 'm'")
    assert change(sex, closed=True)[0] == "breaking"
    closed = replace(sex, closed=True)
    assert change(closed, closed=False)[0] == "wider"
    assert change(closed, categories=("f",))[0] == "breaking"
    full = replace(sex, categories=tuple(f"v{i}" for i in range(CATEGORY_CAP)))
    assert change(full, categories=(*full.categories[1:], "w"))[0] == "same"


def test_a_column_without_values_may_become_anything() -> None:
    empty = Column(name="x", dtype="float", nullable=True)
    found = diff(schema(empty), schema(Column(name="x", dtype="category", nullable=True)))
    assert (found.size, found.changes[0].text) == (
        "wider", "has values for the first time (category)")  # fmt: skip
    assert diff(schema(empty), schema(replace(empty, nullable=False, low=1, high=2))).size == "breaking"


def test_roles() -> None:
    plain = schema(AGE)
    assert diff(plain, schema(AGE, time="age")).size == "wider"
    assert diff(schema(AGE, time="age"), plain).size == "breaking"
    assert diff(plain, schema(AGE, target="age")).changes[0].text == "the target was unset, now it is age"
    assert diff(plain, schema(AGE, target="age")).size == "breaking"


def test_an_unknown_column_is_missing() -> None:
    with pytest.raises(Missing, match="no column 'height'") as caught:
        schema(AGE).column("height")
    assert "age" in caught.value.hint


@st.composite
def columns(draw: st.DrawFn, name: str) -> Column:
    dtype = draw(st.sampled_from(get_args(Dtype)))
    low = high = None
    categories: tuple[str, ...] = ()
    if dtype in ("int", "float", "datetime"):
        low, high = sorted([draw(st.integers(-5, 5)), draw(st.integers(-5, 5))])
    if dtype == "category":
        categories = tuple(draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1)))
    return Column(name=name, dtype=dtype, nullable=draw(st.booleans()), low=low, high=high,
                  categories=categories)  # fmt: skip


@given(st.data())
def test_law_widening_never_breaks_and_holds_for_both(data: st.DataObject) -> None:
    before = schema(*(data.draw(columns(n)) for n in data.draw(st.sets(st.sampled_from("xyz")))))
    names = data.draw(st.sets(st.sampled_from("xyzw")))
    known = {c.name: c for c in before.columns}
    seen = schema(*(_like(known.get(n), data.draw(columns(n))) for n in names))
    both = widen(before, seen)
    assert diff(before, both).size in ("same", "wider")
    assert widen(both, seen) == both
    assert widen(both, before) == both
    for column in seen.columns:
        wide = both.column(column.name)
        assert wide.nullable or not column.nullable
        assert set(column.categories) <= set(wide.categories) or wide.dtype == "text"


def _like(known: Column | None, drawn: Column) -> Column:
    """A column that may follow the known one: of the same type, or a float after an int."""
    if known is None or drawn.dtype == known.dtype or (known.dtype, drawn.dtype) == ("int", "float"):
        return drawn
    return known


@pytest.mark.parametrize(
    ("rows", "distinct", "characters", "words", "dtype"),
    [(1000, 5, 4, 1, "category"), (1000, 900, 60, 9, "text"), (10, 10, 5, 1, "category"),
     (50_000, 50_000, 12, 1, "text"), (0, 0, 0, 0, "category"), (50_000, 4_000, 6, 1, "category")],
)  # fmt: skip
def test_strings_are_categories_or_texts(
    rows: int, distinct: int, characters: float, words: float, dtype: str
) -> None:
    assert string_dtype(rows=rows, distinct=distinct, characters=characters, words=words) == dtype
