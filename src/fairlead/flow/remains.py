"""What remains: the last look of an erasure, over every byte of the project, and why something is left."""

from collections.abc import Collection, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

from msgspec import Struct

from fairlead.core.tombs import named
from fairlead.ports import Records

__all__ = ["SHORTEST", "Remain", "remains", "sweep"]

SHORTEST = 4
"""Characters that a value must have to be searched for: shorter ones stand in every digest."""
APART = frozenset({".git", ".venv", "node_modules"})
YOURS = "a file of yours: take them out of it, or the next `fairlead data commit` brings them back"
WHY = (
    ("packages", "a package that answers now: train, package and release another, then `fairlead erase` once more"),
    ("blobs", "a file of a model that answers now: it goes with its package"),
    ("predictions/journal", "a gateway still writes to it: once more in a minute, after it was sealed"),
    ("records.db", "an event of the sealed log, or the record of what answers now"),
)


class Remain(Struct, frozen=True, kw_only=True):
    """Where a value of the person still stands (a path in the project, or an event), and why."""

    where: str
    why: str


def remains(root: Path, state: Path, values: Collection[str], records: Records) -> Iterator[Remain]:
    """Search every file of the project for these values; Parquet by its values."""
    wanted = sorted(v for v in values if len(v) >= SHORTEST)
    if short := len(values) - len(wanted):
        yield Remain(where="-", why=f"{short} values are shorter than {SHORTEST} characters and cannot be searched for")
    for event in records.events() if wanted else ():
        texts = named(event.body) | {event.subject}
        if any(v in text for v in wanted for text in texts):
            yield Remain(where=f"event {event.seq} ({event.verb})", why="the audit log is sealed: nothing in it is rewritten")
    for path in sorted(root.rglob("*")) if wanted else ():
        inside = path.relative_to(root)
        if path.is_file() and not APART & set(inside.parts) and _holds(path, wanted):
            yield Remain(where=str(inside), why=_why(path, state))


def sweep(folder: Path, values: Collection[str]) -> None:
    """Delete the files under `folder` that hold one of these values: what jobs that were killed, and
    writes that were cut short, left behind. A job that still reads one of them fails."""
    wanted = [v for v in values if len(v) >= SHORTEST]
    for path in sorted(folder.rglob("*")) if wanted else ():
        if path.is_file() and _holds(path, wanted):
            path.unlink()


def _why(path: Path, state: Path) -> str:
    if not path.is_relative_to(state):
        return YOURS
    inside = str(path.relative_to(state))
    return next((why for start, why in WHY if inside.startswith(start)), "not known to Fairlead: look at it")


def _holds(path: Path, wanted: Collection[str]) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return False
        with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            if data[:4] == b"PAR1":
                return _rows_hold(path, wanted)
            return any(data.find(value.encode()) >= 0 for value in wanted)


def _rows_hold(path: Path, wanted: Collection[str]) -> bool:
    import polars as pl

    texts = pl.read_parquet(path).select(pl.col(pl.String)).get_columns()
    return any(c.str.contains_any(list(wanted)).any() for c in texts)
