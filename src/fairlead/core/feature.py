"""Feature views: one definition that serves training (as-of join) and serving (online store)."""

from typing import Literal

from msgspec import Struct

__all__ = ["Aggregate", "FeatureView", "Operation"]

Operation = Literal["count", "sum", "mean"]


class Aggregate(Struct, frozen=True, kw_only=True):
    """`name` = `operation` of `column` over the view's window ("count" needs no column)."""

    name: str
    operation: Operation
    column: str = ""


class FeatureView(Struct, frozen=True, kw_only=True):
    """Facts about an entity, each known from its `time` on.

    The point-in-time rule: a row asked at T sees only facts with `time` <= T. A view either takes
    the latest fact's `columns` (None when older than `max_age` seconds; 0 = no limit), or
    aggregates all facts with T - `window` < time <= T. `time` "" means always true (a dimension).
    """

    name: str
    source: str
    entity: str
    time: str = ""
    columns: tuple[str, ...] = ()
    max_age: float = 0.0
    aggregates: tuple[Aggregate, ...] = ()
    window: float = 0.0

    @property
    def outputs(self) -> tuple[str, ...]:
        """The feature columns this view adds: ``view.column``."""
        names = self.columns or tuple(a.name for a in self.aggregates)
        return tuple(f"{self.name}.{n}" for n in names)

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the source the view needs beside entity and time, each once."""
        aggregated = (a.column for a in self.aggregates if a.column)
        return tuple(dict.fromkeys((*self.columns, *aggregated)))
