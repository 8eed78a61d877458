"""Answers: what one package answered, as columns; the form in which predictions are counted."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec
from fairlead.core.chat import NUMBERS
from fairlead.core.journal import Batch
from fairlead.core.prediction import Feedback, Refused

__all__ = ["Answers", "Cursor", "Tail", "answers_of", "matrix", "measured", "output_of", "row_of"]

Cursor = dict[str, tuple[int, int]]
"""How far a reader came: gateway -> (sequence of the journal, bytes of it already read)."""


class Answers(Struct, frozen=True, kw_only=True, eq=False):
    """n answers of one package in order of arrival; every list and array has length n.

    `live`: the request was assigned to this package (a mirrored twin is not live); `errors`: why it
    failed ("" when it answered); `fallback`: it stood in for another package that failed.
    `kept`: its inputs were written down (None: of all of them). `wanted`: the caller asked for an
    explanation (None: of none).
    `latency`: seconds. `scores`: float64 [n, k], NaN where there is no answer. `values(names,
    places)`: for each name (request column or ``view.column``) its values at these places, None
    where absent; only what is asked for is decoded.
    """

    service: str
    package: str
    ids: list[str]
    units: list[str]
    at: NDArray[np.float64]
    epoch: NDArray[np.int64]
    live: NDArray[np.bool_]
    propensity: NDArray[np.float64]
    errors: list[str]
    fallback: NDArray[np.bool_]
    latency: NDArray[np.float64]
    scores: NDArray[np.float64]
    values: Callable[[Sequence[str], Sequence[int]], list[list[Any]]]
    kept: NDArray[np.bool_] | None = None
    wanted: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.ids)


class Tail(Struct, frozen=True, kw_only=True):
    """What arrived behind a cursor, and the cursor behind that; `more`: read again at once."""

    answers: tuple[Answers, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    refused: tuple[Refused, ...] = ()
    cursor: Cursor = {}
    more: bool = False


def answers_of(batches: Iterable[Batch]) -> tuple[Answers, ...]:
    """Gather journal batches by service and package, in order of first appearance."""
    groups: dict[tuple[str, str], list[Batch]] = {}
    for batch in batches:
        groups.setdefault((batch.service, batch.package), []).append(batch)
    return tuple(_gather(*names, group) for names, group in groups.items())


def _gather(service: str, package: str, batches: list[Batch]) -> Answers:
    sizes = [len(b.ids) for b in batches]
    each = np.repeat(np.arange(len(batches)), sizes)
    return Answers(
        service=service,
        package=package,
        ids=[i for b in batches for i in b.ids],
        units=[u for b in batches for u in b.units],
        at=np.array([b.at for b in batches], dtype=np.float64)[each],
        epoch=np.array([b.epoch for b in batches], dtype=np.int64)[each],
        live=np.array([b.live for b in batches], dtype=np.bool_)[each],
        propensity=np.array([b.propensity for b in batches], dtype=np.float64)[each],
        errors=[e for b in batches for e in b.errors],
        fallback=np.array([f for b in batches for f in b.fallback], dtype=np.bool_),
        latency=np.array([s for b in batches for s in b.latencies], dtype=np.float64),
        scores=matrix([o for b in batches for o in b.outputs]),
        values=_values_of(batches),
        kept=np.array([body != b"" for b in batches for body in b.bodies], dtype=np.bool_),
        wanted=np.array([w for b in batches for w in b.wanted or [False] * len(b.ids)], dtype=np.bool_),
    )


def measured(answers: Answers) -> dict[str, list[Feedback]]:
    """What is known of every live answer of a chat as soon as it is given, as feedback by its name:
    its cost, its tokens, its time to the first token."""
    live = np.flatnonzero(answers.live)
    return {
        name: [Feedback(prediction=answers.ids[i], name=name, value=value, at=float(answers.at[i] + answers.latency[i]))
               for i, value in zip(live.tolist(), answers.scores[live, place].tolist(), strict=True) if value == value]
        for place, name in enumerate(NUMBERS) if answers.scores.shape[1] == len(NUMBERS)
    }  # fmt: skip


def matrix(outputs: Sequence[Sequence[float] | None]) -> NDArray[np.float64]:
    """Raw scores as float64 [n, k]; NaN where there is none. k is 1 when nothing answered."""
    width = max((len(o) for o in outputs if o is not None), default=1)
    blank = [float("nan")] * width
    rows = [blank if o is None or len(o) != width else o for o in outputs]
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def _values_of(batches: list[Batch]) -> Callable[[Sequence[str], Sequence[int]], list[list[Any]]]:
    def values(names: Sequence[str], places: Sequence[int]) -> list[list[Any]]:
        bodies = [body for b in batches for body in b.bodies]
        joined = [extra for b in batches for extra in b.features]
        rows = [row_of(bodies[i]) | (joined[i] or {}) for i in places]
        return [[row.get(name) for row in rows] for name in names]

    return values


_object = msgspec.json.Decoder().decode


def row_of(body: bytes) -> dict[str, Any]:
    """A request row as sent; a body that is not a JSON object is kept under ``body``."""
    try:
        row = _object(body) if body else {}
    except msgspec.DecodeError:
        return {"body": body.decode(errors="replace")}
    return row if isinstance(row, dict) else {"body": row}


def output_of(
    spec: PackageSpec, scores: Sequence[float] | None, said: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """What a caller sees of raw scores: binary label and score, multiclass label and scores by
    class, regression value; of a chat what was `said`, even before it failed, and its numbers (None:
    not known). None stays None."""
    if scores is None:
        return said
    if spec.task == "chat":
        return {**(said or {}), **{n: None if v != v else v for n, v in zip(NUMBERS, scores, strict=True)}}
    if spec.task == "regression":
        return {"value": scores[0]}
    if spec.task == "binary":
        return {"label": spec.classes[int(scores[0] >= spec.threshold)], "score": scores[0]}
    best = max(range(len(scores)), key=scores.__getitem__)
    return {
        "label": spec.classes[best],
        "scores": dict(zip(spec.classes, scores, strict=False)),
    }
