"""The typed form of `fairlead.yaml`: what a project is. Every section but data and train is optional."""

from typing import Literal

from msgspec import Struct

from fairlead.core.journal import Durability

__all__ = ["AggregateText", "CheckText", "DataSection", "FeatureSection", "GateSection", "Manifest",
           "MonitorText", "ReleaseSection", "RetrainSection", "ServeSection", "StepText",
           "TrainSection"]  # fmt: skip

Value = str | int | float | bool | None


class DataSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`source`: file relative to the project. `time`: when the prediction is asked. `known_at`:
    when the truth is known. `slices`: columns whose groups are evaluated on their own."""

    source: str
    target: str
    task: Literal["auto", "binary", "multiclass", "regression"] = "auto"
    time: str = ""
    known_at: str = ""
    entity: str = ""
    ignore: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


class AggregateText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``late_rate: {mean: late}`` or ``flights: {count: true}``."""

    mean: str = ""
    sum: str = ""
    count: bool = False


class FeatureSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature view: the latest `columns`, or `aggregate` over `window` (``3h``, ``2d``)."""

    source: str
    entity: str
    time: str = ""
    columns: tuple[str, ...] = ()
    max_age: str = ""
    aggregate: dict[str, AggregateText] = {}
    window: str = ""


class TrainSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`code`: file with ``def train(data, params)``. `test`: newest share held out (by time).
    `unseen`: what a category not seen in training becomes: a class of its own, or an error."""

    code: str = "train.py"
    params: dict[str, Value] = {}
    test: float = 0.2
    seed: int = 0
    unseen: Literal["other", "error"] = "other"


class CheckText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gate check: exactly one of no_worse (margin), min/max, or parity (floor) for a measure."""

    measure: str
    no_worse: float | None = None
    min: float | None = None
    max: float | None = None
    parity: float | None = None
    by: str = ""
    min_n: int = 1


class GateSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`checks`: beside the ready-made ones (no worse than the baseline, schema, latency)."""

    checks: tuple[CheckText, ...] = ()
    margin: float = 0.01
    confidence: float = 0.95
    latency_ms: float = 50.0


class StepText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One hand-written step; durations like ``10m``."""

    share: float = 0.0
    mirror: float = 0.0
    hold: str = "0s"
    patience: str = "1d"
    pin: tuple[str, ...] = ()


class ReleaseSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`plan` by name, or `steps` by hand. alpha, beta: the two stated errors. `max_errors`: a share
    of errors proven to lie below this needs no comparison with the baseline. `margin`: the loss a
    shadow may have on labelled requests (Brier, share wrong, scaled error). `min_pairs`: labelled
    requests a shadow answers before it is judged by them: enough to span several days, since rows
    of one day resemble each other. `goal`: feedback name or metric, the higher the better, that
    picks the winner of an `ab_test` and moves the shares of a `bandit`; both last `days`. The
    candidates of an `ab_test` divide the last of `shares` among them."""

    plan: Literal[
        "replace", "blue_green", "canary", "shadow", "shadow_canary", "ab_test", "bandit"
    ] = "canary"
    steps: tuple[StepText, ...] = ()
    shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    hold: str = "10m"
    patience: str = "7d"
    days: float = 14.0
    goal: str = ""
    sticky_by: str = ""
    pin: tuple[str, ...] = ()
    alpha: float = 0.05
    beta: float = 0.05
    slow_ms: float = 100.0
    max_errors: float = 0.002
    margin: float = 0.01
    min_pairs: int = 500


class ServeSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fallback`: the answer when even the baseline fails (none: 503 with Retry-After).
    `token_file`: file with the token callers must show; needed when `host` is not loopback.
    `durability`: what the acknowledgement of a prediction means for its log."""

    host: str = "127.0.0.1"
    port: int = 8080
    deadline_ms: float = 1000.0
    max_body_kb: int = 1024
    max_queue: int = 1024
    replicas: int = 1
    token_file: str = ""
    fallback: Value = None
    durability: Durability = "os"


class MonitorText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Watch `measure` over `window`; on failure do `then`."""

    measure: str
    window: str = "1d"
    min: float | None = None
    max: float | None = None
    min_n: int = 200
    then: tuple[Literal["alert", "rollback", "retrain"], ...] = ("alert",)
    cooldown: str = "1d"


class RetrainSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a retraining goes: the window of fresh rows, the pause before the next one."""

    window: str = ""
    cooldown: str = "7d"


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole `fairlead.yaml`."""

    service: str
    data: DataSection
    train: TrainSection
    features: dict[str, FeatureSection] = {}
    gate: GateSection = GateSection()
    release: ReleaseSection = ReleaseSection()
    serve: ServeSection = ServeSection()
    monitors: dict[str, MonitorText] = {}
    retrain: RetrainSection = RetrainSection()
