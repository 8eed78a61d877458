"""States: what a library's objects hold comes back as it was, and nothing else is ever made."""

import random
from argparse import ArgumentParser, Namespace
from collections import Counter, OrderedDict, defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import Corrupt, Invalid
from fairlead.flavors.state import MAGIC, read, written

plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
keys = st.integers(0, 9) | st.text(max_size=3)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
                      | st.tuples(inner, inner) | inner.map(lambda v: Namespace(field=v)), max_leaves=12)  # fmt: skip


@given(values)
def test_it_comes_back_as_it_was(value: Any) -> None:
    data = written(value, "argparse")
    again = read(data, "argparse")
    assert again == value and type(again) is type(value)
    assert written(again, "argparse") == data


def test_what_is_shared_stays_shared_and_what_is_deep_is_no_trouble() -> None:
    one: Any = Namespace(itself=None, pair=([1], frozenset({2})))
    one.itself, one.same = one, one.pair[0]
    for _ in range(5_000):
        one = Namespace(inner=one)
    again = read(written(one, "argparse"), "argparse")
    while hasattr(again, "inner"):
        again = again.inner
    assert again.itself is again and again.same is again.pair[0] == [1] and again.pair[1] == {2}


def test_containers_keep_their_kind() -> None:
    seeded = random.Random(7)
    value = [OrderedDict(b=1, a=2), Counter("aab"), defaultdict[str, float](float, x=float(np.float64(0.5))), {3, 1}, seeded]
    ordered, counter, default, some, dice = read(written(value, "argparse"), "argparse")
    assert list(ordered) == ["b", "a"] and counter == Counter(a=2, b=1) and some == {1, 3}
    assert default["x"] == 0.5 and type(default["x"]) is float and default["new"] == 0.0
    assert dice.random() == seeded.random()


@pytest.mark.parametrize("value", [Fraction(1, 2), print, np.zeros(2), defaultdict(list), Path("x")])
def test_objects_of_elsewhere_are_refused_by_name(value: Any) -> None:
    with pytest.raises(Invalid, match=type(value).__qualname__):
        written(Namespace(field=value), "argparse")


@pytest.mark.parametrize("entry", [
    ["object", "pathlib", "Path", [], []], ["made", "os", "system", ["true"]], ["made", "argparse", "_sys", []], ["made", "argparse", "FileType", ["w"]],
    ["made", "argparse", "os", []], ["object", "argparse", "nothing", [], []], ["what"], [], "x", None, ["default", "list", []],
])  # fmt: skip
def test_nothing_of_elsewhere_is_made(entry: Any) -> None:
    data = MAGIC + msgspec.msgpack.encode((["#", 0], [entry]))
    with pytest.raises(Corrupt):
        read(data, "argparse")


def test_what_the_library_only_imported_is_not_made() -> None:
    """`logging` has a class of `string`."""
    with pytest.raises(Corrupt, match="no class of its own"):
        read(MAGIC + msgspec.msgpack.encode((["#", 0], [["object", "logging", "Template", [], []]])), "logging")


@given(st.binary(max_size=60))
def test_other_bytes_are_corrupt(data: bytes) -> None:
    for given_bytes in (data, MAGIC + data):
        try:
            read(given_bytes, "argparse")
        except Corrupt:
            continue
    whole = written(ArgumentParser().parse_args([]), "argparse")
    with pytest.raises(Corrupt):
        read(whole[:-1], "argparse")
