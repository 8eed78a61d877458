"""Predictions: what was asked, who answered, and what turned out to be true."""

from typing import Any

from msgspec import Struct

from fairlead.core.ref import Ref

__all__ = ["Erased", "Feedback", "Prediction", "Reach", "Refused"]


class Prediction(Struct, frozen=True, kw_only=True):
    """One answer by one package. `propensity` and `epoch` make every log line an experiment.

    `id` is shared by the live answer and its mirrored (shadow) twins; (`id`, `package`) is unique.
    `live`: the caller saw this answer. `error`: why this package failed ("" when it answered);
    `fallback`: the caller got this answer because another package failed.
    `unit`: the sticky unit; `latency`: seconds on the monotonic clock; `at`: UTC seconds.
    `inputs`: the request row as sent; `features`: values joined from the online store.
    `trace`: W3C trace id that the caller brought; without one, `core.trace.trace_of` the id.
    `wanted`: the caller asked for an explanation.
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
    wanted: bool = False


class Refused(Struct, frozen=True, kw_only=True):
    """A request that no package was asked, and why.

    `status`, `code`, `pointer`, `message`: what the caller was told (`message` is "" where it may hold
    a hidden value). `package`: that would have answered, None when none was ready. `inputs`: what of
    the row the contract knows. `count`: refusals of this `code` it stands for: of a flood not every
    one is in the log.
    """

    id: str
    service: str
    package: Ref | None
    at: float
    epoch: int
    unit: str
    status: int
    code: str
    pointer: str
    message: str
    inputs: dict[str, Any] = {}
    latency: float
    count: int = 1

    def __str__(self) -> str:
        where = f" at {self.pointer}" if self.pointer else ""
        return f"refused with {self.status} {self.code}{where}" + (f": {self.message}" if self.message else "")


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
    """What went out of the log: answers, pieces of feedback to them, and refused requests. `waiting`:
    those in files that a gateway still writes to."""

    answers: int = 0
    feedback: int = 0
    refused: int = 0
    waiting: int = 0
