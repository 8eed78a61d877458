import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.encoder import Encoder
from fairlead.core.encoding import (
    Codes,
    ColumnEncoding,
    Encoding,
    Flag,
    Moment,
    Number,
    Words,
    compile_row,
)  # fmt: skip
from fairlead.errors import Invalid

NAMES = ("n", "m", "f", "c", "d", "w", "t", "unused")
KINDS: tuple[ColumnEncoding, ...] = (
    Number("n"), Number("m"), Flag("f"), Codes(column="c", vocabulary=("a", "b")),
    Codes(column="d", vocabulary=("a", "b"), unseen="error"), Words(column="w", tokens=("red", "blue")),
    Moment("t"),
)  # fmt: skip
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**400), 10**400)
rows = st.fixed_dictionaries({
    "n": numbers, "m": numbers, "f": st.none() | st.booleans(),
    "c": st.sampled_from([None, "a", "b", "zz"]), "d": st.sampled_from([None, "a", "b"]),
    "w": st.none() | st.sampled_from(["", "red", "Blue red-red 9"]),
    "t": st.none() | st.floats(0, 4e9) | st.sampled_from(["2013-05-01T12:00:00Z"]),
    "unused": st.none(),
})  # fmt: skip


@given(st.lists(st.sampled_from(KINDS), min_size=1, unique=True), rows)
def test_equal_to_the_plain_encoder_to_the_last_bit(
    columns: list[ColumnEncoding], row: dict[str, Any]
) -> None:
    encoding = Encoding(tuple(columns))
    expected = np.array(compile_row(encoding)(row), dtype=np.float64).astype("<f4")
    found = np.frombuffer(Encoder(encoding, NAMES).encode([row[n] for n in NAMES]), dtype="<f4")
    np.testing.assert_array_equal(found, expected)


def test_values_as_they_are_take_the_short_way() -> None:
    encoder = Encoder(Encoding((Number("n"), Flag("f"))), ("n", "f"))
    assert encoder.encode((1.5, True)) == struct.pack("<2f", 1.5, 1.0)
    assert np.isnan(np.frombuffer(encoder.encode((None, False)), dtype="<f4")[0])


def test_a_closed_vocabulary_names_the_column() -> None:
    encoder = Encoder(Encoding((Number("n"), KINDS[4])), NAMES)
    with pytest.raises(Invalid) as refused:
        encoder.encode((1, 2, True, "a", "zz", None, None, None))
    assert refused.value.pointer == "/d"
