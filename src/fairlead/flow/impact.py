"""Impact: walk forward from data, features or a model to every prediction they touched."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from fairlead.core.artifact import Artifact, ModelSpec, PackageSpec
from fairlead.core.prediction import Reach
from fairlead.core.ref import Ref
from fairlead.core.release import Phase
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flow import data
from fairlead.flow.rows import halves, table_of
from fairlead.ports import Blobs, PredictionLog, Records

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Impact", "Taught", "impact"]


class Taught(Struct, frozen=True, kw_only=True):
    """How a model met the rows in question: learnt from, held out, or used for neither (too old,
    too new, without a truth). All of its table when no rows were named."""

    model: Ref
    learnt: int
    held_out: int
    unused: int = 0


class Impact(Struct, frozen=True, kw_only=True):
    """What descends from `subject`. `artifacts`: oldest first, without itself. `releases`: id,
    package and phase of each that carried one of them. `reached`: predictions by package."""

    subject: Ref
    artifacts: tuple[Artifact, ...] = ()
    taught: tuple[Taught, ...] = ()
    releases: tuple[tuple[str, Ref, Phase], ...] = ()
    reached: tuple[Reach, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def predictions(self) -> int:
        """That a caller saw."""
        return sum(r.answers for r in self.reached)


def impact(
    subject: Artifact, log: PredictionLog, records: Records, blobs: Blobs, *,
    rows: Mapping[str, str | Sequence[str]] | None = None, view: str = "", served: Mapping[str, str] | None = None,
    since: float = 0.0, until: float = inf, known_at: str = "",
) -> Impact:  # fmt: skip
    """Walk forward from `subject`.

    `rows`: only rows of a table with these values (as text; several: one of them); models that neither learnt from nor
    were judged on one of them are left out, and what descends from them. `view`: only packages
    that read this feature view. `served`: only predictions with these logged values (request
    columns or ``view.column``). `since`, `until`: UTC seconds of the predictions. Raises Invalid
    for rows of something that is no table, or a column it lacks.
    """
    for column in rows or ():
        table = table_of(subject)
        if column not in table.schema.names:
            raise Invalid(f"{subject.ref.short} has no column {column!r}",
                          hint=f"its columns: {', '.join(table.schema.names)}")  # fmt: skip
    gaps: list[str] = []
    made, taught = _descendants(subject, records, blobs, rows or {}, known_at, gaps)
    packages = [a for a in (subject, *made) if isinstance(a.spec, PackageSpec)]
    if view:
        packages = [p for p in packages if any(v.name == view for v in p.spec.views)]  # type: ignore[union-attr]
    refs = [p.ref for p in packages]
    carried = [(r.id, c, r.phase) for r in records.releases() for c in r.candidates if c in refs]
    return Impact(
        subject=subject.ref, artifacts=tuple(made), taught=tuple(taught), releases=tuple(carried),
        reached=tuple(log.reach(refs, since, until, served or {})) if refs else (), gaps=tuple(gaps),
    )  # fmt: skip


def _descendants(
    subject: Artifact, records: Records, blobs: Blobs, rows: Mapping[str, str | Sequence[str]], known_at: str,
    gaps: list[str],
) -> tuple[list[Artifact], list[Taught]]:  # fmt: skip
    """Artifacts are recorded after their parents, so that one pass in that order finds all."""
    found: dict[Ref, Artifact] = {subject.ref: subject}
    taught: list[Taught] = []
    for made in records.artifacts():
        if made.ref == subject.ref or not set(made.parents) & set(found):
            continue
        if isinstance(made.spec, ModelSpec):
            try:
                lesson = _lesson(made, made.spec, records, blobs, rows, known_at)
            except (Missing, Corrupt, Invalid) as error:
                gaps.append(f"{made.ref.short}: its rows cannot be read: {error}")
            else:
                taught += [lesson]
                if rows and not lesson.learnt + lesson.held_out:
                    continue
        found[made.ref] = made
    return list(found.values())[1:], taught


def _lesson(
    model: Artifact, spec: ModelSpec, records: Records, blobs: Blobs, rows: Mapping[str, str | Sequence[str]],
    known_at: str,
) -> Taught:  # fmt: skip
    """Count the rows in each part of the table, split as it was split then."""
    table = table_of(records.artifact(model.parents[0]), known_at)
    schema, split = table.schema, spec.split
    roles = (schema.target, schema.time, table.known_at)
    wanted = list(dict.fromkeys(c for c in (*rows, *roles) if c))
    frame = data.read(table.spec, blobs, wanted, split.since or -inf, split.until or inf)
    learnt, held = halves(frame.drop_nulls(schema.target), table, split)
    counts = [_matching(part, rows) for part in (learnt, held)]
    whole = frame if not (split.since or split.until) else data.read(table.spec, blobs, wanted)
    return Taught(model=model.ref, learnt=counts[0], held_out=counts[1],
                  unused=_matching(whole, rows) - sum(counts))  # fmt: skip


def _matching(frame: "pl.DataFrame", rows: Mapping[str, str | Sequence[str]]) -> int:
    import polars as pl

    tests: list[Any] = [pl.col(c).cast(pl.String).is_in([v] if isinstance(v, str) else v) for c, v in rows.items()]
    return frame.filter(*tests).height if tests else frame.height
