"""Training: the user's own function, run in a process of its own, becomes a model that is proven."""

import importlib.util
import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import distributions
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from fairlead.core.artifact import Artifact, Flavor, ModelSpec, Split, Task, name_of
from fairlead.core.encoding import FLOAT32_MAX, Codes, Encoding
from fairlead.core.evidence import Evidence
from fairlead.core.manifest import DataSection, TrainSection
from fairlead.core.proof import Proof
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.reference import Held
from fairlead.core.run import Run, Value
from fairlead.core.schema import Schema
from fairlead.core.target import classes_of, task_of
from fairlead.errors import Conflict, FairleadError, Invalid, Missing
from fairlead.flow import evaluate, replay, warm
from fairlead.flow.evaluate import EvaluateJob, lenient, refused
from fairlead.flow.job import Flavors, Matrix, answer, submit, workspace
from fairlead.flow.measure import Rows, numbers
from fairlead.flow.outline import profile
from fairlead.flow.reference import newest, refer
from fairlead.flow.replay import ReplayJob
from fairlead.flow.rows import ROW, Table, fetch, halves, numbers_of, read, seconds_of, table_of
from fairlead.ports import Blobs, Change, Clock, Compute, Records

if TYPE_CHECKING:
    import polars as pl

__all__ = ["MADE", "TrainData", "TrainJob", "Trained", "environment", "moved", "run_job", "train", "trained"]

SAMPLES_FILE, PROFILE = "samples.json", "profile.msgpack"
MADE = ".made"
"""The folder within that of the job for the files of the model: beside them lies what user code wrote."""
EXTRAS = {"fairlearn": "fair", "keras": "tensorflow", "lightgbm": "lightgbm", "river": "river", "sklearn": "sklearn",
          "tensorflow": "tensorflow", "torch": "torch", "xgboost": "xgboost"}  # fmt: skip
"""Of a module that training code imports, the extra that brings it."""
SAMPLES = 64
PROOF_ROWS = 5_000
NOBODY = Ref("model", "", "")
"""Subject of evidence until the model has its name."""

Unseen = Literal["other", "error"]


class TrainData(Struct, frozen=True, kw_only=True, eq=False):
    """What the user's `train(data, params)` receives: n training rows in the order of the table.

    `X`: float32 [n, width], missing values are NaN; `names`: its columns. `y`: class index of each
    row as int64 (position in `classes`; classes[1] is the positive one of two), or the number to
    predict as float64. `frame`: the same rows as a polars table of named columns, with the
    sensitive ones that X leaves out. `time`: UTC seconds of each row, None without a time. `categorical`: columns of X that hold category codes.
    With `train.warm_start`, `last` is the fitted estimator of the model that serves (None the first
    time) and X is read as it read it; `fresh`: the rows that it had not learnt from.
    """

    X: Matrix
    y: NDArray[Any]
    frame: Any
    names: tuple[str, ...]
    task: Task
    classes: tuple[str, ...]
    time: NDArray[np.float64] | None
    categorical: tuple[int, ...]
    seed: int
    last: Any = None
    fresh: NDArray[np.bool_]


class TrainJob(Struct, frozen=True, tag="train", kw_only=True):
    """Everything the job process needs. `code`: path of the user's file, `digest`: of its bytes.
    `beside`: sensitive columns that the model does not read, but its training may, to weigh rows.
    `remember`: leave a state behind; `last`: begin with that of this model. `serve`: file beside
    `code` that loads a model of any Python, "" where a framework's form is looked for."""

    table: Table
    split: Split
    task: Literal["auto", "binary", "multiclass", "regression"]
    columns: tuple[str, ...]
    code: str
    digest: str
    params: dict[str, Value]
    unseen: Unseen = "other"
    beside: tuple[str, ...] = ()
    remember: bool = False
    last: warm.Last | None = None
    serve: str = ""


class Trained(Struct, frozen=True, kw_only=True):
    """What the job found; the files lie beside it. `why`: why the model is not ONNX ("" if it is).
    `rows`: learnt from, held out. `sources`: text of what the user's file imported from beside it."""

    flavor: Flavor
    task: Task
    classes: tuple[str, ...]
    encoding: Encoding
    files: tuple[str, ...]
    proof: Proof
    why: str
    rows: tuple[int, int]
    environment: str
    evidence: tuple[Evidence, ...]
    sources: dict[str, str] = {}


def train(
    table: Artifact, data: DataSection, section: TrainSection, *, name: str, root: Path,
    records: Records, blobs: Blobs, compute: Compute, clock: Clock, jobs: Path, actor: str,
    params: Mapping[str, Value] | None = None, since: float = 0.0, until: float = 0.0,
    columns: Sequence[str] = (), unseen: Unseen = "other", last: Artifact | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Artifact:  # fmt: skip
    """Train on a dataset or on features; the model is stored with its run ("model.trained").

    `name`: of the model. `root`: folder of the project, in which `section.code` lies. `params` go
    over those of the manifest. `columns`: only these are read, in this order. `since`, `until`: UTC seconds that bound the rows (0, or infinity:
    no bound). `unseen`: what becomes of a category not seen in training. `last`: the model to begin
    with, for `section.warm_start`. Raises Invalid with the end of the user's traceback; the run is recorded.
    """
    code = _code(root, section.code)
    chosen = {**section.params, **(params or {})}
    split = _split(section, since, until)
    begin = warm.last_of(last) if section.warm_start else None
    run = _begun(name, table.ref, begin, blobs.put(code.read_bytes()), chosen, section.seed, clock.now())
    with workspace(jobs) as folder:
        try:
            source = table_of(table, data.known_at)
            on_progress(f"fetching {source.rows:,} rows")
            fetch(source, blobs, folder)
            warm.fetch(begin, blobs, folder)
            job = _job(source, data, section, run, split, unseen, begin)
            job = changed(job, columns=_named(source, columns)) if columns else job
            run = changed(run, job=blobs.put(canonical(job)))
            job = changed(job, code=str(code))
            on_progress(f"training {section.code}")
            made = submit("job", job, folder, compute, Trained, cells=source.rows * len(job.columns))
            run = changed(run, sources={n: blobs.put(t.encode()) for n, t in made.sources.items()})
        except FairleadError as error:
            _record_failure(run, error, records, clock, actor)
            raise
        on_progress("storing the model")
        spec = _spec(made, source, run, split, folder / MADE, blobs)
    return _keep(made, name_of(name, spec), spec, table.ref, run, records, clock, actor)


def trained(
    table: Artifact, data: DataSection, section: TrainSection, *, root: Path, records: Records,
    unseen: Unseen = "other", last: Artifact | None = None,
) -> Artifact | None:  # fmt: skip
    """The model that `train` with the same arguments made before, of the same code in the same
    environment; None when there is none."""
    begin = warm.last_of(last) if section.warm_start else None
    here = Run(id="", verb="train", state="done", inputs=(), params=dict(section.params), started_at=0, ended_at=0,
               code=sha256(_code(root, section.code).read_bytes()).hexdigest())  # fmt: skip
    job = _job(table_of(table, data.known_at), data, section, here, _split(section, 0.0, 0.0), unseen, begin)
    wanted = digest(job), sha256(environment().encode()).hexdigest()
    for run in reversed(records.runs()):
        if (run.job, run.environment) == wanted and run.outputs and not moved(run, root):
            return records.artifact(run.outputs[0])
    return None


def moved(run: Run, root: Path) -> list[str]:
    """What a training imported from beside its file and is not the same in `root` any more."""
    files = {name: root / name for name in run.sources}
    return [n for n, f in files.items()
            if not f.is_file() or sha256(f.read_bytes()).hexdigest() != run.sources[n]]  # fmt: skip


def _job(table: Table, data: DataSection, section: TrainSection, run: Run, split: Split,
         unseen: Unseen, last: warm.Last | None) -> TrainJob:  # fmt: skip
    """What the job process is told, the code by its name within the project."""
    return TrainJob(table=table, split=split, task=data.task, code=section.code, params=run.params,
                    digest=run.code, columns=_columns(table, data), unseen=unseen,
                    beside=_beside(table.schema, data), remember=section.warm_start, last=last,
                    serve=section.serve)  # fmt: skip


def _split(section: TrainSection, since: float, until: float) -> Split:
    return Split(since=max(since, 0.0), until=0.0 if until == np.inf else until,
                 test=section.test, seed=section.seed)  # fmt: skip


def _begun(name: str, table: Ref, last: warm.Last | None, code: str, params: dict[str, Value],
           seed: int, at: float) -> Run:  # fmt: skip
    """A run that failed, until it is known to have ended well."""
    inputs = (table,) if last is None else (table, last.model)
    run = Run(id="", verb="train", state="failed", inputs=inputs, params=params, code=code, seed=seed,
              started_at=at, ended_at=at)  # fmt: skip
    return changed(run, id=digest(("train", name, run))[:16])


def _record_failure(
    run: Run, error: FairleadError, records: Records, clock: Clock, actor: str
) -> None:
    failed = changed(run, ended_at=clock.now(), error=str(error))
    records.commit(Change(at=failed.ended_at, actor=actor, verb="model.failed",
                          subject=f"run/{run.id}", runs=(failed,),
                          body={"error": str(error)[-500:]}))  # fmt: skip


def run_job(folder: Path, flavors: Flavors) -> int:
    """The job process: do what job.json of `folder` asks; the exit status."""

    def work(data: bytes) -> Struct:
        job: TrainJob | EvaluateJob | ReplayJob = msgspec.json.decode(
            data, type=TrainJob | EvaluateJob | ReplayJob)  # fmt: skip
        match job:
            case TrainJob():
                return _work(job, folder, flavors)
            case EvaluateJob():
                return evaluate.work(job, folder, flavors)
            case ReplayJob():
                return replay.work(job, folder, flavors)

    return answer(folder, work)


def environment() -> str:
    """Python, platform and every installed ``name==version``, sorted, one a line."""
    found = {f"{d.metadata['Name']}=={d.version}" for d in distributions()}
    head = [f"python=={platform.python_version()}", f"platform=={platform.platform()}"]
    return "\n".join([*head, *sorted(found, key=str.lower)]) + "\n"


def _code(root: Path, name: str) -> Path:
    code = (root / name).resolve()
    if not code.is_relative_to(root.resolve()):
        raise Invalid(f"train.code {name!r} lies outside the project",
                      hint="keep it beside fairlead.yaml", pointer="/train/code")  # fmt: skip
    if not code.is_file():
        raise Missing(f"train.code: there is no file {name}", pointer="/train/code",
                      hint="write one with `def train(data, params)` that returns a fitted model")  # fmt: skip
    return code


def _columns(table: Table, data: DataSection) -> tuple[str, ...]:
    """What a model may learn from: neither the truth nor what is known only with it, nor the
    row's own moment and name, which never come again. Views still reach rows by both."""
    schema = table.schema
    roles = {schema.target, schema.time, schema.entity, data.known_at, table.known_at, ROW}
    return tuple(n for n in schema.names if n not in roles | set(data.ignore))


def _named(table: Table, columns: Sequence[str]) -> tuple[str, ...]:
    strange = [c for c in columns if c not in table.schema.names]
    if strange:
        raise Invalid(f"the table has no column {', '.join(strange[:5])}",
                      hint=f"columns: {', '.join(table.schema.names[:20])}")  # fmt: skip
    return tuple(columns)


def _beside(schema: Schema, data: DataSection) -> tuple[str, ...]:
    """Sensitive columns that are ignored."""
    return tuple(n for n in data.sensitive if n in schema.names and n in data.ignore)


def _spec(made: Trained, table: Table, run: Run, split: Split, folder: Path, blobs: Blobs) -> ModelSpec:  # fmt: skip
    """The model's inputs: the request columns it reads, the entities of its views, its features."""
    schema, outputs = table.schema, {o for v in table.views for o in v.outputs}
    reads = {c.column for c in made.encoding.columns}
    views = tuple(v for v in table.views if reads & set(v.outputs))
    asked = (reads - outputs) | {v.entity for v in views}
    columns = [c for c in schema.columns if c.name in asked]
    columns += [c for c in schema.columns if c.name in reads & outputs]
    time, entity = (role if role in asked else "" for role in (schema.time, schema.entity))
    inputs = Schema(columns=tuple(columns), time=time, entity=entity)
    return ModelSpec(flavor=made.flavor, task=made.task, classes=made.classes, inputs=inputs,
                     encoding=made.encoding, views=views, params=run.params, split=split,
                     files={f: blobs.put(folder / f) for f in made.files},
                     environment=blobs.put(made.environment.encode()))  # fmt: skip


def _keep(
    made: Trained, ref: Ref, spec: ModelSpec, table: Ref, run: Run, records: Records,
    clock: Clock, actor: str,
) -> Artifact:  # fmt: skip
    now = clock.now()
    done = changed(run, state="done", outputs=(ref,), environment=spec.environment, ended_at=now,
                   evidence=tuple(changed(e, subject=ref) for e in made.evidence))  # fmt: skip
    model = Artifact(ref=ref, spec=spec, parents=run.inputs, run=done.id, created_at=now)
    body = {"run": done.id, "table": str(table), "flavor": made.flavor, "why": made.why,
            "proof": str(made.proof), "rows": made.rows[0], "held_out": made.rows[1]}  # fmt: skip
    records.commit(Change(at=now, actor=actor, verb="model.trained", subject=str(ref), body=body,
                          artifacts=(model,), runs=(done,)))  # fmt: skip
    return model


def _work(job: TrainJob, folder: Path, flavors: Flavors) -> Trained:
    """The part in the job process."""
    schema = job.table.schema
    frame = read(folder, job.table, job.split, [*job.columns, *job.beside])
    part, rest = halves(frame, job.table, job.split)
    del frame
    target = part.get_column(schema.target)
    task = job.task if job.task != "auto" else task_of(
        schema.target, schema.column(schema.target).dtype, target.n_unique())  # fmt: skip
    classes = classes_of(schema.target, task, () if task == "regression" else target.unique())
    chosen = changed(schema, columns=tuple(schema.column(c) for c in job.columns), target="")
    encoding = job.last.encoding if job.last else flavors.fit_encoding(part, chosen, unseen=job.unseen)
    of = _read(schema, encoding)
    known = profile(part, of)
    recent = newest(part, rest, schema.time, of)
    data = _data(job, flavors, part, encoding, task, classes, warm.start(job.last, classes, folder, flavors))
    rows = (part.height, rest.height)
    estimator = _call(job, data, flavors)
    made = folder / MADE
    made.mkdir()
    (made / PROFILE).write_bytes(msgspec.msgpack.encode(known))
    sources: dict[str, str] = {}
    if job.serve:
        estimator, sources = flavors.declared(estimator, Path(job.code).with_name(job.serve))
    if job.remember:
        warm.keep(estimator, part, schema.time, made, flavors)
    del data, part
    matrix = flavors.transform(rest, lenient(encoding))
    flavor, proof, why = flavors.export(estimator, matrix[:PROOF_ROWS], task, len(classes), made)
    _samples(made, flavors, rest, encoding, matrix, estimator, (task, len(classes)))
    scorer = flavors.scorer(made, flavor, task, len(classes))
    scores = scorer(matrix)
    y = numbers_of(rest, job.table.schema.target, task, classes)
    refer(made, Held(task=task, classes=classes, scores=scores.astype(np.float64), y=y),
          known, of, (recent, rest), schema.time)  # fmt: skip
    found = tuple(_evidence(scores, y, task))
    files = sorted(p.name for p in made.iterdir())
    return Trained(flavor=flavor, task=task, classes=classes, encoding=encoding, proof=proof,
                   files=tuple(files), why=why, rows=rows, environment=environment(),
                   evidence=found, sources=_sources(Path(job.code)) | sources)  # fmt: skip


def _read(schema: Schema, encoding: Encoding) -> Schema:
    """The columns an encoding reads, without roles."""
    names = dict.fromkeys(c.column for c in encoding.columns)
    return Schema(columns=tuple(schema.column(n) for n in names))


def _data(job: TrainJob, flavors: Flavors, part: "pl.DataFrame", encoding: Encoding, task: Task,
          classes: tuple[str, ...], begun: warm.Start | None) -> TrainData:  # fmt: skip
    target, time = job.table.schema.target, job.table.schema.time
    y: NDArray[Any] = numbers_of(part, target, task, classes)
    if task != "regression":
        y = y.astype(np.int64)
    at = seconds_of(part, time) if time else None
    codes, left = [], 0
    for column in encoding.columns:
        codes += [left] if isinstance(column, Codes) else []
        left += Encoding((column,)).width
    return TrainData(X=flavors.transform(part, encoding), y=y, frame=part.select(*job.columns, *job.beside),
                     names=encoding.names, task=task, classes=classes, seed=job.split.seed,
                     time=at, categorical=tuple(codes), last=begun.estimator if begun else None,
                     fresh=warm.fresh(begun, at, part.height))  # fmt: skip


def _call(job: TrainJob, data: TrainData, flavors: Flavors) -> Any:
    """Run the user's function. Raises Invalid with the end of its traceback when it fails."""
    import random

    random.seed(job.split.seed)
    np.random.seed(job.split.seed)  # what scikit-learn draws from by default
    name = Path(job.code).name
    try:
        function = _load(job)
        flavors.seed(job.split.seed, Path(job.code).read_text())
        if len(signature(function).parameters) != 2:
            raise Invalid(f"{name}: train{signature(function)} does not take (data, params)",
                          hint="write `def train(data, params):`")  # fmt: skip
        estimator = function(data, dict(job.params))
    except FairleadError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  the border of the job process: user code
        extra = EXTRAS.get(error.name or "") if isinstance(error, ModuleNotFoundError) else None
        raise Invalid(f"{name} failed:\n{_traceback(job.code)}",
                      hint=f'pip install "fairlead[{extra}]"' if extra
                      else f"put {name} right and train again") from None  # fmt: skip
    if estimator is None:
        raise Invalid(f"{name}: train() returned nothing", hint="end it with `return model`")
    return estimator


def _load(job: TrainJob) -> Callable[..., Any]:
    path = Path(job.code)
    if sha256(path.read_bytes()).hexdigest() != job.digest:
        raise Conflict(f"{path.name} changed while the training started", hint="train again")
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "a path of a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    function = getattr(module, "train", None)
    if not callable(function):
        raise Invalid(f"{path.name} defines no function `train`",
                      hint="write `def train(data, params):` that returns a fitted model")  # fmt: skip
    return function  # type: ignore[no-any-return]


def _sources(code: Path) -> dict[str, str]:
    """The files beside the user's own that it imported, by their path there."""
    files = (getattr(m, "__file__", None) for m in list(sys.modules.values()))
    found = {Path(f).resolve() for f in files if f and f.endswith(".py") and Path(f).is_absolute()} - {code.resolve()}
    beside = [f for f in found if f.is_relative_to(code.parent) and Path(sys.prefix) not in f.parents]
    return {str(f.relative_to(code.parent)): f.read_text() for f in sorted(beside)}


def _traceback(code: str) -> str:
    """The lines of a traceback from the user's own file on, as they stand in an editor."""
    kind, error, trace = sys.exc_info()
    frames = traceback.extract_tb(trace)
    first = next((i for i, f in enumerate(frames) if f.filename == code), len(frames))  # none: it is not Python
    own = traceback.format_list(frames[first:])
    said = traceback.format_exception_only(kind, error)
    return "".join([*own[:4], *(["  ...\n"] if len(own) > 6 else []), *own[4:][-2:], *said]).rstrip()


def _samples(folder: Path, flavors: Flavors, rest: "pl.DataFrame", encoding: Encoding,
             matrix: Matrix, estimator: Any, of: tuple[Task, int]) -> None:  # fmt: skip
    """samples.json: up to 64 held-out rows, evenly spaced, with the estimator's own answers."""
    huge = (np.abs(matrix) >= FLOAT32_MAX).any(axis=1)  # infinity cannot be sent as JSON
    good = np.flatnonzero(~refused(encoding, matrix) & ~huge)
    places = good[np.unique(np.linspace(0, len(good) - 1, SAMPLES).astype(np.int64))]
    names = list(dict.fromkeys(c.column for c in encoding.columns))
    rows = list(as_sent(rest.select(names)[places]))
    scores = flavors.answers(estimator, matrix[places], *of)
    sample = {"rows": rows, "scores": [[float(v) for v in row] for row in scores]}
    (folder / SAMPLES_FILE).write_bytes(canonical(sample))


def as_sent(frame: "pl.DataFrame") -> Iterator[dict[str, Any]]:
    """Rows as a caller would send them: instants as ISO 8601, no NaN."""
    for row in frame.iter_rows(named=True):
        yield {
            name: value.isoformat() if hasattr(value, "isoformat") else None if value != value else value
            for name, value in row.items()
        }


def _evidence(scores: Matrix, y: NDArray[np.float64], task: Task) -> Iterator[Evidence]:
    """The metrics of the held-out rows whose class was met in training."""
    known = np.isfinite(y)
    if known.any():
        rows = Rows(task=task, y=y[known])
        yield from numbers(NOBODY, rows, scores[known].astype(np.float64))
