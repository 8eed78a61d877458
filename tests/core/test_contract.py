import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.contract import Contract, Malformed, Refused
from fairlead.core.schema import Column, Schema

COLUMNS = (
    Column(name="carrier", dtype="category", closed=True, categories=("UA", "DL", "B6")),
    Column(name="air time/min", dtype="float", nullable=True),
    Column(name="hour", dtype="int"),
    Column(name="late", dtype="bool", nullable=True),
    Column(name="at", dtype="datetime"),
    Column(name="note", dtype="text", nullable=True),
)
ROW: dict[str, Any] = {"carrier": "UA", "air time/min": 1.5, "hour": 7, "late": True,
                       "at": "2013-05-01T12:00:00Z", "note": "a: b"}  # fmt: skip
SCHEMA = Schema(columns=COLUMNS)


def read(row: Any, contract: Contract | None = None) -> tuple[Any, ...]:
    return (contract or Contract(SCHEMA)).read(json.dumps(row).encode())


def faults(row: Any) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as refused:
        read(row)
    assert all(v.message and v.hint for v in refused.value.violations)
    return [(v.code, v.pointer) for v in refused.value.violations]


def test_values_in_the_order_of_the_names() -> None:
    noon = datetime(2013, 5, 1, 12, tzinfo=UTC).timestamp()
    assert read(ROW) == ("UA", 1.5, 7, True, noon, "a: b")
    swapped = dict(reversed(ROW.items()))
    assert read(swapped) == read(ROW)
    short = {"carrier": "B6", "hour": 3.0, "at": 5}
    values = read(short)
    assert values == ("B6", None, 3, None, 5.0, None) and isinstance(values[2], int)
    for same in ("2013-05-01T12:00:00", "2013-05-01 12:00", "2013-05-01T14:00:00+02:00", noon):
        assert read(ROW | {"at": same})[4] == noon


def test_extras_are_carried_and_strangers_counted() -> None:
    contract = Contract(SCHEMA, ["user", "hour", "user"])
    assert contract.names == (*ROW, "user")
    assert read(ROW | {"user": 7}, contract)[-1] == 7
    assert read(ROW, contract)[-1] is None and contract.ignored == 0
    assert read(ROW | {"color": [1, {}]}, contract)[:-1] == read(ROW) and contract.ignored == 1
    with pytest.raises(Refused, match="single value"):
        read(ROW | {"user": [1]}, contract)


def test_every_fault_of_a_row_is_told() -> None:
    assert faults({"carrier": "UB", "hour": 7.5, "late": 1, "at": "noon", "note": 3}) == [
        ("category", "/carrier"), ("type", "/hour"), ("type", "/late"), ("type", "/at"),
        ("type", "/note")]  # fmt: skip
    assert faults(ROW | {"hour": None}) == [("missing", "/hour")]
    assert faults(ROW | {"air time/min": "1"}) == [("type", "/air time~1min")]
    assert faults({}) == [("missing", "/carrier"), ("missing", "/hour"), ("missing", "/at")]
    assert faults(ROW | {"hour": True}) == [("type", "/hour")]


@pytest.mark.parametrize(("name", "code"), [("air time/min", "range"), ("hour", "range"), ("at", "type")])
def test_a_number_that_no_float_holds_is_refused(name: str, code: str) -> None:
    assert (code, f"/{name.replace('/', '~1')}") in faults(ROW | {name: 10**400, "note": 1})


def test_a_typo_is_recognised_only_where_a_column_is_missing() -> None:
    typo = {k: v for k, v in ROW.items() if k != "carrier"} | {"Carrier": "UA"}
    with pytest.raises(Refused) as refused:
        read(typo)
    assert refused.value.pointer == "/Carrier" and refused.value.hint == "rename 'Carrier' to 'carrier'"
    nullable = {k: v for k, v in ROW.items() if k != "air time/min"}
    assert faults(nullable | {"airtime/min": 2}) == [("unknown", "/airtime~1min")]
    assert read(ROW | {"Carrier": "UA"}) == read(ROW)
    with pytest.raises(Refused) as near:
        read(ROW | {"carrier": "UAA"})
    assert near.value.hint == "did you mean 'UA'?"


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"7", b'"x"', b"null", b'{"hour": NaN}', b'{"hour": 1e999}', b'{"hour": 1,}',
    b'{"hour": "\xff"}', b'{"hour": "\\ud800"}', b"[" * 100_000, b'{"a":' * 5000, b"\x00",
    b'{"hour": ' + b"9" * 100_000 + b"}",
])  # fmt: skip
def test_what_is_no_object_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed) as refused:
        Contract(SCHEMA).read(body)
    assert refused.value.hint


@pytest.mark.parametrize("nullable", [True, False])
def test_a_key_twice_is_malformed(nullable: bool) -> None:
    columns = (Column(name="a", dtype="float"), Column(name="b", dtype="text", nullable=nullable))
    contract = Contract(Schema(columns=columns))
    assert contract.read(b'{"a": 1, "b": "x:y"}') == (1.0, "x:y")
    assert contract.read(b'{"a" :1, "b" :"\\":"}') == (1.0, '":')
    for body in (b'{"a":1,"a":2,"b":"x"}', b'{"a":1,"b":"x","b":"x:"}', b'{"b":"x","a" :1,"a":1}',
                 b'{"a" :1,"b":"x","a" :1}'):  # fmt: skip
        with pytest.raises(Malformed, match="twice"):
            contract.read(body)


def test_absent_columns_do_not_hide_a_key_that_comes_twice() -> None:
    columns = (Column(name="a", dtype="float"), Column(name="b", dtype="float", nullable=True))
    contract = Contract(Schema(columns=columns))
    for _ in range(2):  # What one row lacks says nothing of the next.
        with pytest.raises(Refused):
            contract.read(b'{"a":"x"}')
        assert contract.read(b'{"a":1}') == (1.0, None)
        with pytest.raises(Malformed, match="twice"):
            contract.read(b'{"a":1,"a":2}')
        assert contract.read(b'{"a":1,"b":2}') == (1.0, 2.0)


cells = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))


@given(st.dictionaries(st.sampled_from([*ROW, "x"]), cells), st.booleans())
def test_reading_agrees_with_checking(row: dict[str, Any], spaced: bool) -> None:
    """Whatever is sent: either a value for every column, or reasons; never another error."""
    contract = Contract(SCHEMA)
    body = json.dumps(row, separators=(" , ", " : ") if spaced else (",", ":"))
    try:
        values = contract.read(body.encode())
    except Malformed:
        assert "NaN" in body or "Infinity" in body or "\\u" in body or any(
            isinstance(v, int) and abs(v) > 2**63 for v in row.values())  # fmt: skip
    except Refused as refused:
        assert contract.check(row) == list(refused.violations)
    else:
        assert not contract.check(row) and len(values) == len(COLUMNS)
