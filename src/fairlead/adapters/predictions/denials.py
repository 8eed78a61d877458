"""Refused requests as a table of their own, and back."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.core.journal import Denial
from fairlead.core.prediction import Refused
from fairlead.core.ref import Ref

if TYPE_CHECKING:
    import polars as pl

__all__ = ["denials_table", "named", "refused_by", "refused_of", "restored_denials"]


def denials_table(denials: Sequence[tuple[int, Denial]], source: str) -> "pl.DataFrame":
    """Columns as the fields of `Refused`, with `inputs` as a JSON object; source, offset."""
    import polars as pl

    kinds = {"at": pl.Float64, "latency": pl.Float64, "epoch": pl.Int64, "status": pl.Int64, "count": pl.Int64}
    names = ("id", "service", "package", "at", "epoch", "unit", "status", "code", "pointer", "message",
             "latency", "count")  # fmt: skip
    columns = {n: pl.Series([getattr(d, n) for _, d in denials], dtype=kinds.get(n, pl.String)) for n in names}
    return pl.DataFrame(columns | {
        "inputs": pl.Series([d.body.decode() or "{}" for _, d in denials], dtype=pl.String),
        "source": pl.Series([source] * len(denials), dtype=pl.String),
        "offset": pl.Series([offset for offset, _ in denials], dtype=pl.Int64),
    })  # fmt: skip


def restored_denials(rows: Iterable[dict[str, Any]]) -> Iterator[Refused]:
    """Refused requests from rows of their table."""
    for row in rows:
        fields = {n: row[n] for n in Refused.__struct_fields__}
        yield Refused(**fields | _parts(row["package"], row["inputs"]))


def refused_of(denial: Denial) -> Refused:
    """The same from an entry of a journal."""
    fields = {n: getattr(denial, n) for n in Refused.__struct_fields__ if n != "inputs"}
    return Refused(**fields | _parts(denial.package, denial.body or b"{}"))


def refused_by(path: Path, where: Mapping[str, Collection[str]], units: Collection[str]) -> list[str]:
    """Ids of the refused requests in a segment that have one of these values in every column, or a unit."""
    import polars as pl

    return [r.id for r in restored_denials(pl.read_parquet(path).iter_rows(named=True)) if named(r, where, units)]


def named(refused: Refused, where: Mapping[str, Collection[str]], units: Collection[str]) -> bool:
    """Whether it is about them."""
    row = refused.inputs
    return refused.unit in units or (bool(where) and all(str(row.get(c)) in v for c, v in where.items()))


def _parts(package: str, inputs: str | bytes) -> dict[str, Any]:
    return {"package": Ref.parse(package) if package else None, "inputs": msgspec.json.decode(inputs)}
