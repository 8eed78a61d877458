"""Profiles: what they count, and that they merge in any order and grouping."""

from math import inf, nan

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.profile import (
    ColumnProfile,
    TableProfile,
    merge,
    merge_tables,
    profile_labels,
    profile_numbers,
    quantile_edges,
)
from fairlead.errors import Invalid, Missing

EDGES = (-1.0, 0.0, 2.0, 50.0)

numbers = st.lists(
    st.one_of(st.just(nan), st.integers(-5, 60).map(float), st.floats(-1e6, 1e6)), max_size=40
).map(lambda v: profile_numbers("x", np.array(v, dtype=np.float64), EDGES))
labels = st.tuples(
    st.dictionaries(st.text(max_size=3), st.integers(1, 9), max_size=8), st.integers(0, 5)
).map(lambda c: profile_labels("x", c[0], c[1]))
three = st.one_of(st.tuples(numbers, numbers, numbers), st.tuples(labels, labels, labels))


def same(a: ColumnProfile, b: ColumnProfile) -> bool:
    """Equal to the last bit, except for the rounding of mean and m2."""
    assert a.mean == pytest.approx(b.mean, rel=1e-9, abs=1e-6)
    assert a.m2 == pytest.approx(b.m2, rel=1e-9, abs=1e-3)
    blank = {"mean": 0.0, "m2": 0.0}
    return msgspec.structs.replace(a, **blank) == msgspec.structs.replace(b, **blank)


@given(three)
def test_merge_is_associative_and_commutative(
    parts: tuple[ColumnProfile, ColumnProfile, ColumnProfile],
) -> None:
    a, b, c = parts
    assert same(merge(a, b), merge(b, a))
    assert same(merge(merge(a, b), c), merge(a, merge(b, c)))


@given(st.lists(st.one_of(st.just(nan), st.floats(-1e3, 1e3)), max_size=60), st.integers(0, 60))
def test_merged_parts_are_the_whole(values: list[float], cut: int) -> None:
    whole = profile_numbers("x", values, EDGES)
    parts = merge(
        profile_numbers("x", values[:cut], EDGES), profile_numbers("x", values[cut:], EDGES)
    )
    assert same(whole, parts)


def test_numbers() -> None:
    p = profile_numbers("age", [3.0, nan, 1.0, -7.0, 100.0, inf], EDGES)
    assert (p.n, p.nulls, p.values) == (6, 2, 4)
    assert (p.low, p.high) == (-7.0, 100.0)
    assert p.mean == pytest.approx(24.25)
    assert p.sd == pytest.approx(np.std([3, 1, -7, 100], ddof=1))
    assert p.bins == p.counts == (1, 0, 1, 1, 1)
    assert p.distinct == 4
    assert p.null_rate == pytest.approx(1 / 3)


def test_labels() -> None:
    p = profile_labels("carrier", {"UA": 5, "DL": 3, "XX": 1}, nulls=1, known=["DL", "UA", "AA"])
    assert p.labels == {"DL": 3, "UA": 5, "AA": 0}
    assert (p.n, p.values, p.other, p.distinct) == (10, 9, 1, 3)
    assert p.counts == (3, 5, 0, 1)


def test_only_the_most_frequent_labels_are_counted_one_by_one() -> None:
    p = profile_labels("id", {f"v{i:03}": 1 + (i % 7 == 0) for i in range(300)})
    assert len(p.labels) == 100
    assert all(f"v{i:03}" in p.labels for i in range(0, 300, 7))
    assert p.other == p.n - sum(p.labels.values())


def test_nothing() -> None:
    for p in (profile_numbers("x", []), profile_numbers("x", [nan, nan]), profile_labels("x", {})):
        assert p.values == p.distinct == 0
        assert np.isnan(p.sd)
    assert np.isnan(profile_numbers("x", []).null_rate)


@pytest.mark.parametrize("n", [255, 1_000, 50_000])
def test_distinct_is_exact_when_few_and_near_when_many(n: int) -> None:
    values = np.random.default_rng(0).permutation(np.repeat(np.arange(n) / 3, 2))
    halves = [profile_numbers("x", part) for part in (values[:n], values[n:])]
    slack = 0 if n < 256 else 0.2 * n
    assert abs(merge(*halves).distinct - n) <= slack
    words = profile_labels("x", {f"word {i}": 1 for i in range(n)})
    assert abs(words.distinct - n) <= slack
    assert profile_numbers("x", [0.0, -0.0]).distinct == 1


def test_quantile_edges_fill_bins_evenly_and_close_the_range() -> None:
    values = np.random.default_rng(0).exponential(size=4000)
    edges = quantile_edges(values)
    p = profile_numbers("x", values, edges)
    assert len(edges) == 21
    assert p.bins[0] == p.bins[-1] == 0
    assert all(abs(c - 200) <= 2 for c in p.bins[1:-1])
    assert profile_numbers("x", [values.min() - 1e-9, values.max() + 1e-9], edges).bins[-1] == 1


def test_a_frequent_value_has_a_bin_of_its_own() -> None:
    values = np.concatenate([np.zeros(500), np.linspace(1, 2, 500)])
    p = profile_numbers("x", values, quantile_edges(values))
    assert p.bins[1] == 500
    assert quantile_edges(np.full(9, 4.0)) == (4.0, np.nextafter(4.0, inf))
    assert quantile_edges([nan]) == ()


def test_profiles_of_unlike_histograms_do_not_add_up() -> None:
    a = profile_numbers("x", [1.0], EDGES)
    with pytest.raises(Invalid, match="do not add up"):
        merge(a, profile_numbers("x", [1.0]))
    with pytest.raises(Invalid, match="do not add up"):
        merge(a, profile_labels("x", {"a": 1}))


def test_tables() -> None:
    a = TableProfile(n=1, columns=(profile_numbers("x", [1.0]), profile_labels("y", {"a": 1})))
    both = merge_tables(a, a)
    assert both.n == 2
    assert both.column("y").labels == {"a": 2}
    with pytest.raises(Missing, match="'z'"):
        both.column("z")
    with pytest.raises(Invalid, match="do not add up"):
        merge_tables(a, TableProfile(n=0, columns=()))


@given(three)
def test_profiles_survive_the_wire(parts: tuple[ColumnProfile, ...]) -> None:
    p = parts[0]
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(p), type=ColumnProfile)
    assert back == p
