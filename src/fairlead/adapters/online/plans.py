"""How one view lies in SQLite: its table, the query that answers it, and how facts get in."""

import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from fairlead.core.feature import FeatureView
from fairlead.core.ref import canonical
from fairlead.core.sums import COARSE, FAR, LIMIT, cut, instant, total
from fairlead.errors import Invalid

__all__ = ["Fact", "Plan", "facts_of", "key", "plan_of"]

Fact = tuple[str, int, tuple[Any, ...]]
"""Entity, moment in microseconds, the values of the columns the view reads."""


class Plan(Protocol):
    """The table of one view. `query` takes `keys(...)` and its rows go to `answer`."""

    view: FeatureView
    table: str
    create: str
    query: str

    def keys(self, entity: str, moment: int) -> tuple[Any, ...]: ...
    def answer(self, rows: list[Any], moment: int) -> dict[str, Any]: ...
    def value(self, column: str, value: Any) -> Any:
        """What is stored of a fact's value, None when nothing. Raises Invalid."""

    def add(self, db: sqlite3.Connection, facts: list[Fact]) -> None:
        """Raises Invalid when a sum leaves the range in which it is exact."""


def plan_of(view: FeatureView) -> Plan:
    """The plan for any view."""
    return Windowed(view) if view.aggregates else Latest(view)


def _table(view: FeatureView) -> str:
    """A name for exactly this definition: a view that changes gets a new table."""
    digest = sha256(canonical(view)).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', view.name)}_{digest[:16]}"


def key(value: Any) -> str | None:
    """An entity as the text it is stored under; None for no entity. Raises Invalid."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Invalid(f"not an entity: {value!r}", hint="an entity is text or a whole number")


class Latest:
    """The last fact about an entity: its values as one MessagePack row, which keeps their types."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self.table = _table(view)
        self.create = (f"CREATE TABLE IF NOT EXISTS {self.table} (entity TEXT, at INTEGER, "
                       "facts BLOB NOT NULL, PRIMARY KEY (entity, at)) WITHOUT ROWID")  # fmt: skip
        self.query = (f"SELECT at, facts FROM {self.table} WHERE entity = ? AND at <= ? "
                      "ORDER BY at DESC LIMIT 1")  # fmt: skip
        self._outputs = view.outputs
        self._age = instant(view.max_age) if view.max_age else 0
        self._decode = msgspec.msgpack.Decoder(list).decode

    def keys(self, entity: str, moment: int) -> tuple[Any, ...]:
        return entity, moment

    def answer(self, rows: list[Any], moment: int) -> dict[str, Any]:
        if not rows or (self._age and moment - rows[0][0] > self._age):
            return dict.fromkeys(self._outputs)
        return dict(zip(self._outputs, self._decode(rows[0][1]), strict=True))

    def value(self, column: str, value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if value is None or isinstance(value, str | int):
            return value
        if isinstance(value, date):
            return _utc(value)
        raise Invalid(f"view {self.view.name}: {column!r} holds {value!r}",
                      hint="serve numbers, text, booleans or datetimes")  # fmt: skip

    def add(self, db: sqlite3.Connection, facts: list[Fact]) -> None:
        pack = msgspec.msgpack.Encoder().encode
        db.executemany(f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?, ?)",
                       ((entity, at, pack(values)) for entity, at, values in facts))  # fmt: skip


class Windowed:
    """Running sums per entity and moment: facts, then per column values, coarse and fine steps."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self.table = _table(view)
        sums = ["n", *(f"{s}{i}" for i in range(len(view.reads)) for s in "ncf")]
        self._width = len(sums)
        names = ", ".join(sums)
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self.table} (entity TEXT, at INTEGER, "
            f"{', '.join(f'{s} INTEGER NOT NULL' for s in sums)}, PRIMARY KEY (entity, at)) "
            "WITHOUT ROWID"
        )
        upto = f"FROM {self.table} WHERE entity = ? AND at <= ? ORDER BY at DESC LIMIT 1"
        self.query = f"SELECT 0, * FROM (SELECT {names} {upto})"
        if view.window:
            self.query += f" UNION ALL SELECT 1, * FROM (SELECT {names} {upto})"
        self._before = f"SELECT {names} {upto}"
        self._after = (
            f"SELECT at, {names} FROM {self.table} WHERE entity = ? AND at >= ? ORDER BY at"
        )
        self._insert = f"INSERT OR REPLACE INTO {self.table} VALUES (?, ?{', ?' * self._width})"
        self._window = instant(view.window)
        self._answers = tuple(
            (output, a.operation, 1 + 3 * view.reads.index(a.column) if a.column else 0)
            for output, a in zip(view.outputs, view.aggregates, strict=True)
        )

    def keys(self, entity: str, moment: int) -> tuple[Any, ...]:
        if not self._window:
            return entity, moment
        return entity, moment, entity, moment - self._window

    def answer(self, rows: list[Any], moment: int) -> dict[str, Any]:
        now = rows[0] if rows and rows[0][0] == 0 else (0,) * (self._width + 1)
        then = rows[-1] if rows and rows[-1][0] == 1 else (0,) * (self._width + 1)
        sums = [a - b for a, b in zip(now[1:], then[1:], strict=True)]
        answers: dict[str, Any] = {}
        for output, operation, i in self._answers:
            count = sums[i]
            if operation == "count":
                answers[output] = count
            elif not count:
                answers[output] = None
            else:
                whole = total(sums[i + 1], sums[i + 2])
                answers[output] = whole if operation == "sum" else whole / count
        return answers

    def value(self, column: str, value: Any) -> float | None:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return None
        with suppress(TypeError, ValueError, OverflowError):
            number = math.nan if isinstance(value, str | bytes) else float(value)
            if abs(number) * COARSE < LIMIT:
                return number
        raise Invalid(f"view {self.view.name}: {column!r} holds {value!r}",
                      hint="aggregate booleans, or numbers that stay below 7e13")  # fmt: skip

    def add(self, db: sqlite3.Connection, facts: list[Fact]) -> None:
        news: dict[str, dict[int, list[int]]] = {}
        for entity, at, values in facts:
            steps = news.setdefault(entity, {}).setdefault(at, [0] * self._width)
            steps[0] += 1
            for i, value in enumerate(values):
                if value is not None:
                    coarse, fine = cut(value)
                    steps[3 * i + 1] += 1
                    steps[3 * i + 2] += coarse
                    steps[3 * i + 3] += fine
        for entity, steps_at in news.items():
            db.executemany(self._insert, list(self._merged(db, entity, steps_at)))

    def _merged(
        self, db: sqlite3.Connection, entity: str, news: dict[int, list[int]]
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of `entity` from its earliest new fact on, with running sums put right."""
        first = min(news)
        row = db.execute(self._before, (entity, first - 1)).fetchone()
        running = list(row) if row else [0] * self._width
        seen = running
        for at, *sums in db.execute(self._after, (entity, first)).fetchall():
            steps = news.get(at, [0] * self._width)
            news[at] = [n + b - a for n, b, a in zip(steps, sums, seen, strict=True)]
            seen = sums
        for at in sorted(news):
            running = [a + b for a, b in zip(running, news[at], strict=True)]
            if max(map(abs, running)) >= LIMIT:
                raise Invalid(
                    f"view {self.view.name}: the sums of entity {entity!r} grow too large",
                    hint="running sums are exact below 7e13: rescale the column",
                )
            yield entity, at, *running


def _moment(value: Any) -> int | None:
    """When a fact became known, in microseconds; None when that is not known. Raises Invalid."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, date):
        since = _utc(value) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < FAR:
        return instant(value)
    raise Invalid(f"not a time: {value!r}", hint="give a datetime, ISO 8601 text or UTC seconds")


def _utc(value: date) -> datetime:
    """A datetime without zone is UTC, a date is its first moment."""
    whole = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    return whole if whole.tzinfo else whole.replace(tzinfo=UTC)


def facts_of(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> Iterator[Fact]:
    """Rows as facts; those without entity or time, which nobody can ever see, are left out."""
    view = plan.view
    whose, when, columns, value = view.entity, view.time, view.reads, plan.value
    for number, row in enumerate(rows):
        try:
            entity = key(row[whose])
            at = _moment(row[when]) if when else 0
            values = tuple([value(c, row[c]) for c in columns])
        except KeyError as error:
            raise Invalid(f"fact {number} for view {view.name} has no {error.args[0]!r}",
                          hint=f"it has: {', '.join(map(str, row))}") from None  # fmt: skip
        if entity is not None and at is not None:
            yield entity, at, values
