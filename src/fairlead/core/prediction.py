"""Predictions: what was asked, who answered, and what turned out to be true."""

from typing import Any

from msgspec import Struct

from fairlead.core.ref import Ref

__all__ = ["Erased", "Feedback", "Prediction", "Reach"]


class Prediction(Struct, frozen=True, kw_only=True):
    """One answer by one package. `propensity` and `epoch` make every log line an experiment.

    `id` is shared by the live answer and its mirrored (shadow) twins; (`id`, `package`) is unique.
    `live`: the caller saw this answer. `error`: why this package failed ("" when it answered);
    `fallback`: the caller got this answer because another package failed.
    `unit`: the sticky unit; `latency`: seconds on the monotonic clock; `at`: UTC seconds.
    `inputs`: the request row as sent; `features`: values joined from the online store.
    `trace`: W3C trace id that the caller brought; without one, `core.trace.trace_of` the id.
    """

    id: str
    service: str
    package: Ref
    at: float
    unit: str
    inputs: dict[str, Any]
    features: dict[str, Any] = {}
    output: Any = None
    error: str = ""
    fallback: bool = False
    latency: float
    live: bool
    propensity: float
    epoch: int
    trace: str = ""


class Feedback(Struct, frozen=True, kw_only=True):
    """The truth, or a reward, arriving later for a prediction. `at`: when it became known."""

    prediction: str
    name: str = "label"
    value: float | str | bool
    at: float


class Reach(Struct, frozen=True, kw_only=True):
    """How far a package reached. `answers`: that callers saw; `mirrored`: answers nobody saw, and
    failed attempts. `units`: distinct ones among the answers. `newest`: ids of the last answers."""

    package: Ref
    answers: int = 0
    mirrored: int = 0
    units: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    newest: tuple[str, ...] = ()


class Erased(Struct, frozen=True, kw_only=True):
    """What went out of the log: answers, and pieces of feedback to them. `waiting`: answers in files
    that a gateway still writes to."""

    answers: int = 0
    feedback: int = 0
    waiting: int = 0
