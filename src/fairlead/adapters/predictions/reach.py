"""How far a package reached: answers counted by package, over columns where the rows are sealed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fairlead.core.prediction import Prediction, Reach
from fairlead.core.ref import Ref

if TYPE_CHECKING:
    import polars as pl

__all__ = ["chosen", "reaches"]

NEWEST = 5
"""Ids that are shown of the last answers."""
COLUMNS = ("package", "id", "unit", "at", "live", "error")


def chosen(
    frame: "pl.LazyFrame", packages: Sequence[str], since: float, until: float,
    served: Mapping[str, str],
) -> "pl.DataFrame":  # fmt: skip
    """COLUMNS of the rows of these packages with these logged values; a value whose column the
    file lacks matches nothing."""
    import polars as pl

    names = frame.collect_schema().names()
    tests = [pl.col("package").is_in(packages), pl.col("at").is_between(since, until, closed="left")]
    for column, value in served.items():
        full = next((n for n in (f"in.{column}", f"feature.{column}") if n in names), "")
        tests.append(pl.col(full).cast(pl.String) == value if full else pl.lit(False))
    return frame.filter(*tests).select(COLUMNS).collect()


def reaches(
    packages: Sequence[Ref], sealed: Sequence["pl.DataFrame"], fresh: Iterable[Prediction],
    served: Mapping[str, str],
) -> list[Reach]:  # fmt: skip
    """One for each package that answered anything."""
    import polars as pl

    rows = [[str(p.package), p.id, p.unit, p.at, p.live, p.error] for p in fresh if _meets(p, served)]
    types = {"package": pl.String, "id": pl.String, "unit": pl.String, "at": pl.Float64,
             "live": pl.Boolean, "error": pl.String}  # fmt: skip
    table = pl.concat([pl.DataFrame(rows, schema=types, orient="row"), *sealed])
    seen = pl.col("live") & (pl.col("error") == "")
    found = {
        row["package"]: row
        for row in table.group_by("package").agg(
            answers=seen.sum(), mirrored=(~seen).sum(), units=pl.col("unit").filter(seen).n_unique(),
            first_at=pl.col("at").min(), last_at=pl.col("at").max(),
            newest=pl.col("id").filter(seen).top_k(NEWEST).sort(descending=True),
        ).iter_rows(named=True)
    }  # fmt: skip
    return [replace(Reach(package=ref), **_values(found[str(ref)])) for ref in packages if str(ref) in found]


def _values(row: Mapping[str, Any]) -> dict[str, Any]:
    values = {k: v for k, v in row.items() if k != "package"}
    return values | {"newest": tuple(row["newest"])}


def _meets(prediction: Prediction, served: Mapping[str, str]) -> bool:
    known = {**prediction.inputs, **prediction.features}
    return all(column in known and _text(known[column]) == value for column, value in served.items())


def _text(value: Any) -> str:
    """As a column of that type is spelled when it is cast to text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
