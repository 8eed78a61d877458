"""Releases: candidates walking through a traffic plan. Pure: state in, decision out."""

from enum import Enum
from math import erf, hypot, isfinite, nan, sqrt

from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.core.check import Action, Balance, Check, Outcome, judge_all
from fairlead.core.decision import Decision, Stay, decide
from fairlead.core.evidence import Evidence, EvidenceSet
from fairlead.core.ref import Ref
from fairlead.core.traffic import Adaptive, Arm, Fixed, Route, Step, TrafficPlan
from fairlead.errors import Conflict

__all__ = ["Phase", "Release", "Service", "abort", "advance", "apply", "pause", "resume", "route",
           "settle"]  # fmt: skip

WARM = 2
"""Previous packages kept loaded, so that going back is instant (promises.md R23)."""

GRAIN = 0.01
"""An adaptive share moves when it would move by this much: no new route for noise."""


BACK = 60.0
"""Seconds by which clocks that follow each other may differ."""


class Phase(Enum):
    """Where a release stands; the last four are final."""

    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"

    @property
    def final(self) -> bool:
        return self not in (Phase.RUNNING, Phase.PAUSED)


class Service(Struct, frozen=True, kw_only=True):
    """What a name serves now, what it served before (newest first), and its ever-rising epoch."""

    name: str
    package: Ref | None = None
    previous: tuple[Ref, ...] = ()
    release: str = ""
    epoch: int = 0


class Release(Struct, frozen=True, kw_only=True):
    """Where the candidates stand against the baseline one of them may replace.

    `baseline` is None for the first package of a service. `winner` is set when promoted.
    `shares`: of each candidate on an adaptive step, as last decided (() before any evidence).
    """

    id: str
    service: str
    candidates: tuple[Ref, ...]
    baseline: Ref | None
    plan: TrafficPlan
    phase: Phase = Phase.RUNNING
    step: int = 0
    started_at: float
    entered_at: float
    ended_at: float = 0.0
    winner: Ref | None = None
    reason: str = ""
    revision: int = 0
    shares: tuple[float, ...] = ()

    @property
    def here(self) -> Step:
        """The step it stands on."""
        return self.plan.steps[self.step]


def advance(release: Release, evidence: EvidenceSet, now: float) -> Decision:
    """Judge the current step. Failing is immediate; passing waits for the hold.

    A candidate leaves when it is to be rolled back, or held when patience has run out.
    """
    step, odds = release.here, release.plan.odds
    checks = _promised(release)
    verdicts = tuple(
        verdict
        for candidate in release.candidates
        for verdict in judge_all(checks, evidence, candidate, release.baseline, odds)
    )
    stay = Stay(waited=now - release.entered_at, hold=step.hold, patience=step.patience)
    return decide(release.candidates[0], verdicts, now, odds=odds, stay=stay,
                  unit=release.plan.sticky_by or "request")  # fmt: skip


def _promised(release: Release) -> tuple[Check, ...]:
    """The checks of the step; those of the split know what each candidate still there was promised,
    of its own requests and the baseline's."""
    weights = _weights(release)
    beside = max(0.0, 1.0 - sum(weights)) + weights[0]
    split = Balance(share=weights[0] / beside if beside else 0.0)
    return tuple(changed(c, rule=split) if c.rule == Balance() else c for c in release.here.checks)


def apply(release: Release, decision: Decision, evidence: EvidenceSet) -> Release:
    """The next state; the same release when nothing moves."""
    if release.phase is not Phase.RUNNING:
        return release
    return _weigh(_move(release, decision, evidence), evidence)


def _move(release: Release, decision: Decision, evidence: EvidenceSet) -> Release:
    if Action.ROLLBACK in decision.actions:
        return _end(release, Phase.ROLLED_BACK, decision.at, reason=_why(decision))
    left = tuple(c for c in release.candidates if c not in decision.drop)
    if left != release.candidates:
        release = changed(release, candidates=left, shares=(), revision=release.revision + 1)
    if Action.HOLD in decision.actions:
        return _rewound(release, decision.at)
    if release.step + 1 < len(release.plan.steps):
        return changed(release, step=release.step + 1, entered_at=decision.at, shares=(),
                       revision=release.revision + 1)  # fmt: skip
    winner = _winner(release, evidence) if release.plan.promote else None
    if winner is None:
        return _end(release, Phase.KEPT, decision.at, reason="the plan keeps the baseline")
    ended = _end(release, Phase.PROMOTED, decision.at, reason="every check passed")
    return changed(ended, winner=winner)


def pause(release: Release) -> Release:
    """Stop advancing; the traffic stays as it is. Raises Conflict when it is not running."""
    return _hand(release, Phase.RUNNING, Phase.PAUSED)


def resume(release: Release, now: float) -> Release:
    """Advance again; the step's hold and patience start anew. Raises Conflict."""
    return changed(_hand(release, Phase.PAUSED, Phase.RUNNING), entered_at=now)


def abort(release: Release, now: float, reason: str) -> Release:
    """End by hand: the baseline answers everything. Raises Conflict when already over."""
    if release.phase.final:
        raise Conflict(f"release {release.id} is {release.phase.value}",
                       hint="only a running or paused release can be aborted")  # fmt: skip
    return _end(release, Phase.ABORTED, now, reason=reason)


def settle(service: Service, release: Release) -> Service:
    """The service after this release moved: its package when promoted; a new epoch always."""
    after = changed(service, release="" if release.phase.final else release.id,
                    epoch=service.epoch + 1)  # fmt: skip
    if release.phase is not Phase.PROMOTED or release.winner in (None, service.package):
        return after
    old = () if service.package is None else (service.package,)
    previous = tuple(p for p in old + service.previous if p != release.winner)
    return changed(after, package=release.winner, previous=previous)


def route(service: Service, release: Release | None) -> Route | None:
    """What the gateway must do now, from state alone, so that publishing it again changes nothing.

    None when nothing was ever released; no arms when the first package failed: nobody may answer.
    """
    if release is None or release.phase.final:
        if service.epoch == 0:
            return None
        only = () if service.package is None else (Arm(service.package, 1.0),)
        return Route(service=service.name, arms=only, standby=service.previous[:WARM],
                     epoch=service.epoch)  # fmt: skip
    step, left = release.here, release.candidates
    arms: tuple[Arm, ...]
    if release.baseline is None:
        arms = tuple(Arm(c, 1.0 / len(left)) for c in left)
    else:
        weights = _weights(release)
        arms = (
            Arm(release.baseline, max(0.0, 1.0 - sum(weights))),
            *(Arm(c, w, step.mirror) for c, w in zip(left, weights, strict=True)),
        )
    return Route(service=service.name, arms=arms, pins=dict.fromkeys(step.pin, left[0]),
                 standby=service.previous[:WARM], sticky_by=release.plan.sticky_by,
                 salt=release.id, epoch=service.epoch)  # fmt: skip


def _hand(release: Release, before: Phase, after: Phase) -> Release:
    if release.phase is not before:
        raise Conflict(f"release {release.id} is {release.phase.value}, not {before.value}",
                       hint="look at `fairlead release status`")  # fmt: skip
    return changed(release, phase=after, revision=release.revision + 1)


def _end(release: Release, phase: Phase, at: float, *, reason: str) -> Release:
    return changed(release, phase=phase, ended_at=at, reason=reason,
                   revision=release.revision + 1)  # fmt: skip


def _rewound(release: Release, now: float) -> Release:
    """A clock that was ahead when the step was entered, and is right now: hold and patience start
    anew, or the step would last as much longer as the clock was wrong."""
    if release.entered_at - now <= BACK:
        return release
    return changed(release, entered_at=now, revision=release.revision + 1)


def _why(decision: Decision) -> str:
    failed = [v.reason for v in decision.because if v.outcome is Outcome.FAIL]
    unknown = [v.reason for v in decision.because if v.outcome is Outcome.UNKNOWN]
    return "; ".join(failed) or f"not enough evidence in time: {'; '.join(unknown)}"


def _winner(release: Release, evidence: EvidenceSet) -> Ref | None:
    """The candidate with the best goal, unless the baseline's is proven better (the intervals lie
    apart); without a goal, or when nothing is known of it, the only candidate left."""
    goal, left = release.plan.goal, release.candidates
    known = {c: e for c in left if goal and (e := evidence.get(c, goal)) is not None}
    if not known:
        return left[0] if len(left) == 1 else None
    best = max(known, key=lambda c: known[c].value)
    theirs = None if release.baseline is None else evidence.get(release.baseline, goal)
    if theirs is None or theirs.low is None or (high := known[best].high) is None:
        return best
    return None if theirs.low > high else best


def _weights(release: Release) -> tuple[float, ...]:
    """The live share of each candidate."""
    n = len(release.candidates)
    match release.here.share:
        case Fixed(weight):
            return (weight / n,) * n
        case Adaptive(floor=floor):
            return release.shares or (floor / n,) * n


def _weigh(release: Release, evidence: EvidenceSet) -> Release:
    """Let the shares of an adaptive step follow the evidence; without evidence they stay."""
    if release.phase.final or not isinstance(share := release.here.share, Adaptive):
        return release
    ours = [_chance(share.reward, evidence, c, release.baseline) for c in release.candidates]
    chances = [c for c in ours if c is not None]
    if len(chances) < len(ours):
        return release
    total = min(max(sum(chances) / len(ours), share.floor), share.ceiling)
    even, scale = share.floor / len(ours), sum(chances) or 1.0
    shares = tuple(round(even + (total - share.floor) * c / scale, 4) for c in chances)
    if max(abs(a - b) for a, b in zip(shares, _weights(release), strict=True)) < GRAIN:
        return release
    return changed(release, shares=shares, revision=release.revision + 1)


def _chance(
    reward: str, evidence: EvidenceSet, candidate: Ref, baseline: Ref | None
) -> float | None:
    """Normal approximation of P(candidate's mean reward is above the baseline's).

    None when either is not known with its interval: a number alone does not say how sure it is.
    """
    ours = evidence.get(candidate, reward)
    theirs = None if baseline is None else evidence.get(baseline, reward)
    if ours is None or theirs is None:
        return None
    spread = hypot(_width(ours), _width(theirs)) / (2 * 1.959963984540054)
    chance = 0.5 * (1 + erf((ours.value - theirs.value) / max(spread, 1e-12) / sqrt(2)))
    return chance if isfinite(chance) else None


def _width(e: Evidence) -> float:
    return nan if e.low is None or e.high is None or e.n < 1 else e.high - e.low
