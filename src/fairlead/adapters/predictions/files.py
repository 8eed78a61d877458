"""The prediction log as files: journals that gateways append to, sealed into Parquet segments.

A row lives in the journal until that file is deleted; only then does its twin in a segment count.
Segments remember for each row which journal it came from, so a crash anywhere between writing
the segment and deleting the journal shows nothing twice and loses nothing.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np

from fairlead.adapters.predictions.columns import (
    LEFT_OUT,
    WANTED,
    SpecOf,
    notes_table,
    predictions_of,
    restored,
    restored_notes,
    table_of,
)
from fairlead.adapters.predictions.denials import (
    denials_table,
    named,
    refused_by,
    refused_of,
    restored_denials,
)
from fairlead.adapters.predictions.erasing import asked, meant
from fairlead.adapters.predictions.journals import Journal, Journals, entries, holding, write
from fairlead.adapters.predictions.reach import chosen, reaches
from fairlead.adapters.predictions.segments import KEY, Segment, Segments, newest
from fairlead.core.answers import Answers, Cursor, Tail, answers_of, matrix
from fairlead.core.journal import Batch, Denial, Entry, Note
from fairlead.core.prediction import Erased, Feedback, Prediction, Reach, Refused
from fairlead.core.ref import Ref
from fairlead.errors import Conflict, Corrupt, Missing, Unavailable

if TYPE_CHECKING:
    import polars as pl

__all__ = ["PredictionFiles"]

T = TypeVar("T")

IMPORT = "import"
"""The gateway name of feedback that came by file."""

STRIDE = 16
"""Journals of one gateway that one `tail` reads, or one segment more: bounds its memory."""

TRIES = 5
"""A reader that meets a file just sealed or merged away starts over so many times."""


class PredictionFiles:
    """`root`/journal and `root`/segments. Any process may read; one at a time may `seal`.

    `spec_of` turns a package's reference into its spec, to type columns and to spell outputs.
    """

    def __init__(self, root: Path, spec_of: SpecOf) -> None:
        if find_spec("polars") is None:
            raise Missing("the prediction log is read with polars, which is not installed",
                          hint='pip install "fairlead[lab]"')  # fmt: skip
        self._journals = Journals(root / "journal")
        self._segments = Segments(root / "segments")
        self._spec_of = spec_of

    def predictions(
        self, since: float = 0.0, until: float = float("inf"), service: str = ""
    ) -> Iterator[Prediction]:
        """Predictions with since <= at < until: sealed ones first, then in order of arrival."""
        with ExitStack() as stack:
            sealed, fresh = self._open("answers", stack)
            for segment, frame in sealed:
                if service in ("", segment.service):
                    rows = frame.filter(_between(since, until)).collect().iter_rows(named=True)
                    yield from restored(rows, self._spec_of)
            for batch in (e for e in fresh if isinstance(e, Batch)):
                if service in ("", batch.service) and since <= batch.at < until:
                    yield from predictions_of(batch, self._spec_of)

    def find(self, prediction_id: str) -> list[Prediction]:
        """The live answer first, then the failed attempt, then mirrored twins. Raises Missing."""
        found = _steadily(lambda: self._find(prediction_id))
        if not found:
            raise Missing(f"no prediction {prediction_id!r} in the log",
                          hint="ids are returned in the field id of every answer")  # fmt: skip
        return sorted(found, key=lambda p: (not p.live, bool(p.error)))

    def reach(
        self, packages: Sequence[Ref], since: float = 0.0, until: float = float("inf"),
        served: Mapping[str, str] | None = None,
    ) -> list[Reach]:  # fmt: skip
        """Sealed rows are counted by columns, 10 M of them in seconds; fresh ones one by one."""
        wanted = [str(p) for p in packages]
        with ExitStack() as stack:
            sealed, fresh = self._open("answers", stack)
            frames = [chosen(frame, wanted, since, until, served or {}) for _, frame in sealed]
            batches = [b for b in fresh if isinstance(b, Batch) and b.package in wanted]
            recent = (p for b in batches for p in predictions_of(b, self._spec_of)
                      if since <= p.at < until)  # fmt: skip
            return reaches(packages, frames, recent, served or {})

    def feedback(self, prediction_id: str = "") -> Iterator[Feedback]:
        """All feedback, or that of one prediction, in order of arrival per gateway."""
        import polars as pl

        with ExitStack() as stack:
            sealed, fresh = self._open("feedback", stack, prediction_id)
            for _, frame in sealed:
                if prediction_id:
                    frame = frame.filter(pl.col("prediction") == prediction_id)
                yield from restored_notes(_by_arrival(frame.collect()).iter_rows(named=True))
            for note in fresh:
                if isinstance(note, Note) and prediction_id in ("", note.prediction):
                    yield _feedback(note)

    def sample(self, package: Ref, since: float, until: float, most: int) -> list[Prediction]:
        """Evenly spaced in order of arrival; only what is chosen is decoded."""
        import polars as pl

        whole = ~pl.col("rest").fill_null("").str.contains(f'"{LEFT_OUT}":true', literal=True)
        seen = (pl.col("package") == str(package)) & pl.col("live") & (pl.col("error") == "") & whole
        with ExitStack() as stack:
            sealed, fresh = self._open("answers", stack)
            parts = [frame.filter(_between(since, until), seen) for _, frame in sealed]
            recent = [p for b in fresh if isinstance(b, Batch) and b.package == str(package) and since <= b.at < until
                      for p in predictions_of(b, self._spec_of) if p.live and not p.error and p.inputs]  # fmt: skip
            count = sum(part.select(pl.len()).collect().item() for part in parts) + len(recent)
            step = max(count // most, 1)
            rows = [row for part in parts for row in part.gather_every(step).collect().iter_rows(named=True)]
            found = [*restored(rows, self._spec_of), *recent[::step]]
        places = np.linspace(0, len(found) - 1, min(most, len(found))).astype(np.intp)
        return [found[i] for i in places.tolist()]

    def refused(self, request_id: str = "") -> Iterator[Refused]:
        """All refused requests, or the one with this id, sealed ones first."""
        with ExitStack() as stack:
            sealed, fresh = self._open("refused", stack, request_id)
            for segment, frame in sealed:
                if not request_id or segment.low <= request_id <= segment.high:
                    found = restored_denials(frame.collect().iter_rows(named=True))
                    yield from (r for r in found if request_id in ("", r.id))
            for entry in fresh:
                if isinstance(entry, Denial) and request_id in ("", entry.id):
                    yield refused_of(entry)

    def tail(self, cursor: Cursor, since: float = 0.0) -> Tail:
        """What arrived behind `cursor` ({}: everything); sealed rows older than `since` are left
        out. Raises Corrupt when a journal was damaged."""
        return _steadily(lambda: self._tail(cursor, since))

    def add(self, notes: Sequence[Feedback]) -> int:
        """Add feedback that came by another way than a gateway; it is on disk on return."""
        made = [Note(prediction=n.prediction, name=n.name, value=n.value, at=n.at) for n in notes]
        if made:
            write(IMPORT, self._journals, lambda: self._segments.last(IMPORT), made)
        return len(made)

    def seal(self) -> int:
        """Turn finished journals into segments, delete them, and merge segments that are small.

        Returns how many rows moved; 0 while another process seals. A crash at any point loses and
        doubles nothing. Raises Corrupt for a damaged journal, after all others are sealed.
        """
        moved, damage = 0, None
        with self._segments.lock() as mine:
            for journal in self._journals.finished() if mine else ():
                try:
                    moved += self._seal(journal)
                    journal.path.unlink()
                except Corrupt as error:
                    damage = error
            while moved and self._segments.merge():
                pass
        if damage is not None:
            raise damage
        return moved

    def erase(self, where: Mapping[str, Collection[str]], units: Collection[str]) -> Erased:
        """Seal what is finished, then rewrite every segment that holds one of these requests.

        Raises Conflict while another process seals, Corrupt for a damaged journal.
        """
        self.seal()
        with self._segments.lock() as mine:
            if not mine:
                raise Conflict("another process seals the prediction log", hint="try again in a moment")
            found = {s: asked(s.path, where, units) for s in self._segments.all("answers")}
            ids = {i for some in found.values() for i in some}
            feedback = sum(self._segments.without(s, ids) for s in self._segments.all("feedback"))
            answers = sum(self._segments.without(s, some) for s, some in found.items())
            refused = sum(self._segments.without(s, refused_by(s.path, where, units))
                          for s in self._segments.all("refused"))  # fmt: skip
            self._segments.sweep()
        fresh = [e for j in self._journals.all() for e in _entries(j)]
        waiting = sum(meant(p, where, units) for e in fresh if isinstance(e, Batch)
                      for p in predictions_of(e, self._spec_of))  # fmt: skip
        waiting += sum(named(refused_of(e), where, units) for e in fresh if isinstance(e, Denial))
        return Erased(answers=answers, feedback=feedback, refused=refused, waiting=waiting)

    def expire(self, before: float) -> int:
        """Delete sealed files whose every row is older than `before`; return how many went. Rows in
        journals stay until they are sealed; 0 while another process seals."""
        gone = 0
        with self._segments.lock() as mine:
            for kind in KEY if mine else ():
                for segment in self._segments.all(kind):
                    if newest(segment) < before:
                        segment.path.unlink()
                        gone += 1
        return gone

    def _seal(self, journal: Journal) -> int:
        batches: dict[str, list[tuple[int, Batch]]] = {}
        notes: list[tuple[int, Note]] = []
        denials: dict[str, list[tuple[int, Denial]]] = {}
        for start, entry, _ in entries(journal):
            if isinstance(entry, Note):
                notes.append((start, entry))
            elif isinstance(entry, Denial):
                denials.setdefault(entry.service, []).append((start, entry))
            elif entry.ids:
                batches.setdefault(entry.service, []).append((start, entry))
        place = (journal.gateway, journal.sequence, journal.sequence)
        for service, group in batches.items():
            table = table_of(group, journal.source, self._spec_of)
            self._segments.write("answers", service, *place, table)
        if notes:
            self._segments.write("feedback", "", *place, notes_table(notes, journal.source))
        for service, some in denials.items():
            self._segments.write("refused", service, *place, denials_table(some, journal.source))
        return (len(notes) + sum(map(len, denials.values()))
                + sum(len(b.ids) for group in batches.values() for _, b in group))  # fmt: skip

    def _find(self, prediction_id: str) -> list[Prediction]:
        import polars as pl

        journals = self._journals.all()
        # An id spells its gateway, whose journals hold all answers to it.
        own = [j for j in journals if j.gateway in prediction_id]
        found = [
            prediction
            for journal in own or journals
            for entry in holding(journal, prediction_id)
            if isinstance(entry, Batch) and prediction_id in entry.ids
            for prediction in predictions_of(entry, self._spec_of)
            if prediction.id == prediction_id
        ]
        for segment in self._segments.all("answers"):
            if segment.low <= prediction_id <= segment.high:
                rows = _scan(segment.path, journals).filter(pl.col("id") == prediction_id)
                found += restored(rows.collect().iter_rows(named=True), self._spec_of)
        return found

    def _open(
        self, kind: str, stack: ExitStack, text: str = ""
    ) -> tuple[list[tuple[Segment, "pl.LazyFrame"]], list[Entry]]:
        """Everything there is now, held open so that sealing cannot take it away."""

        def look() -> tuple[list[tuple[Segment, "pl.LazyFrame"]], list[Entry]]:
            journals = self._journals.all()
            fresh = [e for j in journals for e in (holding(j, text) if text else _entries(j))]
            files = [(s, stack.enter_context(s.path.open("rb"))) for s in self._segments.all(kind)]
            return [(s, _scan(file, journals)) for s, file in files], fresh

        return _steadily(look)

    def _tail(self, cursor: Cursor, since: float) -> Tail:
        reader = _Reader(self._journals.all(), cursor)
        for kind in KEY:
            for segment in self._segments.all(kind):
                reader.plan(segment)
        return reader.read(since)


class _Reader:
    """One turn of `tail`: first which journals to read up to, then their rows from both places."""

    def __init__(self, journals: Sequence[Journal], cursor: Cursor) -> None:
        self._journals = journals
        self._cursor = cursor
        self._segments: list[Segment] = []

    def plan(self, segment: Segment) -> None:
        """Take a segment into account, unless all of it was read before."""
        if segment.last >= self._cursor.get(segment.gateway, (0, 0))[0]:
            self._segments.append(segment)

    def read(self, since: float) -> Tail:
        """Rows and feedback behind the cursor, of at most STRIDE journals per gateway."""
        stops = {g: self._cursor.get(g, (0, 0)) for g in self._gateways()}
        ends = {g: self._end(g, start) for g, (start, _) in stops.items()}
        answers: list[Answers] = []
        notes: list[Feedback] = []
        refused: list[Refused] = []
        for segment in self._segments:
            frame = self._part(segment, ends[segment.gateway])
            table = frame.filter(_between(since, float("inf"))).collect()
            if segment.kind == "answers":
                answers += _answers(table)
            elif segment.kind == "refused":
                refused += restored_denials(table.iter_rows(named=True))
            else:
                notes += restored_notes(_by_arrival(table).iter_rows(named=True))
            stops[segment.gateway] = max(stops[segment.gateway],
                                         (min(segment.last, ends[segment.gateway]) + 1, 0))  # fmt: skip
        batches: list[Batch] = []
        for journal in self._journals:
            here = self._cursor.get(journal.gateway, (0, 0))
            if here[0] <= journal.sequence <= ends[journal.gateway]:
                end = here[1] if journal.sequence == here[0] else 0
                for _, entry, stop in entries(journal, end):
                    end = stop
                    if isinstance(entry, Note):
                        notes.append(_feedback(entry))
                    elif isinstance(entry, Denial):
                        refused.append(refused_of(entry))
                    elif entry.ids:
                        batches.append(entry)
                stops[journal.gateway] = max(stops[journal.gateway], (journal.sequence, end))
        answers += answers_of(batches)
        return Tail(answers=tuple(answers), feedback=tuple(notes), refused=tuple(refused),
                    cursor={**self._cursor, **stops}, more=self._more(ends))  # fmt: skip

    def _gateways(self) -> set[str]:
        return {s.gateway for s in self._segments} | {j.gateway for j in self._journals}

    def _sequences(self, gateway: str, start: int) -> list[int]:
        """Sequences behind the cursor, the oldest first."""
        sealed = {
            n for s in self._segments if s.gateway == gateway for n in range(s.first, s.last + 1)
        }
        fresh = {j.sequence for j in self._journals if j.gateway == gateway}
        return sorted(n for n in sealed | fresh if n >= start)

    def _end(self, gateway: str, start: int) -> int:
        """The last sequence to read in this turn: some STRIDE on, at the end of a segment, so that
        large segments are read once and whole."""
        end = max(self._sequences(gateway, start)[:STRIDE], default=start)
        split = (s.last for s in self._segments
                 if s.kind == "answers" and s.gateway == gateway and s.first <= end)  # fmt: skip
        return max(end, *split, end)

    def _more(self, ends: dict[str, int]) -> bool:
        return any(n > end for g, end in ends.items() for n in self._sequences(g, 0)[-1:])

    def _part(self, segment: Segment, end: int) -> "pl.LazyFrame":
        """The rows of a segment behind the cursor, up to sequence `end`."""
        import polars as pl

        start, offset = self._cursor.get(segment.gateway, (0, 0))
        frame = _scan(segment.path, self._journals)
        if start <= segment.first and segment.last <= end and not offset:
            return frame
        sequence = pl.col("source").str.split("-").list.last().cast(pl.Int64)
        new = (sequence > start) | ((sequence == start) & (pl.col("offset") >= offset))
        return frame.filter(new & (sequence <= end))


def _entries(journal: Journal) -> Iterable[Entry]:
    return (entry for _, entry, _ in entries(journal))


def _feedback(note: Note) -> Feedback:
    return Feedback(prediction=note.prediction, name=note.name, value=note.value, at=note.at)


def _scan(file: Path | IO[bytes], journals: Sequence[Journal]) -> "pl.LazyFrame":
    """A segment without the rows that still live in a journal."""
    import polars as pl

    frame = pl.scan_parquet(file)
    alive = [j.source for j in journals]
    return frame.filter(~pl.col("source").is_in(alive)) if alive else frame


def _between(since: float, until: float) -> "pl.Expr":
    import polars as pl

    return pl.col("at").is_between(since, until, closed="left")


def _by_arrival(frame: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    sequence = pl.col("source").str.split("-").list.last().cast(pl.Int64)
    return frame.sort(sequence, "offset", maintain_order=True)


def _answers(frame: "pl.DataFrame") -> Iterator[Answers]:
    for part in frame.partition_by("package", maintain_order=True):
        yield Answers(
            service=part["service"][0], package=part["package"][0], ids=part["id"].to_list(),
            units=part["unit"].to_list(), at=part["at"].to_numpy(),
            epoch=part["epoch"].to_numpy(), live=part["live"].to_numpy(),
            propensity=part["propensity"].to_numpy(), errors=part["error"].to_list(),
            fallback=part["fallback"].to_numpy(), latency=part["latency"].to_numpy(),
            scores=_scores(part), values=_values_of(part), kept=~_marked(part, LEFT_OUT),
            wanted=_marked(part, WANTED),
        )  # fmt: skip


def _marked(part: "pl.DataFrame", mark: str) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    found = part["rest"].str.contains(f'"{mark}":true', literal=True)
    return found.fill_null(value=False).to_numpy()


def _scores(part: "pl.DataFrame") -> np.ndarray[Any, np.dtype[np.float64]]:
    for name in ("score", "value"):
        if part[name].null_count() < len(part):
            return part[name].to_numpy().astype(np.float64).reshape(-1, 1)
    return matrix(part["scores"].to_list())


def _values_of(
    part: "pl.DataFrame",
) -> Callable[[Sequence[str], Sequence[int]], list[list[Any]]]:
    def values(names: Sequence[str], places: Sequence[int]) -> list[list[Any]]:
        found = []
        for name in names:
            full = f"in.{name}" if f"in.{name}" in part.columns else f"feature.{name}"
            known = full in part.columns
            found.append(part[full].gather(list(places)).to_list() if known else [None] * len(places))
        return found

    return values


def _steadily(look: Callable[[], T]) -> T:
    """Look again when a file was sealed or merged away between listing and opening it."""
    for _ in range(TRIES):
        try:
            return look()
        except FileNotFoundError as error:
            gone = error
    raise Unavailable(f"files of the prediction log vanish faster than they are read: {gone}",
                      hint="is more than one process sealing it?")  # fmt: skip
