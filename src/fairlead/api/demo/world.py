"""The world of the demo: a year of flights as the hours in which its news arrives."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from fairlead.core.feature import FeatureView
from fairlead.core.manifest import DataSection
from fairlead.flow import features

if TYPE_CHECKING:
    import polars as pl

__all__ = ["HOUR", "Hour", "World"]

HOUR = 3600.0
ROW = "\0row"


class Hour(Struct, frozen=True, kw_only=True):
    """What becomes known by the hour that begins at `at`, and what is asked within it.

    `facts`: rows for each feature view. `truths`: (request, label, moment) of flights that have
    landed. `asked`: numbers of the requests; `bodies`: their JSON.
    """

    at: float
    facts: tuple[tuple[FeatureView, list[dict[str, Any]]], ...]
    truths: list[tuple[int, bool, float]]
    asked: list[int]
    bodies: list[bytes]


class World:
    """The files of the example, cut at any moment: nothing later is ever shown."""

    def __init__(self, example: Path, data: DataSection, views: Sequence[FeatureView]) -> None:
        import polars as pl

        self._data, self._views = data, views
        self._times = {v.source: v.time for v in views} | {data.source: data.time}
        self._tables = {s: pl.read_parquet(example / s) for s in sorted(self._times)}
        self._flights = self._tables[data.source].with_row_index(ROW)

    def export(self, folder: Path, until: float, *, kilometres: bool = False) -> None:
        """Write every source as it stood at `until`: the warehouse's nightly export.

        `kilometres`: the upstream change that breaks the feed: distances in another unit.
        """
        import polars as pl

        now = datetime.fromtimestamp(until, UTC)
        for source, table in self._tables.items():
            time = self._times[source]
            seen = table.filter(pl.col(time) < now) if time else table
            if source == self._data.source:
                landed = pl.col(self._data.known_at) <= now
                hidden = (self._data.target, self._data.known_at)
                seen = seen.with_columns(pl.when(landed).then(pl.col(c)).alias(c) for c in hidden)
                if kilometres:
                    seen = seen.with_columns((pl.col("distance") * 1.609344).round().cast(pl.Int32))
            path = folder / source
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            seen.write_parquet(draft, compression="lz4")
            draft.replace(path)

    def hours(self, since: float, until: float, columns: Sequence[str]) -> Iterator[Hour]:
        """Hour by hour; requests carry `columns`. Facts of the first hour reach four days back."""
        import polars as pl

        flights = self._flights.with_columns(_hour(self._data.time).alias("\0asked"),
                                             _hour(self._data.known_at).alias("\0known"))  # fmt: skip
        asked = flights.filter(pl.col("\0asked").is_between(since, until - HOUR))
        requests = _by(asked.select("\0asked", ROW, *columns), "\0asked")
        known = asked.drop_nulls("\0known").select(
            "\0known", ROW, self._data.target, pl.col(self._data.known_at).dt.epoch("us") / 1e6
        )
        truths = _by(known, "\0known")
        facts = [(v, self._facts(v, since)) for v in self._views]
        at = since
        while at < until:
            rows = requests.get(at)
            told = truths.get(at - HOUR)
            news = tuple(
                (view, list(features.facts(view, table[at - HOUR])))
                for view, table in facts
                if at - HOUR in table
            )
            numbers = rows[ROW].to_list() if rows is not None else []
            bodies = [] if rows is None else [
                msgspec.json.encode(r) for r in rows.select(columns).iter_rows(named=True)]  # fmt: skip
            labels = [] if told is None else list(told.select(pl.exclude("\0known")).iter_rows())
            yield Hour(at=at, facts=news, truths=labels, asked=numbers, bodies=bodies)
            at += HOUR

    def _facts(self, view: FeatureView, since: float) -> "dict[float, pl.DataFrame]":
        """Facts by the hour in which they became known; older ones in the hour before `since`."""
        import polars as pl

        table = self._tables[view.source]
        if not view.time:
            return {since - HOUR: table}
        start = since - 96 * HOUR
        hour = pl.max_horizontal(_hour(view.time), pl.lit(since - HOUR)).alias("\0known")
        recent = table.filter(_hour(view.time) >= start).with_columns(hour)
        return _by(recent.sort(view.time), "\0known")


def _hour(column: str) -> "pl.Expr":
    """The beginning of the hour as UTC seconds."""
    import polars as pl

    return pl.col(column).dt.truncate("1h").dt.epoch("us") / 1e6


def _by(frame: "pl.DataFrame", column: str) -> "dict[float, pl.DataFrame]":
    return {float(k[0]): part for k, part in frame.partition_by(column, as_dict=True).items()}
