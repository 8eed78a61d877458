"""Replaying: recorded requests go through a candidate, beside the baseline, in a process of their own."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core import replay as core
from fairlead.core.artifact import Artifact, Flavor, ModelSpec, PackageSpec, Task
from fairlead.core.catalogue import GAIN
from fairlead.core.contract import Contract
from fairlead.core.encoder import Encoder
from fairlead.core.encoding import Encoding
from fairlead.core.evidence import Evidence
from fairlead.core.feature import FeatureView
from fairlead.core.join import Labels, keys_of
from fairlead.core.prediction import Feedback
from fairlead.core.quality import truths
from fairlead.core.ref import Ref
from fairlead.core.replay import DAYS, SAME, Cause, Pair, Replay
from fairlead.core.schema import Schema
from fairlead.core.vitals import Frame
from fairlead.errors import Invalid, Missing
from fairlead.flow.earned import Policy, earned
from fairlead.flow.evaluate import asks, model_of
from fairlead.flow.job import Flavors, Scorer, submit, workspace
from fairlead.flow.measure import Rows, gains, groups
from fairlead.flow.recorded import Request, notes_of, recent, request
from fairlead.flow.trust import at_home
from fairlead.ports import Blobs, Clock, Compute, PredictionLog, Records

__all__ = ["ReplayJob", "replay", "work"]

REQUESTS = "requests.msgpack"
LABEL = "label"
GROUPED = 50
"""Values of a column of categories that make groups of their own without being asked for."""

CALLS, PATIENCE, WARM = 2_000, 2.0, 20
"""One-row answers that are timed, within so many seconds, the first few left out."""

EXACT = 1e-5
"""How far a repeated answer may lie from the logged one."""

HOUR, DAY = 3_600.0, 86_400.0

Vector = NDArray[np.float64]


class Arm(Struct, frozen=True, kw_only=True):
    """A model in the job folder, with all it needs to read a request as the gateway does.

    `package`: under which the log knows it ("" when nobody ever met it).
    """

    ref: Ref
    package: str = ""
    flavor: Flavor
    classes: tuple[str, ...]
    encoding: Encoding
    contract: Schema
    views: tuple[FeatureView, ...]
    threshold: float = 0.5
    folder: str


class ReplayJob(Struct, frozen=True, tag="replay", kw_only=True):
    """Answer the requests in the job folder by `arms`: candidate, baseline, then others that the
    log shows. Labels count for requests asked from `unseen` on, which no model learnt from."""

    task: Task
    arms: tuple[Arm, ...]
    slices: tuple[str, ...]
    level: float
    unseen: float


class Recorded(Struct, frozen=True, kw_only=True):
    """Requests and the feedback to them, as a file in the job folder."""

    requests: list[Request]
    notes: list[Feedback]


class Scored(Struct, frozen=True, kw_only=True, eq=False):
    """Scores float64 [n, k] of one arm (NaN: none), why there is none, seconds of one-row calls."""

    scores: Vector
    refusals: list[tuple[str, str]]
    seconds: Vector


def replay(
    model: Artifact, baseline: Artifact, service: str, *, last: int, since: float = 0.0,
    slices: Sequence[str] = (), level: float = 0.95, unseen: float = 0.0, records: Records,
    blobs: Blobs, log: PredictionLog, compute: Compute, clock: Clock, jobs: Path,
) -> Replay | None:  # fmt: skip
    """Send the newest `last` recorded requests through `model` and through `baseline`.

    None when the log holds none. `slices`: columns whose groups are compared, beside those of few
    categories. `unseen`: UTC seconds of the first request that the model did not learn from.
    Raises what the job or the log raises.
    """
    requests = recent(log, service, clock.now(), last=last, since=since)
    if not requests:
        return None
    spec, other = model_of(model), model_of(baseline)
    if asks(spec) != asks(other):
        raise Invalid(f"{model.ref.short} answers {asks(spec)}, the baseline {asks(other)}",
                      hint="a model with another task needs a service of its own")  # fmt: skip
    unknown = _unrecorded(spec, requests)
    if unknown:
        return Replay(candidate=model.ref, baseline=baseline.ref, task=spec.task, requests=0, notes=(
            f"no recorded request carries the feature {unknown!r}: the release will show",))  # fmt: skip
    packages = _packages(records, requests)
    rolled = {r.package for r in requests if 0 < r.propensity < 1}
    others = [records.artifact(ref) for ref, package in packages.items()
              if package in rolled and ref not in (model.ref, baseline.ref)]  # fmt: skip
    at_home(records, clock, model, baseline, *others)
    with workspace(jobs) as folder:
        arms = tuple(_lay(m, packages.get(m.ref, ""), f"arm{i}", records, blobs, folder)
                     for i, m in enumerate((model, baseline, *others)))  # fmt: skip
        kept = Recorded(requests=requests, notes=notes_of(log, requests))
        (folder / REQUESTS).write_bytes(msgspec.msgpack.encode(kept))
        job = ReplayJob(task=spec.task, arms=arms, slices=tuple(slices), level=level, unseen=unseen)
        return submit("job", job, folder, compute, Replay)


def work(job: ReplayJob, folder: Path, flavors: Flavors) -> Replay:
    """The part in the job process."""
    recorded = msgspec.msgpack.decode((folder / REQUESTS).read_bytes(), type=Recorded)
    classes = tuple(dict.fromkeys(c for arm in job.arms for c in arm.classes))
    answers = _answers(job, recorded.requests, classes, folder, flavors)
    requests, notes = recorded.requests, recorded.notes
    at = np.array([r.at for r in requests])
    ours, theirs = job.arms[0], job.arms[1]
    pair = Pair(subject=ours.ref, against=theirs.ref, task=job.task, ours=answers[0].scores,
                theirs=answers[1].scores, thresholds=(ours.threshold, theirs.threshold),
                level=job.level, since=float(at[0]), until=float(at[-1]), blocks=_blocks(at))  # fmt: skip
    found = [*core.compare(pair, list(_groups(job, requests))), *_pace(job, pair, answers),
             *_same(theirs, answers[1].scores, requests, pair)]  # fmt: skip
    policies = [Policy(ref=arm.ref, package=arm.package, scores=made.scores, threshold=arm.threshold)
                for arm, made in zip(job.arms, answers, strict=True)]  # fmt: skip
    values, refused = earned(requests, notes, job.task, policies, job.level)
    labelled, judged = _judged(job, requests, notes, pair, classes)
    shape = core.spreads(pair) if pair.both.any() else ((), None, None, ())
    return Replay(
        candidate=ours.ref, baseline=theirs.ref, task=job.task, requests=len(requests),
        labelled=labelled, days=len(np.unique(at // DAY)), since=float(at[0]), until=float(at[-1]), evidence=(*found, *judged, *values), notes=tuple(refused),
        causes=_causes(answers[0].refusals), flips=core.flips(pair, classes), edges=shape[0],
        ours=shape[1], theirs=shape[2], moved=shape[3],
    )  # fmt: skip


def _spec(records: Records, package: str) -> PackageSpec:
    spec = records.artifact(Ref.parse(package)).spec
    assert isinstance(spec, PackageSpec), "the log names packages"
    return spec


def _packages(records: Records, requests: Sequence[Request]) -> dict[Ref, str]:
    """The packages that answered, by their models; those that nobody knows any more are left out."""
    found: dict[Ref, str] = {}
    for name in dict.fromkeys(name for r in requests for name in (r.package, *r.answers) if name):
        with suppress(Missing):
            found[_spec(records, name).model] = name
    return found


def _unrecorded(spec: ModelSpec, requests: Sequence[Request]) -> str:
    """A feature that the model reads and no request carries; "" when there is none."""
    seen = set().union(*(r.features for r in requests))
    return next((o for v in spec.views for o in v.outputs if o not in seen), "")


def _lay(model: Artifact, package: str, name: str, records: Records, blobs: Blobs,
         folder: Path) -> Arm:  # fmt: skip
    spec = model_of(model)
    (folder / name).mkdir()
    for file, digest in spec.files.items():
        blobs.fetch(digest, folder / name / Path(file).name)
    threshold = _spec(records, package).threshold if package else 0.5
    return Arm(ref=model.ref, package=package, flavor=spec.flavor, classes=spec.classes,
               encoding=spec.encoding, contract=request(spec), views=spec.views,
               threshold=threshold, folder=name)  # fmt: skip


class _Reader:
    """Reads one request for one arm, as the gateway reads it."""

    def __init__(self, arm: Arm, scorer: Scorer) -> None:
        self.scorer = scorer
        self._contract = Contract(arm.contract, [v.entity for v in arm.views])
        self._joined = [o for v in arm.views for o in v.outputs]
        self._encoder = Encoder(arm.encoding, (*self._contract.names, *self._joined))
        self.width = arm.encoding.width

    def row(self, body: bytes, request: Request) -> bytes:
        """float32 x width. Raises Invalid: what the caller, or the log, would be told."""
        values = self._contract.read(body)
        return self._encoder.encode((*values, *map(request.features.get, self._joined)))

    def matrix(self, rows: Sequence[bytes]) -> NDArray[np.float32]:
        return np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), self.width)


def _answers(job: ReplayJob, requests: Sequence[Request], classes: tuple[str, ...], folder: Path,
             flavors: Flavors) -> list[Scored]:  # fmt: skip
    """Every arm's answers; one-row calls of candidate and baseline take turns at being timed."""
    bodies = [msgspec.json.encode(r.row) for r in requests]
    readers = [_Reader(arm, flavors.scorer(folder / arm.folder, arm.flavor, job.task,
                                           len(arm.classes))) for arm in job.arms]  # fmt: skip
    made = [_answer(arm, reader, bodies, requests, classes, job.task)
            for arm, reader in zip(job.arms, readers, strict=True)]  # fmt: skip
    usable = np.flatnonzero(np.isfinite(made[0].scores).all(axis=1) & np.isfinite(made[1].scores).all(axis=1))
    spans: list[tuple[float, float]] = []
    began = perf_counter()
    for i in usable[-CALLS:].tolist():
        spans.append((_span(readers[0], bodies[i], requests[i]), _span(readers[1], bodies[i], requests[i])))
        if perf_counter() - began > PATIENCE:
            break
    timed = np.array(spans[WARM:]).reshape(-1, 2)
    return [msgspec.structs.replace(a, seconds=timed[:, i]) if i < 2 else a
            for i, a in enumerate(made)]  # fmt: skip


def _span(reader: _Reader, body: bytes, request: Request) -> float:
    start = perf_counter()
    reader.scorer(reader.matrix([reader.row(body, request)]))
    return perf_counter() - start


def _answer(arm: Arm, reader: _Reader, bodies: Sequence[bytes], requests: Sequence[Request],
            classes: tuple[str, ...], task: Task) -> Scored:  # fmt: skip
    """Scores of all requests in columns for `classes` (multiclass), in one batch."""
    rows: list[bytes] = []
    places: list[int] = []
    refusals: list[tuple[str, str]] = []
    for i, (body, one) in enumerate(zip(bodies, requests, strict=True)):
        try:
            rows.append(reader.row(body, one))
            places.append(i)
        except Invalid as error:
            refusals.append(((error.pointer or "").removeprefix("/"), str(error)))
    scores = np.full((len(bodies), len(classes) if task == "multiclass" else 1), np.nan)
    if rows:
        found = reader.scorer(reader.matrix(rows)).astype(np.float64)
        columns = [classes.index(c) for c in arm.classes] if task == "multiclass" else [0]
        whole = np.zeros((len(rows), scores.shape[1]))
        whole[:, columns] = found
        whole[~np.isfinite(found).all(axis=1)] = np.nan
        scores[places] = whole
        lost = int((~np.isfinite(whole).all(axis=1)).sum())
        refusals += [("", "the model gives no finite number")] * lost
    return Scored(scores=scores, refusals=refusals, seconds=np.empty(0))


def _causes(refusals: Sequence[tuple[str, str]]) -> tuple[Cause, ...]:
    """Refusals by the column at fault, the most frequent first."""
    found: dict[str, list[str]] = {}
    for column, message in refusals:
        found.setdefault(column, []).append(message)
    made = [Cause(column=c, requests=len(m), message=m[0]) for c, m in found.items()]
    return tuple(sorted(made, key=lambda c: (-c.requests, c.column)))


def _groups(job: ReplayJob, requests: Sequence[Request]) -> "Iterator[tuple[str, NDArray[np.bool_]]]":
    """Groups of the asked columns, and of those with few categories."""
    import polars as pl

    columns = {c.name: c.dtype for arm in job.arms[:2] for c in arm.contract.columns}
    few = [n for n, d in columns.items() if d in ("category", "bool")]
    names = [n for n in dict.fromkeys((*job.slices, *few)) if columns.get(n, "text") not in ("datetime", "text")]
    frame = pl.DataFrame({n: pl.Series([r.row.get(n) for r in requests], strict=False) for n in names})
    for name in names:
        if name in job.slices or frame.get_column(name).n_unique() <= GROUPED:
            yield from groups(frame, [name])


def _blocks(at: Vector) -> NDArray[np.int64] | None:
    """Which requests resemble each other: those of a day, or of an hour where days are few."""
    for span in (DAY, HOUR):
        blocks = np.floor(at / span).astype(np.int64)
        if len(np.unique(blocks)) >= DAYS:
            return blocks
    return None


def _pace(job: ReplayJob, pair: Pair, answers: Sequence[Scored]) -> Iterator[Evidence]:
    """Milliseconds from a recorded body to its scores, of both, timed in turns in this process."""
    for arm, made in zip(job.arms[:2], answers[:2], strict=True):
        frame = Frame(subject=arm.ref, since=pair.since, until=pair.until, level=pair.level)
        for measure, q in (("replay:latency_p50_ms", 0.5), ("replay:latency_p99_ms", 0.99)):
            if len(made.seconds):
                yield frame.quantile(measure, made.seconds * 1000, q)


def _same(arm: Arm, scores: Vector, requests: Sequence[Request], pair: Pair) -> Iterator[Evidence]:
    """The share of the baseline's logged answers that it gives again: is the replay faithful?"""
    logged = [(i, r.answers[arm.package]) for i, r in enumerate(requests) if arm.package in r.answers]
    if logged and scores.shape[1] == len(logged[0][1]):
        again = scores[[i for i, _ in logged]]
        same = (np.abs(again - np.array([s for _, s in logged])) <= EXACT).all(axis=1)
        frame = Frame(subject=arm.ref, since=pair.since, until=pair.until, level=pair.level)
        yield frame.share(SAME, np.asarray(same))


def _judged(job: ReplayJob, requests: Sequence[Request], notes: Sequence[Feedback], pair: Pair,
            classes: tuple[str, ...]) -> tuple[int, list[Evidence]]:  # fmt: skip
    """How many labels judge, and the candidate's gain on every metric by them."""
    labels = Labels()
    labels.add([n for n in notes if n.name == LABEL])
    y = truths(keys_of([r.id for r in requests]), labels.truth(), job.task, classes)
    chosen = pair.both & np.isfinite(y) & (np.array([r.at for r in requests]) >= job.unseen)
    if not chosen.any():
        return 0, []
    blocks = None if pair.blocks is None else pair.blocks[chosen]
    rows = Rows(task=job.task, y=y[chosen], level=job.level, since=pair.since, until=pair.until,
                blocks=blocks)  # fmt: skip
    gained = gains(pair.subject, pair.against, rows, pair.ours[chosen], pair.theirs[chosen],
                   prefix=f"{GAIN}replay:")  # fmt: skip
    return int(chosen.sum()), list(gained)
