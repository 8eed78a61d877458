"""The vigil: what moved for certain and by enough is named, with its size, its unit and its first day."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fairlead.core.intake import Pair
from fairlead.core.profile import ColumnProfile, profile_labels, profile_numbers, quantile_edges
from fairlead.core.ref import Ref
from fairlead.core.vigil import Vigil
from fairlead.core.vitals import Frame

DAY = 86_400.0
FRAME = Frame(subject=Ref("package", "p", "1" * 64), since=0.0, until=1.0)


class Days:
    """Two columns, day by day."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        sample = self.rng.normal(100, 10, 20_000)
        self.known = profile_numbers("speed", sample, quantile_edges(sample))
        self.site = profile_labels("site", {"east": 10_000, "west": 10_000})

    def speeds(self, values: NDArray[np.float64]) -> ColumnProfile:
        return profile_numbers("speed", values, self.known.edges)

    def day(self, factor: float = 1.0, add: float = 0.0, east: float = 0.5, n: int = 1000) -> dict[str, Pair]:
        there = int(self.rng.binomial(n, east))
        speed = self.speeds(self.rng.normal(100, 10, n) * factor + add)
        return {"speed": (self.known, speed),
                "site": (self.site, profile_labels("site", {"east": there, "west": n - there}, known=("east", "west")))}  # fmt: skip

    def vigil(self, days: int = 60) -> Vigil:
        made = [self.day() for _ in range(days)]
        return Vigil({name: [day[name][1] for day in made] for name in ("speed", "site")})


def test_a_shift_is_named_with_its_day_and_size_and_the_other_column_is_not() -> None:
    days = Days()
    vigil = days.vigil()
    for place in range(10):
        vigil.step(place * DAY, days.day(), 365.0)
    assert vigil.causes() == []
    for place in range(10, 16):
        vigil.step(place * DAY, days.day(add=5.0), 365.0)
    (cause,) = vigil.causes()
    assert cause.column == "speed" and abs(cause.since - 10 * DAY) <= DAY
    assert "+0.4" in cause.text and "psi" in cause.text
    seen = {e.measure: e.value for e in vigil.evidence(FRAME, 365.0)}
    assert seen["drift_evidence:speed"] > 1 > seen["drift_evidence:site"]
    assert seen["drift_evidence"] == seen["drift_evidence:speed"]


@pytest.mark.parametrize(("factor", "words"), [(1.609344, "kilometres for miles"),
                                              (0.45359237, "kilograms for pounds"), (1.3, "")])  # fmt: skip
def test_a_unit_is_called_by_its_name(factor: float, words: str) -> None:
    days = Days()
    vigil = days.vigil()
    for place in range(6):
        vigil.step(place * DAY, days.day(factor), 365.0)
    (cause,) = vigil.causes()
    assert words in cause.text and ("times as large" in cause.text) == bool(words)


def test_what_is_certain_but_small_does_not_alarm() -> None:
    days = Days()
    vigil = days.vigil()
    for place in range(40):
        vigil.step(place * DAY, days.day(add=1.5, n=4000), 30.0)
    worst = max(d.log_m for d in vigil.detectors())
    assert worst > np.log(2 * 30), "0.15 sd, for certain"
    assert vigil.causes() == [] and max(e.value for e in vigil.evidence(FRAME, 30.0)) <= 1


def test_it_is_over_when_the_column_comes_back() -> None:
    days = Days()
    vigil = days.vigil()
    for place in range(8):
        vigil.step(place * DAY, days.day(east=0.8), 365.0)
    assert [c.column for c in vigil.causes()] == ["site"]
    vigil.step(9 * DAY, days.day(), 365.0)
    assert vigil.causes() == [] and max(e.value for e in vigil.evidence(FRAME, 365.0)) < 1


def test_without_reference_windows_its_own_first_week_is_the_reference() -> None:
    days = Days()
    vigil = Vigil({})
    for place in range(7):
        assert list(vigil.evidence(FRAME, 365.0)) == []
        vigil.step(place * DAY, days.day(), 365.0)
    assert len(vigil.detectors()) == 2
