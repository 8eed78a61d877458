"""Traffic: who answers a request. Every release strategy is a list of steps, and only that."""

from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from math import inf, log
from struct import Struct as Layout

from msgspec import Struct

from fairlead.core.check import Amount, Balance, Check, Harm, Odds, PairedLoss
from fairlead.core.ref import Ref
from fairlead.errors import Invalid

__all__ = ["DAY", "HOUR", "MINUTE", "Adaptive", "Arm", "Assignment", "Fixed", "Route", "Step",
           "TrafficPlan", "ab_test", "assign", "bandit", "blue_green", "canary",
           "chooser", "replace", "shadow"]  # fmt: skip

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Fixed(Struct, frozen=True, tag="fixed"):
    """A constant share of live traffic, split evenly between the candidates."""

    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise Invalid(f"share {self.weight} is not between 0 and 1", hint="10 % is 0.1")


class Adaptive(Struct, frozen=True, tag="adaptive", kw_only=True):
    """A share that follows the evidence of `reward`, kept inside [floor, ceiling]."""

    reward: str
    floor: float = 0.05
    ceiling: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.ceiling < 1:
            raise Invalid(
                f"floor {self.floor} and ceiling {self.ceiling} are not 0 < floor <= ceiling < 1",
                hint="keep a floor, or the bandit stops learning",
            )


class Step(Struct, frozen=True, kw_only=True):
    """Give the candidates this share, for at least `hold` seconds, until the checks pass.

    `mirror`: share of requests also sent to every candidate without answering the caller.
    `pin`: units that always meet the (first) candidate. `patience`: seconds UNKNOWN may last.
    """

    share: Fixed | Adaptive = Fixed(0.0)
    mirror: float = 0.0
    pin: tuple[str, ...] = ()
    hold: float = 0.0
    patience: float = DAY
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.mirror <= 1:
            raise Invalid(f"mirror {self.mirror} is not between 0 and 1")
        if self.hold < 0 or self.patience <= 0 or self.patience < self.hold:
            raise Invalid(
                f"hold {self.hold:g} s and patience {self.patience:g} s do not fit",
                hint="0 <= hold <= patience, and patience above 0",
            )
        for check in self.checks:
            self._refuse_starved(check)

    def _refuse_starved(self, check: Check) -> None:
        live = isinstance(self.share, Adaptive) or self.share.weight > 0
        if isinstance(check.rule, Harm | Balance | Amount) and not live and not self.mirror:
            raise Invalid(
                f"check {check.name!r} compares traffic, but this step gives the candidate none",
                hint="give the step a share or a mirror",
            )
        if isinstance(check.rule, PairedLoss) and not self.mirror:
            raise Invalid(
                f"check {check.name!r} compares pairs, but this step mirrors nothing",
                hint="set mirror above 0",
            )


class TrafficPlan(Struct, frozen=True, kw_only=True):
    """Ordered steps, then promote the winner or keep the baseline.

    `odds`: the chance to roll back a harmless candidate and to promote a harmful one.
    `sticky_by`: request column that names the unit; "" assigns each request on its own.
    `goal`: measure that picks the winner where several candidates reach the end.
    """

    name: str
    steps: tuple[Step, ...]
    promote: bool = True
    sticky_by: str = ""
    goal: str = ""
    odds: Odds = Odds()

    def __post_init__(self) -> None:
        if not self.steps:
            raise Invalid("a traffic plan needs at least one step", hint="see docs on releases")


class Arm(Struct, frozen=True):
    """A package's share of live answers, and of mirrored requests."""

    package: Ref
    weight: float
    mirror: float = 0.0


class Route(Struct, frozen=True, kw_only=True):
    """What the gateway obeys. `arms[0]` is the baseline and the fallback of every other arm.

    `standby`: packages kept loaded for an instant return. `epoch` only ever rises.
    """

    service: str
    arms: tuple[Arm, ...]
    pins: dict[str, Ref] = {}
    standby: tuple[Ref, ...] = ()
    sticky_by: str = ""
    salt: str = ""
    epoch: int = 0


class Assignment(Struct, frozen=True):
    """One request's fate: indices into `route.arms`; the propensity is logged."""

    live: int
    propensity: float
    mirrors: tuple[int, ...] = ()


def assign(route: Route, unit: str) -> Assignment:
    """Pick deterministically: the same unit meets the same package while the weights stand.

    Weighted rendezvous hashing: each arm draws u in (0, 1) from hash(salt, unit); the smallest
    -ln(u) / weight wins. So arm i wins with probability weight_i, and raising one weight moves
    units only towards that arm.
    """
    draws = blake2b(
        f"{route.salt}\0{unit}".encode(errors="surrogatepass"), digest_size=64
    ).digest()
    mirrors = tuple(
        i for i, arm in enumerate(route.arms) if arm.mirror and _draw(draws, 7 - i % 4) < arm.mirror
    )
    if route.pins and unit in route.pins:
        pinned = route.pins[unit]
        for i, arm in enumerate(route.arms):
            if arm.package == pinned:
                return Assignment(i, 1.0, tuple(m for m in mirrors if m != i))
    best, live = inf, 0
    for i, arm in enumerate(route.arms):
        if arm.weight <= 0:
            continue
        cost = -log(_draw(draws, i)) / arm.weight if i < 4 else _late_draw(route, unit, i)
        if cost < best:
            best, live = cost, i
    return Assignment(live, route.arms[live].weight, tuple(m for m in mirrors if m != live))


def chooser(route: Route) -> Callable[[str], Assignment]:
    """`assign` compiled for one route: the same fates, in less than half the time."""
    if len(route.arms) > 4 or route.pins:
        return partial(assign, route)
    stem = f"{route.salt}\0".encode(errors="surrogatepass")
    lives = [(i, a.weight) for i, a in enumerate(route.arms) if a.weight > 0]
    seen = [(i, 7 - i, a.mirror) for i, a in enumerate(route.arms) if a.mirror]
    alone = [Assignment(i, arm.weight) for i, arm in enumerate(route.arms)]

    def choose(unit: str) -> Assignment:
        draws = _DRAWS(blake2b(stem + unit.encode(errors="surrogatepass")).digest())
        best, live = inf, 0
        for i, weight in lives:
            cost = -log((draws[i] + 1) / _SPAN) / weight
            if cost < best:
                best, live = cost, i
        if not seen:
            return alone[live]
        mirrors = tuple([i for i, place, share in seen
                         if i != live and (draws[place] + 1) / _SPAN < share])  # fmt: skip
        return Assignment(live, alone[live].propensity, mirrors)

    return choose


_DRAWS = Layout(">8Q").unpack
_SPAN = 2**64 + 1


def _draw(draws: bytes, place: int) -> float:
    """The place-th 64 bits as a number in (0, 1]; never 0, so the logarithm exists."""
    return (int.from_bytes(draws[8 * place : 8 * place + 8], "big") + 1) / _SPAN


def _late_draw(route: Route, unit: str, place: int) -> float:
    seed = f"{route.salt}\0{unit}\0{place}".encode(errors="surrogatepass")
    return -log(_draw(blake2b(seed, digest_size=8).digest(), 0)) / route.arms[place].weight


# The strategies. Each is a few words in the language above; none has code of its own.


def replace() -> TrafficPlan:
    """All traffic at once, no questions asked."""
    return TrafficPlan(name="replace", steps=(Step(share=Fixed(1.0)),))


def blue_green(
    checks: tuple[Check, ...], *, pin: tuple[str, ...] = (), hold: float = 10 * MINUTE,
    patience: float = DAY, odds: Odds = Odds(),  # noqa: B008
) -> TrafficPlan:  # fmt: skip
    """Preview beside the live one (mirrored and pinned), then all traffic, the old one kept warm."""
    preview = Step(mirror=1.0, pin=pin, hold=hold, patience=patience, checks=checks)
    return TrafficPlan(name="blue_green", steps=(preview, Step(share=Fixed(1.0))), odds=odds)


def canary(
    checks: tuple[Check, ...], *, shares: tuple[float, ...] = (0.05, 0.25, 0.5),
    hold: float = 10 * MINUTE, patience: float = DAY, sticky_by: str = "",
    odds: Odds = Odds(),  # noqa: B008
) -> TrafficPlan:  # fmt: skip
    """Growing shares; each step waits for evidence, not for minutes."""
    steps = tuple(
        Step(share=Fixed(s), hold=hold, patience=patience, checks=checks) for s in shares
    )
    return TrafficPlan(name="canary", steps=steps, sticky_by=sticky_by, odds=odds)


def shadow(
    checks: tuple[Check, ...], *, hold: float = HOUR, patience: float = 7 * DAY,
    promote: bool = False, odds: Odds = Odds(),  # noqa: B008
) -> TrafficPlan:  # fmt: skip
    """Every request also goes to the candidate; nobody sees its answers."""
    step = Step(mirror=1.0, hold=hold, patience=patience, checks=checks)
    return TrafficPlan(name="shadow", steps=(step,), promote=promote, odds=odds)


def ab_test(
    checks: tuple[Check, ...], *, share: float = 0.5, days: float = 14, sticky_by: str = "",
    goal: str = "", odds: Odds = Odds(),  # noqa: B008
) -> TrafficPlan:  # fmt: skip
    """A fixed split between the baseline and the candidates for a fixed time."""
    step = Step(share=Fixed(share), hold=days * DAY, patience=2 * days * DAY, checks=checks)
    return TrafficPlan(name="ab_test", steps=(step,), sticky_by=sticky_by, goal=goal, odds=odds)


def bandit(
    checks: tuple[Check, ...], *, reward: str, days: float = 7, sticky_by: str = "",
    odds: Odds = Odds(),  # noqa: B008
) -> TrafficPlan:  # fmt: skip
    """Shares follow the reward, never below a floor; propensities keep the log unbiased."""
    step = Step(share=Adaptive(reward=reward), hold=days * DAY,
                patience=max(30, 2 * days) * DAY, checks=checks)  # fmt: skip
    return TrafficPlan(name="bandit", steps=(step,), sticky_by=sticky_by, goal=reward, odds=odds)

