"""Predictions: what was asked, who answered, and what turned out to be true."""

from typing import Any

from msgspec import Struct

from fairlead.core.ref import Ref

__all__ = ["Feedback", "Prediction"]


class Prediction(Struct, frozen=True, kw_only=True):
    """One answer by one package. `propensity` and `epoch` make every log line an experiment.

    `id` is shared by the live answer and its mirrored (shadow) twins; (`id`, `package`) is unique.
    `live`: the caller saw this answer. `error`: why this package failed ("" when it answered);
    `fallback`: the caller got this answer because another package failed.
    `unit`: the sticky unit; `latency`: seconds on the monotonic clock; `at`: UTC seconds.
    `inputs`: the request row as sent; `features`: values joined from the online store.
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


class Feedback(Struct, frozen=True, kw_only=True):
    """The truth, or a reward, arriving later for a prediction. `at`: when it became known."""

    prediction: str
    name: str = "label"
    value: float | str | bool
    at: float
