"""What the keys of a manifest must agree on with each other, section by section."""

from collections.abc import Collection, Iterator, Mapping
from typing import cast

from msgspec import Struct

from fairlead.adapters.manifest.walk import Rule, meant, nearest
from fairlead.core.duration import seconds
from fairlead.core.fairness import FORMS, parts
from fairlead.core.manifest import (
    AggregateText,
    AlertmanagerText,
    AlertsSection,
    ChatSection,
    CheckText,
    CommandText,
    DataSection,
    EmailText,
    FeatureSection,
    FeedbackText,
    LogSection,
    Manifest,
    MonitorText,
    ReceiverText,
    ReleaseSection,
    RetrainSection,
    SlackText,
    StepText,
    WebhookText,
)
from fairlead.core.metrics import METRICS
from fairlead.core.monitor import BETWEEN, FAMILIES, MEASURES
from fairlead.core.replay import FLIPS, KS, SHIFT, UNANSWERED
from fairlead.core.retention import HALF_YEAR
from fairlead.core.shapley import ATTRIBUTION, RANK
from fairlead.core.traffic import DAY

__all__ = ["RULES"]

Found = Iterator[tuple[str, str]]
FLOOR = 30 * DAY
"""Seconds of predictions that are kept whatever the manifest says: what monitors look back on."""
OTHERS = frozenset({"latency_p99_ms", "gain_trivial"})
"""Measures of the gate that are not metrics of answers."""

REPLAYED = frozenset({FLIPS, SHIFT, KS, UNANSWERED, "replay:latency_p50_ms", "replay:latency_p99_ms"})
EARNED = ("value:", "snips:")
"""Families of measures of recorded requests, before the name of a feedback."""


def _data(data: DataSection, given: frozenset[str]) -> Found:
    yield from _filled(data, ("source", "target"))
    for role in ("time", "known_at", "entity"):
        column = getattr(data, role)
        if column and column == data.target:
            yield role, f"{column!r} is the target; a column plays one role"
    for role in ("target", "time", "entity"):
        if getattr(data, role) in data.ignore:
            yield "ignore", f"{getattr(data, role)!r} is ignored, yet it is the {role}"
    if data.known_at and not data.time:
        yield "known_at", "needs `time`: when the prediction is asked"
    for key in ("ignore", "sensitive", "slices"):
        yield from _repeated(key, getattr(data, key))
        if key != "ignore" and data.target in getattr(data, key):
            yield key, f"{data.target!r} is the target: its groups are the classes themselves"


def _chat(chat: ChatSection, given: frozenset[str]) -> Found:
    yield from _filled(chat, ("url", "model"))
    yield from _secret(chat, "key")
    if "@" in chat.url or "?" in chat.url:
        yield "url", "holds a password or a query: a key goes into key_env or key_file"
    if chat.url.startswith("http://") and not chat.allow_private:
        yield "url", "http sends key and questions in the clear: use https, or allow_private for a provider in your own network"
    if seconds(chat.first_token) > seconds(chat.timeout):
        yield "first_token", f"{chat.first_token} is longer than the timeout of {chat.timeout}"
    for name in ("max_tokens", "max_completion_tokens"):
        cap = chat.parameters.get(name, 1)
        if isinstance(cap, bool) or not isinstance(cap, int) or cap < 1:
            yield "parameters", f"{name} is {cap!r}: a cap is a whole number above 0"
    if {"model", "stream", "messages", "n"} & chat.parameters.keys():
        yield "parameters", "model, stream, messages and n are not parameters: the package and its callers say them"


def _filled(section: Struct, keys: tuple[str, ...]) -> Found:
    for key in keys:
        if not getattr(section, key):
            yield key, "is empty"


def _repeated(key: str, names: tuple[str, ...]) -> Found:
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield key, f"{name!r} is listed twice"


def _aggregate(one: AggregateText, given: frozenset[str]) -> Found:
    if bool(one.mean) + bool(one.sum) + one.count != 1:
        yield "", "exactly one of {mean: column}, {sum: column}, {count: true} is needed"


def _feature(view: FeatureSection, given: frozenset[str]) -> Found:
    yield from _filled(view, ("source", "entity"))
    if bool(view.columns) == bool(view.aggregate):
        what = "both are written" if view.columns else "neither is written"
        yield "", f"either `columns` or `aggregate` with `window`: {what}"
    if view.aggregate and not view.window:
        yield "", "`aggregate` needs a `window`, such as 3h or 30d"
    if view.aggregate and not view.time:
        yield "", "`aggregate` over a window needs `time`: when each fact became known"
    if view.window and not view.aggregate:
        yield "window", "a window is for `aggregate`; the latest `columns` use `max_age`"
    if view.max_age and not (view.columns and view.time):
        yield "max_age", "is for the latest `columns` of facts with a `time`"
    yield from _repeated("columns", view.columns)


def _check(check: CheckText, given: frozenset[str]) -> Found:
    bounded = check.min is not None or check.max is not None
    forms = [check.no_worse is not None, bounded, check.parity is not None, check.gap is not None]
    if sum(forms) != 1:
        yield "", "exactly one of `no_worse`, `min`/`max`, `parity` or `gap` says what passes"
    yield from _ordered(check.min, check.max)
    if (check.parity is not None or check.gap is not None) and not check.by:
        yield "", "`parity` and `gap` need `by`: the column that forms the groups"


def _ordered(low: float | None, high: float | None) -> Found:
    if low is not None and high is not None and low > high:
        yield "min", f"{low:g} is above max {high:g}: nothing could pass"


def _step(step: StepText, given: frozenset[str]) -> Found:
    if seconds(step.hold) > seconds(step.patience):
        yield "hold", f"{step.hold} is longer than the patience of {step.patience}"
    if not step.share and not step.mirror:
        yield "", "gives the candidate no traffic: set `share` or `mirror`"


def _feedback(one: FeedbackText, given: frozenset[str]) -> Found:
    if (one.kind == "amount") != (one.cap > 0):
        yield "cap", "is for an amount, and an amount needs it: about what one unit in a thousand exceeds"


def _release(release: ReleaseSection, given: frozenset[str]) -> Found:
    if release.steps and given & {"plan", "shares", "hold", "patience"}:
        both = ", ".join(f"`{k}`" for k in ("plan", "shares", "hold", "patience") if k in given)
        yield "steps", f"a plan by hand stands alone: drop {both}"
    if not release.steps and seconds(release.hold) > seconds(release.patience):
        yield "hold", f"{release.hold} is longer than the patience of {release.patience}"
    if not release.shares or 0 in release.shares:
        yield "shares", "every share is above 0: the first step of a canary meets traffic"
    if list(release.shares) != sorted(set(release.shares)):
        yield "shares", "shares grow from step to step"
    if 0 < release.max_slower < 1:
        yield "max_slower", f"{release.max_slower:g} asks a candidate to be faster: 1 allows nothing, 0 does not look"  # fmt: skip
    if release.feedback.get("label", FeedbackText()).kind == "amount":
        yield "feedback.label", "counts answers that a label proves wrong, which is an event"
    if release.plan == "bandit" and not release.goal:
        yield "", "a bandit needs `goal`: the feedback or the metric its shares follow"
    metric = METRICS.get(release.goal)
    if metric is not None and not metric.higher_is_better:
        yield "goal", f"{release.goal} is not the better for being higher; take another metric, or a feedback"


def _monitor(monitor: MonitorText, given: frozenset[str]) -> Found:
    if monitor.min is None and monitor.max is None:
        yield "", "`min` or `max` says what passes"
    yield from _ordered(monitor.min, monitor.max)
    if not monitor.then:
        yield "then", "is empty: one or more of alert, rollback, retrain, hold"


def _receiver(receiver: ReceiverText, given: frozenset[str]) -> Found:
    if len(receiver.kinds) != 1:
        said = f"{' and '.join(receiver.kinds)} are written" if receiver.kinds else "none is written"
        yield "", f"exactly one of webhook, slack, email, alertmanager, command: {said}"


def _address(to: WebhookText | SlackText | AlertmanagerText, given: frozenset[str]) -> Found:
    ways = [k for k in ("url", "url_env", "url_file") if getattr(to, k, "")]
    if len(ways) != 1:
        either = "url_env or url_file" if isinstance(to, SlackText) else "url, url_env or url_file"
        yield "", f"exactly one of {either} says where to"
    url = getattr(to, "url", "")
    if url and (not url.startswith(("http://", "https://")) or "@" in url or "?" in url):
        yield "url", "is not http(s)://host/path without a password or a query: secrets go into url_env or url_file"
    for secret in ("secret", "token"):
        yield from _secret(to, secret)


def _email(mail: EmailText, given: frozenset[str]) -> Found:
    yield from _filled(mail, ("host", "sender", "to"))
    yield from _secret(mail, "password")
    if bool(mail.user) != bool(mail.password_env or mail.password_file):
        yield "user", "who logs in has a password, and the other way round: user, and password_env or password_file"
    if mail.tls == "none" and (mail.password_env or mail.password_file):
        yield "tls", "a password is never sent in the clear: use starttls or tls"


def _secret(section: Struct, name: str) -> Found:
    if getattr(section, f"{name}_env", "") and getattr(section, f"{name}_file", ""):
        yield f"{name}_file", f"either {name}_env or {name}_file"


def _command(command: CommandText, given: frozenset[str]) -> Found:
    yield from _filled(command, ("run",))


def _alerts(alerts: AlertsSection, given: frozenset[str]) -> Found:
    yield from _repeated("to", ("log", *(r.title for r in alerts.to)))


def _gate(manifest: Manifest, groups: list[str]) -> Found:
    data = manifest.data
    for i, check in enumerate(manifest.gate.checks):
        where = f"gate.checks[{i}]"
        if not set(parts(check.by, groups) if check.by else ()) <= set(groups):
            yield where, f'"{check.by}" is not listed in data.sensitive or data.slices{meant(nearest(check.by, groups))}'  # fmt: skip
        known = sorted(OTHERS | {m.name for m in METRICS.values() if data.task in ("auto", *m.tasks)})
        if not _measured(check.measure.removeprefix("gain:"), known):
            yield where, f'measure "{check.measure}" is not one of {", ".join(known)}{meant(nearest(check.measure, known))}'  # fmt: skip


def _manifest(manifest: Manifest, given: frozenset[str]) -> Found:
    data = manifest.data
    groups = [*data.sensitive, *data.slices]
    for key in sorted(given & {"data", "train", "features", "retrain"} if manifest.chat else ()):
        yield key, "is for a service that trains: one that relays to a provider has `chat` alone"
    if manifest.chat and manifest.serve.grpc_port:
        yield "serve.grpc_port", "is for rows: chats come over HTTP"
    yield from _gate(manifest, groups)
    for name, view in manifest.features.items():
        if "." in name or not name.isidentifier():
            yield f"features.{name}", "a view is named with letters, digits and '_': its columns become name.column"  # fmt: skip
        if view.time and not data.time:
            yield f"features.{name}", "has a time, but data.time is empty: as of when would a row see it?"  # fmt: skip
    yield from _watched(manifest, groups)
    yield from _kept(manifest)


def _watched(manifest: Manifest, groups: list[str]) -> Found:
    for name, monitor in manifest.monitors.items():
        family, _, column = monitor.measure.partition(":")
        if family not in MEASURES or (column and family not in FAMILIES):
            yield f"monitors.{name}", f'measure "{monitor.measure}" is not one of {", ".join(MEASURES)}{meant(nearest(family, list(MEASURES)))}'  # fmt: skip
        if family in BETWEEN and (FORMS.get(column, "") != f"{family}:" or "=" in monitor.slice or not monitor.slice):
            rates = ", ".join(f"{form}{rate}" for rate, form in FORMS.items())
            yield f"monitors.{name}", f'"{monitor.measure}" is one of {rates}, with slice: COLUMN'
        cut = monitor.slice.partition("=")[0]
        if not set(parts(cut, groups) if cut else ()) <= set(groups):
            yield f"monitors.{name}", f'slice "{monitor.slice}" is not of a column in data.slices or data.sensitive{meant(nearest(cut, groups))}'  # fmt: skip
        if "retrain" in monitor.then and not manifest.data.time:
            yield f"monitors.{name}", "asks for retraining, which needs data.time to find fresh rows"  # fmt: skip


def _kept(manifest: Manifest) -> Found:
    data, kept = manifest.data, manifest.log.retention
    if manifest.card.risk == "high" and kept and seconds(kept) < HALF_YEAR:
        yield "log.retention", f"{kept} is shorter than 183d: logs of a high-risk system (card.risk) are kept for six months at least (EU AI Act, Art. 19 and 26)"  # fmt: skip
    again = manifest.retrain
    if (again.every or again.labels or again.cost) and not data.time:
        yield "retrain", "needs data.time to find fresh rows"
    if again.source == "log" and not data.time:
        yield "retrain.source", "log needs data.time: the column that holds when a prediction was asked"
    lost = sorted({*manifest.log.redact, *manifest.log.drop} - set(data.ignore))
    if again.source == "log" and lost:
        yield "retrain.source", f"log cannot teach {', '.join(lost)}, which log.redact or log.drop hide: ignore it in data.ignore, or train on data"  # fmt: skip


def _retrain(retrain: RetrainSection, given: frozenset[str]) -> Found:
    if bool(retrain.cost) != bool(retrain.mistake):
        yield "", "the cost rule weighs two numbers: `cost` of a retraining and `mistake`"
    if retrain.acted_on and retrain.source != "log":
        yield "acted_on", "needs `source: log`: a table does not say what was answered"


def _log(log: LogSection, given: frozenset[str]) -> Found:
    if log.retention and seconds(log.retention) < FLOOR:
        yield "retention", f"{log.retention} is shorter than 30d, which monitors and labels need"
    for column in sorted(set(log.redact) & set(log.drop)):
        yield "drop", f"{column!r} is redacted and dropped; choose one"


def _measured(measure: str, known: Collection[str]) -> bool:
    """Whether a gate measures this: of held-out rows, or of recorded requests."""
    return (measure in known or measure in REPLAYED or measure.removeprefix("replay:") in known
            or any(measure.startswith(f) and measure != f for f in (*EARNED, ATTRIBUTION, RANK)))  # fmt: skip


RULES = cast(
    Mapping[type[Struct], Rule],
    {DataSection: _data, ChatSection: _chat, AggregateText: _aggregate, FeatureSection: _feature, CheckText: _check,
     ReceiverText: _receiver, WebhookText: _address, SlackText: _address, EmailText: _email,
     AlertmanagerText: _address, CommandText: _command, AlertsSection: _alerts,
     StepText: _step, ReleaseSection: _release, FeedbackText: _feedback, LogSection: _log, RetrainSection: _retrain, MonitorText: _monitor, Manifest: _manifest},
)  # fmt: skip


