"""Cards: documents made of records alone, in which every figure names its source and every gap itself."""

from collections.abc import Iterable

from msgspec import Struct

__all__ = ["Card", "Cell", "Chapter", "Fact", "Grid"]

Cell = str | int | float | bool | None


class Fact(Struct, frozen=True, kw_only=True):
    """One line. `source`: the record it stands in. A `value` of None is missing: `ask` says what
    makes it known, or who has to write it."""

    name: str
    value: Cell = None
    source: str = ""
    ask: str = ""


class Grid(Struct, frozen=True, kw_only=True):
    """A table. Each row ends with its source."""

    titles: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Chapter(Struct, frozen=True, kw_only=True):
    """Facts, then tables, under a heading; `lead` says how to read them."""

    title: str
    lead: str = ""
    facts: tuple[Fact, ...] = ()
    grids: tuple[Grid, ...] = ()


class Card(Struct, frozen=True, kw_only=True):
    """A document about `subject` (a reference, a release, a service)."""

    kind: str
    title: str
    subject: str
    lead: str
    chapters: tuple[Chapter, ...]

    @property
    def gaps(self) -> tuple[tuple[str, Fact], ...]:
        """What is missing: (chapter, fact)."""
        return tuple((c.title, f) for c in self.chapters for f in _missing(c.facts))


def _missing(facts: Iterable[Fact]) -> Iterable[Fact]:
    return (f for f in facts if f.value is None)
