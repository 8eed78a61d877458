"""Evaluation: a candidate, and the baseline it would replace, on rows neither of them has seen."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from fairlead.core.artifact import Artifact, Flavor, ModelSpec, Split, Task
from fairlead.core.catalogue import DRIFT, GAIN, PRIMARY, SHIFT
from fairlead.core.encoding import Codes, Encoding
from fairlead.core.evidence import Evidence
from fairlead.core.fairness import parts
from fairlead.core.ref import Ref
from fairlead.core.schema import Column
from fairlead.core.tombs import ERASURE, tombs
from fairlead.errors import FairleadError, Invalid
from fairlead.flow.job import Flavors, Matrix, Scorer, submit, workspace
from fairlead.flow.measure import (
    Rows,
    Vector,
    attributions,
    gains,
    groups,
    latency,
    moves,
    numbers,
    trivial,
)
from fairlead.flow.rows import ROW, Table, fetch, halves, numbers_of, read, seconds_of, table_of
from fairlead.flow.trust import at_home
from fairlead.ports import Blobs, Clock, Compute, Records

if TYPE_CHECKING:
    import polars as pl

__all__ = ["EvaluateJob", "Evaluated", "asks", "evaluate", "lenient", "model_of", "work"]

ENOUGH = 100
"""Rows of a comparison between two tables."""
SAMPLE = 200_000
"""Rows of a table that a comparison of columns reads."""
DAY = 86_400.0
DAYS = 15
"""Days from which on rows are grouped by day: fewer blocks make no honest interval."""


class Arm(Struct, frozen=True, kw_only=True):
    """A model in a job folder: its files lie in `folder`; `table` holds the rows it learnt from."""

    ref: Ref
    flavor: Flavor
    classes: tuple[str, ...]
    encoding: Encoding
    inputs: tuple[Column, ...]
    folder: str
    table: Table
    split: Split

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(c.column for c in self.encoding.columns)


class EvaluateJob(Struct, frozen=True, tag="evaluate", kw_only=True):
    """Evaluate `candidate` on its held-out rows, beside `baseline` where there is one."""

    task: Task
    candidate: Arm
    baseline: Arm | None = None
    slices: tuple[str, ...] = ()
    entity: str = ""
    level: float = 0.95
    attributed: bool = False


class Evaluated(Struct, frozen=True, kw_only=True):
    """What was found out."""

    evidence: tuple[Evidence, ...]


def evaluate(
    model: Artifact, baseline: Artifact | None, *, slices: Sequence[str] = (), entity: str = "",
    known_at: str = "", level: float = 0.95, attributed: bool = False, records: Records, blobs: Blobs,
    compute: Compute, clock: Clock, jobs: Path,
) -> tuple[Evidence, ...]:  # fmt: skip
    """Evidence about `model` on the rows held out when it was trained, in a process of its own.

    Whole, by the groups of `slices`, and paired against `baseline` on the same rows; latency for
    one row; how its table moved from the baseline's over the period both cover ("drift:column");
    where it is to be `attributed`, what each column contributes ("attribution:column").
    Raises Invalid when the two models do not pose the same task, or a table cannot be read.
    """
    spec, other = model_of(model), None if baseline is None else model_of(baseline)
    if other is not None and asks(spec) != asks(other):
        raise Invalid(f"{model.ref.short} answers {asks(spec)}, the baseline {asks(other)}",
                      hint="a model with another task needs a service of its own")  # fmt: skip
    at_home(records, clock, model, *([] if baseline is None else [baseline]))
    with workspace(jobs) as folder:
        candidate = _arm(model, spec, "candidate", known_at, records, blobs, folder)
        arm = None
        if baseline is not None and other is not None:
            arm = _arm(baseline, other, "baseline", known_at, records, blobs, folder, candidate.table)
        names = candidate.table.schema.names
        known = [c for c in slices if set(parts(c, names)) <= set(names)]
        job = EvaluateJob(task=spec.task, candidate=candidate, baseline=arm, slices=tuple(known),
                          entity=entity, level=level, attributed=attributed)  # fmt: skip
        return submit("job", job, folder, compute, Evaluated).evidence


def model_of(artifact: Artifact) -> ModelSpec:
    """The spec of a model. Raises Invalid for another kind."""
    if not isinstance(artifact.spec, ModelSpec):
        raise Invalid(f"{artifact.ref.short} is not a model", hint="`fairlead train` makes one")
    return artifact.spec


def asks(spec: ModelSpec) -> str:
    """The question a model answers, in words: two models compare only when they agree."""
    return f"binary ({', '.join(spec.classes)})" if spec.task == "binary" else spec.task


def lenient(encoding: Encoding) -> Encoding:
    """The same numbers, with -1 where the encoding itself would refuse a value."""
    return Encoding(tuple(
        changed(c, unseen="other") if isinstance(c, Codes) else c for c in encoding.columns
    ))  # fmt: skip


def refused(encoding: Encoding, rows: Matrix) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Rows (encoded leniently) that the encoding itself would refuse."""
    strict, left = [], 0
    for column in encoding.columns:
        if isinstance(column, Codes) and column.unseen == "error":
            strict.append(left)
        left += Encoding((column,)).width
    return np.asarray((rows[:, strict] == -1).any(axis=1))


def work(job: EvaluateJob, folder: Path, flavors: Flavors) -> Evaluated:
    """The part in the job process."""
    return Evaluated(evidence=tuple(_work(job, folder, flavors)))


def _arm(model: Artifact, spec: ModelSpec, name: str, known_at: str, records: Records,
         blobs: Blobs, folder: Path, instead: Table | None = None) -> Arm:  # fmt: skip
    """A model laid into the job folder. `instead`: the table to name when rows of its own were
    erased: then the two models meet on these rows only."""
    (folder / name).mkdir()
    for file, digest in spec.files.items():
        blobs.fetch(digest, folder / name / Path(file).name)
    tables = [p for p in model.parents if p.kind in ("dataset", "features")]
    if not tables:
        raise Invalid(f"{model.ref.short} names no table it learnt from",
                      hint="an imported model needs a dataset as its parent")  # fmt: skip
    table = table_of(records.artifact(tables[0]), known_at)
    if instead is not None and str(tables[0]) in tombs(records.events(subject=ERASURE)):
        table = instead
    fetch(table, blobs, folder)
    return Arm(ref=model.ref, flavor=spec.flavor, classes=spec.classes, encoding=spec.encoding,
               inputs=spec.inputs.columns, folder=name, table=table, split=spec.split)  # fmt: skip


def _work(job: EvaluateJob, folder: Path, flavors: Flavors) -> Iterator[Evidence]:
    ours, theirs = job.candidate, job.baseline
    scorer = flavors.scorer(folder / ours.folder, ours.flavor, job.task, len(ours.classes))
    other = None if theirs is None else flavors.scorer(
        folder / theirs.folder, theirs.flavor, job.task, len(theirs.classes))  # fmt: skip
    frame = read(folder, ours.table, ours.split, _columns(job))
    part = halves(frame, ours.table, ours.split)[1]
    del frame
    rows, chosen, classes = _rows(job, part)
    part = part.filter(chosen)
    matrix = flavors.transform(part, lenient(ours.encoding))
    scores = _scores(scorer, matrix, ours, classes)
    rivals = None if theirs is None or other is None else _rival(flavors, other, theirs, part, classes)
    yield from _compare(job, part, rows, scores, rivals)
    share = float(refused(ours.encoding, matrix).mean())
    yield Evidence(subject=ours.ref, measure="unanswered", value=share, n=len(matrix))
    yield from latency(ours.ref, scorer, matrix)
    if job.attributed:
        yield from attributions(ours.ref, folder / ours.folder, flavors, scorer, ours.encoding, matrix)
    if theirs is not None and other is not None and ours.table.spec != theirs.table.spec:
        del part, matrix, scores, rivals
        yield from _tables(job, ours, theirs, folder)
        yield from _reference(job, folder, flavors, scorer, other)


def _columns(job: EvaluateJob) -> list[str]:
    """All columns to read: those of the baseline only as far as the candidate's table has them."""
    names = job.candidate.table.schema.names
    theirs = () if job.baseline is None else job.baseline.columns
    cuts = [p for c in job.slices for p in parts(c, names)]
    more = [c for c in (*cuts, job.entity, *theirs) if c in names]
    return [*job.candidate.columns, *more]


def _rows(job: EvaluateJob, part: "pl.DataFrame") -> "tuple[Rows, pl.Series, tuple[str, ...]]":
    """Truths; which rows can be judged; the classes that the columns of scores stand for.

    A class that the candidate never met gets a column of zeros where there are many classes; of
    two, its rows are left out.
    """
    import polars as pl

    table, classes = job.candidate.table, job.candidate.classes
    if job.task == "multiclass":
        classes = tuple(dict.fromkeys((*classes, *(job.baseline.classes if job.baseline else ()),
                                       "(unseen)")))  # fmt: skip
    y = numbers_of(part, table.schema.target, job.task, classes)
    if job.task == "multiclass":
        y = np.nan_to_num(y, nan=len(classes) - 1)
    chosen = np.isfinite(y)
    if not chosen.any():
        raise Invalid("no held-out row has a known class", hint="use newer or more rows")
    at = seconds_of(part, table.schema.time) if table.schema.time else np.zeros(1)
    blocks = _blocks(part, at, job.entity)
    blocks = None if blocks is None else blocks[chosen]
    rows = Rows(task=job.task, y=y[chosen], level=job.level, blocks=blocks,
                since=float(at.min()), until=float(at.max()))  # fmt: skip
    return rows, pl.Series(chosen), classes


def _blocks(part: "pl.DataFrame", at: Vector, entity: str) -> NDArray[np.int64] | None:
    """Which rows depend on each other: those of one day (they share its weather, its outages),
    or, where there are too few days to tell, those of one entity."""
    import polars as pl

    days = _days(at)
    if len(np.unique(days)) >= DAYS:
        return days
    if entity not in part.columns:
        return None
    return part.get_column(entity).rank("dense").fill_null(0).cast(pl.Int64).to_numpy()


def _days(at: Vector) -> NDArray[np.int64]:
    """The UTC day of each moment, as a number."""
    return np.floor(np.nan_to_num(at) / DAY).astype(np.int64)


def _scores(scorer: Scorer, matrix: Matrix, arm: Arm, classes: tuple[str, ...]) -> Vector:
    """Scores of an arm in columns for `classes`. Raises Invalid for answers that are not finite."""
    found = scorer(matrix).astype(np.float64)
    bad = int((~np.isfinite(found)).any(axis=1).sum())
    if bad:
        raise Invalid(f"{arm.ref.short} answers {bad:,} of {len(found):,} rows with no finite number",
                      hint="train it again: its answers must be numbers for every row")  # fmt: skip
    if found.shape[1] < 2:
        return found
    full = np.zeros((len(found), len(classes)))
    full[:, [classes.index(c) for c in arm.classes]] = found
    return full


def _rival(flavors: Flavors, scorer: Scorer, arm: Arm, part: "pl.DataFrame",
           classes: tuple[str, ...]) -> Vector | None:  # fmt: skip
    """The baseline's scores; None when it cannot read these rows (then nothing is compared)."""
    try:
        matrix = flavors.transform(part, lenient(arm.encoding))
    except FairleadError:
        return None
    return _scores(scorer, matrix, arm, classes)


def _compare(job: EvaluateJob, part: "pl.DataFrame", rows: Rows, scores: Vector,
             rivals: Vector | None) -> Iterator[Evidence]:  # fmt: skip
    ours, theirs = job.candidate.ref, None if job.baseline is None else job.baseline.ref
    yield from trivial(ours, rows, scores)
    everything = np.ones(len(rows.y), dtype=bool)
    for name, chosen in (("", everything), *groups(part, job.slices)):
        some = rows.where(chosen)
        yield from numbers(ours, some, scores[chosen], name)
        if rivals is not None and theirs is not None:
            yield from gains(ours, theirs, some, scores[chosen], rivals[chosen], name)


def _tables(job: EvaluateJob, ours: Arm, theirs: Arm, folder: Path) -> Iterator[Evidence]:
    """How columns moved between the two tables, over the period both of them cover.

    Over one period nothing but the source itself can have changed (a unit, a join, a filter), so
    this convicts where drift over time is innocent. Without a time it is only worth knowing.
    A table from the prediction log has the rows whose truth came and whose inputs were kept: never
    those of another log, nor of a table. So two logs are compared by the predictions they share, and
    what a log and a table differ in is only worth knowing. Columns of views that were defined anew
    are meant to differ.
    """
    time, target = ours.table.schema.time, ours.table.schema.target
    remade = {o for v in ours.table.views if v not in theirs.table.views for o in v.outputs}
    shared = [c for c in ours.inputs if c.name in theirs.table.schema.names
              and c.name not in (time, target, *remade)]  # fmt: skip
    names = [c.name for c in shared]
    logs = {ROW in arm.table.schema.names for arm in (ours, theirs)}
    now, before = (read(folder, arm.table, arm.split, [*names, *([ROW] if logs == {True} else ())])
                   for arm in (ours, theirs))  # fmt: skip
    if logs == {True}:
        now, before = now.join(before, on=ROW, how="semi"), before.join(now, on=ROW, how="semi")
    family = SHIFT
    if time and time == theirs.table.schema.time:
        family = DRIFT if len(logs) == 1 else SHIFT
        one, two = seconds_of(now, time), seconds_of(before, time)
        if not len(one) or not len(two):
            return
        start = max(np.nanmin(one), np.nanmin(two))
        end = min(np.nanmax(one), np.nanmax(two))
        now = now.filter((one >= start) & (one <= end))
        before = before.filter((two >= start) & (two <= end))
    if min(now.height, before.height) < ENOUGH:
        return
    now, before = (f.gather_every(max(f.height // SAMPLE, 1)) for f in (now, before))
    yield from moves(ours.ref, theirs.ref, now, before, shared, family)


def _reference(job: EvaluateJob, folder: Path, flavors: Flavors, scorer: Scorer,
               other: Scorer) -> Iterator[Evidence]:  # fmt: skip
    """Both models on the baseline's own table, on rows later than all that either learnt from."""
    ours, theirs = job.candidate, job.baseline
    if theirs is None or not theirs.table.schema.time:
        return
    names = theirs.table.schema.names
    if set(ours.columns) - set(names) or ours.table.schema.time != theirs.table.schema.time:
        return
    frame = read(folder, theirs.table, theirs.split, [*ours.columns, *theirs.columns])
    part = halves(frame, theirs.table, theirs.split)[1]
    part = part.filter(seconds_of(part, theirs.table.schema.time) >= _border(ours, folder))
    days = _days(seconds_of(part, theirs.table.schema.time))
    if part.height < ENOUGH or len(np.unique(days)) < DAYS:
        return
    rows, chosen, classes = _rows(changed(job, entity=""), part)
    part = part.filter(chosen)
    own = _rival(flavors, scorer, ours, part, classes)
    rivals = _rival(flavors, other, theirs, part, classes)
    if own is not None and rivals is not None:
        yield from gains(ours.ref, theirs.ref, rows, own, rivals, prefix=f"reference_{GAIN}",
                         only=(PRIMARY[job.task],))  # fmt: skip


def _border(arm: Arm, folder: Path) -> float:
    """When the first prediction held out from this model was asked."""
    frame = read(folder, arm.table, arm.split, [])
    held = halves(frame, arm.table, arm.split)[1]
    return float(seconds_of(held, arm.table.schema.time).min())

