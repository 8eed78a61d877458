"""Measuring attribution: a sample of what a package answered is explained, beside rows held out in training."""

from collections.abc import Collection, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec
from fairlead.core.attribution import Attribution, Share, matrix, shares
from fairlead.core.encoding import compile_row
from fairlead.core.prediction import Prediction
from fairlead.core.ref import Ref
from fairlead.errors import Corrupt, FairleadError, Invalid, Missing
from fairlead.flow import data
from fairlead.flow.explain import Explanation, Row, as_read, computed
from fairlead.flow.package import Samples
from fairlead.flow.rows import halves, table_of
from fairlead.flow.train import SAMPLES_FILE, as_sent
from fairlead.ports import Blobs, Change, Clock, Compute, Records

__all__ = ["MEASURED", "ROWS", "measure", "newest"]

MEASURED = "attribution.measured"
ROWS, ENOUGH = 400, 50
"""Rows of either kind that are explained at most, and at least: what a measurement costs, and needs."""


def measure(
    package: Artifact, asked: Sequence[Prediction], folder: Path, span: tuple[float, float], *,
    known_at: str, hidden: Collection[str], records: Records, blobs: Blobs, compute: Compute, clock: Clock,
    jobs: Path, actor: str,
) -> Attribution | None:  # fmt: skip
    """Explain what a package in `folder` answered within a `span` of time, beside held-out rows, in one
    process; what that says is written down ("attribution.measured"). None of too few. Held-out rows are
    explained the first time only.

    Raises Invalid when the process fails.
    """
    spec, lived = package.spec, list[Row]()
    assert isinstance(spec, PackageSpec), "only packages answer"
    for one in asked:
        try:
            lived.append(as_read(one, spec, hidden, records, clock))
        except FairleadError:
            continue
    if len(lived) < ENOUGH:
        return None
    last = newest(package.ref, records)
    held = [] if last else list(_encoded(spec, _held_out(spec, folder, known_at, records, blobs)))
    if last is None and len(held) < ENOUGH:
        return None
    found = computed([*held, *lived], package.ref, folder, compute, jobs)
    before, now = found[: len(held)], found[len(held) :]
    made = Attribution(package=package.ref, since=span[0], until=span[1], rows=len(lived), now=_shares(now),
                       held_out=last.held_out if last else len(held),
                       before=last.before if last else _shares(before))  # fmt: skip
    records.commit(Change(at=clock.now(), actor=actor, verb=MEASURED, subject=str(package.ref),
                          body=msgspec.to_builtins(made)))  # fmt: skip
    return made


def newest(ref: Ref, records: Records) -> Attribution | None:
    """What was measured last of a package."""
    body = None
    for event in records.events(subject=str(ref)):
        if event.verb == MEASURED:
            body = event.body
    return None if body is None else msgspec.convert(body, Attribution)


def _held_out(
    spec: PackageSpec, folder: Path, known_at: str, records: Records, blobs: Blobs
) -> list[dict[str, Any]]:
    """Rows the model had not learnt from, as callers send them, evenly spaced; the few that the package
    carries where its table is gone."""
    import polars as pl

    try:
        model = records.artifact(spec.model)
        assert isinstance(model.spec, ModelSpec), "packages hold models"
        table = table_of(next(records.artifact(p) for p in model.parents if p.kind != "model"), known_at)
        names, split = list(dict.fromkeys(c.column for c in spec.encoding.columns)), model.spec.split
        roles = filter(None, (table.schema.target, table.schema.time, table.known_at))
        frame = data.read(table.spec, blobs, list(dict.fromkeys([*names, *roles])), split.since or -inf, split.until or inf)
        held = halves(frame.drop_nulls(table.schema.target), table, split)[1].select(names)
        places = np.linspace(0, held.height - 1, min(ROWS, held.height)).astype(np.int64)
        return list(as_sent(held.select(pl.all().gather(places.tolist()))))
    except (Missing, Corrupt, Invalid, StopIteration):
        return msgspec.json.decode((folder / SAMPLES_FILE).read_bytes(), type=Samples).rows


def _encoded(spec: PackageSpec, rows: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """Those that the package takes, explained on what it answers."""
    encode, output = compile_row(spec.encoding), -1 if spec.task == "multiclass" else 0
    for i, row in enumerate(rows):
        try:
            encode(row)
        except Invalid:
            continue
        yield Row(prediction=f"held-out/{i}", values=row, output=output)


def _shares(found: Sequence[Explanation]) -> dict[str, Share]:
    players = sorted(c.column for c in found[0].contributions)
    return shares(players, matrix(players, [{c.column: c.amount for c in e.contributions} for e in found]))
