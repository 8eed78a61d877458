"""Encoders: an encoding compiled for one order of columns, so that a row becomes float32 bytes in a microsecond."""

from collections.abc import Callable, Sequence
from math import nan
from operator import itemgetter
from struct import Struct as Layout
from struct import error as PackingError
from typing import Any

from fairlead.core.encoding import FLOAT32_MAX, Codes, Encoding, Flag, Number, compile_row

__all__ = ["Encoder"]

LOW, HIGH = -FLOAT32_MAX, FLOAT32_MAX
Cell = Any
Wide = Callable[[Cell], list[float]]


class Encoder:
    """Turns values in the order of `names` into one row of the model's matrix.

    Bit-equal to `compile_row` of the same row; only the way is shorter: names are resolved once.
    Numbers are finite: the contract refuses others at the door, where `compile_row` clamps them.
    """

    def __init__(self, encoding: Encoding, names: Sequence[str]) -> None:
        self.encoding, self.names, self.width = encoding, tuple(names), encoding.width
        self._pick = _picker([c.column for c in encoding.columns], self.names)
        self._pack = Layout(f"<{self.width}f").pack
        self._codes = tuple(
            (i, _lookup(c), c.unseen == "other") for i, c in enumerate(encoding.columns)
            if isinstance(c, Codes)
        )  # fmt: skip
        self._wide: dict[int, Wide] = {
            i: _wide(encoding, i) for i, c in enumerate(encoding.columns)
            if not isinstance(c, Number | Flag | Codes)
        }  # fmt: skip

    def encode(self, values: Sequence[Cell]) -> bytes:
        """Little-endian float32 x `width`. Raises Invalid where the encoding refuses a value."""
        cells = values if self._pick is None else self._pick(values)
        try:
            if self._codes:
                cells = list(cells)
                for i, lookup, open_ended in self._codes:
                    cells[i] = lookup.get(cells[i], -1.0) if open_ended else lookup[cells[i]]
            if self._wide:
                cells = self._spread(cells)
            return self._pack(*cells)
        except (PackingError, OverflowError):
            return self._pack(*[nan if c is None else c if LOW <= c <= HIGH else _clamp(c)
                                for c in cells])  # fmt: skip
        except KeyError:
            compile_row(self.encoding)(dict(zip(self.names, values, strict=False)))
            raise

    def _spread(self, cells: Sequence[Cell]) -> list[float]:
        out: list[float] = []
        for i, cell in enumerate(cells):
            wide = self._wide.get(i)
            if wide is None:
                out.append(cell)
            else:
                out += wide(cell)
        return out


def _picker(
    wanted: Sequence[str], names: tuple[str, ...]
) -> Callable[[Sequence[Cell]], Sequence[Cell]] | None:
    """The columns an encoding reads, in its order; None when it reads the values as they are."""
    if tuple(wanted) == names:
        return None
    places = [names.index(w) for w in wanted]
    if len(places) == 1:
        only = places[0]
        return lambda values: (values[only],)
    return itemgetter(*places)


def _lookup(column: Codes) -> dict[Cell, float]:
    return {**{word: float(i) for i, word in enumerate(column.vocabulary)}, None: nan}


def _wide(encoding: Encoding, place: int) -> Wide:
    column = encoding.columns[place]
    encode = compile_row(Encoding((column,)))
    return lambda value: encode({column.column: value})


def _clamp(value: float) -> float:
    """What float32 holds of a value that is too large, or NaN."""
    return value if value != value else max(LOW, min(HIGH, value))
