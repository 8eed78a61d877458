"""The one control loop: observe, judge, decide, commit, publish. Run it as often as you like."""

import logging
from collections.abc import Callable, Iterator

from msgspec.structs import replace as changed

from fairlead.core.check import Action
from fairlead.core.decision import Decision
from fairlead.core.event import Event
from fairlead.core.evidence import EvidenceSet
from fairlead.core.release import Phase, Release, Service, advance, apply, route, settle
from fairlead.core.traffic import Route
from fairlead.errors import Conflict, Corrupt, Unavailable
from fairlead.flow.release import transition
from fairlead.ports import Change, Clock, Records, Router

__all__ = ["Observe", "Respond", "publish", "tick"]

log = logging.getLogger(__name__)

Observe = Callable[[Release, float], EvidenceSet]
"""What is known of the packages of a release, as of now. Unavailable counts as silence."""

Respond = Callable[[Release, Decision], list[Event]]
"""Carries out what a decision asks beside traffic (alert, retrain); is asked at every tick."""

ACTOR = "fairlead"


def tick(records: Records, router: Router, clock: Clock, observe: Observe,
         respond: Respond | None = None, *, service: str = "") -> list[Event]:  # fmt: skip
    """Move every running release as far as its evidence allows; return what happened.

    First the change is committed with its event, then the route that follows from the stored state
    is published. Publishing is repeated at every tick, so a crash in between heals itself, and a
    service without a release keeps its route. Somebody else being first is no error: the next tick
    reads again. `service`: only this one ("" means all).
    Raises Unavailable when the records or the router cannot be reached.
    """
    events: list[Event] = []
    # Read before the records: a published epoch that a LATER read of the records does not know
    # cannot come from another controller; then the records are older than the route.
    published = _published(router)
    for here in records.services():
        if service not in ("", here.name):
            continue
        try:
            for event in _turn(records, router, clock, observe, respond, here, published):
                events.append(event)
        except Conflict as error:
            log.warning("%s: %s; read again at the next tick", here.name, error)
    return events


def publish(records: Records, router: Router, service: str) -> None:
    """Publish the route of a service as stored now, after a command, without waiting for a tick.

    Does nothing while somebody else is changing the state: what they stored is newer, and the next
    tick publishes it. The command before it has succeeded all the same.
    """
    here = records.service(service)
    if here is None:
        return
    try:
        _tell(router, here, _release(records, here))
    except Conflict as error:
        log.info("%s: %s; the next tick publishes", service, error)


def _turn(records: Records, router: Router, clock: Clock, observe: Observe,
          respond: Respond | None, here: Service, published: Route | None) -> Iterator[Event]:  # fmt: skip
    """One service, one tick; yields each event once it is committed."""
    if published is not None and published.epoch > here.epoch:
        here, change = _lifted(here, published.epoch, clock.now())
        yield records.commit(change)
    release = _release(records, here)
    if release is None or release.phase is not Phase.RUNNING:
        _tell(router, here, release)
        return
    now = clock.now()
    try:
        evidence = observe(release, now)
    except Unavailable as error:
        log.info("%s: nothing is known of %s: %s", here.name, release.id, error)
        evidence = EvidenceSet()
    decision = advance(release, evidence, now)
    after = apply(release, decision, evidence)
    if after != release:
        there = settle(here, after)
        change = transition(_verb(release, after), now, ACTOR, release, after, (here, there), decision)
        yield records.commit(change)
        here = there
    _tell(router, here, after)
    if respond is not None and decision.actions & {Action.ALERT, Action.RETRAIN}:
        yield from respond(after, decision)


def _release(records: Records, here: Service) -> Release | None:
    """The release of a service, both as they stood at one moment.

    Every change of a route raises the service's epoch, so a service that reads the same before
    and after was not changed in between. Raises Conflict when it was.
    """
    if not here.release:
        return None
    release = records.release(here.release)
    if records.service(here.name) != here:
        raise Conflict(f"service {here.name!r} changed while it was read", hint="read it again")
    return release


def _tell(router: Router, here: Service, release: Release | None) -> None:
    wanted = route(here, release)
    if wanted is not None and wanted != _published(router):
        router.publish(wanted)


def _published(router: Router) -> Route | None:
    """What the router holds; a damaged route counts as none, so that it is published anew."""
    try:
        return router.published()
    except Corrupt as error:
        log.warning("the published route is damaged and will be replaced: %s", error)
        return None


def _lifted(here: Service, epoch: int, now: float) -> tuple[Service, Change]:
    """`here` above a published epoch that the records do not know, as after restoring a backup.

    Without this the router would refuse every new route.
    """
    there = changed(here, epoch=epoch + 1)
    body = {"service": here.name, "from": here.epoch, "epoch": there.epoch}
    return there, Change(at=now, actor=ACTOR, verb="service.fenced",
                         subject=f"service/{here.name}", body=body, services=((here, there),))  # fmt: skip


def _verb(before: Release, after: Release) -> str:
    if after.phase.final:
        return after.phase.value
    if after.step != before.step:
        return "advanced"
    if after.candidates != before.candidates:
        return "dropped"
    return "rewound" if after.entered_at != before.entered_at else "weighed"
