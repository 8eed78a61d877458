"""The laws of assignment, and which plans are refused before they can hurt."""

from collections import Counter
from math import sqrt

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.core import traffic
from fairlead.core.check import Balance, Bound, Check, Harm, PairedLoss
from fairlead.core.ref import Ref
from fairlead.core.traffic import Adaptive, Arm, Fixed, Route, Step, TrafficPlan, assign, chooser
from fairlead.errors import Invalid

OLD, A, B = (Ref("package", "fraud", d) for d in ("a1", "b2", "c3"))
MANY = tuple(Ref("package", "fraud", f"{i:02x}") for i in range(7))
ERRORS = Check(name="errors", measure="errors", rule=Harm())
NUMBER = Check(name="auc", measure="auc", rule=Bound(low=0.5))
PAIRS = Check(name="loss", measure="loss", rule=PairedLoss())
SPLIT = Check(name="split", measure="units", rule=Balance(share=0.1))

weights = st.floats(0.01, 1.0)


def route(*shares: float, salt: str = "r1") -> Route:
    return Route(service="s", salt=salt, epoch=1,
                 arms=tuple(Arm(MANY[i], w) for i, w in enumerate(shares)))  # fmt: skip


@pytest.mark.parametrize(
    "shares", [(0.9, 0.1), (0.5, 0.25, 0.25), (0.05, 0.05, 0.9), (0.4, 0.1, 0.1, 0.1, 0.1, 0.2)]
)
def test_observed_shares_match_the_weights(shares: tuple[float, ...]) -> None:
    here, n = route(*shares), 20_000
    seen = Counter(assign(here, f"unit-{i}").live for i in range(n))
    for arm, share in enumerate(shares):
        assert abs(seen[arm] / n - share) < 4.5 * sqrt(share * (1 - share) / n)


def test_a_unit_meets_the_same_package_until_the_salt_changes() -> None:
    here, other = route(0.5, 0.5), route(0.5, 0.5, salt="r2")
    first = [assign(here, f"u{i}").live for i in range(500)]
    assert first == [assign(here, f"u{i}").live for i in range(500)]
    assert first != [assign(other, f"u{i}").live for i in range(500)]


@given(unit=st.text(), shares=st.lists(weights, min_size=1, max_size=6), factor=st.floats(1, 50))
@example(unit="\ud800", shares=[0.1, 0.2, 0.3, 0.4, 0.5], factor=2.0)
def test_raising_the_candidates_share_moves_nobody(
    unit: str, shares: list[float], factor: float
) -> None:
    """Not back to the baseline, and not from one candidate to another."""
    total = sum(shares)
    low = [s / total * 0.9 / factor for s in shares]
    before = assign(route(1 - sum(low), *low), unit).live
    high = [s * factor for s in low]
    after = assign(route(1 - sum(high), *high), unit).live
    assert after == before or before == 0


@given(unit=st.text(), shares=st.lists(weights, min_size=2, max_size=7), raised=st.integers(0, 6))
def test_raising_one_weight_moves_units_only_towards_it(
    unit: str, shares: list[float], raised: int
) -> None:
    place = raised % len(shares)
    before = assign(route(*shares), unit).live
    after = assign(route(*(s * 3 if i == place else s for i, s in enumerate(shares))), unit).live
    assert after in (before, place)


@given(unit=st.text(), first=st.floats(0, 1))
def test_the_propensity_is_the_weight_of_the_arm(unit: str, first: float) -> None:
    fate = assign(route(first, 1 - first), unit)
    assert fate.propensity == (first, 1 - first)[fate.live] > 0


def test_pinned_units_meet_their_package_whatever_its_share() -> None:
    here = Route(service="s", arms=(Arm(OLD, 1.0), Arm(A, 0.0, 1.0)), pins={"tester": A})
    assert (assign(here, "tester").live, assign(here, "tester").propensity) == (1, 1.0)
    assert assign(here, "somebody").live == 0


def test_a_pin_to_a_package_that_left_is_ignored() -> None:
    here = Route(service="s", arms=(Arm(OLD, 1.0),), pins={"tester": A})
    assert assign(here, "tester").live == 0


def test_mirrors_follow_their_share_and_never_repeat_the_live_answer() -> None:
    here = Route(service="s", salt="x", arms=(Arm(OLD, 0.5), Arm(A, 0.5, 0.2), Arm(B, 0.0, 1.0)))
    fates = [assign(here, f"u{i}") for i in range(10_000)]
    assert all(f.live not in f.mirrors and 2 in f.mirrors for f in fates)
    eligible = [f for f in fates if f.live == 0]
    assert sum(1 in f.mirrors for f in eligible) / len(eligible) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(weight: float) -> None:
    with pytest.raises(Invalid, match="between 0 and 1"):
        Fixed(weight)


@pytest.mark.parametrize("bounds", [(0.0, 0.5), (0.5, 0.4), (0.5, 1.0)])
def test_a_bandit_without_a_floor_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(Invalid, match="floor"):
        Adaptive(reward="ctr", floor=bounds[0], ceiling=bounds[1])


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"checks": (ERRORS,)}, "gives the candidate none"),
        ({"checks": (SPLIT,)}, "gives the candidate none"),
        ({"share": Fixed(0.5), "checks": (PAIRS,)}, "mirrors nothing"),
        ({"mirror": 1.5}, "mirror"),
        ({"hold": 10.0, "patience": 5.0}, "do not fit"),
        ({"hold": -1.0}, "do not fit"),
        ({"patience": 0.0}, "do not fit"),
    ],
)
def test_a_step_that_can_never_finish_is_refused(step: dict[str, object], reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refusal:
        Step(**step)  # type: ignore[arg-type]
    assert refusal.value.hint or "mirror" in str(refusal.value)


def test_such_a_step_is_refused_when_it_is_read_from_a_file_too() -> None:
    text = b'{"name":"x","steps":[{"mirror":0.0,"checks":[{"name":"e","measure":"errors",' \
           b'"rule":{"type":"harm"}}]}]}'  # fmt: skip
    with pytest.raises((Invalid, msgspec.ValidationError), match="gives the candidate none"):
        msgspec.json.decode(text, type=TrafficPlan)


def test_steps_with_traffic_to_compare_are_accepted() -> None:
    Step(share=Fixed(0.1), checks=(ERRORS, SPLIT))
    Step(mirror=0.5, checks=(ERRORS, PAIRS))
    Step(share=Adaptive(reward="ctr"), checks=(ERRORS,))
    Step(checks=(NUMBER,))


def test_a_plan_without_steps_is_refused() -> None:
    with pytest.raises(Invalid, match="at least one step"):
        TrafficPlan(name="empty", steps=())


def test_the_strategies_say_what_their_names_promise() -> None:
    checks = (ERRORS,)
    assert [s.share for s in traffic.canary(checks).steps] == [Fixed(0.05), Fixed(0.25), Fixed(0.5)]
    preview, switch = traffic.blue_green(checks, pin=("qa",)).steps
    assert (preview.share, preview.mirror, preview.pin, switch.share) == (Fixed(0), 1, ("qa",), Fixed(1))
    assert traffic.replace().steps[0].share == Fixed(1.0) and not traffic.replace().steps[0].checks
    assert traffic.shadow((*checks, PAIRS)).steps[0].share == Fixed(0.0)
    assert not traffic.shadow(checks).promote
    assert traffic.ab_test(checks, days=7).steps[0].hold == 7 * traffic.DAY
    assert traffic.bandit(checks, reward="ctr").goal == "ctr"


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.sampled_from([0.0, 0.3, 1.0])),
                min_size=1, max_size=6),
       st.text(max_size=4), st.lists(st.text(max_size=8), min_size=1, max_size=8), st.booleans())  # fmt: skip
def test_the_compiled_choice_is_the_choice(
    arms: list[tuple[float, float]], salt: str, units: list[str], pinned: bool
) -> None:
    here = Route(service="s", salt=salt, pins={units[0]: MANY[len(arms) - 1]} if pinned else {},
                 arms=tuple(Arm(MANY[i], w, m) for i, (w, m) in enumerate(arms)))  # fmt: skip
    choose = chooser(here)
    for unit in (*units, "\ud800"):
        assert choose(unit) == assign(here, unit)
