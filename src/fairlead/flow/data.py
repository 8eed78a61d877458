"""Data: commit tables as immutable versions under one contract, read them, compare and split them."""

from collections.abc import Collection, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, Part
from fairlead.core.drift import distance
from fairlead.core.profile import ColumnProfile, TableProfile
from fairlead.core.ref import Ref
from fairlead.core.schema import Schema, SchemaDiff, widen
from fairlead.core.schema import diff as compare
from fairlead.errors import Invalid
from fairlead.flow import outline
from fairlead.flow.conform import canonical, cast, conform, infer_contract
from fairlead.flow.parts import known, load, store
from fairlead.ports import Blobs

if TYPE_CHECKING:
    import polars as pl

__all__ = ["DataDiff", "Shift", "Version", "append", "checkout", "diff", "infer_contract", "log",
           "profile_of", "read", "scan", "snapshot", "split"]  # fmt: skip

Table = DatasetSpec | FeaturesSpec

_KINDS = {"int": "float", "text": "category"}
"""Types whose values compare: they widen into each other."""


class Version(Struct, frozen=True, kw_only=True):
    """One line of a dataset's history. `added`: rows more than the version before had."""

    ref: Ref
    at: float
    rows: int
    added: int
    parts: int
    size: int
    change: SchemaDiff


class Shift(Struct, frozen=True, kw_only=True):
    """How far a column moved between two datasets: see `core.drift.Distance`."""

    column: str
    psi: float
    nulls: float
    unseen: float


class DataDiff(Struct, frozen=True, kw_only=True):
    """What changed: rows by their values (a corrected row is one removed and one added)."""

    added: int
    removed: int
    schema: SchemaDiff
    shifts: tuple[Shift, ...]


def snapshot(frame: "pl.DataFrame", blobs: Blobs, *, previous: DatasetSpec | None = None,
             target: str = "", time: str = "", entity: str = "", ignore: Collection[str] = (),
             accept_breaking: bool = False) -> tuple[DatasetSpec, SchemaDiff]:  # fmt: skip
    """Commit a whole table as a version, and say how its contract differs from `previous`.

    Parts of `previous` whose rows stand unchanged at their place are kept; where all do, only the
    rows behind them are read. The first commit infers the contract; later ones widen it where
    the rows ask for it. Roles left "" are those of `previous`. `ignore`: columns not stored.

    Raises Invalid with every violation of the contract (column, value seen, remedy) unless
    `accept_breaking`, which makes the contract that of this table.
    """
    frame = canonical(frame.drop(ignore, strict=False))
    if previous is None:
        contract = infer_contract(frame, target=target, time=time, entity=entity)
        profile = outline.store(outline.profile(frame, contract), blobs)
        spec = DatasetSpec(parts=store(frame, blobs), contract=contract, profile=profile)
        return spec, SchemaDiff(size="same")
    old = previous.contract
    roles = Schema(columns=old.columns, target=target or old.target, time=time or old.time,
                   entity=entity or old.entity)  # fmt: skip
    laid = list(known(frame, previous.parts))
    if roles == old and all(same for _, _, same in laid):
        return _extend(frame.slice(previous.rows), blobs, previous, previous.rows)
    fitted, faults = conform(frame, old)
    faults += _structure(old, roles, fitted)
    if faults and not accept_breaking:
        raise _broken(faults, "or accept its new shape with --accept-breaking; models and callers "
                      "that rely on the old one have to follow")  # fmt: skip
    seen = infer_contract(fitted, target=roles.target, time=roles.time, entity=roles.entity, like=old)
    contract = seen if faults else widen(roles, seen)
    profile = outline.store(outline.profile(cast(fitted, contract), contract), blobs)
    parts = tuple(_relay(fitted, laid, blobs))
    spec = DatasetSpec(parts=parts, contract=contract, profile=profile)
    return spec, compare(old, contract)


def append(frame: "pl.DataFrame", blobs: Blobs, previous: DatasetSpec, *,
           ignore: Collection[str] = ()) -> tuple[DatasetSpec, SchemaDiff]:  # fmt: skip
    """Commit more rows behind those of `previous`, whose parts stay untouched.

    A new column, or one that is absent here, is null in the other rows. Raises Invalid with
    every violation of the contract.
    """
    return _extend(canonical(frame.drop(ignore, strict=False)), blobs, previous, 0)


def scan(spec: Table, blobs: Blobs, columns: Sequence[str] | None = None, since: float = -inf,
         until: float = inf) -> Iterator["pl.DataFrame"]:  # fmt: skip
    """The rows part by part, so that no more than one part is held.

    `columns`: all by default, in the given order; `since` <= the time column < `until` (UTC
    seconds; rows without a time only come when both are open). Raises Missing for an unknown
    column, Missing or Corrupt for a blob, Invalid for `since` without a time column.
    """
    import polars as pl

    schema = spec.contract if isinstance(spec, DatasetSpec) else spec.schema
    names = list(schema.names if columns is None else columns)
    wanted = [schema.column(name) for name in names]
    bounded = since > -inf or until < inf
    if bounded and not schema.time:
        raise Invalid("since and until need a time column", hint="name one as data.time")
    if bounded and schema.time not in names:
        wanted.append(schema.column(schema.time))
    needed = Schema(columns=tuple(wanted))
    for part in spec.parts:
        rows = cast(load(part, blobs, needed.names), needed)
        if bounded:
            at = pl.col(schema.time).dt.timestamp("us") / 1e6
            rows = rows.filter((at >= since) & (at < until))
        yield rows.select(names)


def read(spec: Table, blobs: Blobs, columns: Sequence[str] | None = None, since: float = -inf,
         until: float = inf) -> "pl.DataFrame":  # fmt: skip
    """All rows of `scan` in one frame."""
    import polars as pl

    frames = list(scan(spec, blobs, columns, since, until))
    if frames:
        return pl.concat(frames)
    schema = spec.contract if isinstance(spec, DatasetSpec) else spec.schema
    return cast(pl.DataFrame(), schema).select(columns or schema.names)


def profile_of(spec: DatasetSpec, blobs: Blobs) -> TableProfile:
    """The profile of a dataset's columns. Raises Missing or Corrupt."""
    return outline.load(spec.profile, blobs)


def checkout(spec: Table, blobs: Blobs, target: Path) -> int:
    """Write all rows to one .csv or .parquet file, atomically; return how many.

    Raises Invalid for another suffix, Missing or Corrupt for a blob.
    """

    if target.suffix not in (".csv", ".parquet"):
        raise Invalid(f"cannot write {target.name}", hint="name a file ending in .csv or .parquet")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        if target.suffix == ".parquet":
            read(spec, blobs).write_parquet(draft)
        else:
            with draft.open("wb") as out:
                for i, rows in enumerate(scan(spec, blobs)):
                    rows.write_csv(out, include_header=i == 0, datetime_format="%Y-%m-%dT%H:%M:%S%.fZ")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return sum(part.rows for part in spec.parts)


def log(versions: Sequence[Artifact]) -> list[Version]:
    """The history of one dataset from its artifacts, oldest first."""
    lines: list[Version] = []
    before: DatasetSpec | None = None
    for artifact in versions:
        spec = artifact.spec
        if not isinstance(spec, DatasetSpec):
            continue
        change = compare(before.contract, spec.contract) if before else SchemaDiff(size="same")
        lines.append(Version(ref=artifact.ref, at=artifact.created_at, rows=spec.rows, change=change,
                             added=spec.rows - (before.rows if before else 0),
                             parts=len(spec.parts), size=sum(p.size for p in spec.parts)))  # fmt: skip
        before = spec
    return lines


def diff(old: DatasetSpec, new: DatasetSpec, blobs: Blobs) -> DataDiff:
    """Compare two versions; parts both have are not read. Raises Missing or Corrupt."""
    schema = compare(old.contract, new.contract)
    added, removed = _rows(old, new, blobs)
    before, after = profile_of(old, blobs), profile_of(new, blobs)
    edges = {c.name: c.edges for c in before.columns}
    if any(edges.get(c.name, c.edges) != c.edges for c in after.columns):
        after = outline.profile(read(new, blobs), new.contract, like=before)
    shifts = [_shift(b, a) for b in before.columns for a in after.columns
              if a.name == b.name and a.kind == b.kind and a.edges == b.edges and a.n and b.n]  # fmt: skip
    return DataDiff(added=added, removed=removed, schema=schema, shifts=tuple(shifts))


def split(frame: "pl.DataFrame", *, time: str = "", test_share: float = 0.2, seed: int = 0,
          ) -> tuple["pl.DataFrame", "pl.DataFrame"]:  # fmt: skip
    """Rows to train on and rows held out, each in their order.

    With `time`: about the newest `test_share` (rows of one instant stay together; rows without
    a time are trained on). Without: each row by a hash of `seed` and its position, so that a
    table that grows moves no row. Raises Invalid when one side would be empty.
    """
    import polars as pl

    if not 0 < test_share < 1:
        raise Invalid(f"test share {test_share!r} is not between 0 and 1", hint="0.2 is usual")
    mask = pl.Series(_newest(frame.get_column(time), test_share) if time
                     else _hashed(frame.height, seed) < test_share)  # fmt: skip
    if not mask.any() or mask.all():
        why = f"column {time!r} holds too few different instants" if time else "too few rows"
        raise Invalid(f"{frame.height} rows cannot be split: {why}",
                      hint="commit more rows, or change the test share")  # fmt: skip
    return frame.filter(~mask), frame.filter(mask)


def _newest(times: "pl.Series", share: float) -> "pl.Series":
    """True for rows at or after the instant that cuts nearest to the share."""
    instants = times.drop_nulls().sort(descending=True)
    ends = (instants != instants.shift(-1)).arg_true() + 1
    if not len(ends):
        return times.is_null() & times.is_not_null()
    held = ends.item(int((ends - share * len(instants)).abs().arg_min() or 0))
    newest: pl.Series = (times >= instants.item(held - 1)).fill_null(False)
    return newest


def _hashed(rows: int, seed: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """splitmix64 (Steele, Lea, Flood 2014) of seed and position, as a number in [0, 1)."""
    mixed = np.arange(1, rows + 1, dtype=np.uint64) + np.uint64(seed % 2**32) * np.uint64(2**32)
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) / 2.0**53


def _extend(frame: "pl.DataFrame", blobs: Blobs, previous: DatasetSpec, start: int,
            ) -> tuple[DatasetSpec, SchemaDiff]:  # fmt: skip
    """Append canonical rows, the first of which is row `start` + 1 to whom it may concern."""
    if not frame.height:
        return previous, SchemaDiff(size="same")
    old = previous.contract
    fitted, faults = conform(frame, old, start)
    absent = [c.name for c in old.columns if not c.nullable and c.name not in frame.columns]
    faults += [f"{name}: the column is missing and was never null: add it" for name in absent]
    if faults:
        raise _broken(faults, "or commit the whole table with --accept-breaking")
    contract, before = widen(old, infer_contract(fitted, like=old)), profile_of(previous, blobs)
    fresh = outline.profile(cast(fitted, contract), contract, like=before)
    spec = DatasetSpec(parts=(*previous.parts, *store(fitted, blobs)), contract=contract,
                       profile=outline.store(outline.merge(before, fresh), blobs))  # fmt: skip
    return spec, compare(old, contract)


def _relay(frame: "pl.DataFrame", laid: Sequence[tuple[Part, "pl.DataFrame", bool]], blobs: Blobs,
           ) -> Iterator[Part]:  # fmt: skip
    """Parts of the frame: those laid along it that fit, new ones between and behind."""
    start = 0
    for part, rows, same in laid:
        yield from (part,) if same else store(frame.slice(start, rows.height), blobs)
        start += rows.height
    yield from store(frame.slice(start), blobs)


def _structure(old: Schema, wanted: Schema, frame: "pl.DataFrame") -> list[str]:
    """Columns gone, columns new and never null, roles changed: in words with a remedy."""
    faults = [f"{name}: the column is gone: bring it back" for name in old.names
              if name not in frame.columns]  # fmt: skip
    faults += [f"{name}: the column is new and never null, but earlier rows and callers lack it: "
               "leave it out with data.ignore" for name in frame.columns
               if name not in old.names and not frame.get_column(name).null_count()]  # fmt: skip
    roles = compare(replace(old, columns=()), replace(wanted, columns=())).changes
    return faults + [f"{c.column}: {c.text}" for c in roles if c.size == "breaking"]


def _broken(faults: Sequence[str], otherwise: str) -> Invalid:
    listed = "".join(f"\n  {fault}" for fault in faults)
    return Invalid(f"the table breaks its contract, {len(faults)} "
                   f"fault{'s' if len(faults) > 1 else ''}:{listed}",
                   hint=f"correct the table, {otherwise}")  # fmt: skip


def _rows(old: DatasetSpec, new: DatasetSpec, blobs: Blobs) -> tuple[int, int]:
    """Rows added and removed, as multisets of the values in the columns both have."""
    import polars as pl

    shared = {p.content for p in old.parts if p.content} & {p.content for p in new.parts}
    kinds = [{c.name: _KINDS.get(c.dtype, c.dtype) for c in s.contract.columns} for s in (old, new)]
    names = sorted(n for n, kind in kinds[1].items() if kinds[0].get(n) == kind)
    sides = [[p for p in spec.parts if p.content not in shared] for spec in (old, new)]
    if not names or not all(sides):
        return sum(p.rows for p in sides[1]), sum(p.rows for p in sides[0])
    common = Schema(columns=tuple(new.contract.column(n) for n in names))
    counts = []
    for parts in sides:
        hashes = [cast(load(p, blobs, names), common).hash_rows() for p in parts]
        counts.append(pl.concat(hashes).alias("row").value_counts(name="n"))
    both = counts[1].join(counts[0], on="row", how="full", suffix="_old").fill_null(0)
    change = both.get_column("n").cast(pl.Int64) - both.get_column("n_old").cast(pl.Int64)
    return int(change.clip(lower_bound=0).sum()), int((-change).clip(lower_bound=0).sum())


def _shift(before: ColumnProfile, after: ColumnProfile) -> Shift:
    seen = distance(before, after)
    return Shift(column=after.name, psi=seen.psi, nulls=seen.nulls, unseen=seen.unseen)
