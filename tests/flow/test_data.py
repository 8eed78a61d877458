"""Data: versions share what they have in common, contracts hold, and what is read is what was put."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from obstore.store import MemoryStore

from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.blobs.objects import ObjectBlobs
from fairlead.core.artifact import Artifact, DatasetSpec, name_of
from fairlead.core.schema import SchemaDiff
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flow import data, parts
from fairlead.flow.data import append, infer_contract, read, snapshot, split

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def blobs() -> ObjectBlobs:
    return ObjectBlobs(MemoryStore())


def loans(rows: int, start: int = 0) -> pl.DataFrame:
    place = range(start, start + rows)
    return pl.DataFrame({
        "at": [START + timedelta(hours=i) for i in place], "amount": [1000 + 7 * i % 900 for i in place],
        "rate": [0.5 + i % 10 for i in place], "city": ["Bonn", "Köln", "Ulm"][:3] * (rows // 3) + ["Bonn"] * (rows % 3),
        "fixed": [i % 2 == 0 if i % 5 else None for i in place],
        "status": ["paid" if i % 4 else "late" for i in place],
    })  # fmt: skip


def first(blobs: ObjectBlobs, frame: pl.DataFrame) -> DatasetSpec:
    return snapshot(frame, blobs, target="status", time="at")[0]


def digests(spec: DatasetSpec) -> list[str]:
    return [p.digest for p in spec.parts]


def test_the_first_commit_infers_the_contract(blobs: ObjectBlobs) -> None:
    spec, change = snapshot(loans(30), blobs, target="status", time="at", ignore=("rate",))
    assert change.size == "same" and spec.rows == 30
    assert spec.contract.names == ("at", "amount", "city", "fixed", "status")
    assert (spec.contract.target, spec.contract.time) == ("status", "at")
    when, amount, city, fixed, _ = spec.contract.columns
    assert (when.dtype, when.low) == ("datetime", START.timestamp())
    assert (amount.dtype, amount.low, amount.high, amount.nullable) == ("int", 1000, 1203, False)
    assert (city.dtype, city.categories) == ("category", ("Bonn", "Köln", "Ulm"))
    assert (fixed.dtype, fixed.nullable) == ("bool", True)
    assert read(spec, blobs).equals(loans(30).drop("rate"))


def test_the_same_rows_are_the_same_version(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = loans(1000)
    chunks = pl.concat([frame.slice(i * 100, 100) for i in range(10)], rechunk=False)
    assert first(blobs, frame) == first(blobs, chunks) == first(ObjectBlobs(MemoryStore()), frame)
    spec = first(blobs, frame)
    assert snapshot(frame, blobs, previous=spec) == (spec, SchemaDiff(size="same"))
    assert first(blobs, frame.reverse()) != spec


def test_a_grown_table_only_adds_a_part(blobs: ObjectBlobs) -> None:
    old = first(blobs, loans(900))
    for grown, change in (snapshot(loans(1000), blobs, previous=old), append(loans(100, 900), blobs, old)):
        assert digests(grown)[:-1] == digests(old) and grown.rows == 1000
        assert read(grown, blobs).height == 1000
        assert (change.size, [c.column for c in change.changes]) == ("wider", ["at"])
    once = snapshot(loans(1000), blobs, previous=old)[0]
    twice = snapshot(loans(1010), blobs, previous=once)[0]
    assert digests(twice)[:2] == digests(once) and len(twice.parts) == 3
    assert read(twice, blobs).equals(loans(1010))


def test_a_corrected_row_only_replaces_its_part(
    blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 100)
    frame = loans(450)
    old = first(blobs, frame)
    corrected = pl.concat([frame[:150], frame[150:151].with_columns(amount=pl.lit(1001, dtype=pl.Int64)), frame[151:]])
    new, change = snapshot(corrected, blobs, previous=old)
    assert [a == b for a, b in zip(digests(old), digests(new), strict=True)] == [True, False, True, True, True]
    assert read(new, blobs).equals(corrected)
    assert change.size == "same"
    shorter, _ = snapshot(frame[:250], blobs, previous=old)
    assert digests(shorter)[:2] == digests(old)[:2] and read(shorter, blobs).equals(frame[:250])
    assert shorter.contract == old.contract
    floats = frame.with_columns(amount=pl.when(pl.int_range(450) < 400).then("amount").otherwise(0.5))
    wider, change = snapshot(floats, blobs, previous=old)
    assert digests(wider)[:4] == digests(old)[:4] and read(wider, blobs).equals(floats)
    assert change.size == "wider" and wider.contract.column("amount").dtype == "float"


def test_a_contract_widens_and_old_parts_stay(blobs: ObjectBlobs) -> None:
    old = first(blobs, loans(90).with_columns(pl.lit(None).alias("empty")))
    later = loans(10, 90).with_columns(
        amount=pl.col("amount") + 0.5, city=pl.lit("Aachen"), rate=pl.lit(None, dtype=pl.Float64),
        empty=pl.lit("now"), extra=pl.lit(3))  # fmt: skip
    whole = pl.concat([loans(90).with_columns(pl.lit(None).alias("empty")), later], how="diagonal_relaxed")
    for grown, change in (append(later, blobs, old), snapshot(whole, blobs, previous=old)):
        assert change.size == "wider"
        texts = {c.column: c.text for c in change.changes}
        assert texts["city"] == "has 1 new value: 'Aachen'" and texts["rate"] == "may now be null"
        assert texts["extra"] == "is new (int, may be null)"
        assert texts["empty"] == "has values for the first time (category)"
        assert grown.parts[0] == old.parts[0]
        back = read(grown, blobs)
        assert back.schema["amount"] == pl.Float64 and back["amount"].to_list() == whole["amount"].to_list()
        assert back["empty"].to_list() == [None] * 90 + ["now"] * 10
        assert back["extra"].to_list() == [None] * 90 + [3] * 10
        again, change = snapshot(back, blobs, previous=grown)
        assert (again, change.size) == (grown, "same")


def test_a_breaking_table_is_refused_with_every_reason(blobs: ObjectBlobs) -> None:
    old = first(blobs, loans(90))
    amounts = ["12"] * 40 + ["twelve"] + ["12"] * 49
    bad = loans(90).drop("city").with_columns(
        amount=pl.Series(amounts), rate=pl.Series([START] * 90), extra=pl.lit(1))  # fmt: skip
    with pytest.raises(Invalid, match="breaks its contract, 4 faults") as caught:
        snapshot(bad, blobs, previous=old)
    said = str(caught.value)
    assert "amount: 'twelve' in row 41 is not of type int: write whole numbers" in said
    assert "rate: 2024-01-01T00:00:00+00:00 in row 1 is not of type float" in said
    assert "city: the column is gone: bring it back" in said
    assert "extra: the column is new and never null" in said and "data.ignore" in said
    assert "--accept-breaking" in caught.value.hint
    new, change = snapshot(bad, blobs, previous=old, accept_breaking=True)
    assert change.size == "breaking" and new.contract.column("amount").dtype == "category"
    assert read(new, blobs).equals(bad.select(new.contract.names))
    with pytest.raises(Invalid, match="the target was status, now it is city"):
        snapshot(loans(90), blobs, previous=old, target="city")
    late = loans(9).with_columns(rate=pl.Series([None, "high"] + ["1"] * 7))
    with pytest.raises(Invalid, match="1 fault:\n  rate: 'high' in row 92 is not"):
        snapshot(pl.concat([loans(90).cast({"rate": pl.String}), late]), blobs, previous=old)
    with pytest.raises(Invalid, match="city: the column is missing and was never null"):
        append(loans(9).drop("city"), blobs, old)


def test_a_number_no_integer_holds_makes_the_column_float(blobs: ObjectBlobs) -> None:
    old = first_any(blobs, pl.DataFrame({"n": [1, 2]}))
    new, change = append(pl.DataFrame({"n": [1e20]}), blobs, old)
    assert change.changes[0].text == "was int, now it is float"
    assert read(new, blobs)["n"].to_list() == [1.0, 2.0, 1e20]


def test_a_closed_category_is_closed(blobs: ObjectBlobs) -> None:
    old = first(blobs, loans(90))
    columns = tuple(replace(c, closed=True) if c.name == "city" else c for c in old.contract.columns)
    closed = replace(old, contract=replace(old.contract, columns=columns))
    with pytest.raises(Invalid, match=r"city: 'Koeln' in row 1 is not among .*: did you mean 'Köln'"):
        append(loans(9).with_columns(city=pl.lit("Koeln")), blobs, closed)
    whole = pl.concat([loans(90), loans(9, 90).with_columns(city=pl.lit("Koeln"))])
    with pytest.raises(Invalid, match="city: 'Koeln' in row 91 is not"):
        snapshot(whole, blobs, previous=closed)
    assert append(loans(9, 90), blobs, closed)[0].contract.column("city").closed


def test_roles_and_types_that_cannot_be(blobs: ObjectBlobs) -> None:
    with pytest.raises(Missing, match="target: the table has no column 'statos'") as caught:
        infer_contract(loans(9), target="statos")
    assert caught.value.hint == "did you mean status?"
    with pytest.raises(Invalid, match=r"time: column 'city' does not hold instants but \['Bonn'\]"):
        infer_contract(loans(9), time="city")
    with pytest.raises(Invalid, match=r"single values: tags \(List\(Int64\)\)"):
        snapshot(pl.DataFrame({"tags": [[1]], "x": [1]}), blobs)


def test_many_values_are_capped_and_texts_are_texts() -> None:
    names = [f"v{i % 1200:04}" for i in range(3000)]
    notes = [f"the parcel {i} was late again" for i in range(3000)]
    found = infer_contract(pl.DataFrame({"name": names, "note": notes, "none": [None] * 3000}))
    assert len(found.column("name").categories) == 1000
    assert found.column("name").categories[:2] == ("v0000", "v0001")
    assert found.column("note").dtype == "text" and found.column("none").unknown


def test_other_physical_types_are_made_canonical(blobs: ObjectBlobs) -> None:
    frame = pl.DataFrame({
        "small": pl.Series([1, None], dtype=pl.UInt8), "huge": pl.Series([2**64 - 1, 1], dtype=pl.UInt64),
        "single": pl.Series([0.5, float("nan")], dtype=pl.Float32), "inf": [float("inf"), 1.0],
        "day": pl.Series([START, START]).cast(pl.Date), "zone": pl.Series([START, None]).dt.convert_time_zone("Asia/Tokyo"),
        "took": [timedelta(seconds=1.5), None], "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
    })  # fmt: skip
    back = read(first_any(blobs, frame), blobs)
    assert back.to_dict(as_series=False) == {
        "small": [1, None], "huge": [2.0**64, 1.0], "single": [0.5, None], "inf": [None, 1.0],
        "day": [START, START], "zone": [START, None], "took": [1.5, None], "kind": ["a", "b"]}  # fmt: skip


def first_any(blobs: ObjectBlobs, frame: pl.DataFrame) -> DatasetSpec:
    return snapshot(frame, blobs)[0]


def test_columns_and_times_can_be_chosen(blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    spec = first(blobs, loans(60))
    day = read(spec, blobs, ["city", "amount"], since=START.timestamp() + 86400, until=START.timestamp() + 2 * 86400)
    assert day.equals(loans(60)[24:48].select("city", "amount"))
    assert [f.height for f in data.scan(spec, blobs, ["city"])] == [10] * 6
    with pytest.raises(Missing, match="no column 'town'"):
        read(spec, blobs, ["town"])
    with pytest.raises(Invalid, match="time column"):
        read(first_any(blobs, loans(9)), blobs, since=1.0)
    nothing = replace(spec, parts=())
    assert read(nothing, blobs, ["city"]).schema == {"city": pl.String}


def test_damaged_parts_are_not_read(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    spec = snapshot(loans(30), blobs)[0]
    digest = spec.parts[0].digest
    path = tmp_path / digest[:2] / digest
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(Corrupt):
        read(spec, blobs)
    path.unlink()
    with pytest.raises(Missing):
        read(spec, blobs)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_checkout_commits_to_the_same_rows(
    blobs: ObjectBlobs, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairlead.adapters.sources import tables

    monkeypatch.setattr(parts, "PART_ROWS", 40)
    spec = first(blobs, loans(100))
    target = tmp_path / "deep" / f"loans.{suffix}"
    assert data.checkout(spec, blobs, target) == 100
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    frame = tables.read(target, contract=spec.contract).frame
    assert snapshot(frame, blobs, previous=spec)[0] == spec
    with pytest.raises(Invalid, match=r"cannot write loans.xlsx"):
        data.checkout(spec, blobs, tmp_path / "loans.xlsx")


def test_diff_counts_rows_and_names_what_moved(
    blobs: ObjectBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 100)
    old = first(blobs, loans(300))
    assert data.diff(old, old, blobs).shifts[0].psi == 0
    moved = loans(100, 300).with_columns(amount=pl.lit(1900), fixed=pl.lit(None, dtype=pl.Boolean))
    grown = append(moved, blobs, old)[0]
    found = data.diff(old, grown, blobs)
    assert (found.added, found.removed, found.schema.size) == (100, 0, "wider")
    shifts = {s.column: s for s in found.shifts}
    assert shifts["amount"].psi > 0.5 > shifts["city"].psi and shifts["amount"].unseen == 0.25
    assert shifts["fixed"].nulls == pytest.approx(0.2)
    edited = pl.concat([loans(300)[:10], loans(300)[12:], loans(1, 999)])
    found = data.diff(old, snapshot(edited, blobs, previous=old)[0], blobs)
    assert (found.added, found.removed) == (1, 2)


def test_a_profile_of_appended_rows_is_that_of_all(blobs: ObjectBlobs) -> None:
    spec = append(loans(50, 100), blobs, first(blobs, loans(100)))[0]
    profile = data.profile_of(spec, blobs)
    assert profile.n == 150
    rate, city = profile.column("rate"), profile.column("city")
    assert rate.mean == pytest.approx(loans(150)["rate"].mean()) and sum(rate.bins) == 150
    assert city.labels == dict(pl.concat([loans(100), loans(50, 100)])["city"].value_counts().iter_rows())
    assert profile.column("fixed").nulls == 30


def test_log_tells_the_history(blobs: ObjectBlobs) -> None:
    old = first(blobs, loans(90))
    new = append(loans(10, 90), blobs, old)[0]
    versions = [Artifact(ref=name_of("loans", s), spec=s, created_at=t) for t, s in ((1.0, old), (2.0, new))]
    lines = data.log(versions)
    assert [(v.rows, v.added, v.parts, v.at) for v in lines] == [(90, 90, 1, 1.0), (100, 10, 2, 2.0)]
    assert lines[1].change.size == "wider" and lines[1].ref == versions[1].ref


def test_the_newest_rows_are_held_out_and_ties_stay_together() -> None:
    hours = [3, 1, 2, 2, None, 5, 5, 5, 4, 1]
    frame = pl.DataFrame({"at": [START + timedelta(hours=h) if h else None for h in hours], "h": hours})
    learn, held = split(frame, time="at", test_share=0.3)
    assert held["h"].to_list() == [5, 5, 5] and learn["h"].to_list() == [3, 1, 2, 2, None, 4, 1]
    assert split(frame, time="at", test_share=0.1)[1]["h"].to_list() == [5, 5, 5]
    with pytest.raises(Invalid, match="too few different instants"):
        split(frame.filter(pl.col("h") == 5), time="at")
    with pytest.raises(Invalid, match="not between 0 and 1"):
        split(frame, test_share=1.0)


def test_without_a_time_a_growing_table_moves_no_row() -> None:
    frame = pl.DataFrame({"i": range(10_000)})
    learn, held = split(frame, test_share=0.2, seed=7)
    assert abs(held.height - 2000) < 150 and learn.height + held.height == 10_000
    assert split(frame[:5000], test_share=0.2, seed=7)[1].equals(held.filter(pl.col("i") < 5000))
    assert not split(frame, test_share=0.2, seed=8)[1].equals(held)
    assert set(held["i"]) < set(split(frame, test_share=0.3, seed=7)[1]["i"])
    with pytest.raises(Invalid, match="too few rows"):
        split(frame[:1])


CELLS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "n": (pl.Int64, st.integers(-3, 3)),
    "x": (pl.Float64, st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300])),
    "s": (pl.String, st.sampled_from(["", "a", "ab", "b", "ä"])),
    "b": (pl.Boolean, st.booleans()),
}


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(0, 4))
    return pl.DataFrame([
        pl.Series(name, draw(st.lists(st.none() | cell, min_size=rows, max_size=rows)), dtype=kind)
        for name, (kind, cell) in CELLS.items()])  # fmt: skip


def test_content_tells_near_tables_apart() -> None:
    near = [pl.DataFrame({"x": [1, 0]}), pl.DataFrame({"x": [1, None]}), pl.DataFrame({"x": [0, 1]}),
            pl.DataFrame({"y": [1, 0]}), pl.DataFrame({"x": [True, False]}), pl.DataFrame({"x": ["1", "0"]}),
            pl.DataFrame({"x": ["10", ""]}), pl.DataFrame({"x": ["1", "0", ""]}), pl.DataFrame({"x": ["10", None]}),
            pl.DataFrame({"x": [1, 0], "y": [1, None]}), pl.DataFrame({"x": [1.0, 0.5]}),
            pl.DataFrame({"x": [1, 0]}).cast(pl.Datetime("us", "UTC")), pl.DataFrame({"x": [1, 0, None]})]  # fmt: skip
    assert len({parts.content(frame) for frame in near}) == len(near)


@given(tables(), tables())
def test_law_content_is_equal_exactly_when_the_values_are(a: pl.DataFrame, b: pl.DataFrame) -> None:
    assert (parts.content(a) == parts.content(b)) == a.equals(b)
    whole = a.with_columns(pl.col("n").cast(pl.Float64)).select(reversed(a.columns))
    assert parts.content(whole) == parts.content(a.with_columns(pl.lit(None, dtype=pl.String).alias("z")))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(st.lists(tables().filter(len), min_size=1, max_size=4), st.integers(1, 3))
def test_law_any_history_reads_back_as_its_last_table(batches: list[pl.DataFrame], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_ROWS", size)
        blobs = ObjectBlobs(MemoryStore())
        whole = batches[0]
        spec = snapshot(whole, blobs)[0]
        for batch in batches[1:]:
            whole = pl.concat([whole, batch])
            grown = snapshot(whole, blobs, previous=spec)[0]
            assert digests(grown)[: len(spec.parts)] == digests(spec)
            spec = grown
        back = read(spec, blobs)
        assert parts.content(back) == parts.content(whole)
        assert np.isclose(data.profile_of(spec, blobs).n, whole.height)
