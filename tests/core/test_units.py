"""Units: each counts once, whoever asks often, moves between arms, or waits long for its label."""

from math import inf, log

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fairlead.core.cohort import at_risk
from fairlead.core.join import Labels, keys_of
from fairlead.core.ledger import LIVE, Rows
from fairlead.core.prediction import Feedback
from fairlead.core.ref import Ref
from fairlead.core.sequential import log_e_harm
from fairlead.core.units import Entries, answered, cohorts, entries, spent

OLD, NEW = 0, 1
ME = Ref("package", "shop", "b2")
Floats = NDArray[np.float64]


def rows(unit: list[int], at: list[float], package: list[int], epoch: list[int]) -> Rows:
    n = len(unit)
    return Rows(np.arange(1, n + 1, dtype=np.uint64), np.array(unit, np.uint64), np.array(at), np.zeros(n, np.float32),
                np.array(epoch, np.int64), np.array(package, np.int16), np.full(n, LIVE, np.uint8),
                np.full(n, 0.5, np.float32), np.zeros((n, 1)), np.zeros((n, 0), np.int8))  # fmt: skip


def test_a_customer_counts_once_with_the_first_event_of_any_request() -> None:
    seen = rows([7, 7, 7, 8], [0.0, 10.0, 20.0, 5.0], [NEW, NEW, NEW, OLD], [2, 2, 2, 2])
    found = entries(seen, np.array([inf, 50.0, 30.0, inf]), np.array([9.0, inf, inf, inf]))
    assert found.at.tolist() == [0.0, 5.0] and found.event.tolist() == [30.0, inf]
    assert found.left.tolist() == [inf, inf], "that this visit sold nothing does not end the customer"


def test_a_request_by_itself_ends_when_it_is_known_that_nothing_will_come() -> None:
    seen = rows([0, 0], [0.0, 1.0], [NEW, OLD], [2, 2])
    found = entries(seen, np.array([inf, 4.0]), np.array([9.0, inf]))
    assert sorted(zip(found.event, found.left, strict=True)) == [(4.0, inf), (inf, 9.0)]


def test_whoever_moves_to_the_candidate_comes_in_anew_and_still_counts_once() -> None:
    seen = rows([7, 7, 7], [0.0, 100.0, 200.0], [OLD, NEW, NEW], [2, 3, 4])
    found = entries(seen, np.array([inf, 150.0, inf]), np.full(3, inf))
    assert found.epoch.tolist() == [2, 3], "after the event the unit is no longer at risk"
    assert found.event.tolist() == [inf, 150.0] and found.left.tolist() == [150.0, inf]


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1e5), st.integers(0, 1), st.integers(1, 3),
                          st.one_of(st.none(), st.floats(0, 1e5))), max_size=40), st.floats(0, 2e5))  # fmt: skip
def test_no_unit_has_two_events_and_nobody_is_lost(
    asked: list[tuple[int, float, int, int, float | None]], now: float
) -> None:
    seen = rows(*([a[i] for a in asked] for i in (0, 1, 2, 3)))  # type: ignore[arg-type]
    event = np.array([inf if a[4] is None else max(a[4], a[1]) for a in asked])
    made = list(cohorts(entries(seen, event, np.full(len(asked), inf)), NEW, OLD, now))
    struck = sum(x + y for c in made for x, y in c.events.values())
    lost = sum(x + y for c in made for x, y in c.left.values())
    assert struck + lost == sum(sum(c.entered) for c in made)
    units = {(a[0] or -i - 1) for i, a in enumerate(asked) if a[4] is not None and event[i] <= now}
    assert struck <= len(units)


def test_what_is_told_of_a_prediction_is_an_event_or_its_end() -> None:
    labels = Labels()
    labels.add([Feedback(prediction=p, name="bought", value=v, at=at)
                for p, v, at in (("a", True, 5.0), ("b", 0.0, 6.0), ("c", "maybe", 7.0))])  # fmt: skip
    seen = rows([0] * 4, [0.0] * 4, [NEW] * 4, [2] * 4)
    seen = Rows(keys_of(["a", "b", "c", "d"]), *(getattr(seen, f) for f in seen.__struct_fields__[1:]))
    happened, none = answered(seen, labels.truth())
    assert happened.tolist() == [5.0, inf, inf, inf] and none.tolist() == [inf, 6.0, inf, inf]
    (moments,) = spent(seen, labels.truth(), "amount:bought", ME, 0.5)
    assert (moments.n, moments.total, moments.at) == (4, 1.0, 2.0), "cut off at the cap"
    assert list(answered(seen, Labels().truth())[0]) == [inf] * 4


def week(rng: np.random.Generator, ratio: float) -> tuple[Entries, Floats]:
    """4,000 customers come in over a day in which the share grows from 5 to 50 %; one in four has
    its event (the candidate's `ratio` times as often), after 12 hours on average."""
    at = np.sort(rng.random(4000)) * 86400
    epoch = 1 + (at > 28800) + (at > 57600)
    new = rng.random(4000) < np.array([0.05, 0.25, 0.5])[epoch - 1]
    hit = rng.random(4000) < 0.25 * np.where(new, ratio, 1.0)
    event = np.where(hit, at + rng.exponential(43200, 4000), inf)
    return Entries(epoch.astype(np.int64), new.astype(np.int16), at, event, np.full(4000, inf)), at


def proven(rng: np.random.Generator, ratio: float) -> tuple[bool, bool]:
    """Harm proven at any of 14 looks within two days; and by the rates of "so far" (z above 1.96)."""
    found, at = week(rng, ratio)
    new, ours, naive = found.package == NEW, False, False
    for now in np.linspace(20_000, 172_800, 14).tolist():
        ours |= log_e_harm(list(at_risk(cohorts(found, NEW, OLD, now)))) >= log(20)
        here, done = at <= now, found.event <= now
        p, q = (done[here & arm].mean() for arm in (new, ~new))
        se = np.sqrt(p * (1 - p) / max((here & new).sum(), 1) + q * (1 - q) / (here & ~new).sum())
        naive |= abs(p - q) > 1.96 * se
    return ours, naive


def test_a_ramp_with_late_events_harms_nobody_and_real_harm_is_found() -> None:
    rng = np.random.default_rng(11)
    calm = [proven(rng, 1.0) for _ in range(40)]
    assert sum(ours for ours, _ in calm) <= 4 and sum(naive for _, naive in calm) > 20
    assert sum(proven(rng, 1.5)[0] for _ in range(8)) >= 7
