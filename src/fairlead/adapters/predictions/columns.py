"""Typed columns: predictions as a table that Polars, DuckDB or pandas scan, and back without loss."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.core.answers import output_of, row_of
from fairlead.core.artifact import PackageSpec
from fairlead.core.journal import Batch, Note
from fairlead.core.prediction import Feedback, Prediction
from fairlead.core.ref import Ref, canonical
from fairlead.core.veil import UNKEPT
from fairlead.errors import Missing

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LEFT_OUT", "WANTED", "SpecOf", "notes_table", "predictions_of", "restored", "restored_notes",
           "table_of"]  # fmt: skip

SpecOf = Callable[[str], PackageSpec]
"""Package reference as text -> its spec; raises Missing when nobody knows it any more."""

TRACE = "trace"
"""The key under `rest` of the trace that a caller brought."""

SAID = "said"
"""The key under `rest` of what an answer holds beside its numbers."""

WANTED = "wanted"
"""The key under `rest` of a row whose caller asked for an explanation."""

LEFT_OUT = "left_out"
"""The key under `rest` of a row whose inputs were not written down (log.sample)."""

KINDS: dict[str, frozenset[type]] = {
    "int": frozenset({int}),
    "float": frozenset({int, float}),
    "bool": frozenset({bool}),
    "category": frozenset({str}),
    "text": frozenset({str}),
    "datetime": frozenset({str}),
}


def table_of(batches: Sequence[tuple[int, Batch]], source: str, spec_of: SpecOf) -> "pl.DataFrame":
    """The table of (offset, batch) pairs of one service, all from the journal `source`.

    Columns: id, service, package, at, epoch, unit, live, propensity, latency, error, fallback,
    score, label, value, scores, ``in.<column>``, ``feature.<view.column>``, rest, source, offset.
    `rest` is a JSON object of what has no place in a typed column, null for most rows.
    """
    import polars as pl

    group = [b for _, b in batches]
    specs = {p: _known(spec_of, p) for p in dict.fromkeys(b.package for b in group)}
    each = [b for b in group for _ in b.ids]
    rest = _beside(group)
    typed = {**_inputs(group, _dtypes(specs.values()), rest), **_features(group, rest)}
    columns: dict[str, tuple[Any, list[Any]]] = {
        "id": (pl.String, [i for b in group for i in b.ids]),
        "service": (pl.String, [b.service for b in each]),
        "package": (pl.String, [b.package for b in each]),
        "at": (pl.Float64, [b.at for b in each]),
        "epoch": (pl.Int64, [b.epoch for b in each]),
        "unit": (pl.String, [u for b in group for u in b.units]),
        "live": (pl.Boolean, [b.live for b in each]),
        "propensity": (pl.Float64, [b.propensity for b in each]),
        "latency": (pl.Float64, [s for b in group for s in b.latencies]),
        "error": (pl.String, [e for b in group for e in b.errors]),
        "fallback": (pl.Boolean, [f for b in group for f in b.fallback]),
    }
    tail: dict[str, tuple[Any, list[Any]]] = {
        "rest": (pl.String, [canonical(r).decode() if r else None for r in rest]),
        "source": (pl.String, [source] * len(each)),
        "offset": (pl.Int64, [offset for offset, b in batches for _ in b.ids]),
    }
    outputs = [(specs[b.package], o) for b in group for o in b.outputs]
    return pl.DataFrame(
        {name: pl.Series(values, dtype=dtype) for name, (dtype, values) in columns.items()}
        | _outputs(outputs)
        | typed
        | {name: pl.Series(values, dtype=dtype) for name, (dtype, values) in tail.items()}
    )


def _beside(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """What of each row has no column: the trace that came with it, what was said in words, that its
    inputs were left out, that an explanation is wanted."""
    rows = (
        {TRACE: b.traces and b.traces[i], SAID: b.said and b.said[i], LEFT_OUT: body == UNKEPT,
         WANTED: b.wanted and b.wanted[i]}
        for b in batches for i, body in enumerate(b.bodies)
    )  # fmt: skip
    return [{key: value for key, value in row.items() if value} for row in rows]


def _known(spec_of: SpecOf, package: str) -> PackageSpec | None:
    try:
        return spec_of(package)
    except Missing:
        return None


def _dtypes(specs: Iterable[PackageSpec | None]) -> dict[str, str]:
    """One type per request column; where packages disagree, text (numbers then go to `rest`)."""
    found: dict[str, str] = {}
    for spec in specs:
        for column in spec.contract.columns if spec else ():
            before = found.setdefault(column.name, column.dtype)
            if {before, column.dtype} == {"int", "float"}:
                found[column.name] = "float"
            elif before != column.dtype:
                found[column.name] = "text"
    return found


def _outputs(
    outputs: Sequence[tuple[PackageSpec | None, list[float] | None]],
) -> dict[str, "pl.Series"]:
    import polars as pl

    tasks = [spec.task if spec else "" for spec, _ in outputs]
    first = [None if o is None else o[0] for _, o in outputs]
    said = [output_of(spec, o) if spec else None for spec, o in outputs]
    score = [f if t == "binary" else None for f, t in zip(first, tasks, strict=True)]
    value = [f if t == "regression" else None for f, t in zip(first, tasks, strict=True)]
    label = [s["label"] if s and "label" in s else None for s in said]
    whole = [o if t in ("multiclass", "chat", "") else None
             for (_, o), t in zip(outputs, tasks, strict=True)]  # fmt: skip
    return {
        "score": pl.Series(score, dtype=pl.Float64),
        "label": pl.Series(label, dtype=pl.String),
        "value": pl.Series(value, dtype=pl.Float64),
        "scores": pl.Series(whole, dtype=pl.List(pl.Float64)),
    }


def _inputs(
    batches: Sequence[Batch], contract: dict[str, str], rest: list[dict[str, Any]]
) -> dict[str, "pl.Series"]:
    rows = [row_of(body) for b in batches for body in b.bodies]
    for i, row in enumerate(rows):
        if not row.keys() <= contract.keys():
            rest[i].update({f"in.{k}": v for k, v in row.items() if k not in contract})
    return {
        f"in.{name}": _series(f"in.{name}", [row.get(name) for row in rows], dtype, rest)
        for name, dtype in contract.items()
    }


def _features(batches: Sequence[Batch], rest: list[dict[str, Any]]) -> dict[str, "pl.Series"]:
    rows = [f or {} for b in batches for f in b.features]
    table: dict[str, pl.Series] = {}
    for name in dict.fromkeys(k for row in rows for k in row):
        values = [row.get(name) for row in rows]
        kinds = set(map(type, values)) - {type(None)}
        dtype = next((d for d in ("bool", "float", "text") if kinds <= KINDS[d]), "text")
        if kinds:
            table[f"feature.{name}"] = _series(f"feature.{name}", values, dtype, rest)
    return table


def _series(name: str, values: list[Any], dtype: str, rest: list[dict[str, Any]]) -> "pl.Series":
    """A typed column; a value that it would not give back as sent goes to `rest` as well."""
    import polars as pl

    plain = {"int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}
    kind: Any = plain.get(dtype, pl.String)
    if dtype == "datetime":
        kind = pl.Datetime("us", "UTC")
        typed: list[Any] = [_moment(v) for v in values]
        lost = [t is None or _iso(t) != v for v, t in zip(values, typed, strict=True)]
    elif _all_fit(values, KINDS[dtype]):
        return pl.Series(values, dtype=kind)
    else:
        lost = [not _fits(v, KINDS[dtype]) for v in values]
        typed = [None if bad else v for v, bad in zip(values, lost, strict=True)]
    for i, value in enumerate(values):
        if lost[i] and value is not None:
            rest[i][name] = value
    return pl.Series(typed, dtype=kind)


def _all_fit(values: list[Any], kinds: frozenset[type]) -> bool:
    """The quick answer for columns without whole numbers."""
    return set(map(type, values)) <= kinds | {type(None)} and int not in set(map(type, values))


def _fits(value: Any, kinds: frozenset[type]) -> bool:
    """Whether the typed column gives this very value back (a float64 holds integers to 2^53)."""
    return type(value) in kinds and (type(value) is not int or -(2**53) <= value <= 2**53)


def _moment(value: Any) -> datetime | None:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return None if value is None else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def restored(rows: Iterable[dict[str, Any]], spec_of: SpecOf) -> Iterator[Prediction]:
    """Predictions from rows of the table, inputs as they were sent."""
    specs: dict[str, PackageSpec | None] = {}
    for row in rows:
        package = row["package"]
        if package not in specs:
            specs[package] = _known(spec_of, package)
        yield _prediction(row, specs[package])


def _prediction(row: dict[str, Any], spec: PackageSpec | None) -> Prediction:
    rest = msgspec.json.decode(row["rest"]) if row["rest"] else {}
    contract = {c.name for c in spec.contract.columns} if spec else set()
    outputs = {o for v in spec.views for o in v.outputs} if spec else set()
    return Prediction(
        id=row["id"], service=row["service"], package=Ref.parse(row["package"]), at=row["at"],
        unit=row["unit"], inputs=_unpack("in.", row, rest, contract),
        features=_unpack("feature.", row, rest, outputs), output=_said(row, spec, rest.get(SAID)),
        error=row["error"], fallback=row["fallback"], latency=row["latency"], live=row["live"],
        propensity=row["propensity"], epoch=row["epoch"], trace=rest.get(TRACE, ""),
        wanted=rest.get(WANTED, False),
    )  # fmt: skip


def _unpack(
    prefix: str, row: dict[str, Any], rest: dict[str, Any], known: set[str]
) -> dict[str, Any]:
    """Values under `prefix`; a null stays only where the package knows the column."""
    found: dict[str, Any] = dict.fromkeys(known)
    for key in row.keys() | rest.keys():
        value = rest.get(key, row.get(key))
        if key.startswith(prefix) and value is not None:
            found[key[len(prefix) :]] = _iso(value) if isinstance(value, datetime) else value
    return dict(sorted(found.items()))


def _said(row: dict[str, Any], spec: PackageSpec | None, said: dict[str, Any] | None) -> Any:
    if spec is None or spec.task in ("multiclass", "chat"):
        scores = row["scores"]
        return output_of(spec, scores, said) if spec else scores
    if spec.task == "binary":
        return None if row["score"] is None else {"label": row["label"], "score": row["score"]}
    return None if row["value"] is None else {"value": row["value"]}


def predictions_of(batch: Batch, spec_of: SpecOf) -> Iterator[Prediction]:
    """The predictions of a journal batch, equal to what its table would give back."""
    spec, package = _known(spec_of, batch.package), Ref.parse(batch.package)
    contract = {c.name for c in spec.contract.columns} if spec else set()
    outputs = {o for v in spec.views for o in v.outputs} if spec else set()
    for i, body in enumerate(batch.bodies):
        scores = batch.outputs[i]
        yield Prediction(
            id=batch.ids[i], service=batch.service, package=package, at=batch.at,
            unit=batch.units[i], inputs=_filled(row_of(body), contract),
            features=_filled(batch.features[i] or {}, outputs),
            output=output_of(spec, scores, batch.said[i] if batch.said else None) if spec else scores,
            error=batch.errors[i],
            fallback=batch.fallback[i], latency=batch.latencies[i], live=batch.live,
            propensity=batch.propensity, epoch=batch.epoch,
            trace=batch.traces[i] if batch.traces else "",
            wanted=batch.wanted[i] if batch.wanted else False,
        )  # fmt: skip


def _filled(row: dict[str, Any], known: set[str]) -> dict[str, Any]:
    full = {**dict.fromkeys(known), **row}
    return {k: full[k] for k in sorted(full) if full[k] is not None or k in known}


def notes_table(notes: Sequence[tuple[int, Note]], source: str) -> "pl.DataFrame":
    """Feedback: prediction, name, text (of a label), number (of a number, 0 or 1 of a boolean),
    kind, at, source, offset."""
    import polars as pl

    values = [n.value for _, n in notes]
    return pl.DataFrame({
        "prediction": pl.Series([n.prediction for _, n in notes], dtype=pl.String),
        "name": pl.Series([n.name for _, n in notes], dtype=pl.String),
        "text": pl.Series([v if isinstance(v, str) else None for v in values], dtype=pl.String),
        "number": pl.Series([None if isinstance(v, str) else float(v) for v in values],
                            dtype=pl.Float64),
        "kind": pl.Series([type(v).__name__ for v in values], dtype=pl.String),
        "at": pl.Series([n.at for _, n in notes], dtype=pl.Float64),
        "source": pl.Series([source] * len(notes), dtype=pl.String),
        "offset": pl.Series([offset for offset, _ in notes], dtype=pl.Int64),
    })  # fmt: skip


def restored_notes(rows: Iterable[dict[str, Any]]) -> Iterator[Feedback]:
    """Feedback from rows of its table, values of the type they were sent in."""
    make: dict[str, Callable[[Any], float | str | bool]] = {"bool": bool, "int": int}
    for row in rows:
        value = row["text"] if row["kind"] == "str" else make.get(row["kind"], float)(row["number"])
        yield Feedback(prediction=row["prediction"], name=row["name"], value=value, at=row["at"])
