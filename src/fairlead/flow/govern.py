"""Governing: walk back from one prediction to everything it came from."""

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.approval import Approval, Broken
from fairlead.core.artifact import (
    Artifact,
    DatasetSpec,
    ModelSpec,
    PackageSpec,
    Split,
    ancestors,
)
from fairlead.core.decision import Decision
from fairlead.core.event import Event
from fairlead.core.prediction import Feedback, Prediction
from fairlead.core.ref import Ref
from fairlead.core.run import Run
from fairlead.core.schema import Schema
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flow import approval
from fairlead.flow.arrival import image_of
from fairlead.flow.data import read
from fairlead.flow.rows import Table, halves, seconds_of, table_of
from fairlead.ports import Blobs, PredictionLog, Records

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Learnt", "Routing", "Served", "Tables", "Why", "why"]

Tables = dict[Ref, "tuple[pl.DataFrame, pl.DataFrame]"]
"""Rows a model learnt from, and rows held out beside them."""
KEPT = 2
"""Models whose rows are kept in memory."""


class Served(Struct, frozen=True, kw_only=True):
    """A value the model read. `view`: the feature view it came from, "" for the request itself;
    `entity`: the request column, and its value, that the view was asked for; `rule`: how the view
    chose among its facts, as of the time of the prediction."""

    name: str
    value: Any
    view: str = ""
    source: str = ""
    entity: str = ""
    key: Any = None
    rule: str = ""


class Routing(Struct, frozen=True, kw_only=True):
    """Why this package answered. `role`: "candidate", "baseline", or "only" outside a release;
    `share`: the chance it had; `event`: the change that made the route, None when it is not
    recorded."""

    release: str = ""
    plan: str = ""
    step: int = 0
    phase: str = ""
    role: str = "only"
    share: float
    epoch: int
    event: Event | None = None


class Learnt(Struct, frozen=True, kw_only=True):
    """Rows the model learnt from: how many, held out beside them, the span of their time (UTC
    seconds, 0 without a time), and those most like the prediction, the likest first: each with
    `_alike`, the share of columns that agree."""

    rows: int
    held_out: int
    since: float = 0.0
    until: float = 0.0
    nearest: tuple[dict[str, Any], ...] = ()


class Why(Struct, frozen=True, kw_only=True):
    """Everything behind one prediction.

    `answer`: what the caller saw (the failed attempt, when nobody answered); `others`: failed
    attempts and mirrored twins. `approval`: what let the package go live, `glass`: how it did
    without. `lineage`: every artifact behind the package, itself first.
    `learnt` is None when the rows are gone (see `gaps`, in words, for all that is missing).
    """

    answer: Prediction
    others: tuple[Prediction, ...] = ()
    served: tuple[Served, ...] = ()
    package: Artifact
    model: Artifact | None = None
    run: Run | None = None
    datasets: tuple[Artifact, ...] = ()
    lineage: tuple[Artifact, ...] = ()
    routing: Routing
    gate: tuple[Decision, ...] = ()
    approval: Approval | None = None
    glass: Broken | None = None
    learnt: Learnt | None = None
    feedback: tuple[Feedback, ...] = ()
    gaps: tuple[str, ...] = ()


def why(
    prediction_id: str, log: PredictionLog, records: Records, blobs: Blobs | None = None, *,
    package: Ref | None = None, rows: int = 3, known_at: str = "", tables: Tables | None = None,
) -> Why:  # fmt: skip
    """Walk back from a prediction.

    `package`: explain the answer of that package (a shadow, a failed attempt) instead of what the
    caller saw. `rows`: training rows to show; they are read only when `blobs` are given.
    `known_at`: column of the table that says when the truth was known. `tables`: training rows
    read before, for whoever asks about many predictions; the newest models' are added. Raises
    Missing when there is no such prediction, or its package is not recorded.
    """
    found = log.find(prediction_id)
    chosen = [p for p in found if package in (None, p.package)]
    if not chosen:
        who = ", ".join(p.package.short for p in found)
        raise Missing(f"{package} did not answer {prediction_id}", hint=f"these did: {who}")
    answer = chosen[0]
    artifact = records.artifact(answer.package)
    gaps: list[str] = []
    lineage = tuple(_lineage(artifact, records, gaps))
    gaps += _arrived(artifact, records)
    model = next((a for a in lineage if isinstance(a.spec, ModelSpec)), None)
    served = tuple(_served(answer, artifact))
    learnt = None
    if model is not None and blobs is not None:
        learnt = _learnt(model, served, lineage, blobs, rows, known_at, gaps,
                         {} if tables is None else tables)  # fmt: skip
    let = approval.read(records, answer.service)
    return Why(
        approval=next((a for a in let.all.values() if a.used and answer.package in a.bound.packages), None),
        glass=next((b for b in let.broken.values() if str(answer.package) in b.packages), None),
        answer=answer, others=tuple(p for p in found if p is not answer), served=served,
        package=artifact, model=model, run=_run(model, records, gaps),
        datasets=tuple(a for a in lineage if isinstance(a.spec, DatasetSpec)), lineage=lineage,
        routing=_routing(answer, records), learnt=learnt,
        gate=tuple(records.decisions(artifact.spec.model)) if isinstance(artifact.spec, PackageSpec) else (),
        feedback=tuple(log.feedback(prediction_id)), gaps=tuple(gaps),
    )  # fmt: skip


def _lineage(artifact: Artifact, records: Records, gaps: list[str]) -> Iterator[Artifact]:
    try:
        yield from ancestors(artifact.ref, records.artifact)
    except Missing as error:
        gaps.append(str(error))


def _arrived(artifact: Artifact, records: Records) -> list[str]:
    """Where the lineage of a package goes on that came in an image."""
    digest, by = image_of(artifact, records)
    return [f"the model stayed where it was trained: image {digest}, signed by {by or 'a key that was given'}"] if digest else []


def _run(model: Artifact | None, records: Records, gaps: list[str]) -> Run | None:
    if model is None or not model.run:
        return None
    try:
        return records.run(model.run)
    except Missing as error:
        gaps.append(str(error))
        return None


def _served(answer: Prediction, package: Artifact) -> Iterator[Served]:
    spec = package.spec
    views = spec.views if isinstance(spec, PackageSpec) else ()
    asked = spec.contract.names if isinstance(spec, PackageSpec) else tuple(answer.inputs)
    for name in asked:
        yield Served(name=name, value=answer.inputs.get(name))
    for view in views:
        rule = f"sums up {view.window:g} s before" if view.aggregates else "the latest before"
        if view.max_age:
            rule += f", at most {view.max_age:g} s old"
        for name in view.outputs:
            yield Served(name=name, value=answer.features.get(name), view=view.name,
                         source=view.source, entity=view.entity,
                         key=answer.inputs.get(view.entity),
                         rule=rule if view.time else "always true")  # fmt: skip


def _routing(answer: Prediction, records: Records) -> Routing:
    """The change of the route whose epoch the answer carries, or the last one before it."""
    for release in reversed(records.releases(answer.service)):
        epochs = [e for e in records.events(subject=f"release/{release.id}")
                  if 0 < e.body.get("epoch", 0) <= answer.epoch]  # fmt: skip
        if not epochs:
            continue
        event = max(epochs, key=lambda e: int(e.body["epoch"]))
        state = event.body.get("to") or {}
        over = state.get("phase") not in ("running", "paused")
        role = "candidate" if str(answer.package) in state.get("candidates", ()) else "baseline"
        return Routing(
            release=release.id, plan=release.plan.name, step=state.get("step", 0),
            phase=state.get("phase", ""), role="only" if over else role,
            share=answer.propensity, epoch=answer.epoch, event=event,
        )  # fmt: skip
    return Routing(share=answer.propensity, epoch=answer.epoch)


def _learnt(
    model: Artifact, served: tuple[Served, ...], lineage: tuple[Artifact, ...], blobs: Blobs,
    count: int, known_at: str, gaps: list[str], tables: Tables,
) -> Learnt | None:  # fmt: skip
    """Read the table the model was trained on, split as it was split then."""
    spec = model.spec
    table = next((a for a in lineage if a.ref in model.parents and a.ref.kind != "model"), None)
    if not isinstance(spec, ModelSpec) or table is None:
        return None
    try:
        source = table_of(table, known_at)
        if model.ref not in tables:
            tables[model.ref] = halves(_rows(source, spec.split, served, blobs), source, spec.split)
            for oldest in list(tables)[:-KEPT]:
                del tables[oldest]
    except (Missing, Corrupt, Invalid) as error:
        gaps.append(f"the training rows cannot be read: {error}")
        return None
    part, held = tables[model.ref]
    time = source.schema.time
    at = seconds_of(part, time) if time else np.zeros(1)
    return Learnt(rows=part.height, held_out=held.height, since=float(np.nanmin(at)),
                  until=float(np.nanmax(at)),
                  nearest=tuple(_nearest(part, source.schema, served, count)))  # fmt: skip


def _rows(table: Table, split: Split, served: tuple[Served, ...], blobs: Blobs) -> "pl.DataFrame":
    """The rows that training read: what the prediction was asked with, the target, the roles."""
    schema = table.schema
    names = [s.name for s in served if s.name in schema.names]
    wanted = list(dict.fromkeys([*names, *filter(None, (schema.target, schema.time, table.known_at))]))
    frame = read(table.spec, blobs, wanted, split.since or -inf, split.until or inf)
    return frame.drop_nulls(schema.target)


def _nearest(
    part: "pl.DataFrame", schema: Schema, served: tuple[Served, ...], count: int
) -> Iterator[dict[str, Any]]:
    """Rows with the most columns alike: equal labels, numbers within a tenth of their spread.

    Ties are broken by how near the numbers are, then by age: the newest first.
    """
    alike, near, known = np.zeros(part.height), np.zeros(part.height), 0
    for value in served:
        if value.name in part.columns and value.value is not None and value.name != schema.time:
            closeness = _closeness(part.get_column(value.name), value.value)
            if closeness is not None:
                known += 1
                near += closeness
                alike += closeness >= 0.9
    if not known or not count or not part.height:
        return
    key = alike + near / (known + 1)  # near never reaches a whole one
    best = np.flatnonzero(key >= np.partition(key, -min(count, len(key)))[-min(count, len(key))])
    order = best[np.lexsort((-best, -key[best]))][:count]
    for place, row in zip(order, part[order.tolist()].iter_rows(named=True), strict=True):
        yield row | {"_alike": round(float(alike[place]) / known, 3)}


def _closeness(column: "pl.Series", value: Any) -> NDArray[np.float64] | None:
    """1 where equal, down to 0 one standard deviation away; None where it cannot be compared."""
    if column.dtype.is_numeric() and isinstance(value, int | float):
        spread = column.std()
        far = np.abs(column.cast(float).fill_null(np.nan).to_numpy() - float(value))
        scaled = far / spread if isinstance(spread, float) and spread > 0 else far * np.inf
        return np.asarray(np.nan_to_num(np.clip(1 - scaled, 0.0, 1.0), nan=0.0))
    if column.dtype.is_temporal() or column.dtype.is_numeric():
        return None
    equal = (column.cast(str) == str(value)).fill_null(False)
    return np.asarray(equal.to_numpy(), dtype=np.float64)
