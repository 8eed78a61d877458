"""Releases by hand: start, pause, resume, abort and roll back, each one change with one event."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace as changed

from fairlead.core import release as core
from fairlead.core.artifact import PackageSpec
from fairlead.core.catalogue import TWIN_FLIPS, TWIN_SHIFT
from fairlead.core.check import Bound, Check, Outcome, Parity
from fairlead.core.decision import Decision
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.release import Phase, Release, Service, settle
from fairlead.core.traffic import DAY, Fixed, Step, TrafficPlan, replace
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.ports import Change, Clock, Records

__all__ = ["abort", "pause", "resume", "rollback", "start", "transition"]

ROLLBACK = "rollback"
"""Name of the plan that returns to an earlier package."""

ALONE = 3650 * DAY
"""Patience where there is no baseline: silence must not take away the only one that answers."""


def start(records: Records, clock: Clock, service: str, packages: Sequence[Ref],
          plan: TrafficPlan, *, actor: str, force: str = "",
          consent: Callable[[], Mapping[str, Any]] = dict) -> Release:  # fmt: skip
    """Begin to release `packages` (several: A/B/n) to `service`; the loop walks the plan.

    The first package of a service answers everything at once, watched by those checks of the plan
    that need no baseline. `force`: why the gate is overruled; it is written into the audit log.
    `consent`: who let it through, told in the event; asked after the service was read, so that the
    same consent starts at most one release; it raises when there is none.
    Raises Conflict (a release is under way), Missing (no such package), Invalid (not a package,
    released already, several without a goal, or its model did not pass the gate and `force` is empty).
    """
    here = records.service(service) or Service(name=service)
    if here.release:
        raise Conflict(f"release {here.release} of {service} is under way",
                       hint="wait for it, or `fairlead release abort`")  # fmt: skip
    if not packages or len(set(packages)) < len(packages) or here.package in packages:
        raise Invalid(f"cannot release {', '.join(p.short for p in packages) or 'nothing'}",
                      hint="name packages, each once, other than the one that serves now")  # fmt: skip
    if here.package is None:
        if len(packages) > 1:
            raise Invalid(f"{service} serves nothing yet: its first release takes one package",
                          hint="release one, then compare the others with it")  # fmt: skip
        plan = _alone(plan)
    elif len(packages) > 1 and plan.promote and not plan.goal:
        raise Invalid(f"plan {plan.name!r} does not say which of {len(packages)} packages wins",
                      hint="set release.goal: a feedback or a metric", pointer="/release/goal")  # fmt: skip
    refusals = {p.short: why for p in packages if (why := _refusal(records, p))}
    if refusals and not force:
        text = "; ".join(f"{p}: {why}" for p, why in refusals.items())
        raise Invalid(f"the gate does not let this through: {text}",
                      hint="`fairlead gate` says why; to overrule it, give a reason to force")  # fmt: skip
    more = {"forced": force, "refused": refusals} if refusals else {}
    more |= consent()
    return _begin(records, clock, here, tuple(packages), plan, actor, more)


def pause(records: Records, clock: Clock, release_id: str, *, actor: str) -> Release:
    """Stop walking the plan; the traffic stays as it is. Raises Missing, or Conflict."""
    before = records.release(release_id)
    after = core.pause(before)
    records.commit(transition("paused", clock.now(), actor, before, after))
    return after


def resume(records: Records, clock: Clock, release_id: str, *, actor: str) -> Release:
    """Walk on; hold and patience of the step start anew. Raises Missing, or Conflict."""
    before, now = records.release(release_id), clock.now()
    after = core.resume(before, now)
    records.commit(transition("resumed", now, actor, before, after))
    return after


def abort(records: Records, clock: Clock, release_id: str, reason: str, *, actor: str) -> Release:
    """End it: the baseline answers everything (nobody does when there is none).

    Raises Missing, or Conflict when it is over.
    """
    before, now = records.release(release_id), clock.now()
    after = core.abort(before, now, reason)
    here = records.service(before.service)
    assert here is not None, "a release is stored together with its service"
    records.commit(transition("aborted", now, actor, before, after, (here, settle(here, after))))
    return after


def rollback(records: Records, clock: Clock, service: str, reason: str, *, actor: str) -> Release:
    """Go back to what served before: abort a release under way, else release the last good package.

    Asking twice does no harm: a rollback under way is returned as it is, and a package that a
    rollback left is not gone back to. Raises Missing when there is nothing to go back to.
    """
    here = records.service(service)
    if here is None:
        raise Missing(f"nothing was ever released to {service!r}", hint="check the service's name")
    if here.release:
        running = records.release(here.release)
        if running.plan.name == ROLLBACK:
            return running
        if running.baseline is not None:
            return abort(records, clock, running.id, reason, actor=actor)
    target = _last_good(records, here)
    plan = changed(replace(), name=ROLLBACK)
    return _begin(records, clock, here, (target,), plan, actor, {"reason": reason})


def transition(verb: str, at: float, actor: str, before: Release | None, after: Release,
               services: tuple[Service | None, Service] | None = None, decision: Decision | None = None,
               **more: Any) -> Change:  # fmt: skip
    """The change that takes a release from `before` to `after`, told in full by its event."""
    body: dict[str, Any] = {"service": after.service, "from": _state(before), "to": _state(after)}
    if services is not None:
        body["epoch"] = services[1].epoch
    if after.reason:
        body["reason"] = after.reason
    if decision is not None:
        # As it will be read back (1 in a float field is 1.0 then), so that the digest can be redone.
        decision = msgspec.json.decode(canonical(decision), type=Decision)
        body["decision"] = digest(decision)
    return Change(
        at=at, actor=actor, verb=f"release.{verb}", subject=f"release/{after.id}",
        body=body | more, decisions=() if decision is None else (decision,),
        releases=((before, after),), services=() if services is None else (services,),
    )  # fmt: skip


def _state(release: Release | None) -> dict[str, Any] | None:
    if release is None:
        return None
    state: dict[str, Any] = {"phase": release.phase, "step": release.step,
                             "revision": release.revision,
                             "candidates": [str(c) for c in release.candidates]}  # fmt: skip
    if release.shares:
        state["shares"] = release.shares
    if release.winner is not None:
        state["winner"] = str(release.winner)
    return state


def _begin(records: Records, clock: Clock, here: Service, packages: tuple[Ref, ...],
           plan: TrafficPlan, actor: str, more: dict[str, Any]) -> Release:  # fmt: skip
    now = clock.now()
    number = len(records.releases(here.name)) + 1
    release = Release(id=f"{here.name}-{number}", service=here.name, candidates=packages,
                      baseline=here.package, plan=plan, started_at=now, entered_at=now)  # fmt: skip
    told = {"plan": plan.name, "baseline": here.package and str(here.package), **more}
    services = (here if here.epoch else None, settle(here, release))
    records.commit(transition("started", now, actor, None, release, services, **told))
    return release


def _alone(plan: TrafficPlan) -> TrafficPlan:
    """The plan of a first package: all traffic at once, and no comparison with a baseline."""
    checks: dict[str, Check] = {}
    for check in (c for step in plan.steps for c in step.checks):
        if isinstance(check.rule, Bound | Parity) and check.measure not in (TWIN_FLIPS, TWIN_SHIFT):
            checks.setdefault(check.name, check)
    hold = plan.steps[0].hold if checks else 0.0
    step = Step(share=Fixed(1.0), hold=hold, patience=ALONE, checks=tuple(checks.values()))
    return changed(plan, steps=(step,), promote=True, goal="")


def _refusal(records: Records, package: Ref) -> str:
    """Why the gate does not let this package through; "" when it does. Raises Missing, Invalid."""
    spec = records.artifact(package).spec
    if not isinstance(spec, PackageSpec):
        raise Invalid(f"{package.short} is not a package", hint="`fairlead package` makes one")
    decisions = records.decisions(spec.model)
    if not decisions:
        return "its model was never judged"
    if decisions[-1].proceed:
        return ""
    bad = [v.reason for v in decisions[-1].because if v.outcome is not Outcome.PASS]
    return "; ".join(bad) or "its model was held back"


def _last_good(records: Records, here: Service) -> Ref:
    left: set[Ref | None] = set()
    for release in records.releases(here.name):
        if release.phase is Phase.PROMOTED:
            if release.plan.name == ROLLBACK:
                left.add(release.baseline)
            left.discard(release.winner)
    for package in here.previous:
        if package not in left:
            return package
    raise Missing(f"{here.name} has no earlier package to go back to",
                  hint="start a release of another package")  # fmt: skip
