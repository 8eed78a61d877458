"""The texts of a new project: a manifest that a person reads in a minute, and a training function."""

import json
import re
from datetime import UTC, datetime

from msgspec import Struct

from fairlead.core.artifact import Task
from fairlead.core.schema import Dtype

__all__ = ["GITIGNORE", "TARGET_WORDS", "Draft", "Fact", "Remark", "Wishes", "cut", "interval", "manifest",
           "training"]  # fmt: skip

GITIGNORE = (".fairlead/", "data/", "__pycache__/")
TARGET_WORDS = ("target", "label", "class", "status", "outcome", "default", "churn", "result", "y_",
                "late", "fraud", "price", "score", "amount", "survived", "quality", "species")  # fmt: skip
MOST_IGNORED = 12


class Wishes(Struct, frozen=True, kw_only=True):
    """What the caller said about the table; "" and () where nothing was said."""

    target: str = ""
    time: str = ""
    entity: str = ""
    sensitive: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    service: str = ""


class Remark(Struct, frozen=True):
    """What was noted while a file was read: of which column ("" for the whole file), and what."""

    column: str
    text: str

    def __str__(self) -> str:
        return f"{self.column}: {self.text}" if self.column else self.text


class Fact(Struct, frozen=True, kw_only=True):
    """One column: its type, share of missing values, distinct values, range or examples, its role
    ("target", "time", "entity", "sensitive", "ignored" or "") and why it is ignored."""

    name: str
    dtype: Dtype
    missing: float
    distinct: int
    holds: str
    role: str = ""
    note: str = ""


class Draft(Struct, frozen=True, kw_only=True):
    """A project about to be written. `classes`: label and share, most frequent first (empty for a
    regression); `rare`: those with too few rows to set some aside while training. `since`, `until`: UTC seconds of the time column, 0 without one. `findings`: what
    the reader may want to change, in words."""

    service: str
    task: Task
    target: str
    rows: int
    facts: tuple[Fact, ...]
    classes: tuple[tuple[str, float], ...] = ()
    rare: tuple[str, ...] = ()
    since: float = 0.0
    until: float = 0.0
    findings: tuple[str, ...] = ()
    wishes: Wishes


def manifest(made: Draft, source: str) -> str:
    """`fairlead.yaml`, at most 60 lines, every choice with its reason."""
    held = "the newest rows" if made.wishes.time else "rows picked by the seed"
    lines = [
        "# The whole project on one page. Every key, with its meaning: fairlead schema",
        f"service: {word(made.service)}",
        "",
        *_data(made, source),
        "",
        "train:",
        _said("  code: train.py", "def train(data, params)"),
        _said("  test: 0.2", f"{held} judge the model and never teach it"),
        f"  params: {{learning_rate: 0.1, max_iter: 200, early_stopping: {str(not made.rare).lower()}}}",
        "",
        *_gate(made),
        "",
        "release:",
        _said("  plan: canary", "replace, blue_green, canary, shadow or shadow_canary"),
        _said("  shares: [0.05, 0.25, 0.5]", "of live traffic, step by step"),
        _said("  hold: 10m", "each step lasts at least this long, and until the evidence suffices"),
        _said("  # sticky_by: COLUMN", "a unit keeps meeting the same model"),
        "",
        "serve:",
        "  port: 8080",
        _said("  # fallback: 0", "the answer when no model can answer"),
        "",
        *_monitors(made),
    ]
    return "\n".join(lines) + "\n"


def _data(made: Draft, source: str) -> list[str]:
    wishes = made.wishes
    lines = [
        "data:",
        _said(f"  source: {word(source)}", f"{made.rows:,} rows, {len(made.facts)} columns"),
        _said(f"  target: {word(made.target)}", _target(made)),
        _said(f"  task: {made.task}", "binary, multiclass or regression"),
    ]
    if wishes.time:
        lines.append(_said(f"  time: {word(wishes.time)}", f"when a prediction is asked; {interval(made.since, made.until, 'datetime')}"))  # fmt: skip
        lines.append(_said("  # known_at: COLUMN", "when the truth is known, if that is later"))
    if wishes.entity:
        lines.append(_said(f"  entity: {word(wishes.entity)}", "whom a row is about"))
    if wishes.sensitive:
        lines.append(_said(f"  sensitive: [{', '.join(map(word, wishes.sensitive))}]", "the gate compares how these groups fare"))  # fmt: skip
    lines.append(_said("  # slices: [COLUMN]", "groups that are evaluated on their own"))
    return lines + _ignored(made)


def training(task: Task) -> str:
    """`train.py`: one plain function."""
    kind = "Regressor" if task == "regression" else "Classifier"
    target = "the target (float64)" if task == "regression" else "the class of each row (0, 1, ...)"
    return f'''"""How the model is trained. Fairlead calls `train` in a process of its own and records the run."""

from sklearn.ensemble import HistGradientBoosting{kind}


def train(data, params):
    """Return a fitted scikit-learn model.

    data.X: float32 matrix, one row per row of the table, missing values are NaN.
    data.y: {target}. data.frame: the same rows by column name.
    params: from fairlead.yaml.
    """
    model = HistGradientBoosting{kind}(random_state=data.seed, **params)
    return model.fit(data.X, data.y)
'''


def word(text: str) -> str:
    """A text as YAML writes it: bare when that is safe, else in double quotes."""
    bare = re.fullmatch(r"[A-Za-z_][\w./ -]*[\w]|[A-Za-z_]", text, re.ASCII)
    odd = text.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    return text if bare and not odd else _quoted(text)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)


def cut(text: str, most: int = 24) -> str:
    """At most `most` characters on one line."""
    flat = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return flat if len(flat) <= most else f"{flat[: most - 1]}…"


def interval(low: float, high: float, dtype: Dtype) -> str:
    """``0.5 to 12``, or two dates."""
    if dtype == "datetime":
        first, last = (datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d") for t in (low, high))
        return first if first == last else f"{first} to {last}"
    return f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def _said(text: str, comment: str) -> str:
    return f"{text:<32}  # {comment}" if comment else text


def _target(made: Draft) -> str:
    if not made.classes:
        fact = next(f for f in made.facts if f.name == made.target)
        return f"a number, {fact.holds}"
    shown = ", ".join(f"{cut(label)} {share:.3g}" for label, share in
                      ((label, round(share, 3)) for label, share in made.classes[:4]))  # fmt: skip
    return shown + (f" and {len(made.classes) - 4} more" if len(made.classes) > 4 else "")


def _ignored(made: Draft) -> list[str]:
    ignored = [f for f in made.facts if f.role == "ignored"]
    if not ignored:
        return [_said("  # ignore: [COLUMN]", "identifiers, and what is known only afterwards")]
    if len(ignored) > MOST_IGNORED:
        names = ", ".join(word(f.name) for f in ignored)
        return [_said("  ignore:", "constant columns, identifiers"), f"    [{names}]"]
    return ["  ignore:", *(_said(f"    - {word(f.name)}", f.note) for f in ignored)]


def _gate(made: Draft) -> list[str]:
    lines = ["gate:", _said("  margin: 0.01", "no worse than the live model by more than this")]
    measure = {"binary": "{measure: auc, min: 0.7}", "multiclass": "{measure: accuracy, min: 0.7}",
               "regression": "{measure: r2, min: 0.3}"}[made.task]  # fmt: skip
    lines.append(_said("  # checks:", "beside the ready-made ones; a bound that holds whatever is live:"))
    return [*lines, f"  #  - {measure}"]


def _monitors(made: Draft) -> list[str]:
    quality = {"binary": "auc, min: 0.7", "multiclass": "accuracy, min: 0.7",
               "regression": "r2, min: 0.3"}[made.task]  # fmt: skip
    then = "[alert, retrain]" if made.wishes.time else "[alert]"
    return [
        "monitors:",
        "  errors: {measure: errors, max: 0.01, window: 1h, then: [alert, rollback]}",
        "  drift: {measure: drift_evidence, max: 1, then: [alert], cooldown: 7d}",
        f"  # quality: {{measure: {quality}, window: 7d, then: {then}}}",
    ]
