"""The example project: its tables tell the truth, and its model is worth releasing."""

import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import polars as pl
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.adapters.manifest import load
from fairlead.core.manifest import Manifest
from fairlead.core.metrics import METRICS
from fairlead.flavors.table import fit_encoding, transform
from fairlead.flow.conform import canonical, infer_contract
from fairlead.flow.features import materialize, views_of

FOLDER = Path(__file__).parents[2] / "examples" / "flights"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load(FOLDER / "fairlead.yaml")


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return pl.read_parquet(FOLDER / "data" / "flights.parquet")


def test_every_flight_is_there_and_the_data_stay_small(flights: pl.DataFrame) -> None:
    assert flights.height == 336_776
    assert sum(p.stat().st_size for p in (FOLDER / "data").iterdir()) < 6_000_000
    assert len((FOLDER / "fairlead.yaml").read_text().splitlines()) <= 70


def test_the_truth_is_known_only_after_the_question(flights: pl.DataFrame) -> None:
    assert flights["decided_at"].is_sorted()
    assert (flights["late"].is_null() == flights["landed_at"].is_null()).all()
    delay = flights.select(pl.col("landed_at") - pl.col("decided_at")).to_series().drop_nulls()
    hours = delay.dt.total_minutes() / 60
    assert 2 < hours.min() < hours.median() < 6  # type: ignore[operator]
    landed = pl.read_parquet(FOLDER / "data" / "landed.parquet")
    assert landed.height == flights["late"].count()
    assert ((landed["arr_delay"] > 15) == landed["late"]).all()


def flight(
    day: tuple[int, int], dep: int, arr: int, delay: int, dest: str, hour: str
) -> dict[str, Any]:
    return {"year": 2013, "month": day[0], "day": day[1], "dep_delay": 0, "sched_arr_time": arr,
            "arr_delay": delay, "carrier": "UA", "flight": 1, "tailnum": "N1", "origin": "EWR",
            "dest": dest, "distance": 1, "hour": dep // 100, "minute": dep % 100, "time_hour": hour}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "air", "decided", "landed", "late"),
    [
        (flight((1, 1), 515, 819, 11, "IAH", "2013-01-01T10:00:00Z"), 227,
         (1, 1, 8, 15), (1, 1, 14, 30), False),
        (flight((1, 1), 545, 1022, -18, "BQN", "2013-01-01T10:00:00Z"), 183,
         (1, 1, 8, 45), (1, 1, 14, 4), False),
        (flight((3, 9), 2110, 46, 16, "LAX", "2013-03-10T02:00:00Z"), 340,
         (3, 10, 0, 10), (3, 10, 9, 2), True),
        (flight((7, 4), 2359, 340, 20, "SJU", "2013-07-05T03:00:00Z"), 190,
         (7, 5, 1, 59), (7, 5, 8, 0), True),
        (flight((7, 4), 1000, 1430, 0, "HNL", "2013-07-04T14:00:00Z"), 590,
         (7, 4, 12, 0), (7, 5, 0, 30), False),
    ],
    ids=["two zones", "not listed", "midnight, west", "midnight, east", "Honolulu"],
)  # fmt: skip
def test_local_clocks_become_utc(
    row: dict[str, Any], air: int, decided: tuple[int, ...], landed: tuple[int, ...], late: bool
) -> None:
    zones = {"IAH": "America/Chicago", "LAX": "America/Los_Angeles", "HNL": "Pacific/Honolulu"}
    tables = {
        "flights": pl.DataFrame([row | {"air_time": air}]),
        "airports": pl.DataFrame({"faa": list(zones), "tzone": list(zones.values())}),
    }
    made = module("make_data").timed(tables).row(0, named=True)
    assert made["decided_at"] == datetime(2013, *decided, tzinfo=UTC)  # type: ignore[misc,arg-type]
    assert made["landed_at"] == datetime(2013, *landed, tzinfo=UTC)  # type: ignore[misc,arg-type]
    assert made["late"] is late


def test_an_unknown_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tar.gz").write_bytes(b"x")
    with pytest.raises(SystemExit, match="its SHA-256 is 2d711642b726b"):
        module("make_data").members(tmp_path / "other.tar.gz")


def test_its_model_tells_late_flights_and_needs_the_views(
    manifest: Manifest, flights: pl.DataFrame
) -> None:
    views = views_of(manifest.features, manifest.data)
    sources = {v.source: pl.read_parquet(FOLDER / v.source) for v in views}
    rows = flights.filter(pl.col("decided_at") < datetime(2013, 5, 1, tzinfo=UTC))
    joined = materialize(rows, views, sources, manifest.data.time).filter(
        pl.col("late").is_not_null()
    )
    data = manifest.data
    roles = (data.time, data.known_at, data.entity, *data.ignore)
    table = canonical(joined.drop(roles))
    border = int(table.height * (1 - manifest.train.test))
    learn, held = table[:border], table[border:]

    def auc(names: list[str]) -> float:
        encoding = fit_encoding(learn, infer_contract(learn.select(names), target="late"))
        seen = SimpleNamespace(X=transform(learn, encoding), y=learn["late"].to_numpy().astype(int))
        with threadpool_limits(1):  # threads that spin for a busy core take ten times as long
            model = module("train").train(seen, dict(manifest.train.params, max_iter=40))
            scores = model.predict_proba(transform(held, encoding))[:, 1]
        return METRICS["auc"].value(held["late"].to_numpy(), scores)

    full = auc(table.columns)
    assert full > 0.72
    assert auc([c for c in table.columns if "." not in c]) < full - 0.05
