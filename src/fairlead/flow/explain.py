"""Explaining one prediction: its package says, in a process of its own, what each column did to the answer."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import compile_row
from fairlead.core.prediction import Prediction
from fairlead.core.ref import Ref, canonical
from fairlead.errors import Invalid, Missing
from fairlead.flow.job import Flavors, answer, submit, workspace
from fairlead.flow.package import SPEC, Samples
from fairlead.flow.train import SAMPLES_FILE
from fairlead.ports import Blobs, Change, Clock, Compute, Records

__all__ = ["EXPLAINED", "Contribution", "ExplainJob", "Explanation", "explain", "run_explain", "stored"]

EXPLAINED = "prediction.explained"


class Contribution(Struct, frozen=True, kw_only=True):
    """What a column added to the answer. What it held, only the prediction log says: it can forget."""

    column: str
    amount: float


class Explanation(Struct, frozen=True, kw_only=True):
    """`base` and all amounts add up to `total`, in `space` ("log-odds", "score", ...): the answer.

    `base`: the mean answer of `background` held-out rows. `of`: the class explained, "" for a
    number. `method`: "trees" is exact; of "permutations" each amount may be off by `error` (95 %).
    `contributions`: the largest first.
    """

    prediction: str
    package: Ref
    method: str
    space: str
    of: str = ""
    base: float
    total: float
    error: float
    background: int
    contributions: tuple[Contribution, ...]


class ExplainJob(Struct, frozen=True, kw_only=True):
    """Explain the answer of the package in the folder `package` to `row`, on class `output`."""

    prediction: str
    ref: Ref
    package: str
    row: dict[str, Any]
    output: int = 0


def explain(
    asked: Prediction, spec: PackageSpec, folder: Path, *, hidden: Collection[str] = (), records: Records,
    blobs: Blobs, compute: Compute, clock: Clock, jobs: Path, actor: str,
) -> Explanation:  # fmt: skip
    """The explanation of an answer by the package in `folder`: computed once, then read.

    It is stored under the id of the prediction ("prediction.explained"). Raises Invalid when the
    log does not hold what the model read, or nobody answered.
    """
    known = stored(asked, records, blobs)
    if known is not None:
        return known
    row = {**asked.inputs, **asked.features}
    lost = sorted({c.column for c in spec.encoding.columns} & set(hidden))
    if lost or asked.error or not row:
        why = f"the log keeps no {', '.join(lost)}" if lost else asked.error or "its inputs were not sampled"
        raise Invalid(f"{asked.id} cannot be explained: {why}",
                      hint="an explanation needs all that the model read: see log.drop, log.redact, log.sample")  # fmt: skip
    with workspace(jobs) as work_in:
        job = ExplainJob(prediction=asked.id, ref=asked.package, package=str(folder.resolve()), row=row,
                         output=_output(asked, spec))  # fmt: skip
        made = submit("explain", job, work_in, compute, Explanation)
    body = {"package": str(asked.package), "blob": blobs.put(canonical(made)), "method": made.method}
    records.commit(Change(at=clock.now(), actor=actor, verb=EXPLAINED, subject=_subject(asked), body=body))
    return made


def stored(answer: Prediction, records: Records, blobs: Blobs) -> Explanation | None:
    """What was computed before; None when nothing was, or its bytes were erased."""
    for event in records.events(subject=_subject(answer)):
        if event.verb == EXPLAINED and event.body.get("package") == str(answer.package):
            try:
                return msgspec.json.decode(blobs.get(event.body["blob"]), type=Explanation)
            except Missing:
                return None
    return None


def run_explain(folder: Path, flavors: Flavors) -> int:
    """The process: do what job.json of `folder` asks; the exit status."""
    return answer(folder, lambda data: _work(msgspec.json.decode(data, type=ExplainJob), flavors))


def _work(job: ExplainJob, flavors: Flavors) -> Explanation:
    folder = Path(job.package)
    spec = msgspec.json.decode((folder / SPEC).read_bytes(), type=PackageSpec)
    samples = msgspec.json.decode((folder / SAMPLES_FILE).read_bytes(), type=Samples)
    encode = compile_row(spec.encoding)
    background = np.array([encode(row) for row in samples.rows], dtype=np.float32)
    scorer = flavors.scorer(folder, spec.flavor, spec.task, len(spec.classes))
    explainer = flavors.explainer(folder, scorer, spec.encoding, background, job.output)
    row = np.array(encode(job.row), dtype=np.float32)
    found = explainer(row)
    order = np.argsort(-np.abs(found.amounts), kind="stable")
    return Explanation(
        prediction=job.prediction, package=job.ref, method=explainer.method, space=explainer.space,
        of="" if spec.task == "regression" else spec.classes[1 if spec.task == "binary" else job.output],
        base=found.base, total=float(explainer.answers(row[None])[0]), error=found.error,
        background=len(background),
        contributions=tuple(Contribution(column=explainer.players[i], amount=float(found.amounts[i]))
                            for i in order.tolist()),
    )  # fmt: skip


def _output(answer: Prediction, spec: PackageSpec) -> int:
    """The column of the scores that is explained: of many classes, the one that was answered."""
    if spec.task != "multiclass":
        return 0
    return spec.classes.index(answer.output["label"])


def _subject(answer: Prediction) -> str:
    return f"prediction/{answer.id}"
