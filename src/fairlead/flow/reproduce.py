"""Reproducing: train a model again from what its run recorded, and hold the two against each other."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.core.artifact import Artifact, ModelSpec
from fairlead.core.ref import Ref
from fairlead.core.run import Run
from fairlead.errors import Invalid, Missing
from fairlead.flow import warm
from fairlead.flow.job import submit, workspace
from fairlead.flow.rows import fetch
from fairlead.flow.train import MADE, SAMPLES_FILE, Trained, TrainJob
from fairlead.ports import Blobs, Change, Clock, Compute, Records

__all__ = ["Reproduction", "reproduce"]


class Reproduction(Struct, frozen=True, kw_only=True):
    """A model trained again. `files`: each file's digest then and now; `environment`: lines that
    were or are there alone, then and now. `rows`, `difference`: held-out rows that both answered,
    and the largest difference between their scores there; None when they answered other rows."""

    model: Ref
    files: dict[str, tuple[str, str]]
    environment: tuple[tuple[str, ...], tuple[str, ...]]
    rows: int = 0
    difference: float | None = None

    @property
    def same(self) -> bool:
        """Bit for bit."""
        return all(then == now for then, now in self.files.values())


def reproduce(
    model: Artifact, *, records: Records, blobs: Blobs, compute: Compute, clock: Clock, jobs: Path,
    actor: str, on_progress: Callable[[str], None] = lambda text: None,
) -> Reproduction:  # fmt: skip
    """Train `model` again in a process of its own, from the recorded rows, code, parameters and
    seed; what came of it is written down ("model.reproduced"), the new files are not kept.

    Raises Missing when something it was made from is gone, Invalid when its run recorded too little.
    """
    spec, run = _recorded(model, records)
    with workspace(jobs) as folder:
        job = _lay(run, folder, blobs)
        on_progress(f"fetching {job.table.rows:,} rows")
        fetch(job.table, blobs, folder)
        warm.fetch(job.last, blobs, folder)
        on_progress(f"training {Path(job.code).name}")
        made = submit("job", job, folder, compute, Trained,
                      cells=job.table.rows * len(job.columns))  # fmt: skip
        digests = {f: sha256((folder / MADE / f).read_bytes()).hexdigest() for f in made.files}
        samples = (folder / MADE / SAMPLES_FILE).read_bytes()
    names = dict.fromkeys((*spec.files, *digests))
    rows, difference = _apart(blobs.get(spec.files[SAMPLES_FILE]), samples)
    done = Reproduction(
        model=model.ref, files={n: (spec.files.get(n, ""), digests.get(n, "")) for n in names},
        environment=_changes(blobs.get(spec.environment).decode(), made.environment),
        rows=rows, difference=difference,
    )  # fmt: skip
    body = {"same": done.same, "rows": rows, "difference": difference}
    records.commit(Change(at=clock.now(), actor=actor, verb="model.reproduced",
                          subject=str(model.ref), body=body))  # fmt: skip
    return done


def _recorded(model: Artifact, records: Records) -> tuple[ModelSpec, Run]:
    if not isinstance(model.spec, ModelSpec):
        raise Invalid(f"{model.ref.short} is not a model", hint="`fairlead reproduce` takes a model")
    if not model.run:
        raise Missing(f"{model.ref.short} was not trained here", hint="only trained models have a run")
    run = records.run(model.run)
    if not run.job:
        raise Invalid(f"run {run.id} did not record what its job was told",
                      hint="models trained by this version or later can be reproduced")  # fmt: skip
    return model.spec, run


def _lay(run: Run, folder: Path, blobs: Blobs) -> TrainJob:
    """The job as it was told, with the recorded code in a folder of its own."""
    job = msgspec.json.decode(blobs.get(run.job), type=TrainJob)
    root = folder / "code"
    files = {job.code: run.code, **run.sources}
    for name, digest in files.items():
        target = (root / name).resolve()
        if not target.is_relative_to(root.resolve()):
            raise Invalid(f"run {run.id} recorded code outside its project: {name}",
                          hint="keep imported files beside fairlead.yaml")  # fmt: skip
        target.parent.mkdir(parents=True, exist_ok=True)
        blobs.fetch(digest, target)
    return changed(job, code=str((root / job.code).resolve()))


def _apart(before: bytes, after: bytes) -> tuple[int, float | None]:
    """Number of sample rows both answered, and the largest difference between their scores."""
    then, now = (msgspec.json.decode(s) for s in (before, after))
    if then["rows"] != now["rows"]:
        return 0, None
    scores = np.asarray(then["scores"], float), np.asarray(now["scores"], float)
    return len(then["rows"]), float(np.abs(scores[0] - scores[1]).max(initial=0.0))


def _changes(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    then, now = set(before.splitlines()), set(after.splitlines())
    return tuple(sorted(then - now)), tuple(sorted(now - then))
