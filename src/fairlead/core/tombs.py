"""Tombstones: what was erased of which artifact, and what of a record names nobody any more. Pure."""

import re
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from fairlead.core.event import Event
from fairlead.core.ref import Ref

__all__ = ["ERASED", "ERASURE", "MARK", "REDACTED", "Tomb", "cleaned", "named", "record_of", "tombs",
           "without"]  # fmt: skip

ERASURE, ERASED = "erasure", "person.erased"
"""What events about erasures are about, and their verb."""
REDACTED = "record.redacted"
"""The verb of the event about each record that lost values."""
MARK = "(erased)"
"""What stands in a record where a value of the person stood."""

LISTS = frozenset({"categories", "vocabulary"})
"""Keys whose lists hold values of columns: of contracts, and of encodings."""

S = TypeVar("S", bound=Struct)


class Tomb(Struct, frozen=True, kw_only=True):
    """An artifact whose bytes are gone, in whole or in part: how many rows of the person it held, or
    had learnt from; which event tells; what stands in its place ("" when nothing does)."""

    rows: int
    at: float
    event: int
    successor: str = ""

    def __str__(self) -> str:
        instead = f"; without them it is {self.successor}" if self.successor else ""
        return f"erased: {self.rows} rows (event {self.event}){instead}"


def tombs(events: Iterable[Event]) -> dict[str, Tomb]:
    """By artifact (as text), from the events about `ERASURE`."""
    found: dict[str, Tomb] = {}
    for event in events:
        for ref, rows in event.body.get("erased", {}).items():
            before = found[ref].rows if ref in found else 0
            found[ref] = Tomb(rows=rows + before, at=event.at, event=event.seq,
                              successor=event.body.get("successors", {}).get(ref, ""))  # fmt: skip
    return found


def record_of(ref: Ref) -> str:
    """What the event is about that took values out of an artifact's record: from then on its spec has
    another digest than its name, and the log says so."""
    return f"{ref} erased"


def named(value: Any) -> set[str]:
    """Every text within a value of plain types."""
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    keys = set(value) if isinstance(value, dict) else set()
    return keys.union(*map(named, inner))


def without(record: S, gone: Collection[str]) -> S:
    """The same record, with `MARK` for each of these values."""
    return msgspec.convert(cleaned(msgspec.to_builtins(record), gone), type(record))


def cleaned(value: Any, gone: Collection[str], *, listed: bool = False) -> Any:
    """A value of plain types with `MARK` where one of these stands: in a list of known values, or
    behind ``column=``. Anywhere else the same letters mean something else (a class, a parameter).
    """
    if isinstance(value, str):
        if listed:
            return MARK if value in gone else value
        for one in (g for g in gone if f"={g}" in value):
            value = re.sub(rf"={re.escape(one)}(?!\w)", lambda _: f"={MARK}", value)
        return value
    if isinstance(value, dict):
        return {k: cleaned(v, gone, listed=k in LISTS) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(v, gone, listed=listed) for v in value]
    return value
