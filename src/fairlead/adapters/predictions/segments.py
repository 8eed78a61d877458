"""Segments: sealed Parquet files of the prediction log, found by name, written all or nothing."""

import fcntl
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from msgspec import Struct

from fairlead.disk import sync

if TYPE_CHECKING:
    import polars as pl

__all__ = ["KEY", "Segment", "Segments", "newest"]

ROW_GROUP = 8192
"""Rows that a look-up by id decodes: few enough for milliseconds, enough to compress well."""

SMALL = 4 * 2**20
"""Bytes; runs of smaller neighbours are merged into one file."""

MERGED = 500_000
"""Rows of a merged file at most: bounds the memory of merging, and of reading one whole."""

FAN = 8
"""How many small neighbours make a merge worth while: each row is rewritten log_8 times."""

KEY = {"answers": "id", "feedback": "prediction", "refused": "id"}
"""Kinds of segments, and the column they are sorted by."""

NAME = re.compile(
    r"(?P<kind>answers|feedback|refused)\.(?P<service>[^.]*)\.(?P<gateway>[^.]+)\.(?P<first>\d+)-(?P<last>\d+)"
    r"\.(?P<low>[^.-]*)-(?P<high>[^.-]*)\.parquet"
)


class Segment(Struct, frozen=True, kw_only=True):
    """One file: journals `first` to `last` of a gateway, of one service, ids `low` to `high`.

    The name carries all of this, so that no index can disagree with the files.
    """

    kind: str
    service: str
    gateway: str
    first: int
    last: int
    low: str
    high: str
    path: Path
    size: int

    def covers(self, other: "Segment") -> bool:
        """Whether the other's rows are all here too (a merge that was cut short left it)."""
        return (
            (self.kind, self.service, self.gateway) == (other.kind, other.service, other.gateway)
            and self.first <= other.first
            and other.last <= self.last
            and self.path != other.path
        )


def newest(segment: Segment) -> float:
    """When the last of its rows was asked, or told."""
    import polars as pl

    return float(pl.scan_parquet(segment.path).select(pl.col("at").max()).collect().item())


def _plain(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E").replace("-", "%2D")


def _parsed(path: Path, size: int) -> Segment | None:
    found = NAME.fullmatch(path.name)
    if not found:
        return None
    return Segment(kind=found["kind"], service=unquote(found["service"]),
                   gateway=unquote(found["gateway"]), first=int(found["first"]),
                   last=int(found["last"]), low=unquote(found["low"]), high=unquote(found["high"]),
                   path=path, size=size)  # fmt: skip


class Segments:
    """The folder of sealed files. One process writes; any number read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self, kind: str) -> list[Segment]:
        """Segments of that kind by gateway and age, without those another one covers."""
        found: list[Segment] = []
        if not self._folder.is_dir():
            return found
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(kind) and entry.name.endswith(".parquet"):
                    segment = _parsed(Path(entry.path), entry.stat().st_size)
                    found += [segment] if segment else []
        found.sort(key=lambda s: (s.service, s.gateway, s.first, -s.last))
        kept: list[Segment] = []
        for segment in found:
            if not kept or not kept[-1].covers(segment):
                kept.append(segment)
        return kept

    def last(self, gateway: str) -> int:
        """The newest sealed sequence of a gateway, -1 when there is none."""
        every = (s.last for kind in KEY for s in self.all(kind) if s.gateway == gateway)
        return max(every, default=-1)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Whether this process alone may write while the context lasts."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def write(self, kind: str, service: str, gateway: str, first: int, last: int,
              table: "pl.DataFrame") -> Path:  # fmt: skip
        """One file, sorted by id, durable before its name appears; where it lies."""
        table = table.sort(KEY[kind], maintain_order=True)
        # Feedback may name anything as its prediction: no id range in those names.
        ends = ("", "") if kind == "feedback" else (table["id"][0], table["id"][-1])
        parts = (kind, _plain(service), _plain(gateway), f"{first}-{last}",
                 "-".join(_plain(e) for e in ends), "parquet")  # fmt: skip
        target = self._folder / ".".join(parts)
        draft = self._folder / f".{target.name}.draft"
        table.write_parquet(draft, row_group_size=ROW_GROUP, statistics=True, compression="zstd")
        sync(draft)
        draft.rename(target)
        sync(self._folder)
        return target

    def without(self, segment: Segment, ids: Collection[str]) -> int:
        """Rewrite a segment without the rows of these predictions; how many those were."""
        import polars as pl

        if not ids:
            return 0
        table = pl.read_parquet(segment.path)
        kept = table.filter(~pl.col(KEY[segment.kind]).is_in(list(ids)))
        if kept.height == table.height:
            return 0
        target = None if kept.is_empty() else self.write(
            segment.kind, segment.service, segment.gateway, segment.first, segment.last, kept)  # fmt: skip
        if target != segment.path:
            segment.path.unlink()
        return table.height - kept.height

    def merge(self) -> int:
        """Join one run of small neighbours; return how many files became one (0: none did)."""
        import polars as pl

        for kind in KEY:
            for run in _runs(self.all(kind)):
                lazy = [pl.scan_parquet(s.path) for s in run]
                rows = sum(frame.select(pl.len()).collect().item() for frame in lazy)
                if rows > MERGED or not _alike([frame.collect_schema() for frame in lazy]):
                    continue
                tables = [pl.read_parquet(s.path) for s in run]
                table = pl.concat(tables, how="diagonal_relaxed")
                self.write(kind, run[0].service, run[0].gateway, run[0].first, run[-1].last, table)
                self.sweep()
                return len(run)
        return 0

    def sweep(self) -> None:
        """Delete what a merge has made superfluous, and drafts that a crash left behind."""
        for kind in KEY:
            kept = {s.path for s in self.all(kind)}
            for path in self._folder.glob(f"{kind}.*.parquet"):
                if path not in kept and NAME.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        for draft in self._folder.glob(".*.draft"):
            draft.unlink(missing_ok=True)


def _runs(segments: Sequence[Segment]) -> Iterator[Sequence[Segment]]:
    """Neighbours of one gateway and service, all small and of similar size."""
    for i in range(len(segments) - FAN + 1):
        run = segments[i : i + FAN]
        sizes = [s.size for s in run]
        same = len({(s.service, s.gateway) for s in run}) == 1
        if same and max(sizes) <= min(SMALL, 4 * min(sizes)):
            yield run


def _alike(schemas: Sequence[Mapping[str, Any]]) -> bool:
    """Whether common columns agree in type; whole numbers may widen to floats."""
    import polars as pl

    seen: dict[str, Any] = {}
    numbers = {pl.Int64(), pl.Float64()}
    return all(
        seen.setdefault(name, dtype) == dtype or {seen[name], dtype} == numbers
        for schema in schemas
        for name, dtype in schema.items()
    )
