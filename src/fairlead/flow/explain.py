"""Explaining predictions: their package says, in a process of its own, what each column did to the answer."""

from collections.abc import Collection, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import compile_row
from fairlead.core.prediction import Prediction
from fairlead.core.ref import Ref, canonical
from fairlead.errors import FairleadError, Invalid, Missing
from fairlead.flow.job import Explains, Flavors, Matrix, answer, submit, workspace
from fairlead.flow.package import SPEC, Samples
from fairlead.flow.train import SAMPLES_FILE
from fairlead.flow.trust import at_home
from fairlead.ports import Blobs, Change, Clock, Compute, PredictionLog, Records

__all__ = ["EXPLAINED", "PREFIX", "UNEXPLAINED", "Contribution", "ExplainJob", "Explanation", "Row", "Told", "as_read",
           "computed", "explain", "explain_all", "give_up", "orphans", "run_explain", "stored", "told"]  # fmt: skip

EXPLAINED, UNEXPLAINED = "prediction.explained", "prediction.unexplained"
PREFIX = "prediction/"


class Contribution(Struct, frozen=True, kw_only=True):
    """What a column added to the answer. What it held, only the prediction log says: it can forget."""

    column: str
    amount: float


class Explanation(Struct, frozen=True, kw_only=True):
    """`base` and all amounts add up to `total`, in `space` ("log-odds", "score", ...): the answer.

    `base`: the mean answer of `background` held-out rows. `of`: the class explained, "" for a
    number. `method`: "trees" is exact; of "permutations" each amount may be off by `error` (95 %),
    "gradients" left so much of the answer to be shared out.
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


class Told(Struct, frozen=True, kw_only=True):
    """What is known: "explained"; "waiting" (its caller asked, nobody has computed it yet);
    "impossible", with the `reason`; "unasked"."""

    state: Literal["explained", "waiting", "impossible", "unasked"]
    explanation: Explanation | None = None
    reason: str = ""


class Row(Struct, frozen=True, kw_only=True):
    """What the model read for a prediction, and the column of its scores that is explained (-1: the
    highest)."""

    prediction: str
    values: dict[str, Any]
    output: int = 0


class ExplainJob(Struct, frozen=True, kw_only=True):
    """Explain the answers of the package in the folder `package` to `rows`."""

    ref: Ref
    package: str
    rows: tuple[Row, ...]


class Explanations(Struct, frozen=True, kw_only=True):
    """What a job found, in the order of its rows."""

    found: tuple[Explanation, ...]


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
    [made] = computed([as_read(asked, spec, hidden, records, clock)], asked.package, folder, compute, jobs)
    _keep(asked, EXPLAINED, {"blob": blobs.put(canonical(made)), "method": made.method}, records, clock, actor)
    return made


def explain_all(
    asked: Sequence[Prediction], spec: PackageSpec, folder: Path, *, hidden: Collection[str] = (),
    records: Records, blobs: Blobs, compute: Compute, clock: Clock, jobs: Path, actor: str,
) -> int:  # fmt: skip
    """Explain answers of one package in one process; how many it explained.

    Of the others it is written down why not ("prediction.unexplained"); a row that ends the process
    takes no other with it.
    """
    rows: list[tuple[Prediction, Row]] = []
    for one in asked:
        try:
            rows.append((one, as_read(one, spec, hidden, records, clock)))
        except FairleadError as error:
            give_up(one, str(error), records, clock, actor)
    made: Sequence[Explanation] = ()
    try:
        if rows:
            made = computed([row for _, row in rows], rows[0][0].package, folder, compute, jobs)
    except Invalid as error:
        if len(rows) > 1:
            return sum(explain_all([one], spec, folder, hidden=hidden, records=records, blobs=blobs, compute=compute,
                                   clock=clock, jobs=jobs, actor=actor) for one, _ in rows)  # fmt: skip
        give_up(rows[0][0], str(error), records, clock, actor)
    for (one, _), found in zip(rows, made, strict=bool(made)):
        _keep(one, EXPLAINED, {"blob": blobs.put(canonical(found)), "method": found.method}, records, clock, actor)
    return len(made)


def give_up(asked: Prediction, reason: str, records: Records, clock: Clock, actor: str) -> None:
    """Write down why an answer has no explanation ("prediction.unexplained")."""
    _keep(asked, UNEXPLAINED, {"reason": reason}, records, clock, actor)


def told(answer: Prediction, records: Records, blobs: Blobs) -> Told:
    """What is known of the explanation of an answer, computing nothing."""
    reason = ""
    for event in records.events(subject=_subject(answer)):
        if event.verb == EXPLAINED and event.body.get("package") == str(answer.package):
            try:
                found = msgspec.json.decode(blobs.get(event.body["blob"]), type=Explanation)
            except Missing:
                reason = "it was erased"
            else:
                return Told(state="explained", explanation=found)
        elif event.verb == UNEXPLAINED:
            reason = event.body["reason"]
    return Told(state="impossible" if reason else "waiting" if answer.wanted else "unasked", reason=reason)


def stored(answer: Prediction, records: Records, blobs: Blobs) -> Explanation | None:
    """What was computed before; None when nothing was, or its bytes were erased."""
    return told(answer, records, blobs).explanation


def orphans(log: PredictionLog, records: Records, blobs: Blobs, before: float = inf) -> Iterator[str]:
    """Digests of explanations of predictions from before `before` that the log does not hold any more."""
    for event in records.events():
        if event.verb == EXPLAINED and event.body.get("at", 0.0) < before and blobs.has(event.body["blob"]):
            try:
                log.find(event.subject.removeprefix(PREFIX))
            except Missing:
                yield event.body["blob"]


def as_read(asked: Prediction, spec: PackageSpec, hidden: Collection[str], records: Records, clock: Clock) -> Row:
    """What the model read. Raises Invalid when the log does not hold it, or nobody answered, and what
    `at_home` raises."""
    at_home(records, clock, records.artifact(spec.model))
    values = {**asked.inputs, **asked.features}
    lost = sorted({c.column for c in spec.encoding.columns} & set(hidden))
    if lost or asked.error or all(v is None for v in values.values()) or not spec.encoding.columns:
        why = (f"the log keeps no {', '.join(lost)}" if lost else asked.error
               or ("its inputs were not sampled" if spec.encoding.columns else "its model reads no columns"))  # fmt: skip
        raise Invalid(f"{asked.id} cannot be explained: {why}",
                      hint="an explanation needs all that the model read: see log.drop, log.redact, log.sample")  # fmt: skip
    return Row(prediction=asked.id, values=values, output=_output(asked, spec))


def computed(
    rows: Sequence[Row], ref: Ref, folder: Path, compute: Compute, jobs: Path
) -> tuple[Explanation, ...]:  # fmt: skip
    """Explanations of rows by the package in `folder`, in their order, by one process. Raises Invalid."""
    with workspace(jobs) as work_in:
        job = ExplainJob(ref=ref, package=str(folder.resolve()), rows=tuple(rows))
        return submit("explain", job, work_in, compute, Explanations).found


def _keep(asked: Prediction, verb: str, body: dict[str, Any], records: Records, clock: Clock, actor: str) -> None:
    told = {"package": str(asked.package), "at": asked.at, **body}
    records.commit(Change(at=clock.now(), actor=actor, verb=verb, subject=_subject(asked), body=told))


def run_explain(folder: Path, flavors: Flavors) -> int:
    """The process: do what job.json of `folder` asks; the exit status."""
    return answer(folder, lambda data: _work(msgspec.json.decode(data, type=ExplainJob), flavors))


def _work(job: ExplainJob, flavors: Flavors) -> Explanations:
    return Explanations(found=tuple(_explained(job, flavors)))


def _explained(job: ExplainJob, flavors: Flavors) -> Iterator[Explanation]:
    desk = Desk(Path(job.package), flavors)
    spec = desk.spec
    for asked in job.rows:
        row = np.array(desk.encode(asked.values), dtype=np.float32)
        output = asked.output if asked.output >= 0 else desk.answered(row)
        explainer = desk.explainer(output)
        found = explainer(row)
        order = np.argsort(-np.abs(found.amounts), kind="stable")
        yield Explanation(
            prediction=asked.prediction, package=job.ref, method=explainer.method, space=explainer.space,
            of="" if spec.task == "regression" else spec.classes[1 if spec.task == "binary" else output],
            base=found.base, total=float(explainer.answers(row[None])[0]), error=found.error,
            background=len(desk.background),
            contributions=tuple(Contribution(column=explainer.players[i], amount=float(found.amounts[i]))
                                for i in order.tolist()),
        )  # fmt: skip


class Desk:
    """A package opened for explaining. `background`: its held-out samples [rows, width]."""

    def __init__(self, folder: Path, flavors: Flavors) -> None:
        self.spec = spec = msgspec.json.decode((folder / SPEC).read_bytes(), type=PackageSpec)
        samples = msgspec.json.decode((folder / SAMPLES_FILE).read_bytes(), type=Samples)
        self.encode = compile_row(spec.encoding)
        self.background = np.array([self.encode(row) for row in samples.rows], dtype=np.float32)
        self._scorer = flavors.scorer(folder, spec.flavor, spec.task, len(spec.classes))
        self._folder, self._flavors, self._made = folder, flavors, dict[int, Explains]()

    def answered(self, row: Matrix) -> int:
        """The column of the scores of an encoded row (width,) that is highest."""
        return int(self._scorer(row[None])[0].argmax())

    def explainer(self, output: int = 0) -> Explains:
        """What explains one column of the scores."""
        if output not in self._made:
            self._made[output] = self._flavors.explainer(
                self._folder, self._scorer, self.spec.encoding, self.background, output)  # fmt: skip
        return self._made[output]


def _output(answer: Prediction, spec: PackageSpec) -> int:
    """The column of the scores that is explained: of many classes, the one that was answered."""
    if spec.task != "multiclass":
        return 0
    return spec.classes.index(answer.output["label"])


def _subject(answer: Prediction) -> str:
    return PREFIX + answer.id
