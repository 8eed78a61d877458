"""Recorded requests: what callers asked, with the features they met, read back from the prediction log."""

from collections.abc import Iterable
from math import inf
from typing import Any

from msgspec import Struct

from fairlead.core.artifact import ModelSpec
from fairlead.core.prediction import Feedback, Prediction
from fairlead.core.schema import Schema
from fairlead.ports import PredictionLog

__all__ = ["Request", "notes_of", "recent", "request"]

FIRST, WIDER, ROOM = 3600.0, 24.0, 1.5
"""The first stretch of the log that is read, in seconds; how much farther the next one reaches where
it was empty, and by how much more than the traffic in it asks for."""


class Request(Struct, kw_only=True):
    """One request: its row as sent, the features joined to it, and who answered.

    `package` was chosen to answer, with a chance of `propensity`, under the route of `epoch`.
    `answers`: package -> raw scores, mirrored ones too.
    """

    id: str
    at: float
    unit: str
    row: dict[str, Any] = {}
    features: dict[str, Any] = {}
    package: str = ""
    propensity: float = 1.0
    epoch: int = 0
    answers: dict[str, list[float]] = {}


def request(spec: ModelSpec) -> Schema:
    """The columns that callers send: the inputs without those of feature views."""
    made = {o for v in spec.views for o in v.outputs}
    columns = tuple(c for c in spec.inputs.columns if c.name not in made)
    present = {c.name for c in columns}
    time, entity = (r if r in present else "" for r in (spec.inputs.time, spec.inputs.entity))
    return Schema(columns=columns, time=time, entity=entity)


def recent(log: PredictionLog, service: str, now: float, *, last: int,
           since: float = 0.0) -> list[Request]:  # fmt: skip
    """The newest `last` requests, none asked before `since`, the oldest first.

    Only so much of the log is read as is needed. Rows that callers sent as encoded matrices are
    left out: only the package they were encoded for can read them.
    """
    span = FIRST
    while True:
        start = max(now - span, since)
        found = _gather(log.predictions(start, inf, service))
        if len(found) >= last or start <= since or start <= 0:
            return found[-last:]
        span *= max(ROOM * last / len(found), 2.0) if found else WIDER


def notes_of(log: PredictionLog, requests: Iterable[Request]) -> list[Feedback]:
    """All feedback to these requests, in order of arrival."""
    ids = {r.id for r in requests}
    return [note for note in log.feedback() if note.prediction in ids]


def _gather(predictions: Iterable[Prediction]) -> list[Request]:
    """One request for its live answer, the failed attempt before it and its mirrored twins."""
    found: dict[str, Request] = {}
    for p in predictions:
        request = found.get(p.id)
        if request is None:
            request = found[p.id] = Request(id=p.id, at=p.at, unit=p.unit, row=_sent(p.inputs),
                                            features={}, answers={})  # fmt: skip
        request.features = {**request.features, **p.features} if p.live else {**p.features, **request.features}
        scores = _scores(p.output)
        if scores is not None:
            request.answers[str(p.package)] = scores
        if p.live and not p.fallback:
            request.package, request.propensity, request.epoch = str(p.package), p.propensity, p.epoch
    kept = [r for r in found.values() if r.row and "body" not in r.row]
    return sorted(kept, key=lambda r: (r.at, r.id))


def _sent(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if value is not None}


def _scores(output: Any) -> list[float] | None:
    """The raw scores behind an answer as the log spells it."""
    match output:
        case {"score": float() as score} | {"value": float() as score}:
            return [score]
        case {"scores": dict() as scores}:
            return list(scores.values())
    return None


