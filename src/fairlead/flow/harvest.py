"""Harvesting: the prediction log and its labels become a table: features as served, truths as known then."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from fairlead.core.feature import FeatureView
from fairlead.core.feedback import LABEL
from fairlead.core.join import join
from fairlead.core.prediction import Feedback, Prediction
from fairlead.core.ref import Ref
from fairlead.core.schema import Column, Dtype, Schema
from fairlead.core.target import NO, YES, label
from fairlead.errors import Invalid, Missing
from fairlead.flow.conform import canonical, conform
from fairlead.flow.rows import KNOWN, ROW
from fairlead.ports import PredictionLog

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Harvest", "harvest"]


class Harvest(Struct, frozen=True, kw_only=True, eq=False):
    """`frame`: a row per labelled prediction in order of time, named by its id in the column ROW.
    `packages`: that answered them. `left_out`: how many predictions for which reason."""

    frame: "pl.DataFrame"
    packages: tuple[Ref, ...]
    left_out: dict[str, int]


def harvest(
    log: PredictionLog, service: str, contract: Schema, views: Sequence[FeatureView], *,
    since: float, cut: float, known_at: str = "", acted_on: Iterable[str] = (),
) -> Harvest:  # fmt: skip
    """Predictions asked within since <= at < cut, with the labels that were known before `cut`.

    A row holds the columns of `contract` as the caller sent them, the outputs of `views` as they
    were served, the truth that counts (promises.md R15) and since when it was known, in `known_at`
    or in the column KNOWN. Left out: predictions without such a truth, whose inputs were not kept,
    that were answered by a label in `acted_on`, and repetitions: one question with one truth never
    lies on both sides of a split. Raises Missing when no row is left, Invalid with every value
    that the contract does not take, or when the log never served a feature.
    """
    found = _live(log.predictions(since, cut, service))
    notes = (n for n in log.feedback() if n.name == LABEL and n.at < cut)
    truths = {p: note for (p, _), note in join(notes).labels.items() if p in found}
    refused = frozenset(acted_on)
    left_out = dict.fromkeys(("no truth", "no inputs", "acted on", "repeated"), 0)
    kept: dict[Any, tuple[Prediction, Feedback]] = {}
    for prediction in sorted(found.values(), key=lambda p: (p.at, p.id)):
        note = truths.get(prediction.id)
        if note is None:
            left_out["no truth"] += 1
        elif not prediction.inputs or "body" in prediction.inputs:
            left_out["no inputs"] += 1
        elif _answered(prediction) in refused:
            left_out["acted on"] += 1
        elif _same(prediction, note) in kept:
            left_out["repeated"] += 1
        else:
            kept[_same(prediction, note)] = prediction, note
    if not kept:
        raise Missing(f"the log has no labelled prediction to learn from among {len(found):,}",
                      hint="send feedback, or lengthen retrain.window")  # fmt: skip
    pairs = list(kept.values())
    packages = dict.fromkeys(p.package for p, _ in pairs)
    return Harvest(frame=_frame(pairs, contract, views, known_at or KNOWN),
                   packages=tuple(packages), left_out={k: n for k, n in left_out.items() if n})  # fmt: skip


def _live(predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    """The answer that the caller saw, by id; the failed attempt before a fallback is none."""
    found: dict[str, Prediction] = {}
    for prediction in predictions:
        if prediction.live and (prediction.id not in found or not prediction.error):
            found[prediction.id] = prediction
    return found


def _answered(prediction: Prediction) -> str:
    output = prediction.output
    return label(output["label"]) if isinstance(output, dict) and "label" in output else ""


def _same(prediction: Prediction, note: Feedback) -> tuple[Any, ...]:
    """What makes two predictions one question with one truth: asked of one unit, known at once."""
    asked = tuple(sorted((name, str(value)) for name, value in prediction.inputs.items()))
    return prediction.unit, asked, str(note.value), note.at


def _frame(pairs: Sequence[tuple[Prediction, Feedback]], contract: Schema,
           views: Sequence[FeatureView], known_at: str) -> "pl.DataFrame":  # fmt: skip
    import polars as pl

    served = [o for view in views for o in view.outputs]
    for output in served:
        if not any(output in p.features for p, _ in pairs):
            raise Invalid(f"no prediction was served the feature {output!r}",
                          hint="retrain from the table until a package that reads it serves")  # fmt: skip
    roles = {contract.target, contract.time, known_at}
    columns: dict[str, Any] = {ROW: [p.id for p, _ in pairs]}
    for column in contract.columns:
        if column.name not in roles and any(column.name in p.inputs for p, _ in pairs):
            columns[column.name] = _values(column, [p.inputs for p, _ in pairs])
    columns |= {o: [p.features.get(o) for p, _ in pairs] for o in served}
    dtype = contract.column(contract.target).dtype
    columns[contract.target] = [_truth(note.value, dtype) for _, note in pairs]
    columns[contract.time] = [_moment(p.at) for p, _ in pairs]
    columns[known_at] = [_moment(note.at) for _, note in pairs]
    frame = canonical(pl.DataFrame(columns, strict=False, infer_schema_length=None))
    fitted, faults = conform(frame, contract)
    if faults:
        raise Invalid("logged rows do not fit the contract:\n" + "\n".join(faults),
                      hint="commit the table as it is now, or retrain from it")  # fmt: skip
    return fitted.select(frame.columns)


def _values(column: Column, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    values = [row.get(column.name) for row in rows]
    return [_moment(v) for v in values] if column.dtype == "datetime" else values


def _moment(value: Any) -> datetime | None:
    """ISO 8601 or UTC seconds, as callers may write an instant."""
    if value is None:
        return None
    if isinstance(value, str):
        found = datetime.fromisoformat(value)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value, UTC)


def _truth(value: float | str | bool, dtype: Dtype) -> Any:
    """A label as the column of the target spells it; None where it cannot."""
    word = label(value).strip().lower()
    match dtype:
        case "bool":
            return True if word in YES else False if word in NO else None
        case "int" | "float":
            try:
                return float(value)
            except ValueError:
                return None
    return label(value)
