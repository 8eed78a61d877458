import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.core.feature import Aggregate, FeatureView
from fairlead.errors import Conflict, Corrupt, Invalid, Unavailable
from fairlead.flow.features import facts, materialize

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights" / "data"


def aggregates(*columns: str) -> tuple[Aggregate, ...]:
    made = [Aggregate(name="n", operation="count")]
    for c in columns:
        made.append(Aggregate(name=f"{c}_n", operation="count", column=c))
        made.append(Aggregate(name=f"{c}_sum", operation="sum", column=c))
        made.append(Aggregate(name=f"{c}_mean", operation="mean", column=c))
    return tuple(made)


VIEWS = (
    FeatureView(name="last", source="f", entity="e", time="t", columns=("x", "k", "flag", "word")),
    FeatureView(name="fresh", source="f", entity="e", time="t", columns=("x",), max_age=2.0),
    FeatureView(name="fixed", source="f", entity="e", columns=("word", "k")),
    FeatureView(name="window", source="f", entity="e", time="t", window=3.0,
                aggregates=aggregates("x", "k", "flag")),
    FeatureView(name="ever", source="f", entity="e", time="t", aggregates=aggregates("x")),
)  # fmt: skip

times = st.one_of(
    st.integers(0, 6).map(float),
    st.integers(0, 8_000_000).map(lambda micros: 1_370_000_000 + micros / 1e6),
    st.integers(0, 8).map(lambda s: 1_370_000_000.0 + s),
)
entities = st.sampled_from(["a", "b", "", "ü, 'q'", None])
numbers = st.one_of(
    st.sampled_from([0.1, 0.2, 0.3, -0.1, 1e12, -1e12, 1e-9, math.nan, math.inf, -math.inf]),
    st.floats(-1e6, 1e6),
)
arrivals = st.fixed_dictionaries(
    {
        "e": entities,
        "t": st.none() | times,
        "x": st.none() | numbers,
        "k": st.none() | st.integers(-(2**40), 2**40),
        "flag": st.none() | st.booleans(),
        "word": st.none() | st.sampled_from(["p", "q"]),
    }
)
SCHEMA = {"e": pl.String, "t": pl.Float64, "x": pl.Float64, "k": pl.Int64, "flag": pl.Boolean,
          "word": pl.String}  # fmt: skip


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(arrivals, max_size=25),
    st.lists(st.tuples(entities | st.just("stranger"), times), min_size=1, max_size=12),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_what_is_served_equals_what_was_trained_on(
    arrived: list[dict[str, Any]], asks: list[tuple[str | None, float]], sizes: list[int]
) -> None:
    source = pl.DataFrame(arrived, schema=SCHEMA)
    frame = pl.DataFrame(asks, schema={"e": pl.String, "at": pl.Float64}, orient="row")
    expected = materialize(frame, VIEWS, {"f": source}, "at")
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with TemporaryDirectory(dir=memory) as folder, SqliteOnline(Path(folder) / "o.db") as store:
        for view in VIEWS:
            rest, turn = arrived, 0
            while rest:
                size = sizes[turn % len(sizes)]
                store.push(view, rest[:size])
                rest, turn = rest[size:], turn + 1
        for row in expected.iter_rows(named=True):
            for view in VIEWS:
                served = store.read(view, row["e"], row["at"])
                for name in view.outputs:
                    assert same(served[name], row[name]), (view.name, name, row, served)


@pytest.fixture(scope="module")
def flights() -> dict[str, pl.DataFrame]:
    names = ("flights", "landed", "weather", "planes")
    tables = {n: pl.read_parquet(FLIGHTS / f"{n}.parquet") for n in names}
    end = datetime(2013, 1, 15, tzinfo=UTC)
    for name, moment in (
        ("flights", "decided_at"),
        ("landed", "landed_at"),
        ("weather", "observed_at"),
    ):
        tables[name] = tables[name].filter(pl.col(moment) < end)
    return tables


def test_real_flights_get_the_same_features_on_both_sides(
    flights: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    views = (
        FeatureView(name="weather", source="weather", entity="origin", time="observed_at",
                    columns=("temp", "wind_speed", "precip", "visib"), max_age=21600.0),
        FeatureView(name="plane", source="planes", entity="tailnum", columns=("year", "seats")),
        FeatureView(name="origin_recent", source="landed", entity="origin", time="landed_at",
                    window=10800.0, aggregates=aggregates("late", "arr_delay")),
        FeatureView(name="carrier_recent", source="landed", entity="carrier", time="landed_at",
                    window=10800.0, aggregates=aggregates("late")),
    )  # fmt: skip
    joined = materialize(flights["flights"], views, flights, "decided_at")
    assert joined.height > 10_000
    with SqliteOnline(tmp_path / "online.db") as store:
        for view in views:
            source = flights[view.source]
            assert store.push(view, facts(view, source)) == source.height
        different = 0
        for row in joined.iter_rows(named=True):
            at = row["decided_at"].timestamp()
            for view in views:
                served = store.read(view, row[view.entity], at)
                different += any(not same(served[o], row[o]) for o in view.outputs)
    assert different == 0
    assert joined["origin_recent.late_mean"].null_count() < joined.height / 2


LAST, WINDOW = VIEWS[0], VIEWS[4]


def fact(t: Any, x: Any, e: Any = "a") -> dict[str, Any]:
    return {"e": e, "t": t, "x": x, "k": None, "flag": None, "word": None}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteOnline]:
    with SqliteOnline(tmp_path / "online.db") as opened:
        yield opened


def test_a_named_batch_is_added_once(store: SqliteOnline) -> None:
    batch = [fact(1, 2.0), fact(1, 2.0), fact(None, 5.0)]
    assert store.push(WINDOW, batch, batch="part-1") == 2
    assert store.push(WINDOW, batch, batch="part-1") == 0
    assert store.push(WINDOW, batch, batch="part-2") == 2
    assert store.push(LAST, batch, batch="part-1") == 2
    assert store.read(WINDOW, "a", 1)["ever.n"] == 4


def test_a_push_that_fails_leaves_nothing_behind(store: SqliteOnline) -> None:
    store.push(WINDOW, [fact(1, 1.0)])
    for bad in (fact(2, "one"), fact("noon", 1.0), fact(2e12, 1.0), fact(True, 1.0),
                fact(2, 1.0, e=1.5), fact(2, 1.0, e=True), fact(2, 1e14), fact(2, 1e300), {"e": "a", "t": 2}):  # fmt: skip
        with pytest.raises(Invalid) as caught:
            store.push(WINDOW, [fact(1, 1.0), bad], batch="b")
        assert caught.value.hint
        assert store.read(WINDOW, "a", 9)["ever.n"] == 1
    assert store.push(WINDOW, [fact(1, 1.0)], batch="b") == 1


def test_a_missing_column_is_named(store: SqliteOnline) -> None:
    with pytest.raises(Invalid, match="fact 0 for view ever has no 'x'") as caught:
        store.push(WINDOW, [{"e": "a", "t": 1, "y": 3}])
    assert caught.value.hint == "it has: e, t, y"


def test_values_keep_their_types_and_times_may_be_written_in_many_ways(store: SqliteOnline) -> None:
    view = FeatureView(name="any", source="f", entity="e", time="t", columns=("v",))
    moment = datetime(2013, 3, 10, 7, 0, 0, 250_000, tzinfo=UTC)
    values = [True, 1, 1.0, "1", None, 2**60, moment]
    ways = [moment, moment.replace(tzinfo=None), moment.timestamp(), "2013-03-10T03:00:00.25-04:00"]
    for value in values:
        for number, way in enumerate(ways):
            store.push(view, [{"e": number, "t": way, "v": value}])
            assert same(store.read(view, number, moment.timestamp())["any.v"], value)
            assert store.read(view, number, moment.timestamp() - 1e-6)["any.v"] is None
    store.push(view, [{"e": 0, "t": date(2013, 3, 11), "v": date(2013, 3, 12)}])
    served = store.read(view, "0", datetime(2013, 3, 11, tzinfo=UTC).timestamp())
    assert served["any.v"] == datetime(2013, 3, 12, tzinfo=UTC)
    with pytest.raises(Invalid, match="holds b'raw'"):
        store.push(view, [{"e": "a", "t": 1, "v": b"raw"}])


def test_an_old_fact_expires(store: SqliteOnline) -> None:
    fresh = VIEWS[1]
    store.push(fresh, [fact(10, 1.0)])
    assert store.read(fresh, "a", 12.0)["fresh.x"] == 1.0
    assert store.read(fresh, "a", 12.000001)["fresh.x"] is None


def test_a_changed_definition_keeps_its_own_facts(store: SqliteOnline) -> None:
    changed = FeatureView(
        name="ever", source="f", entity="e", time="t", aggregates=aggregates("x", "k")
    )
    store.push(WINDOW, [fact(1, 1.0)])
    store.push(changed, [fact(1, 5.0)])
    assert store.read(WINDOW, "a", 1)["ever.x_sum"] == 1.0
    assert store.read(changed, "a", 1)["ever.x_sum"] == 5.0


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    with SqliteOnline(path) as first:
        with pytest.raises(Conflict, match="another process writes"):
            SqliteOnline(path)
        with SqliteOnline(path, readonly=True) as reader:
            with pytest.raises(Conflict, match="not open for writing"):
                reader.push(WINDOW, [])
            first.push(WINDOW, [fact(1, 1.5)])
            assert reader.read(WINDOW, "a", 1)["ever.x_sum"] == 1.5
    with SqliteOnline(path) as second:
        second.push(WINDOW, [fact(0, 1.0)])
        assert second.read(WINDOW, "a", 1)["ever.x_sum"] == 2.5
    with pytest.raises(Unavailable, match="was closed"):
        second.read(WINDOW, "a", 1)


def test_a_reader_may_come_first(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    with SqliteOnline(path, readonly=True) as reader:
        with pytest.raises(Unavailable, match="no online features"):
            reader.read(WINDOW, "a", 1)
        with SqliteOnline(path) as store:
            assert reader.read(WINDOW, "a", 1) == {"ever.n": 0, "ever.x_n": 0, "ever.x_sum": None,
                                                   "ever.x_mean": None}  # fmt: skip
            assert reader.read(LAST, "a", 1)["last.x"] is None
            store.push(WINDOW, [fact(1, 1.0)])
        assert reader.read(WINDOW, "a", 1)["ever.n"] == 1


def test_a_damaged_file_is_reported_as_such(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    path.write_bytes(b"not a database, but long enough to look like one" * 50)
    with (
        SqliteOnline(path, readonly=True) as reader,
        pytest.raises(Corrupt, match="not a database"),
    ):
        reader.read(WINDOW, "a", 1)
    with pytest.raises(Corrupt):
        SqliteOnline(path)
    path.write_bytes(b"")
    SqliteOnline(path).close()


WRITER = """
import sys
from pathlib import Path
from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.core.feature import Aggregate, FeatureView
view = FeatureView(name="w", source="f", entity="e", time="t", window=50.0, aggregates=(
    Aggregate(name="n", operation="count"), Aggregate(name="sum", operation="sum", column="x")))
store = SqliteOnline(Path(sys.argv[1]))
for i in range(int(sys.argv[2])):
    x = 0.1 * (i + 1)
    store.push(view, [{"e": "a", "t": i % 40, "x": x}, {"e": "a", "t": i % 40, "x": -x}])
print("done", flush=True)
sys.stdin.read()
"""
STREAM = FeatureView(
    name="w", source="f", entity="e", time="t", window=50.0,
    aggregates=(Aggregate(name="n", operation="count"),
                Aggregate(name="sum", operation="sum", column="x")),
)  # fmt: skip


def writer(path: Path, pushes: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(pushes)], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip


def test_readers_never_see_half_a_push(tmp_path: Path) -> None:
    """Each push adds +x and -x to one window: any torn or mixed read would show another sum."""
    path = tmp_path / "online.db"
    seen: set[int] = set()
    deadline = time.monotonic() + 30
    with writer(path, 400) as process, SqliteOnline(path, readonly=True) as reader:
        while (not seen or max(seen) < 800) and time.monotonic() < deadline:
            try:
                served = reader.read(STREAM, "a", 45.0)
            except Unavailable:
                continue
            assert served["w.n"] % 2 == 0
            assert served["w.sum"] in (None, 0.0)
            seen.add(served["w.n"])
        process.communicate("", timeout=30)
    assert max(seen) == 800 and len(seen) > 20


def test_a_reader_never_checkpoints_what_a_killed_writer_left(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    with writer(path, 50) as process:
        assert process.stdout is not None and process.stdout.readline() == "done\n"
        process.send_signal(signal.SIGKILL)
    log = Path(f"{path}-wal")
    before = path.read_bytes(), log.read_bytes()
    assert len(before[1]) > 0
    with SqliteOnline(path, readonly=True) as reader:
        assert reader.read(STREAM, "a", 49.0)["w.n"] == 100
    assert (path.read_bytes(), log.read_bytes()) == before
    with SqliteOnline(path) as store:
        store.push(STREAM, [{"e": "a", "t": 49.0, "x": 2.0}])
        assert store.read(STREAM, "a", 49.0) == {"w.n": 101, "w.sum": 2.0}
