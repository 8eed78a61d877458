"""What each key of a manifest means and which values it takes: one table for errors and for the schema."""

from collections.abc import Mapping
from math import inf

from msgspec import Struct

from fairlead.core.manifest import (
    AggregateText,
    AlertmanagerText,
    AlertsSection,
    AuditSection,
    CardSection,
    ChatSection,
    CheckText,
    CommandText,
    DataSection,
    EmailText,
    EnvironmentSection,
    FeatureSection,
    FeedbackText,
    GateSection,
    GovernanceSection,
    LogSection,
    Manifest,
    MonitorText,
    PriceText,
    ReceiverText,
    ReleaseSection,
    RetrainSection,
    ServeSection,
    SlackText,
    StepText,
    TrainSection,
    WatchSection,
    WebhookText,
)

__all__ = ["ALWAYS", "FIELDS", "Field", "duration", "number", "text"]


class Field(Struct, frozen=True, kw_only=True):
    """One key: its meaning, and its limits beyond the type.

    `low` and `high` are allowed values themselves unless `open` says otherwise; for durations they
    are seconds. `pattern`: what a text must match, `says` describing it in words. `unless`: another key
    of the section, without which this one is needed.
    """

    meaning: str
    low: float = -inf
    high: float = inf
    open: bool = False
    is_duration: bool = False
    optional: bool = True
    unless: str = ""
    pattern: str = ""
    says: str = ""

    @property
    def range(self) -> str:
        """The limits in words, "" when there are none."""
        if self.low > -inf and self.high < inf:
            return f"between {self.low:g} and {self.high:g}{' (both excluded)' if self.open else ''}"
        if self.low > -inf:
            return f"{'above' if self.open else 'at least'} {self.low:g}"
        return ""

    def holds(self, value: float) -> bool:
        """Whether a number (or a duration in seconds) keeps the limits."""
        if self.open:
            return self.low < value < self.high
        return self.low <= value <= self.high


def text(meaning: str, pattern: str = "", says: str = "") -> Field:
    """A key without limits, or a text that matches `pattern`."""
    return Field(meaning=meaning, pattern=pattern, says=says)


def number(meaning: str, low: float, high: float = inf, *, open: bool = False) -> Field:
    """A number within limits."""
    return Field(meaning=meaning, low=low, high=high, open=open)


def duration(meaning: str, *, optional: bool = False, zero: bool = False) -> Field:
    """A duration such as 90s, 10m, 3h or 2d; `optional` allows "", `zero` allows 0s."""
    return Field(meaning=meaning, low=0, open=not zero, is_duration=True, optional=optional)


ALWAYS = "-"
"""A key that no other one makes unnecessary, though its section may be left out."""
COLUMN = "column of the table"
SERVICE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
PER = r"^\d+(\.\d+)? per (day|week|month|quarter|year)$"
ALLOWANCE = r"^[1-9]\d* per \d+(\.\d+)?(m|h|d|w)$"
VARIABLE = (r"^$|^[A-Za-z_][A-Za-z0-9_]*$", "the name of an environment variable")
OWN = "true: the receiver is in the own network or on this machine; else such addresses are refused."
VIEW = r"^[A-Za-z_][A-Za-z0-9_]*$"

FIELDS: Mapping[type[Struct], Mapping[str, Field]] = {
    Manifest: {
        "service": text("Name of the service: in addresses, references and the audit log.",
                        SERVICE, "1 to 63 letters, digits, '.', '_' or '-', starting with a letter or digit"),
        "data": Field(meaning="The table, and the roles of its columns.", unless="chat"),
        "train": Field(meaning="How a model is trained.", unless="chat"),
        "chat": text("Instead of data and train: a provider's model, asked through the OpenAI API."),
        "features": text("Feature views by name: further tables, joined as of the time of each row."),
        "gate": text("What a candidate must show before it is packaged."),
        "release": text("How a new package takes over live traffic."),
        "serve": text("How predictions are served."),
        "monitors": text("What is watched in production, by name, and what follows."),
        "watch": text("What holds for all monitors together."),
        "card": text("What people say of the model: cards and packs quote it."),
        "log": text("What the prediction log keeps, and for how long."),
        "alerts": text("Who is told of alerts."),
        "retrain": text("How a retraining goes."),
        "audit": text("Where the audit log is witnessed."),
        "environment": text("What this project is, and whose packages may go live in it."),
        "governance": text("Who has to agree before a package goes live."),
    },
    ChatSection: {
        "url": text("The provider's address, up to what comes before /chat/completions.", r"^https?://\S+$", "a URL such as https://api.example.com/v1"),
        "model": text("What the provider calls the model."),
        "key_env": text("Environment variable with the provider's key.", *VARIABLE),
        "key_file": text("File of the project with the provider's key."),
        "system": text("File with the prompt that comes before every conversation."),
        "template": text("File with what is put around a user's message: {message} takes its place."),
        "parameters": text("Sent with every question, such as temperature; max_tokens is a cap that callers may lower."),
        "conversations": text("JSON file with sample conversations and what must hold of their answers."),
        "price": text("What 1,000 tokens cost."),
        "timeout": duration("No answer takes longer."),
        "first_token": duration("A stream that has not begun by then goes to the baseline."),
        "hosts": text("Hosts of other providers whose packages may be released, each with the variable (or file) of the key it may be shown."),
        "allow_private": text("true: the provider is in the own network or on this machine; else such addresses are refused."),
    },
    PriceText: {
        "prompt": number("Of 1,000 tokens of the question.", 0),
        "completion": number("Of 1,000 tokens of the answer.", 0),
    },
    DataSection: {
        "source": Field(meaning="File with the rows, relative to this one: CSV or Parquet.", unless=ALWAYS),
        "target": Field(unless=ALWAYS, meaning=f"The {COLUMN} to predict."),
        "task": text("Kind of prediction; auto reads it off the target."),
        "time": text(f"The {COLUMN} that says when the prediction is asked; the newest rows are held out by it."),
        "known_at": text(f"The {COLUMN} that says when the truth was known; empty: at once."),
        "entity": text(f"The {COLUMN} that names whom a row is about (a customer, a machine)."),
        "ignore": text("Columns the model must not read: identifiers, or what is known only afterwards."),
        "sensitive": text("Columns whose groups must be treated alike; they are evaluated, not learnt from unless listed as input."),
        "crossed": number("So many sensitive columns at most form groups together; 1: none do.", 1, 5),
        "slices": text("Columns whose groups are evaluated on their own."),
    },
    AggregateText: {
        "mean": text("Column to average over the window."),
        "sum": text("Column to add up over the window."),
        "count": text("true counts the facts in the window."),
    },
    FeatureSection: {
        "source": text("File with the facts, relative to this one."),
        "entity": text("Column, in the facts and in the rows, that joins the two."),
        "time": text("Column that says when a fact became known; empty: always true (a dimension)."),
        "columns": text("Columns of the latest fact to take."),
        "max_age": duration("A fact older than this is not used; empty: no limit.", optional=True),
        "aggregate": text("New columns by name: {mean: column}, {sum: column} or {count: true}."),
        "window": duration("How far back the aggregates look.", optional=True),
    },
    TrainSection: {
        "code": text("File with `def train(data, params)`, relative to this one."),
        "params": text("Passed to train(data, params) and recorded with the run."),
        "test": number("Share of the newest rows held out for the gate.", 0, 1, open=True),
        "seed": number("Start of every random choice.", 0, 2**32 - 1),
        "unseen": text("A category not seen in training is read as `other`, or is an `error` the fallback answers."),
        "warm_start": text("Hand `train` the estimator of the model that serves, to go on from, and keep that of this one."),
        "serve": text("A model of any Python: file beside train.code with `def load(folder)`, shipped as source. Its packages need `fairlead trust`.",
                      r"^$|^[A-Za-z_][A-Za-z0-9_]*\.py$", "a Python file beside train.code"),
    },
    CheckText: {
        "measure": text("What is measured, such as auc or rmse."),
        "no_worse": number("Largest loss against the baseline on the same rows that is accepted.", 0),
        "min": text("Smallest value that passes."),
        "max": text("Largest value that passes."),
        "parity": number("Smallest accepted ratio of the worst group to the best.", 0, 1),
        "gap": number("Largest accepted difference between two groups.", 0),
        "by": text("For parity and gap: the sensitive or slice column that forms the groups; a+b for an intersection."),
        "min_n": number("Fewer rows than this are not enough to judge.", 1),
    },
    GateSection: {
        "checks": text("Checks beside the ready-made ones (no worse than the baseline, schema, latency)."),
        "margin": number("Loss against the baseline that is accepted.", 0),
        "confidence": number("Confidence of the intervals.", 0.5, 1, open=True),
        "latency_ms": number("Largest 99th percentile of one prediction, in milliseconds.", 0, open=True),
        "replay": number("So many of the newest recorded requests go through the candidate before anybody meets it; 0: none.", 0, 1_000_000),
        "max_flips": number("Share of recorded decisions, and of those of any group, that the candidate may change.", 0, 1),
    },
    StepText: {
        "share": number("Share of live traffic the candidate answers.", 0, 1),
        "mirror": number("Share of requests also sent to the candidate, unseen by the caller.", 0, 1),
        "hold": duration("The step lasts at least this long.", zero=True),
        "patience": duration("Without enough evidence after this long, the candidate is rolled back."),
        "pin": text("Units that always meet the candidate."),
    },
    FeedbackText: {
        "kind": text("event: true, or a number above 0, once per unit; amount: numbers added up per unit."),
        "better": text("Whether more of it is better, or less."),
        "loss": number("Share of it whose loss is ruled out before the release goes on.", 0, 1, open=True),
        "cap": number("Amounts per unit above this count as this much: about what one unit in a thousand exceeds.", 0),
        "planned": number("Units of both packages after which the interval of an amount is tightest.", 1),
        "wait": text("false: silence does not hold the release, only proven harm counts."),
    },
    ReleaseSection: {
        "plan": text("A ready-made plan."),
        "steps": text("A plan by hand, in place of `plan`."),
        "shares": number("Growing shares of a canary; the candidates of an ab_test divide the last one.", 0, 1),
        "hold": duration("Each step lasts at least this long.", zero=True),
        "patience": duration("Without enough evidence after this long, the candidate is rolled back."),
        "days": number("An ab_test or a bandit lasts so many days.", 0, 365, open=True),
        "goal": text("What picks the winner of an ab_test and moves the shares of a bandit: the name of a feedback, or a metric, the higher the better."),
        "pin": text("Units that meet the candidate in the preview of blue_green."),
        "sticky_by": text("Request column that names the unit: a unit keeps meeting the same package."),
        "margin": number("Loss that a shadow may have on labelled requests.", 0, 1),
        "min_pairs": number("Labelled requests of a shadow before feedback is judged; 0 waits for no labels.", 0),
        "max_flips": number("Share of decisions that a shadow may take otherwise than the baseline, as a whole and in any group of data.slices; 1 only tells.", 0, 1),
        "max_skew": number("Share of served values of a feature that may differ from those recomputed from the facts; beyond it the release stops.", 0, 1),
        "min_recomputed": number("Values of every feature that must have been recomputed before the release goes on; 0 waits for none.", 0),
        "max_errors": number("Share of errors that is none worth comparing.", 0, 1, open=True),
        "alpha": number("Chance of rolling back a harmless candidate.", 0, 0.5, open=True),
        "beta": number("Chance of promoting a harmful one.", 0, 0.5, open=True),
        "feedback": text("Guardrails on what users do, by the name of the feedback; label counts answers that prove wrong."),
        "max_slower": number("At the baseline's own p50 to p99.5 a candidate takes at most so many times as long; 1 allows nothing, 0 does not look.", 0),
        "slow_ms": number("An answer slower than this counts as slow, in milliseconds.", 0, open=True),
    },
    ServeSection: {
        "host": text("Address to listen on."),
        "port": number("Port to listen on; 0 picks a free one.", 0, 65535),
        "deadline_ms": number("A request is answered or refused by then, in milliseconds.", 0, open=True),
        "max_body_kb": number("Larger requests are refused.", 1, 1_000_000),
        "max_queue": number("Rows between request and answer in one gateway; what comes beyond it is "
                            "refused at once with 429.", 1),
        "gateways": number("Processes that take requests, on one port.", 1, 64),
        "replicas": number("Processes per package.", 1, 1024),
        "replica_memory_mb": number("A replica that has grown by more than this since the model was loaded is replaced by a fresh one, without a lost request; 0 never looks.", 0),
        "load_seconds": number("A package that has not loaded by then counts as failing.", 0, open=True),
        "walls": text("Packages with code of their own (train.serve) run only where the kernel has Landlock and seccomp; false: anywhere, and such code can then do what this user can."),
        "token_file": text("File with the token callers must show; needed when host is not this machine."),
        "durability": text("What an acknowledged prediction means for its log: memory (written within 20 ms; lost if killed before), os (survives a kill), fsync (survives a power cut; 503 when the disk refuses)."),
        "fallback": text("The answer when even the baseline fails; without one: 503 with Retry-After."),
        "grpc_port": number("Port of the Open Inference Protocol over gRPC; 0 is off.", 0, 65535),
        "access_log": number("Share of the requests that is written to .fairlead/predictions/access.jsonl; refusals all are. 0 is off.", 0, 1),
        "trace_to": text("URL of an OTLP receiver of traces over HTTP, such as http://localhost:4318/v1/traces.", r"^$|^https?://\S+$", "a URL"),
        "trace_share": number("Share of the requests that is traced when the caller does not say.", 0, 1),
        "cpu_hour_price": number("Price of an hour of one CPU, for the cost of predictions in /metrics; 0 counts CPU seconds.", 0),
        "rate": number("Requests a second of one token that each gateway and the control API take; more are refused with 429 and Retry-After. 0: any number.", 0),
        "connections_per_peer": number("Connections of one address (of IPv6: one /64) that each gateway and the control API take; more are refused with 503. 0: any number.", 0),
    },
    MonitorText: {
        "measure": text("What is watched, such as auc, errors or drift."),
        "window": duration("The stretch of time that is judged."),
        "min": text("Smallest value that passes."),
        "max": text("Largest value that passes."),
        "min_n": number("Fewer predictions than this are not enough to judge.", 1),
        "slice": text("Only the rows of one group, such as carrier=UA, of a column in data.slices."),
        "every": duration("How often to look; empty: eight times in the window.", optional=True),
        "then": text("What follows when the check fails; hold pauses the running release."),
        "cooldown": duration("No second reaction within this time.", zero=True),
    },
    EnvironmentSection: {
        "name": text("dev, staging, prod, or what you call it.", SERVICE, "1 to 63 letters, digits, '.', '_' or '-', starting with a letter or digit"),
        "accepts": text("Public keys (`fairlead audit key`) by environment: only packages they sent go live here."),
        "promoted": text("Only packages that were promoted there are taken in."),
    },
    GovernanceSection: {
        "approvals": number("So many people who did not make a package let its release start; 0: none is asked.", 0),
        "expires": duration("An approval that nobody used ends after this."),
    },
    CardSection: {
        "risk": text("The class of the EU AI Act; with high, predictions are kept for 183d at least (Art. 19)."),
        "provider": text("Who answers for the system."),
        "contact": text("Where questions and complaints go."),
        "purpose": text("What the model is for."),
        "users": text("Who works with its answers."),
        "affected": text("Whose lives its answers touch, groups at risk included."),
        "out_of_scope": text("What it must not be used for."),
        "limits": text("Where it is known to be weak, and what follows for its use."),
        "oversight": text("How people watch over it, and how they overrule it (Art. 14)."),
        "collection": text("How the data was collected, chosen, labelled and cleaned (Art. 10)."),
        "measures": text("Why the measures of the gate fit this purpose."),
        "risks": text("The risks to health, safety and rights, and what is done about each (Art. 9)."),
        "changes": text("Changes that were planned beforehand, and how they stay within the assessment."),
        "security": text("Cybersecurity measures around the system (Art. 15)."),
        "hardware": text("What it runs on, and what it is part of."),
        "instructions": text("Where the instructions for use are (Art. 13)."),
        "standards": text("Harmonised standards and other specifications applied."),
        "declaration": text("Where the EU declaration of conformity is (Art. 47)."),
        "monitoring": text("Where the plan of post-market monitoring is (Art. 72)."),
    },
    AuditSection: {
        "checkpoints": text("Places that keep signed checkpoints of the audit log: a folder, an object store (s3://bucket/prefix), a git repository (git+FOLDER)."),
        "every": duration("A checkpoint is signed at least this often while something happens."),
        "entries": number("And after so many events.", 1),
    },
    WatchSection: {
        "false_alarms": text("How many false alarms all monitors together may raise.", PER,
                             "like `1 per quarter`: a number per day, week, month, quarter or year"),
        "ready_made": text("Also watch errors, slow answers, missing and unseen values, drift, and lost quality, where no monitor does."),
    },
    LogSection: {
        "redact": text("Columns that reach the disk as a keyed hash: equal values stay equal, nobody can read them."),
        "drop": text("Columns that never reach the disk."),
        "sample": number("Share of requests whose inputs and features are kept; ids, answers and labels are kept of all.", 0, 1),
        "retention": duration("Predictions older than this are deleted, day by day; at least 30d; empty: kept for ever.", optional=True),
    },
    AlertsSection: {
        "to": text("The receivers, each of one kind: webhook, slack, email, alertmanager or command."),
    },
    ReceiverText: {
        "name": text("What it is called in `fairlead alerts` and in the audit log; empty: its kind.",
                     r"^[A-Za-z0-9_-]{0,40}$", "at most 40 letters, digits, '_' or '-'"),
        "webhook": text("A POST of JSON to an address."),
        "slack": text("An incoming webhook of Slack, or of a chat like it."),
        "email": text("A mail."),
        "alertmanager": text("Prometheus Alertmanager (API v2)."),
        "command": text("A program that reads the alert as JSON from its standard input."),
    },
    WebhookText: {
        "url": text("The address, when it is no secret."),
        "url_env": text("Environment variable that holds the address.", *VARIABLE),
        "url_file": text("File that holds the address."),
        "secret_env": text("Environment variable with the key of the signature (header X-Fairlead-Signature).", *VARIABLE),
        "secret_file": text("File with the key of the signature."),
        "allow_private": text(OWN),
    },
    SlackText: {
        "url_env": text("Environment variable that holds the address of the incoming webhook.", *VARIABLE),
        "url_file": text("File that holds it."),
        "allow_private": text(OWN),
    },
    AlertmanagerText: {
        "url": text("Address of Alertmanager, such as https://alerts.example.com; /api/v2/alerts follows."),
        "url_env": text("Environment variable that holds the address.", *VARIABLE),
        "url_file": text("File that holds the address."),
        "token_env": text("Environment variable with a bearer token.", *VARIABLE),
        "token_file": text("File with a bearer token."),
        "allow_private": text(OWN),
    },
    EmailText: {
        "host": text("The mail server."),
        "port": number("Its port.", 1, 65535),
        "sender": text("Who writes."),
        "to": text("Who is written to."),
        "tls": text("starttls (port 587), tls (465), or none, which sends no password."),
        "user": text("Who logs in."),
        "password_env": text("Environment variable with the password.", *VARIABLE),
        "password_file": text("File with the password."),
        "allow_private": text(OWN),
    },
    CommandText: {
        "run": text("The program and its arguments; no shell reads them."),
        "timeout": duration("It is stopped after this time."),
    },
    RetrainSection: {
        "window": duration("Train on the rows of this last stretch; empty: on all.", optional=True),
        "cooldown": duration("No second retraining within this time.", zero=True),
        "every": duration("Train again after this time; empty: not by the calendar.", optional=True),
        "labels": number("Train again after so many new labels; 0: not for their sake.", 0),
        "cost": number("What a retraining costs, in any money; 0: not by the cost rule.", 0),
        "mistake": number("What a wrong answer costs, or 1 of absolute error, in the same money.", 0),
        "most": text("No more retrainings than this.", ALLOWANCE, "like `10 per 30d`: a number and a duration"),
        "source": text("What to train on: the table of data, or the prediction log with its labels."),
        "acted_on": text("Answers that somebody acts upon; their truth is what the action made of it, so the log leaves them out."),
    },
}  # fmt: skip
