from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import polars as pl
import pytest

from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, name_of
from fairlead.core.feature import Aggregate, FeatureView
from fairlead.core.manifest import AggregateText, DataSection, FeatureSection
from fairlead.core.schema import Column, Schema
from fairlead.errors import Invalid, Missing
from fairlead.flow.features import keep, materialize, views_of

DATA = DataSection(source="rows.csv", target="late", time="asked_at", known_at="landed_at")


def recent(**changes: object) -> FeatureSection:
    section = FeatureSection(source="facts.csv", entity="origin", time="t", window="3h",
                             aggregate={"rate": AggregateText(mean="late")})  # fmt: skip
    return msgspec.structs.replace(section, **changes)


def test_a_manifest_section_becomes_a_view() -> None:
    section = recent(
        aggregate={
            "rate": AggregateText(mean="late"),
            "n": AggregateText(count=True),
            "total": AggregateText(sum="delay"),
        }
    )
    latest = FeatureSection(
        source="w.csv", entity="origin", time="t", columns=("temp",), max_age="6h"
    )
    assert views_of({"recent": section, "weather": latest}, DATA) == (
        FeatureView(name="recent", source="facts.csv", entity="origin", time="t", window=10800.0,
                    aggregates=(Aggregate(name="rate", operation="mean", column="late"),
                                Aggregate(name="n", operation="count"),
                                Aggregate(name="total", operation="sum", column="delay"))),
        FeatureView(name="weather", source="w.csv", entity="origin", time="t", columns=("temp",),
                    max_age=21600.0),
    )  # fmt: skip


def test_a_duration_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Invalid, match="not a duration: '3 hours'"):
        views_of({"recent": recent(window="3 hours")}, DATA)


@pytest.mark.parametrize("time", ["asked_at", "other", ""])
def test_a_view_that_shows_the_target_too_early_is_refused(time: str) -> None:
    section = FeatureSection(source="rows.csv", entity="e", time=time, columns=("late",))
    with pytest.raises(Invalid, match="before its truth is known") as caught:
        views_of({"leak": section}, DATA)
    assert "'landed_at'" in caught.value.hint


def test_the_target_may_be_seen_from_the_moment_it_is_known() -> None:
    views_of({"past": recent(source="rows.csv", time="landed_at")}, DATA)
    views_of({"other": recent(source="rows.csv", aggregate={"n": AggregateText(mean="x")})}, DATA)


WINDOW = FeatureView(
    name="w", source="f", entity="e", time="t", window=10.0,
    aggregates=(Aggregate(name="mean", operation="mean", column="x"),
                Aggregate(name="sum", operation="sum", column="x"),
                Aggregate(name="n", operation="count")),
)  # fmt: skip
LATEST = FeatureView(name="l", source="f", entity="e", time="t", columns=("x",))


def test_a_window_is_open_at_its_start_and_closed_at_its_end() -> None:
    facts = pl.DataFrame({"e": "a", "t": [10.0, 20.0, 20.000001], "x": [1.0, 2.0, 4.0]})
    frame = pl.DataFrame({"e": "a", "at": [9.0, 10.0, 19.999999, 20.0, 20.000001, 30.0, 31.0]})
    got = materialize(frame, [WINDOW], {"f": facts}, "at")
    assert got["w.sum"].to_list() == [None, 1.0, 1.0, 2.0, 6.0, 4.0, None]
    assert got["w.mean"].to_list() == [None, 1.0, 1.0, 2.0, 3.0, 4.0, None]
    assert got["w.n"].to_list() == [0, 1, 1, 1, 2, 1, 0]


def test_rows_keep_their_order_and_columns() -> None:
    facts = pl.DataFrame({"e": ["a", "b"], "t": [1, 2], "x": [5, 6]})
    frame = pl.DataFrame({"k": [0, 1, 2, 3], "e": ["b", "a", "b", None], "at": [9, 3, 1, 9]})
    got = materialize(frame, [LATEST, WINDOW], {"f": facts}, "at")
    assert got.columns == ["k", "e", "at", "l.x", "w.mean", "w.sum", "w.n"]
    assert got.select("k", "e", "at").equals(frame)
    assert got["l.x"].to_list() == [6, 5, None, None]
    assert got["w.n"].to_list() == [1, 1, 0, None]


def test_of_two_facts_at_one_time_the_later_row_is_the_latest() -> None:
    facts = pl.DataFrame({"e": "a", "t": [5, 5, 4], "x": [1, 2, 3]})
    frame = pl.DataFrame({"e": ["a"], "at": [5]})
    assert materialize(frame, [LATEST], {"f": facts}, "at")["l.x"].to_list() == [2]
    plane = FeatureView(name="p", source="f", entity="e", columns=("x",))
    assert materialize(frame, [plane], {"f": facts})["p.x"].to_list() == [3]


def test_an_old_fact_expires() -> None:
    facts = pl.DataFrame({"e": "a", "t": [0], "x": [1]})
    frame = pl.DataFrame({"e": "a", "at": [60, 61]})
    view = msgspec.structs.replace(LATEST, max_age=60.0)
    assert materialize(frame, [view], {"f": facts}, "at")["l.x"].to_list() == [1, None]


def test_datetimes_dates_and_seconds_are_one_time() -> None:
    moment = datetime(2013, 3, 10, 7, tzinfo=UTC)
    facts = pl.DataFrame({"e": ["a"], "t": [moment], "x": [1]})
    for at in (moment, moment.replace(tzinfo=None), moment.timestamp()):
        frame = pl.DataFrame({"e": ["a"], "at": [at]})
        assert materialize(frame, [LATEST], {"f": facts}, "at")["l.x"].to_list() == [1]
    zone = facts.with_columns(pl.col("t").dt.convert_time_zone("America/New_York"))
    frame = pl.DataFrame({"e": ["a"], "at": [moment.date()]})
    assert materialize(frame, [LATEST], {"f": zone}, "at")["l.x"].to_list() == [None]


@pytest.mark.parametrize(
    ("facts", "time", "error", "message"),
    [
        ({"e": ["a"], "x": [1]}, "at", Missing, "no column 't'"),
        ({"e": ["a"], "t": ["noon"], "x": [1]}, "at", Invalid, "time 't' holds String"),
        ({"e": ["a"], "t": [1370000000000], "x": [1]}, "at", Invalid, "numbers up to 1.37e"),
        ({"e": [1.5], "t": [1], "x": [1]}, "at", Invalid, "entity 'e' holds Float64"),
        ({"e": [True], "t": [1], "x": [1]}, "at", Invalid, "entity 'e' holds Boolean"),
        ({"e": ["a"], "t": [1], "x": ["one"]}, "at", Invalid, "'x', which holds String"),
        ({"e": ["a"], "t": [1], "x": [1e14]}, "at", Invalid, r"add up to 1e\+14"),
        ({"e": ["a"], "t": [1], "x": [1]}, "", Invalid, "the data has none"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_play_its_role_is_refused(
    facts: dict[str, list[object]], time: str, error: type[Exception], message: str
) -> None:
    frame = pl.DataFrame({"e": ["a"], "at": [5]})
    with pytest.raises(error, match=message):
        materialize(frame, [WINDOW], {"f": pl.DataFrame(facts)}, time)


def test_an_unknown_source_and_a_taken_name_are_refused() -> None:
    frame = pl.DataFrame({"e": ["a"], "at": [5], "l.x": [0]})
    facts = pl.DataFrame({"e": ["a"], "t": [1], "x": [1]})
    with pytest.raises(Missing, match="no source 'f'"):
        materialize(frame, [LATEST], {}, "at")
    with pytest.raises(Invalid, match=r"already has a column 'l\.x'"):
        materialize(frame, [LATEST], {"f": facts}, "at")


def test_no_rows_and_no_facts_still_give_the_columns() -> None:
    facts = pl.DataFrame(schema={"e": pl.String, "t": pl.Float64, "x": pl.Float64})
    frame = pl.DataFrame(schema={"e": pl.String, "at": pl.Float64})
    got = materialize(frame, [LATEST, WINDOW], {"f": facts}, "at")
    assert got.height == 0 and got.columns[2:] == ["l.x", "w.mean", "w.sum", "w.n"]
    asked = pl.DataFrame({"e": ["a", None], "at": [1.0, 1.0]})
    got = materialize(asked, [LATEST, WINDOW], {"f": facts}, "at")
    assert got.rows() == [("a", 1.0, None, None, None, 0), (None, 1.0, None, None, None, None)]


class Shelf:
    """A `Blobs` that keeps bytes in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, data: bytes | Path) -> str:
        content = data if isinstance(data, bytes) else data.read_bytes()
        digest = sha256(content).hexdigest()
        (self.root / digest).write_bytes(content)
        return digest

    def get(self, digest: str) -> bytes:
        return (self.root / digest).read_bytes()

    def fetch(self, digest: str, target: Path) -> None:
        target.write_bytes(self.get(digest))

    def delete(self, digest: str) -> None:
        (self.root / digest).unlink()

    def has(self, digest: str) -> bool:
        return (self.root / digest).exists()


def test_a_materialised_table_is_kept_as_an_artifact_of_its_dataset(tmp_path: Path) -> None:
    contract = Schema(columns=(Column(name="e", dtype="category"), Column(name="at", dtype="int")))
    spec = DatasetSpec(parts=(), contract=contract)
    dataset = Artifact(ref=name_of("flights", spec), spec=spec, created_at=1.0)
    facts = pl.DataFrame({"e": ["a"], "t": [1], "x": [1]}, schema_overrides={"x": pl.Int16})
    frame = materialize(pl.DataFrame({"e": ["a"], "at": [5]}), [LATEST], {"f": facts}, "at")
    blobs = Shelf(tmp_path)
    made = keep(frame, dataset, [LATEST], blobs, 2.0)
    again = keep(frame, dataset, [LATEST], blobs, 3.0)
    assert made.ref == again.ref and made.ref.kind == "features" and made.ref.name == "flights"
    assert made.parents == (dataset.ref,)
    assert isinstance(made.spec, FeaturesSpec) and made.spec.views == (LATEST,)
    assert made.spec.schema.columns[:2] == contract.columns
    assert made.spec.schema.column("l.x").dtype == "int"
    (part,) = made.spec.parts
    assert part.rows == 1 and part.size == len(blobs.get(part.digest))
    assert pl.read_parquet(tmp_path / part.digest).rows() == [("a", 5, 1)]
    with pytest.raises(Invalid, match="is no dataset"):
        keep(frame, made, [LATEST], blobs, 4.0)
