"""Skew: feature values as they were served, beside the same values recomputed from the facts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fairlead.core.feature import FeatureView
from fairlead.core.skew import AT, ID, Skew
from fairlead.flow.features import materialize

if TYPE_CHECKING:
    import polars as pl

__all__ = ["compare"]

LAGS = (60.0, 300.0, 900.0, 1800.0, 3600.0, 3 * 3600.0, 6 * 3600.0, 86_400.0)
"""Seconds by which facts may come late: a served value that is right without the facts of the last
so many seconds was right when it was served."""

CLOSE = 1e-9
"""Relative difference of two numbers that are one: a sum in another order."""


def compare(
    rows: Sequence[Mapping[str, Any]], views: Sequence[FeatureView], sources: Mapping[str, "pl.DataFrame"]
) -> list[Skew]:
    """How often each feature was served differently from what the facts say as of the prediction.

    `rows`: served requests: AT (UTC seconds), ID, the entities, the features by name. Only rows are
    compared that were asked before the newest fact of the view: of later ones the table may not
    know yet what the online store was told. Raises what `materialize` raises.
    """
    import polars as pl

    found: list[Skew] = []
    for view in views:
        newest = _newest(view, sources[view.source])
        known = [row for row in rows if row[AT] <= newest]
        if not known:
            continue
        asked = pl.DataFrame([{AT: row[AT], view.entity: row.get(view.entity)} for row in known],
                             infer_schema_length=None)  # fmt: skip
        versions = [_again(asked, view, sources, 0.0)]
        if view.time:
            reach = view.window or view.max_age
            versions += [_again(asked, view, sources, lag) for lag in LAGS if not reach or lag < reach]
        for output in view.outputs:
            served = [row.get(output) for row in known]
            right, *earlier = [version.get_column(output).to_list() for version in versions]
            wrong = [i for i, (a, b) in enumerate(zip(served, right, strict=True)) if not _same(a, b)]
            late = {i for i in wrong if any(_same(served[i], other[i]) for other in earlier)}
            bad = [i for i in wrong if i not in late and served[i] is not None]
            example = max((known[i] for i in bad), key=lambda row: row[AT])[ID] if bad else ""
            found.append(Skew(feature=output, n=len(known), late=len(late), wrong=len(bad), example=example,
                              missing=len(wrong) - len(late) - len(bad)))  # fmt: skip
    return found


def _newest(view: FeatureView, source: "pl.DataFrame") -> float:
    """The moment of the newest fact; infinity for facts that are always true."""
    if not view.time:
        return float("inf")
    column = source.get_column(view.time)
    last = (column.dt.epoch("us") / 1e6).max() if column.dtype.is_temporal() else column.max()
    return float(last) if isinstance(last, int | float) else float("-inf")


def _again(
    asked: "pl.DataFrame", view: FeatureView, sources: Mapping[str, "pl.DataFrame"], lag: float
) -> "pl.DataFrame":
    """The view as of each moment without the facts of the `lag` seconds before it."""
    import polars as pl

    short = replace(view, window=view.window - lag if view.window else 0.0,
                    max_age=view.max_age - lag if view.max_age else 0.0)  # fmt: skip
    return materialize(asked.with_columns(pl.col(AT) - lag), [short], sources, AT)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, int | float) and not isinstance(b, bool):
        return bool(a == b or abs(a - b) <= CLOSE * max(abs(a), abs(b)))
    return bool(a == b)
