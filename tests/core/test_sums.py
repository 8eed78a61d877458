from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.sums import COARSE, FINE, cut, instant, total

values = st.floats(-1e9, 1e9)


@given(values)
def test_a_value_loses_less_than_a_fine_step(value: float) -> None:
    coarse, fine = cut(value)
    kept = Fraction(coarse) / Fraction(COARSE) + Fraction(fine) / Fraction(COARSE * FINE)
    assert abs(Fraction(value) - kept) < Fraction(1) / Fraction(COARSE * FINE)
    assert cut(-value) == (-coarse, -fine)


@given(st.lists(values, max_size=20), st.randoms())
def test_order_and_what_came_before_change_nothing(window: list[float], chance: object) -> None:
    def summed(facts: list[float]) -> tuple[int, int]:
        cuts = [cut(f) for f in facts]
        return sum(c for c, _ in cuts), sum(f for _, f in cuts)

    shuffled = list(window)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    before = summed([1e13, 0.1, -7.3])
    after = summed([1e13, 0.1, -7.3, *shuffled])
    difference = total(after[0] - before[0], after[1] - before[1])
    assert difference == total(*summed(window))
    assert abs(difference - sum(map(Fraction, window))) <= 1e-6


def test_seconds_become_the_microsecond_they_were_written_from() -> None:
    assert instant(1_370_000_000.123457) == 1_370_000_000_123_457
    assert instant(-0.5) == -500_000
