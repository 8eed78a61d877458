"""The reference of a model, made where it is trained: its held-out answers and the newest days of its table."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from fairlead.core.intake import PREDICTION, Seat, said, seat
from fairlead.core.profile import ColumnProfile, TableProfile
from fairlead.core.reference import Held, Reference, answered, reference, windows_of
from fairlead.core.schema import Column, Schema
from fairlead.core.traffic import DAY
from fairlead.flow.outline import values
from fairlead.flow.rows import seconds_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["REFERENCE", "newest", "refer", "reference_of", "steady"]

REFERENCE = "reference.msgpack"

DAYS = 60
"""Days of the table that detectors compare production with, the newest ones."""

LIMIT = 50_000
"""Held-out rows that the reference is made of at most, evenly spaced."""


def steady(columns: tuple[Column, ...]) -> list[Column]:
    """Columns whose distribution can stay what it is: moments and free texts never do."""
    return [c for c in columns if c.dtype not in ("datetime", "text")]


def newest(part: "pl.DataFrame", rest: "pl.DataFrame", time: str, schema: Schema) -> "pl.DataFrame":
    """Rows of the last DAYS days of both halves, with `time`; none without a time."""
    import polars as pl

    names = list(dict.fromkeys([*schema.names, *([time] if time else [])]))
    if not time:
        return rest.select(names).clear()
    since = float(np.nanmax(seconds_of(rest, time))) - DAYS * DAY
    young = [half.select(names).filter(pl.Series(seconds_of(half, time)) >= since)
             for half in (part, rest)]  # fmt: skip
    return pl.concat(young)


def refer(folder: Path, held: Held, profile: TableProfile, schema: Schema,
          frames: tuple["pl.DataFrame", "pl.DataFrame"], time: str) -> None:  # fmt: skip
    """Write the reference into `folder`. `frames`: the newest rows, and the held-out rows."""
    recent, rest = frames
    seats = {c.name: seat(profile.column(c.name)) for c in steady(schema.columns)
             if profile.column(c.name).values}  # fmt: skip
    windows = {
        name: _windows(one, one.codes(values(recent.get_column(name), schema.column(name))), recent, time)
        for name, one in seats.items()
    }  # fmt: skip
    places = np.unique(np.linspace(0, rest.height - 1, min(LIMIT, rest.height)).astype(np.int64))
    some = msgspec.structs.replace(held, scores=held.scores[places], y=held.y[places])
    sample = rest[places.tolist()]
    answers = seat(answered(some))
    codes = {name: one.codes(values(sample.get_column(name), schema.column(name)))
             for name, one in seats.items()}  # fmt: skip
    if PREDICTION not in seats:
        spoken = answers.codes(said(held.task, held.classes, held.scores))
        windows[PREDICTION] = _windows(answers, spoken, rest, time)
        seats[PREDICTION], codes[PREDICTION] = answers, spoken[places]
    made = reference(some, seats, codes, windows)
    (folder / REFERENCE).write_bytes(msgspec.msgpack.encode(made))


def _windows(
    one: Seat, codes: NDArray[np.int64], frame: "pl.DataFrame", time: str
) -> tuple[ColumnProfile, ...]:
    """The column day by day (UTC), without days that have less than half of the usual rows."""
    if not time or not frame.height:
        return ()
    at = seconds_of(frame, time)
    dated = np.isfinite(at)
    _, days = np.unique(np.floor(at[dated] / DAY), return_inverse=True)
    made = windows_of(one, codes[dated], days.astype(np.int64))
    usual = float(np.median([w.n for w in made])) if made else 0.0
    return tuple(w for w in made if w.n >= usual / 2)


def reference_of(folder: Path) -> Reference | None:
    """What a package or model folder carries; None of one that was trained before there was any."""
    try:
        data = (folder / REFERENCE).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.msgpack.decode(data, type=Reference)
