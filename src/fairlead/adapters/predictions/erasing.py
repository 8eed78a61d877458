"""Requests of one person: found in sealed segments by columns, in fresh entries one by one."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fairlead.core.prediction import Prediction

__all__ = ["asked", "meant"]

Where = Mapping[str, Collection[str]]


def asked(path: Path, where: Where, units: Collection[str]) -> list[str]:
    """Ids of the requests in a segment that have one of these values in every column, or a unit."""
    import polars as pl

    frame = pl.scan_parquet(path)
    known = [c for c in where if f"in.{c}" in frame.collect_schema()]
    values = [pl.col(f"in.{c}").cast(pl.String) for c in known]
    same = pl.all_horizontal([v.is_in(list(where[c])) for c, v in zip(known, values, strict=True)] or [pl.lit(False)])
    likely = frame.select("id", "unit", "rest", *values).filter(
        same | pl.col("unit").is_in(list(units)) | pl.col("rest").is_not_null())  # fmt: skip
    return [row["id"] for row in likely.collect().iter_rows(named=True)
            if row["unit"] in units or _meant(_whole(row), where)]  # fmt: skip


def meant(answer: Prediction, where: Where, units: Collection[str]) -> bool:
    """Whether it is about them."""
    return answer.unit in units or _meant({f"in.{k}": v for k, v in answer.inputs.items()}, where)


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """The typed columns, and over them what had no place in one."""
    return {**row, **(msgspec.json.decode(row["rest"]) if row["rest"] else {})}


def _meant(row: Mapping[str, Any], where: Where) -> bool:
    return bool(where) and all(str(row.get(f"in.{c}")) in values for c, values in where.items())
