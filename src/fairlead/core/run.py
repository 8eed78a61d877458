"""Runs: what a training or an evaluation did, with which inputs, code, parameters and environment."""

from typing import Literal

from msgspec import Struct

from fairlead.core.evidence import Evidence
from fairlead.core.ref import Ref

__all__ = ["Run", "Value"]

Value = str | int | float | bool | None


class Run(Struct, frozen=True, kw_only=True):
    """One execution. `code`: blob digest of the training file; `environment`: blob digest of the
    sorted ``name==version`` list with the Python version and platform first. `job`: blob digest of
    all that the job process was told; `sources`: what the training file imported from beside it,
    by its path there, as blob digests: both are what `fairlead reproduce` starts from."""

    id: str
    verb: Literal["train", "evaluate"]
    state: Literal["done", "failed"]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...] = ()
    code: str = ""
    params: dict[str, Value] = {}
    seed: int = 0
    environment: str = ""
    job: str = ""
    sources: dict[str, str] = {}
    evidence: tuple[Evidence, ...] = ()
    error: str = ""
    started_at: float
    ended_at: float
