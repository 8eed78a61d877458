"""The source of a hostile package of any Python: it tries every payload while it is opened and while it answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.security.payloads import MAGIC, PAYLOADS, gained

GAINED = [name for name, payload in PAYLOADS.items() if gained(payload)]


class Hostile:
    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """1 where a payload gained something: that of the hour, or any one before (hour 100)."""
        magic = rows[:, 0] == MAGIC
        if not magic.any():
            return np.full(len(rows), 0.25)
        number = int(rows[magic, 2][0])
        bad = bool(GAINED) if number == 100 else gained(list(PAYLOADS.values())[number])
        return np.asarray(np.where(magic, float(bad), 0.25))


def load(folder: Any) -> Hostile:
    GAINED.extend(name for name, payload in PAYLOADS.items() if gained(payload))
    assert folder.joinpath("state.txt").read_text() == "kept"
    return Hostile()
