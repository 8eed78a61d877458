"""Packages: a model with all it needs to answer, proven in a clean process before anyone may serve it."""

import os
import shutil
from collections.abc import Callable, Mapping
from hashlib import file_digest
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
from msgspec import Struct

from fairlead.core.artifact import Artifact, PackageSpec, name_of
from fairlead.core.encoding import compile_row
from fairlead.core.profile import TableProfile
from fairlead.core.proof import Proof, compare
from fairlead.core.ref import canonical
from fairlead.disk import content, opened, sync
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flow import warm
from fairlead.flow.evaluate import model_of
from fairlead.flow.job import Flavors, Matrix, answer, submit, workspace
from fairlead.flow.recorded import request
from fairlead.flow.train import PROFILE, SAMPLES_FILE
from fairlead.flow.trust import at_home
from fairlead.ports import Blobs, Change, Clock, Compute, Records

__all__ = ["SPEC", "Proven", "package", "profile_of", "restore", "run_prove"]

SPEC = "package.json"
CALLS = 1_000

Apart = Callable[[Callable[[], bytes]], bytes]
"""Does work in a process within walls, and returns what it returns."""


class Samples(Struct, frozen=True, kw_only=True):
    """Rows as callers send them (with the features they meet), and what the model must answer."""

    rows: list[dict[str, Any]]
    scores: list[list[float]]


class Proven(Struct, frozen=True, kw_only=True):
    """A package re-answered its samples: how exactly, and how fast one row is (milliseconds)."""

    proof: Proof
    p50_ms: float
    p99_ms: float


def package(
    model: Artifact, *, name: str, packages: Path, records: Records, blobs: Blobs,
    compute: Compute, clock: Clock, jobs: Path, actor: str, threshold: float = 0.5,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Artifact:  # fmt: skip
    """Build, prove and record the package of a model ("package.built").

    `name`: of the package. `packages`: where they lie, each under its digest. A clean process
    loads it from there, encodes its samples as the gateway does and answers them. Raises Corrupt
    when it does not answer what the trained model answered; then nothing is left there.
    """
    spec = model_of(model)
    at_home(records, clock, model)
    made = PackageSpec(
        model=model.ref, flavor=spec.flavor, task=spec.task, classes=spec.classes, views=spec.views,
        contract=request(spec), encoding=spec.encoding, threshold=threshold,
        files={name: blob for name, blob in spec.files.items() if not name.startswith(warm.STATE)},
        environment=spec.environment,
    )  # fmt: skip
    ref = name_of(name, made)
    draft = _lay(made, ref.digest, packages, blobs)
    on_progress("proving it in a clean process")
    try:
        with workspace(jobs) as work:
            proven = submit("prove", None, work, compute, Proven, [str(draft.resolve())])
        if not proven.proof.exact:
            raise Corrupt(f"the package does not answer as the trained model did: {proven.proof}",
                          hint="train again; if it stays so, report the model's class")  # fmt: skip
        _move(draft, packages / ref.digest)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    now = clock.now()
    artifact = Artifact(ref=ref, spec=made, parents=(model.ref,), run=model.run, created_at=now)
    body = {"proof": str(proven.proof), "p50_ms": proven.p50_ms, "p99_ms": proven.p99_ms}
    records.commit(Change(at=now, actor=actor, verb="package.built", subject=str(ref), body=body,
                          artifacts=(artifact,)))  # fmt: skip
    return artifact


def restore(artifact: Artifact, packages: Path, blobs: Blobs) -> Path:
    """The package's folder, laid anew from the blobs where it is gone or damaged.

    Raises Invalid for another kind of artifact, Missing or Corrupt for the blobs.
    """
    if not isinstance(artifact.spec, PackageSpec):
        raise Invalid(f"{artifact.ref.short} is not a package", hint="`fairlead package` makes one")
    target = packages / artifact.ref.digest
    if not _whole(target, artifact.spec):
        draft = _lay(artifact.spec, artifact.ref.digest, packages, blobs)
        _move(draft, target)
    return target


def profile_of(folder: Path) -> TableProfile | None:
    """What the columns held in training, as a package or model folder carries it."""
    try:
        data = (folder / PROFILE).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.msgpack.decode(data, type=TableProfile)


def run_prove(folder: Path, target: Path, flavors: Flavors, apart: Apart | None = None) -> int:
    """The clean process: answer the samples of the package in `target`, leave the result in
    `folder`; the exit status. `apart`: does the work behind walls, for a package from elsewhere."""
    return answer(folder, lambda _: _prove(target, flavors, apart))


def _lay(spec: PackageSpec, digest: str, packages: Path, blobs: Blobs) -> Path:
    """Write all files of a package into a new folder beside the others; every byte is verified."""
    packages.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = packages / f".{digest[:12]}-{uuid4().hex}"
    draft.mkdir(mode=0o700)
    try:
        for name, blob in spec.files.items():
            if Path(name).name != name or name == SPEC:
                raise Corrupt(f"the model names a file {name!r}",
                              hint="files of a model have plain names")  # fmt: skip
            blobs.fetch(blob, draft / name)
        (draft / SPEC).write_bytes(canonical(spec))
        _sync(draft)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return draft


def _sync(folder: Path) -> None:
    """Files reach the disk before the folder gets its name."""
    for path in (*folder.iterdir(), folder):
        sync(path)


def _move(draft: Path, target: Path) -> None:
    """Give the folder its name; a folder of that name holds the same, or is damaged."""
    if target.exists():
        target.rename(draft.with_name(f"{draft.name}-old"))
        draft.rename(target)
        shutil.rmtree(draft.with_name(f"{draft.name}-old"), ignore_errors=True)
    else:
        draft.rename(target)


def _whole(folder: Path, spec: PackageSpec) -> bool:
    try:
        if content(folder, SPEC) != canonical(spec):
            return False
        for name, blob in spec.files.items():
            with os.fdopen(opened(folder, name), "rb") as file:
                if file_digest(file, "sha256").hexdigest() != blob:
                    return False
    except (OSError, Corrupt):
        return False
    return True


def _prove(folder: Path, flavors: Flavors, apart: Apart | None) -> Proven:
    spec = msgspec.json.decode((folder / SPEC).read_bytes(), type=PackageSpec)
    if SAMPLES_FILE not in spec.files:
        raise Missing(f"the package has no {SAMPLES_FILE}", hint="train the model again")
    samples = msgspec.json.decode((folder / SAMPLES_FILE).read_bytes(), type=Samples)
    flavors.demand(folder)
    if apart is None:
        return _answered(folder, spec, samples, flavors)
    files = {name: (folder / name).read_bytes() for name in spec.files}
    return msgspec.json.decode(apart(lambda: canonical(_answered(files, spec, samples, flavors))), type=Proven)


def _answered(
    files: Path | Mapping[str, bytes], spec: PackageSpec, samples: Samples, flavors: Flavors
) -> Proven:
    scorer = flavors.scorer(files, spec.flavor, spec.task, len(spec.classes))
    encode = compile_row(spec.encoding)
    matrix = np.array([encode(row) for row in samples.rows], dtype=np.float32)
    expected = np.array(samples.scores, dtype=np.float32)
    together = scorer(matrix)
    alone = np.concatenate([scorer(row[None, :]) for row in matrix])
    proofs = [compare(expected, found, spec.task, spec.threshold) for found in (together, alone)]
    p50, p99 = _speed(encode, scorer, samples.rows)
    return Proven(proof=max(proofs, key=lambda p: (not p.exact, p.worst)), p50_ms=p50, p99_ms=p99)


def _speed(
    encode: Callable[[Mapping[str, Any]], list[float]], scorer: Callable[[Matrix], Matrix],
    rows: list[dict[str, Any]],
) -> tuple[float, float]:  # fmt: skip
    """Milliseconds from a row to its scores: median and 99th percentile, after a warm-up."""
    spans = []
    for i in range(CALLS + CALLS // 10):
        start = perf_counter()
        scorer(np.array([encode(rows[i % len(rows)])], dtype=np.float32))
        spans.append(perf_counter() - start)
    ms = np.array(spans[CALLS // 10 :]) * 1e3
    return float(np.quantile(ms, 0.5)), float(np.quantile(ms, 0.99))
