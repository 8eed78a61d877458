"""The typed form of `fairlead.yaml`: what a project is. It has data and train, or else chat."""

from typing import Literal

from msgspec import Struct

from fairlead.core.journal import Durability

__all__ = ["AggregateText", "AlertmanagerText", "AlertsSection", "AuditSection", "CardSection", "ChatSection", "CheckText",
           "CommandText", "DataSection", "EnvironmentSection",
           "EmailText", "FeatureSection", "FeedbackText", "GateSection", "GovernanceSection",
           "LogSection", "Manifest", "MonitorText", "PriceText", "ReceiverText", "ReleaseSection",
           "RetrainSection", "ServeSection", "SlackText", "StepText", "TrainSection",
           "WatchSection", "WebhookText"]  # fmt: skip

Value = str | int | float | bool | None


class DataSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`source`: file relative to the project. `time`: when the prediction is asked. `known_at`:
    when the truth is known. `slices`: columns whose groups are evaluated on their own. `crossed`: so
    many sensitive columns at most form groups together (1: none do)."""

    source: str = ""
    target: str = ""
    task: Literal["auto", "binary", "multiclass", "regression"] = "auto"
    time: str = ""
    known_at: str = ""
    entity: str = ""
    ignore: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    crossed: int = 2
    slices: tuple[str, ...] = ()

    @property
    def dropped(self) -> tuple[str, ...]:
        """Columns that are not even stored: ignored, and no groups are formed by them."""
        return tuple(c for c in self.ignore if c not in (*self.sensitive, *self.slices))


class PriceText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What 1,000 tokens cost, in any money."""

    prompt: float = 0.0
    completion: float = 0.0


class ChatSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Instead of data and train: a provider's model, asked through the OpenAI API. `url`: what comes
    before ``/chat/completions``. `system`, `template`: files with a prompt, and with what is put
    around a user's message (``{message}``). `parameters`: sent with every question; max_tokens is
    a cap. `conversations`: samples that the provider must answer well before a release. `hosts`: of
    other providers whose packages may be released, each with the key it may be shown."""

    url: str
    model: str
    key_env: str = ""
    key_file: str = ""
    system: str = ""
    template: str = ""
    parameters: dict[str, Value] = {}
    conversations: str = ""
    price: PriceText = PriceText()
    timeout: str = "60s"
    first_token: str = "20s"
    hosts: dict[str, str] = {}
    allow_private: bool = False


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
    `unseen`: what a category not seen in training becomes: a class of its own, or an error.
    `warm_start`: ``data.last`` is the estimator of the model that serves, to go on from. `serve`:
    file with ``def load(folder)`` for a model of any Python, which no safe format holds."""

    code: str = "train.py"
    params: dict[str, Value] = {}
    test: float = 0.2
    seed: int = 0
    unseen: Literal["other", "error"] = "other"
    warm_start: bool = False
    serve: str = ""


class CheckText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A gate check: exactly one of no_worse (margin), min/max, parity (floor) or gap for a measure."""

    measure: str
    no_worse: float | None = None
    min: float | None = None
    max: float | None = None
    parity: float | None = None
    gap: float | None = None
    by: str = ""
    min_n: int = 1


class GateSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`checks`: beside the ready-made ones (no worse than the baseline, schema, latency).
    `replay`: so many recorded requests go through the candidate as well (0: none); `max_flips`: the
    share of them, and of any group among them, that it may decide otherwise (1: all)."""

    checks: tuple[CheckText, ...] = ()
    margin: float = 0.01
    confidence: float = 0.95
    latency_ms: float = 50.0
    replay: int = 10_000
    max_flips: float = 0.5


class StepText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One hand-written step; durations like ``10m``."""

    share: float = 0.0
    mirror: float = 0.0
    hold: str = "0s"
    patience: str = "1d"
    pin: tuple[str, ...] = ()


class FeedbackText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A guardrail on one feedback: an event (a purchase: true, or a number above 0) or an amount per
    unit, cut off at `cap`. `better`: more of it, or less. `loss`: the share of it whose loss must be
    ruled out before the release goes on; with `wait` false silence does not hold it, only proven
    harm counts. `planned`: units of an amount after which its interval is to be tightest."""

    kind: Literal["event", "amount"] = "event"
    better: Literal["more", "less"] = "more"
    loss: float = 0.2
    cap: float = 0.0
    planned: int = 20_000
    wait: bool = True


class ReleaseSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`plan` by name, or `steps` by hand. alpha, beta: the two stated errors. `max_errors`: a share
    of errors proven to lie below this needs no comparison with the baseline. `max_slower`: how many
    times as long as the baseline a candidate may take at the baseline's own p50 to p99.5 (5 ms more
    are nobody's harm); 1 allows nothing, 0 does not look. `margin`: the loss a
    shadow may have on labelled requests (Brier, share wrong, scaled error). `min_pairs`: labelled
    requests a shadow answers before it is judged by them: enough to span several days, since rows
    of one day resemble each other. `goal`: feedback name or metric, the higher the better, that
    picks the winner of an `ab_test` and moves the shares of a `bandit`; both last `days`. The
    candidates of an `ab_test` divide the last of `shares` among them. `feedback`: guardrails by the
    name of the feedback; ``label`` counts answers that a label proves wrong. `max_flips`: the share
    of decisions, as a whole and in any group of `data.slices`, that a shadow may take otherwise than
    the baseline, labels or not (1: all; it is told, and nothing waits for it). `min_pairs` 0: labels
    are not waited for. `max_skew`: the share of served values of any feature that may differ from
    those recomputed from the facts; `min_recomputed`: of so many values of every feature this must be
    known before the release goes on (0: what the tables do not know yet is not waited for)."""

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
    max_slower: float = 1.1
    max_errors: float = 0.002
    margin: float = 0.01
    min_pairs: int = 500
    max_flips: float = 1.0
    max_skew: float = 0.001
    min_recomputed: int = 0
    feedback: dict[str, FeedbackText] = {}


class ServeSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`fallback`: the answer when even the baseline fails (none: 503 with Retry-After).
    `token_file`: file with the token callers must show; needed when `host` is not loopback.
    `durability`: what the acknowledgement of a prediction means for its log. `grpc_port`: 0 is off.
    `access_log`: share of the requests that are written down; refusals all are, unless it is 0.
    `trace_to`: where an OTLP receiver takes traces over HTTP, for `trace_share` of the requests that
    bring no decision of their own. `cpu_hour_price`: for the cost of predictions; 0 counts seconds.
    `replica_memory_mb`: growth after which a replica is replaced; `load_seconds`: longest loading.
    `walls`: whether packages with code of their own need a kernel that can wall them in.
    `rate`: requests a second of one token, `connections_per_peer`: of one address; each process
    counts for itself; 0: any number."""

    host: str = "127.0.0.1"
    port: int = 8080
    deadline_ms: float = 1000.0
    max_body_kb: int = 1024
    max_queue: int = 1024
    gateways: int = 1
    replicas: int = 1
    replica_memory_mb: int = 1024
    load_seconds: float = 60.0
    walls: bool = True
    token_file: str = ""
    fallback: Value = None
    durability: Durability = "os"
    grpc_port: int = 0
    access_log: float = 0.0
    trace_to: str = ""
    trace_share: float = 0.01
    cpu_hour_price: float = 0.0
    rate: float = 0.0
    connections_per_peer: int = 0


class MonitorText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Watch `measure` over `window`, of all rows or of a `slice`; on failure do `then`."""

    measure: str
    window: str = "1d"
    min: float | None = None
    max: float | None = None
    min_n: int = 200
    slice: str = ""
    every: str = ""
    then: tuple[Literal["alert", "rollback", "retrain", "hold"], ...] = ("alert",)
    cooldown: str = "1d"


class WatchSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`false_alarms`: so many all monitors of the project together may raise. `ready_made`: watch
    what nobody wrote a monitor for, too."""

    false_alarms: str = "1 per quarter"
    ready_made: bool = True


class LogSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a prediction reaches the disk: `redact` columns as a keyed hash, `drop` columns not
    at all; of `sample` of the requests inputs and features. `retention`: older ones are deleted."""

    redact: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    sample: float = 1.0
    retention: str = ""


class RetrainSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a model is trained again, beside what monitors ask for, and from what.

    `every`: by the calendar. `labels`: after so many new ones. `cost`: of a retraining, in the money
    in which a wrong answer (a regression: 1 of absolute error) costs `mistake`; one is due when
    staying costs more. `cooldown`: the pause between two; `most`: the budget. `source`: the table,
    or the prediction log with the labels that came, which bears `window` too. `acted_on`: answers
    that somebody acts upon, so that the truth is what the action made of it: the log leaves them out."""

    window: str = ""
    cooldown: str = "7d"
    every: str = ""
    labels: int = 0
    cost: float = 0.0
    mistake: float = 0.0
    most: str = "10 per 30d"
    source: Literal["data", "log"] = "data"
    acted_on: tuple[str, ...] = ()


class EnvironmentSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this project is (dev, staging, prod), and whose packages may go live in it: `accepts`
    names the public keys (hex) of other environments by their names; none: packages made here.
    `promoted`: only those that were promoted there."""

    name: str = "dev"
    accepts: dict[str, str] = {}
    promoted: bool = True


class GovernanceSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`approvals`: so many people, none of whom made the package, let a release start; what nobody
    used `expires` after it was asked for."""

    approvals: int = 0
    expires: str = "7d"


class CardSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What no record can tell: people write it, cards and packs quote it. `risk`: the class of the
    EU AI Act; with ``high`` predictions are kept for six months at least."""

    risk: Literal["", "minimal", "limited", "high"] = ""
    provider: str = ""
    contact: str = ""
    purpose: str = ""
    users: str = ""
    affected: str = ""
    out_of_scope: str = ""
    limits: str = ""
    oversight: str = ""
    collection: str = ""
    measures: str = ""
    risks: str = ""
    changes: str = ""
    security: str = ""
    hardware: str = ""
    instructions: str = ""
    standards: str = ""
    declaration: str = ""
    monitoring: str = ""


class AuditSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`checkpoints`: where signed checkpoints of the audit log go (a folder, ``s3://bucket/prefix``,
    ``git+FOLDER``), at least `every` so often and after so many `entries`."""

    checkpoints: tuple[str, ...] = ()
    every: str = "60s"
    entries: int = 1000


class WebhookText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A POST of JSON, signed when a secret is given. `allow_private`: the receiver is in the own
    network, or on this machine."""

    url: str = ""
    url_env: str = ""
    url_file: str = ""
    secret_env: str = ""
    secret_file: str = ""
    allow_private: bool = False


class SlackText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An incoming webhook of a chat; its address is a secret."""

    url_env: str = ""
    url_file: str = ""
    allow_private: bool = False


class AlertmanagerText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prometheus Alertmanager, by the address before /api/v2."""

    url: str = ""
    url_env: str = ""
    url_file: str = ""
    token_env: str = ""
    token_file: str = ""
    allow_private: bool = False


class EmailText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mail server, who writes, and to whom."""

    host: str
    sender: str
    to: tuple[str, ...]
    port: int = 587
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_env: str = ""
    password_file: str = ""
    allow_private: bool = False


class CommandText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program and its arguments, run in the project's folder without a shell."""

    run: tuple[str, ...]
    timeout: str = "10s"


class ReceiverText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one way to be told; `name` where there are several of a kind."""

    name: str = ""
    webhook: WebhookText | None = None
    slack: SlackText | None = None
    email: EmailText | None = None
    alertmanager: AlertmanagerText | None = None
    command: CommandText | None = None

    @property
    def kinds(self) -> list[str]:
        """The ways that are given."""
        return [k for k in self.__struct_fields__ if k != "name" and getattr(self, k) is not None]

    @property
    def title(self) -> str:
        """The name, or else the kind."""
        return self.name or self.kinds[0]


class AlertsSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of alerts; the file .fairlead/alerts.log always is."""

    to: tuple[ReceiverText, ...] = ()


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole `fairlead.yaml`: with `data` and `train`, or with `chat`."""

    service: str
    data: DataSection = DataSection()
    train: TrainSection = TrainSection()
    chat: ChatSection | None = None
    features: dict[str, FeatureSection] = {}
    gate: GateSection = GateSection()
    release: ReleaseSection = ReleaseSection()
    serve: ServeSection = ServeSection()
    monitors: dict[str, MonitorText] = {}
    alerts: AlertsSection = AlertsSection()
    watch: WatchSection = WatchSection()
    log: LogSection = LogSection()
    retrain: RetrainSection = RetrainSection()
    audit: AuditSection = AuditSection()
    card: CardSection = CardSection()
    environment: EnvironmentSection = EnvironmentSection()
    governance: GovernanceSection = GovernanceSection()
