"""The switch: follows the published route, and moves traffic only onto packages that are ready."""

import asyncio
from pathlib import Path
from time import perf_counter

from fairlead.core.artifact import PackageSpec
from fairlead.core.chat import OPENAI
from fairlead.core.ref import Ref
from fairlead.core.traffic import Route
from fairlead.errors import FairleadError, Invalid
from fairlead.ports import Router
from fairlead.serve import package
from fairlead.serve.batch import Lane
from fairlead.serve.dispatch import Dispatch
from fairlead.serve.plan import Plan
from fairlead.serve.provider import ProviderLane, Secret
from fairlead.serve.reader import Contracts, Reader
from fairlead.serve.replica import FAILED, socket_name

__all__ = ["Switch", "packages_of", "shadows_of"]

RETRY = 1.0
"""Seconds between two attempts to read a package."""
LINGER = 1.0
"""Seconds a lane that is no longer named stays, for what is still on its way."""


class Switch:
    """Keeps a lane to every package of the route, and `dispatch.plan` up to date.

    A new route takes effect when its baseline is ready; until then the one before stays in force.
    An older epoch, a broken signature or an unreadable file changes nothing: `trouble` says so.
    """

    def __init__(self, router: Router, packages: Path, run: Path, dispatch: Dispatch, secret: Secret) -> None:
        """`secret`: reads the keys that packages of providers name."""
        self.secret = secret
        self.router, self.packages, self.run, self.dispatch = router, packages, run, dispatch
        self.target: Route | None = None
        self.trouble = ""
        self.lanes: dict[Ref, Lane] = {}
        self.broken: dict[Ref, str] = {}
        self._contracts: Contracts = {}
        self._applied: tuple[Route | None, tuple[bool, ...]] = (None, ())
        self._leaving: dict[Ref, float] = {}
        self._tried = 0.0

    def watch(self) -> None:
        """Look at the published route; called many times a second."""
        try:
            route = self.router.published()
        except FairleadError as error:
            self.trouble = str(error)
        else:
            self._heard(route)
        self._mend()
        self.apply()
        self._retire()

    def apply(self) -> None:
        """Put the route into force as far as its packages are ready."""
        route, dispatch = self.target, self.dispatch
        if route is None:
            return
        lanes = [self.lanes.get(a.package) for a in route.arms]
        now = (route, tuple(lane is None or lane.settled for lane in lanes))
        if now == self._applied:
            return
        if not route.arms:
            self._applied, dispatch.plan = now, None
            return
        baseline = lanes[0]
        if baseline is None or not (baseline.ready_once or dispatch.plan is None):
            return
        self._applied = now
        for ref, lane in self.lanes.items():
            lane.reader = self._reader(ref, lane.reader, route.sticky_by)
            lane.patient = lane is baseline
        dispatch.plan = Plan(route, baseline, self.lanes)

    def close(self) -> None:
        """Let go of all replicas."""
        for lane in self.lanes.values():
            lane.hang_up()

    @property
    def ready(self) -> bool:
        """Whether somebody would answer now."""
        plan = self.dispatch.plan
        return plan is not None and plan.baseline.up

    def _heard(self, route: Route | None) -> None:
        if route is None or route is self.target:
            return
        if self.target is not None and route.epoch < self.target.epoch:
            self.trouble = f"a route of epoch {route.epoch} after one of {self.target.epoch}"
            return
        if route.service != self.dispatch.config.service:
            self.trouble = f"a route of the service {route.service!r}"
            return
        self.target, self.trouble = route, ""
        for ref in packages_of(route):
            if ref not in self.lanes:
                self._open(ref, route.sticky_by)

    def _open(self, ref: Ref, sticky: str) -> None:
        try:
            spec = package.read(self.packages / ref.digest)
            self.lanes[ref] = self._lane(spec, Reader(ref, spec, sticky, self._contracts))
        except FairleadError as error:
            self.broken[ref] = str(error)
            return
        self.broken.pop(ref, None)

    def _lane(self, spec: PackageSpec, reader: Reader) -> Lane:
        """The way to the replicas of a package, or to its provider. Raises Corrupt, Missing, Invalid."""
        config, loop, ref = self.dispatch.config, asyncio.get_running_loop(), reader.ref
        if config.chat != (spec.flavor == OPENAI):
            raise Invalid(f"{ref.short} answers {'rows' if config.chat else 'chats'}, and this service does not",
                          hint="one service serves one kind")  # fmt: skip
        if config.chat:
            files = package.files(self.packages / ref.digest, spec)
            return ProviderLane(reader, self.dispatch, loop, files, self.secret, config.deadline)
        lane = Lane(reader, self.dispatch, loop, loading=config.load_seconds, deadline=config.deadline,
                    shadow_limit=config.shadow_queue)  # fmt: skip
        lane.dial([self.run / socket_name(ref.digest, i) for i in range(config.replicas)], FAILED)
        return lane

    def _mend(self) -> None:
        """Try again, now and then, to read a package that could not be read."""
        if self.target is None or not self.broken or perf_counter() - self._tried < RETRY:
            return
        self._tried = perf_counter()
        for ref in self.broken.keys() & set(packages_of(self.target)):
            self._open(ref, self.target.sticky_by)

    def _reader(self, ref: Ref, old: Reader, sticky: str) -> Reader:
        """The reader of a package under another sticky column."""
        if sticky == (old.contract.names[old.sticky] if old.sticky >= 0 else ""):
            return old
        return Reader(ref, old.spec, sticky, self._contracts)

    def _retire(self) -> None:
        """Hang up on packages that neither the route nor the plan in force names."""
        if self.target is None:
            return
        plan, now = self.dispatch.plan, perf_counter()
        named = {*packages_of(self.target), *(packages_of(plan.published) if plan else ())}
        for ref in [r for r in self.lanes if r in named]:
            self._leaving.pop(ref, None)
        for ref in [r for r in self.lanes if r not in named]:
            since = self._leaving.setdefault(ref, now)
            if now - since > LINGER and self.lanes[ref].idle:
                self.lanes.pop(ref).hang_up()
                del self._leaving[ref]


def packages_of(route: Route) -> tuple[Ref, ...]:
    """Every package a route wants loaded, the answering ones first, each once."""
    return tuple(dict.fromkeys([*(a.package for a in route.arms), *route.standby]))


def shadows_of(route: Route) -> frozenset[Ref]:
    """The packages of a route whose answers nobody sees."""
    seen = {*route.pins.values(), *(a.package for a in route.arms[:1])}
    return frozenset(a.package for a in route.arms if not a.weight and a.package not in seen)
