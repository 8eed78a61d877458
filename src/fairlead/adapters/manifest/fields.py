"""What each key of a manifest means and which values it takes: one table for errors and for the schema."""

from collections.abc import Mapping
from math import inf

from msgspec import Struct

from fairlead.core.manifest import (
    AggregateText,
    CheckText,
    DataSection,
    FeatureSection,
    GateSection,
    Manifest,
    MonitorText,
    ReleaseSection,
    RetrainSection,
    ServeSection,
    StepText,
    TrainSection,
)

__all__ = ["FIELDS", "Field", "duration", "number", "text"]


class Field(Struct, frozen=True, kw_only=True):
    """One key: its meaning, and its limits beyond the type.

    `low` and `high` are allowed values themselves unless `open` says otherwise; for durations they
    are seconds. `pattern`: what a text must match, `says` describing it in words.
    """

    meaning: str
    low: float = -inf
    high: float = inf
    open: bool = False
    is_duration: bool = False
    optional: bool = True
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


COLUMN = "column of the table"
SERVICE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
VIEW = r"^[A-Za-z_][A-Za-z0-9_]*$"

FIELDS: Mapping[type[Struct], Mapping[str, Field]] = {
    Manifest: {
        "service": text("Name of the service: in addresses, references and the audit log.",
                        SERVICE, "1 to 63 letters, digits, '.', '_' or '-', starting with a letter or digit"),
        "data": text("The table, and the roles of its columns."),
        "train": text("How a model is trained."),
        "features": text("Feature views by name: further tables, joined as of the time of each row."),
        "gate": text("What a candidate must show before it is packaged."),
        "release": text("How a new package takes over live traffic."),
        "serve": text("How predictions are served."),
        "monitors": text("What is watched in production, by name, and what follows."),
        "retrain": text("How a retraining goes."),
    },
    DataSection: {
        "source": text("File with the rows, relative to this one: CSV or Parquet."),
        "target": text(f"The {COLUMN} to predict."),
        "task": text("Kind of prediction; auto reads it off the target."),
        "time": text(f"The {COLUMN} that says when the prediction is asked; the newest rows are held out by it."),
        "known_at": text(f"The {COLUMN} that says when the truth was known; empty: at once."),
        "entity": text(f"The {COLUMN} that names whom a row is about (a customer, a machine)."),
        "ignore": text("Columns the model must not read: identifiers, or what is known only afterwards."),
        "sensitive": text("Columns whose groups must be treated alike; they are evaluated, not learnt from unless listed as input."),
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
    },
    CheckText: {
        "measure": text("What is measured, such as auc or rmse."),
        "no_worse": number("Largest loss against the baseline on the same rows that is accepted.", 0),
        "min": text("Smallest value that passes."),
        "max": text("Largest value that passes."),
        "parity": number("Smallest accepted ratio of the worst group to the best.", 0, 1),
        "by": text("For parity: the sensitive or slice column that forms the groups."),
        "min_n": number("Fewer rows than this are not enough to judge.", 1),
    },
    GateSection: {
        "checks": text("Checks beside the ready-made ones (no worse than the baseline, schema, latency)."),
        "margin": number("Loss against the baseline that is accepted.", 0),
        "confidence": number("Confidence of the intervals.", 0.5, 1, open=True),
        "latency_ms": number("Largest 99th percentile of one prediction, in milliseconds.", 0, open=True),
    },
    StepText: {
        "share": number("Share of live traffic the candidate answers.", 0, 1),
        "mirror": number("Share of requests also sent to the candidate, unseen by the caller.", 0, 1),
        "hold": duration("The step lasts at least this long.", zero=True),
        "patience": duration("Without enough evidence after this long, the candidate is rolled back."),
        "pin": text("Units that always meet the candidate."),
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
        "min_pairs": number("Labelled requests of a shadow before feedback is judged.", 1),
        "max_errors": number("Share of errors that is none worth comparing.", 0, 1, open=True),
        "alpha": number("Chance of rolling back a harmless candidate.", 0, 0.5, open=True),
        "beta": number("Chance of promoting a harmful one.", 0, 0.5, open=True),
        "slow_ms": number("An answer slower than this counts as slow, in milliseconds.", 0, open=True),
    },
    ServeSection: {
        "host": text("Address to listen on."),
        "port": number("Port to listen on; 0 picks a free one.", 0, 65535),
        "deadline_ms": number("A request is answered or refused by then, in milliseconds.", 0, open=True),
        "max_body_kb": number("Larger requests are refused.", 1, 1_000_000),
        "max_queue": number("Requests in flight; beyond it the service answers 503.", 1),
        "replicas": number("Processes per package.", 1, 1024),
        "token_file": text("File with the token callers must show; needed when host is not this machine."),
        "durability": text("What an acknowledged prediction means for its log: memory (written within 20 ms; lost if killed before), os (survives a kill), fsync (survives a power cut; 503 when the disk refuses)."),
        "fallback": text("The answer when even the baseline fails; without one: 503 with Retry-After."),
    },
    MonitorText: {
        "measure": text("What is watched, such as auc, errors or drift."),
        "window": duration("The stretch of time that is judged."),
        "min": text("Smallest value that passes."),
        "max": text("Largest value that passes."),
        "min_n": number("Fewer predictions than this are not enough to judge.", 1),
        "then": text("What follows when the check fails."),
        "cooldown": duration("No second reaction within this time.", zero=True),
    },
    RetrainSection: {
        "window": duration("Train on the rows of this last stretch; empty: on all.", optional=True),
        "cooldown": duration("No second retraining within this time.", zero=True),
    },
}  # fmt: skip
