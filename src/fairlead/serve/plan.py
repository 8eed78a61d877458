"""Plans: a route as this gateway can carry it out now, given which packages are ready."""

from collections.abc import Callable, Mapping

from msgspec.structs import replace as changed

from fairlead.core.ref import Ref
from fairlead.core.traffic import Arm, Assignment, Route, chooser
from fairlead.serve.batch import Lane

__all__ = ["ALL", "Plan"]

ALL = Assignment(0, 1.0)


class Plan:
    """`route` with the shares of packages that are still loading given back to the baseline.

    `lanes[i]` leads to `route.arms[i]`; None where the package cannot even be read. A package that
    failed to load keeps its share: its rows fail at once and the baseline answers them, so that
    the failure is seen and counted.
    """

    __slots__ = ("assign", "baseline", "lanes", "published", "route")

    def __init__(self, route: Route, baseline: Lane, lanes: Mapping[Ref, Lane]) -> None:
        """`baseline` leads to `route.arms[0]`, `lanes` to the packages that could be read."""
        self.published, self.baseline = route, baseline
        self.lanes: tuple[Lane | None, ...] = tuple(lanes.get(a.package) for a in route.arms)
        arms = [a if _settled(lane) else changed(a, weight=0.0, mirror=0.0)
                for a, lane in zip(route.arms[1:], self.lanes[1:], strict=True)]  # fmt: skip
        back = sum(a.weight for a in route.arms[1:]) - sum(a.weight for a in arms)
        first = changed(route.arms[0], weight=route.arms[0].weight + back, mirror=0.0)
        pins = {u: p for u, p in route.pins.items() if _settled(lanes.get(p))}
        self.route = changed(route, arms=(first, *arms), pins=pins)
        only = not pins and not any(a.weight or a.mirror for a in arms)
        # Who answers a unit, and who sees it too; no hashing where there is no choice.
        self.assign: Callable[[str], Assignment] = (lambda _: ALL) if only else chooser(self.route)

    @property
    def arms(self) -> tuple[Arm, ...]:
        return self.route.arms


def _settled(lane: Lane | None) -> bool:
    return lane is None or lane.settled
