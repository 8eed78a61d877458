"""Features: declared views joined to a table so that no row sees a fact from its own future.

The rule is that of `core/feature.py` and is computed once more, fact by fact, by the online store;
the tests hold both sides equal on every row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fairlead.core.artifact import Artifact, DatasetSpec, FeaturesSpec, name_of
from fairlead.core.duration import seconds
from fairlead.core.feature import Aggregate, FeatureView
from fairlead.core.sums import COARSE, FAR, FINE, LIMIT, instant, total
from fairlead.errors import Invalid, Missing
from fairlead.flow.conform import canonical, infer_contract
from fairlead.flow.parts import store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import polars as pl

    from fairlead.core.manifest import AggregateText, DataSection, FeatureSection
    from fairlead.ports import Blobs

__all__ = ["facts", "keep", "materialize", "views_of"]

AT, KEY, ROW = "\0at", "\0key", "\0row"
"""Names no table of ours can hold: the moment in microseconds, the entity as text, the row."""


def views_of(features: Mapping[str, FeatureSection], data: DataSection) -> tuple[FeatureView, ...]:
    """The views a manifest declares, in its order, with durations in seconds.

    What a section must hold was checked when the manifest was read. Raises Invalid for a duration
    that cannot be read and for a view that would leak the truth of `data`.
    """
    views = tuple(_view(name, section) for name, section in features.items())
    for view in views:
        _refuse_leak(view, data)
    return views


def _view(name: str, section: FeatureSection) -> FeatureView:
    return FeatureView(
        name=name,
        source=section.source,
        entity=section.entity,
        time=section.time,
        columns=section.columns,
        max_age=seconds(section.max_age) if section.max_age else 0.0,
        aggregates=tuple(_aggregate(output, text) for output, text in section.aggregate.items()),
        window=seconds(section.window) if section.window else 0.0,
    )


def _aggregate(name: str, text: AggregateText) -> Aggregate:
    if text.count:
        return Aggregate(name=name, operation="count")
    if text.mean:
        return Aggregate(name=name, operation="mean", column=text.mean)
    return Aggregate(name=name, operation="sum", column=text.sum)


def _refuse_leak(view: FeatureView, data: DataSection) -> None:
    """A view over the data itself may show the target only from the moment its truth is known."""
    if (
        view.source != data.source
        or data.target not in view.reads
        or view.time == data.known_at != ""
    ):
        return
    when = f"at {view.time!r}" if view.time else "at all times"
    known = repr(data.known_at) if data.known_at else "data.known_at (not declared yet)"
    raise Invalid(
        f"features.{view.name} shows the target {data.target!r} {when}, before its truth is known",
        hint=f"set time of the view to {known}: the moment the truth becomes known",
        pointer=f"/features/{view.name}/time",
    )


def materialize(
    frame: pl.DataFrame, views: Sequence[FeatureView], sources: Mapping[str, pl.DataFrame],
    time: str = "",
) -> pl.DataFrame:  # fmt: skip
    """Append ``view.column`` columns to `frame`: same rows, same order, each as of its own `time`.

    `sources` maps `view.source` to its facts, in order of arrival: of two facts about an entity at
    one time the later row counts as the latest. A fact without time or entity is never seen; a row
    without entity sees nothing (null), a known moment without facts counts 0. Raises Missing for an
    absent source or column, Invalid for a column that cannot play its role.
    """
    import polars as pl

    if not views:
        return frame
    entities = sorted({v.entity for v in views})
    columns = {e: _entity(frame, e, "the data") for e in entities}
    at = _moment(frame, time, "the data") if time else pl.lit(None, pl.Int64)
    asked = frame.select(at.alias(AT), *(c.alias(e) for e, c in columns.items()))
    asked = asked.with_row_index(ROW).sort(AT, maintain_order=True)
    added = []
    for view in views:
        if view.time and not time:
            raise Invalid(f"features.{view.name} has a time, but the data has none",
                          hint="set data.time: the moment the prediction is asked",
                          pointer="/data/time")  # fmt: skip
        if view.source not in sources:
            raise Missing(f"features.{view.name}: no source {view.source!r}",
                          hint=f"known sources: {', '.join(sources) or 'none'}")  # fmt: skip
        asks = asked.select(AT, pl.col(view.entity).alias(KEY))
        added.append(_join(view, asks, sources[view.source]).select(view.outputs))
    joined = pl.concat([asked.select(ROW), *added], how="horizontal").sort(ROW).drop(ROW)
    clash = sorted(set(joined.columns) & set(frame.columns))
    if clash:
        raise Invalid(f"the data already has a column {clash[0]!r}", hint="rename the view")
    return frame.hstack(joined)


def _join(view: FeatureView, asks: pl.DataFrame, source: pl.DataFrame) -> pl.DataFrame:
    if view.aggregates:
        return _window(view, asks, _facts(view, source))
    if view.time:
        return _latest(view, asks, _facts(view, source))
    return _dimension(view, asks, _facts(view, source))


def _facts(view: FeatureView, source: pl.DataFrame) -> pl.DataFrame:
    """Key, moment and the columns of the view; only facts that can ever be seen, in time order."""
    import polars as pl

    where = f"features.{view.name}"
    for name in view.reads:
        _known(source, name, where)
    at = _moment(source, view.time, where) if view.time else pl.lit(0, pl.Int64)
    picked = source.select(
        _entity(source, view.entity, where).alias(KEY), at.alias(AT), *view.reads
    )
    return picked.drop_nulls([KEY, AT]).sort(AT, maintain_order=True)


def _dimension(view: FeatureView, asks: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    last = facts.unique(KEY, keep="last", maintain_order=True).select(
        KEY, *(_value(facts, c).alias(o) for c, o in zip(view.columns, view.outputs, strict=True))
    )
    return asks.select(pl.col(KEY)).join(last, on=KEY, how="left", maintain_order="left")


def _latest(view: FeatureView, asks: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    since = "\0since"
    held = facts.select(
        KEY, AT, pl.col(AT).alias(since),
        *(_value(facts, c).alias(o) for c, o in zip(view.columns, view.outputs, strict=True)),
    )  # fmt: skip
    found = _asof(asks, held)
    if not view.max_age:
        return found
    fresh = pl.col(AT) - pl.col(since) <= instant(view.max_age)
    return found.with_columns(pl.when(fresh).then(pl.col(o)).alias(o) for o in view.outputs)


def _window(view: FeatureView, asks: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    sums = _running(view, facts)
    names = [n for n in sums.columns if n not in (KEY, AT)]
    now = _asof(asks, sums).select(pl.col(names).fill_null(0))
    if view.window:
        back = asks.with_columns(pl.col(AT) - instant(view.window))
        then = _asof(back, sums).select(pl.col(names).fill_null(0))
        now = now.select(now[n] - then[n] for n in names)
    known = pl.lit(asks[KEY].is_not_null() & asks[AT].is_not_null())
    return now.select(
        pl.when(known & _present(a)).then(_answer(a)).alias(o)
        for a, o in zip(view.aggregates, view.outputs, strict=True)
    )


def _present(aggregate: Aggregate) -> pl.Expr:
    """Whether there is anything to answer: a sum or mean of no values is null, a count is 0."""
    import polars as pl

    if aggregate.operation == "count":
        return pl.lit(True)
    return pl.col(f"n {aggregate.column}") > 0


def _answer(aggregate: Aggregate) -> pl.Expr:
    import polars as pl

    count = pl.col(f"n {aggregate.column}")
    if aggregate.operation == "count":
        return count
    whole: pl.Expr = total(pl.col(f"c {aggregate.column}"), pl.col(f"f {aggregate.column}"))
    return whole if aggregate.operation == "sum" else whole / count


def _running(view: FeatureView, facts: pl.DataFrame) -> pl.DataFrame:
    """Per key the running sums up to each moment: ``n`` values, ``c`` coarse, ``f`` fine steps."""
    import polars as pl

    scaled = facts.select(KEY, AT, *(_scaled(view, facts, c) for c in view.reads))
    _refuse_overflow(view, scaled.select(view.reads))
    steps = [pl.lit(1, pl.Int64).alias("n ")]
    for column in view.reads:
        value = pl.col(column)
        coarse = value.cast(pl.Int64)
        steps += [
            value.is_not_null().cast(pl.Int64).alias(f"n {column}"),
            coarse.fill_null(0).alias(f"c {column}"),
            ((value - coarse) * FINE).cast(pl.Int64).fill_null(0).alias(f"f {column}"),
        ]
    cut = scaled.select(KEY, AT, *steps)
    return cut.with_columns(pl.col(cut.columns[2:]).cum_sum().over(KEY))


def _scaled(view: FeatureView, facts: pl.DataFrame, column: str) -> pl.Expr:
    """The column in coarse steps, null where it is null, NaN or infinite."""
    import polars as pl

    if not (facts[column].dtype.is_numeric() or facts[column].dtype == pl.Boolean):
        raise Invalid(f"features.{view.name} aggregates {column!r}, which holds "
                      f"{facts[column].dtype}", hint="aggregate a number or a boolean")  # fmt: skip
    value = pl.col(column).cast(pl.Float64)
    return pl.when(value.is_finite()).then(value * COARSE).alias(column)


def _refuse_overflow(view: FeatureView, scaled: pl.DataFrame) -> None:
    """Raise Invalid before a sum could leave the 64 bits that keep it exact."""
    import polars as pl

    tops = scaled.select(pl.all().abs().sum()).to_dicts()[0] if scaled.width else {}
    for name, top in tops.items():
        if top >= LIMIT:
            raise Invalid(
                f"features.{view.name}: the values of {name!r} add up to {top / COARSE:.3g}",
                hint=f"running sums are exact below {LIMIT / COARSE:.1g}: rescale the column",
            )


def _asof(asks: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Each ask with the last row of `held` of its key at or before its moment."""
    return asks.join_asof(held, on=AT, by=KEY, strategy="backward", check_sortedness=False)


def _known(frame: pl.DataFrame, name: str, where: str) -> None:
    if name not in frame.columns:
        raise Missing(f"{where}: no column {name!r}", hint=f"known: {', '.join(frame.columns)}")


def _entity(frame: pl.DataFrame, name: str, where: str) -> pl.Expr:
    """The entity column as text, the form the online store is asked with."""
    import polars as pl

    _known(frame, name, where)
    dtype = frame[name].dtype
    if not (dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null) or dtype.is_integer()):
        raise Invalid(f"{where}: the entity {name!r} holds {dtype}",
                      hint="an entity is text or a whole number: cast the column")  # fmt: skip
    return pl.col(name).cast(pl.String)


def _moment(frame: pl.DataFrame, name: str, where: str) -> pl.Expr:
    """A time column as whole microseconds UTC; datetimes without zone are UTC, numbers seconds."""
    import polars as pl

    _known(frame, name, where)
    dtype = frame[name].dtype
    held = str(dtype)
    if dtype in (pl.Datetime, pl.Date):
        return pl.col(name).dt.epoch("us").cast(pl.Int64)
    if dtype.is_numeric():
        moment = pl.col(name).cast(pl.Float64).fill_nan(None)
        far = frame.select(moment.abs().max()).item()
        if far is None or far < FAR:
            return (moment * 1e6).round(mode="half_to_even").cast(pl.Int64)
        held = f"numbers up to {far:g}"
    raise Invalid(f"{where}: the time {name!r} holds {held}",
                  hint="a time is a datetime, a date or UTC seconds: parse the column")  # fmt: skip


def _value(facts: pl.DataFrame, name: str) -> pl.Expr:
    """A column as served: what is not finite is missing, as everywhere in Fairlead."""
    import polars as pl

    column = pl.col(name)
    return pl.when(column.is_finite()).then(column) if facts[name].dtype.is_float() else column


def facts(view: FeatureView, source: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of `source` as `Online.push` takes them: what `view` needs, in order of time.

    Facts of one time stay in order of arrival, which decides which of them is the latest.
    """
    names = [n for n in dict.fromkeys((view.entity, view.time, *view.reads)) if n]
    for name in names:
        _known(source, name, f"features.{view.name}")
    rows = source.select(names)
    if view.time:
        rows = rows.sort(view.time, maintain_order=True)
    yield from rows.iter_rows(named=True)


def keep(
    frame: pl.DataFrame, dataset: Artifact, views: Sequence[FeatureView], blobs: Blobs, at: float
) -> Artifact:
    """Store `frame`, the rows of `dataset` materialised with `views`, and name it.

    The artifact descends from the dataset; same rows and views, same artifact. Raises Invalid when
    `dataset` is none.
    """
    if not isinstance(dataset.spec, DatasetSpec):
        raise Invalid(f"{dataset.ref.short} is no dataset", hint="materialise views on a dataset")
    frame = canonical(frame)
    contract = dataset.spec.contract
    added = infer_contract(frame.select(o for v in views for o in v.outputs))
    schema = replace(contract, columns=contract.columns + added.columns)
    spec = FeaturesSpec(parts=store(frame, blobs), schema=schema, views=tuple(views))
    name = name_of(dataset.ref.name, spec)
    return Artifact(ref=name, spec=spec, parents=(dataset.ref,), created_at=at)
