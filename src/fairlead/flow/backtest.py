"""Backtesting: past releases and past traffic once more, through the loop that runs in production."""

from collections.abc import Callable, Iterable, Sequence
from math import inf

import numpy as np
from msgspec import Struct
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from fairlead.core.answers import Answers
from fairlead.core.artifact import Artifact, PackageSpec
from fairlead.core.backtest import Again, Backtest, Policy, Run, Trial, summary
from fairlead.core.check import Balance, Check, Harm, Outcome, PairedLoss
from fairlead.core.decision import Decision
from fairlead.core.prediction import Feedback
from fairlead.core.ref import Ref
from fairlead.core.release import Phase, Release, Service, advance
from fairlead.core.traffic import Arm, Route, Step, TrafficPlan
from fairlead.errors import Missing
from fairlead.flow import loop
from fairlead.flow.observe import Observer
from fairlead.flow.release import start
from fairlead.flow.tape import FEW, Pool, Tape, load, nothing, pool, stream, take
from fairlead.ports import Change, PredictionLog, Records

__all__ = ["RATIOS", "backtest"]

RATIOS = (2.0, 5.0)
"""How often planted candidates fail, relative to the baseline, or to the share of errors that the
first policy calls none worth comparing: twice nothing is no harm."""

LOOKS = 150
"""Looks at a release of the past, at even numbers of requests. Fewer than in production: a verdict is
found a little late, never early."""

FEWEST, GROWTH = 40, 0.04
"""Requests between two looks at a planted candidate: so many at least, or such a share of all before."""

MOST = 200_000
"""Requests after which a planted release that is still under way counts as undecided."""

BEFORE = 86_400.0
"""Seconds before a release that are shown too: latencies are compared with what was usual."""

NAME, OLD, NEW = "backtest", Ref("package", "baseline", "0" * 64), Ref("package", "planted", "1" * 64)

Floats = NDArray[np.float64]

NEVER = (PairedLoss,)
"""Rules whose answer needs labels, which planted candidates do not get."""


class _Hand(Struct):
    """A clock that is set by hand."""

    at: float

    def now(self) -> float:
        return self.at


class _Board:
    """A router that nobody reads but the backtest."""

    def __init__(self) -> None:
        self._route: Route | None = None

    def publish(self, route: Route) -> None:
        self._route = route

    def published(self) -> Route | None:
        return self._route


def backtest(
    policies: Sequence[Policy], service: str, *, runs: int, seed: int, records: Records,
    log: PredictionLog, fresh: Callable[[], Records], since: float = 0.0, until: float = inf,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Backtest:  # fmt: skip
    """Past releases by other rules, and candidates planted into past traffic, `runs` of each kind.

    `fresh`: makes empty records, for releases that never happened. The same log, policies and seed
    give the same numbers. Raises Missing when nothing was served.
    """
    here = records.service(service)
    if here is None or here.package is None:
        raise Missing(f"{service} serves nothing, so nothing can be tried on its traffic",
                      hint="`fairlead release start`, `fairlead serve`, and some traffic")  # fmt: skip
    on_progress("reading the log")
    answers, notes = load(log, service, since, until)
    baseline = _source(answers, here)
    if baseline is None:
        raise Missing(f"the log holds no answer of {here.package.short}",
                      hint="serve some traffic first, or reach farther back")  # fmt: skip
    past = []
    for release in _judged(records, service, since, until):
        on_progress(f"judging {release.id} again")
        past.append(_again(release, policies, answers, notes, records, fresh))
    trials = []
    for planted, harmful, source, extra in _scenarios(policies[0], baseline, past, answers, records):
        on_progress(f"planting candidates: {planted}")
        spec = records.artifact(here.package).spec
        assert isinstance(spec, PackageSpec)
        under = [summary([_Trial(policy=p, baseline=baseline, source=source, extra=extra, spec=spec,
                                 fresh=fresh, seed=(seed, r)).run() for r in range(runs)], harmful)
                 for p in policies]  # fmt: skip
        trials.append(Trial(planted=planted, harmful=harmful, under=tuple(under)))
    return Backtest(policies=tuple(policies), past=tuple(past), trials=tuple(trials),
                    requests=len(baseline), since=float(baseline.at[0]), until=float(baseline.at[-1]),
                    blocks=baseline.blocks, seed=seed, notes=_notes(policies, baseline))  # fmt: skip


def _notes(policies: Sequence[Policy], baseline: Pool) -> tuple[str, ...]:
    told = []
    if baseline.blocks < FEW:
        told.append(f"drawn from {baseline.blocks} hours of traffic: it shows the sums, not yet your days")
    if any(isinstance(c.rule, NEVER) for p in policies for s in p.plan.steps for c in s.checks):
        told.append("planted candidates get no labels: checks of paired losses are left out for them")
    return tuple(told)


def _source(answers: Sequence[Answers], here: Service) -> Pool | None:
    """The traffic that candidates are planted into: of the package with most answers among those
    that serve or served."""
    pools = [pool(answers, str(p)) for p in (here.package, *here.previous) if p is not None]
    return max((p for p in pools if p is not None), key=len, default=None)


def _scenarios(
    policy: Policy, baseline: Pool, past: Sequence[Again], answers: Sequence[Answers], records: Records
) -> list[tuple[str, bool, Pool | None, float]]:
    """What is planted: (in words, whether it is harmful, the answers it gives, extra errors)."""
    rate = float(baseline.failed.mean())
    harmless = [c.rule.negligible for s in policy.plan.steps for c in s.checks
                if isinstance(c.rule, Harm) and c.measure == "errors"]  # fmt: skip
    usual = max(rate, *harmless) if harmless else rate
    found: list[tuple[str, bool, Pool | None, float]] = [("the baseline itself", False, None, 0.0)]
    found += [(f"errors in {100 * ratio * usual:.3g} % instead of {100 * rate:.2g} %", True, None,
               min(ratio * usual, 1.0) - rate) for ratio in RATIOS if usual]  # fmt: skip
    for one in past:
        if one.ended.phase is Phase.ROLLED_BACK:
            lost = pool(answers, str(records.release(one.release).candidates[0]))
            found += [(f"the candidate of {one.release}", True, lost, 0.0)] if lost else []
    return found


# Planted candidates


class _Trial(Struct, frozen=True, kw_only=True, eq=False):
    """One release that never happened: recorded traffic of the `baseline`, a candidate that answers
    as the baseline does (or as `source` did), and fails in a share of `extra` besides."""

    policy: Policy
    baseline: Pool
    source: Pool | None
    extra: float
    spec: PackageSpec
    fresh: Callable[[], Records]
    seed: tuple[int, int]

    def run(self) -> Run:
        """Walk the plan as the loop would; the dice, the days and the faults follow the seed."""
        rng, plan = np.random.default_rng(self.seed), _without(self.policy, NEVER)
        store, clock, board, tape = self.fresh(), _Hand(0.0), _Board(), Tape()
        here = Service(name=NAME, package=OLD, epoch=1)
        store.commit(Change(at=0.0, actor=NAME, verb="service.made", subject=NAME, artifacts=tuple(
            Artifact(ref=ref, spec=self.spec, created_at=0.0) for ref in (OLD, NEW)),
            services=((None, here),)))  # fmt: skip
        release = start(store, clock, NAME, [NEW], plan, actor=NAME, force="a backtest")
        loop.publish(store, board, NAME)
        observer = Observer(tape, store, NAME, slow=self.policy.slow)
        rows, at = stream(self.baseline, rng, MOST, sum(s.patience for s in plan.steps))
        done = 0
        while done < len(rows) and not release.phase.final:
            part = np.arange(done, min(done + max(FEWEST, int(GROWTH * done)), len(rows)))
            route = board.published()
            assert route is not None, "it was published before"
            self._answer(tape, route, part, rows[part], at[part], rng)
            clock.at, done = float(at[part[-1]]), int(part[-1]) + 1
            loop.tick(store, board, clock, observer.observe)
            release = store.release(release.id)
        return Run(phase=release.phase, requests=done, seconds=clock.at, reason=release.reason,
                   late=_late(store, release))  # fmt: skip

    def _answer(self, tape: Tape, route: Route, number: NDArray[np.intp], rows: NDArray[np.intp],
                at: Floats, rng: np.random.Generator) -> None:  # fmt: skip
        """What both packages log for these requests."""
        unit = self.baseline.unit[rows] if route.sticky_by else np.zeros(len(rows), np.uint64)
        dice, mirror = rng.random((2, len(rows)))
        dice = np.where(unit > 0, _drawn(unit, self.seed), dice)
        arms = {arm.package: arm for arm in route.arms}
        ours = arms.get(NEW, Arm(NEW, 0.0))
        live = dice < ours.weight
        own = None if self.source is None else rng.integers(len(self.source), size=len(rows))
        broken = rng.random(len(rows)) < self.extra
        for ref, chosen, shown, chance in (
            (OLD, ~live, True, 1.0 - ours.weight), (NEW, live, True, ours.weight),
            (NEW, ~live & (mirror < ours.mirror), False, ours.mirror)):  # fmt: skip
            pool, at_rows = self.baseline, rows
            if ref == NEW and self.source is not None and own is not None:
                pool, at_rows = self.source, own
            failed = pool.failed[at_rows] | (broken & (ref == NEW))
            tape.add(_answers(ref, number[chosen], unit[chosen], at[chosen], route.epoch, shown, chance,
                              failed[chosen], pool.latency[at_rows][chosen]))  # fmt: skip


def _drawn(unit: NDArray[np.uint64], seed: tuple[int, int]) -> Floats:
    """One number in [0, 1) per unit, always the same in one trial (the mixer of SplitMix64)."""
    z = unit + np.uint64((seed[0] * 1_000_003 + seed[1]) % 2**63)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((z ^ (z >> np.uint64(31))) >> np.uint64(11), dtype=np.float64) / 2**53


def _answers(ref: Ref, number: NDArray[np.intp], unit: NDArray[np.uint64], at: Floats, epoch: int,
             live: bool, chance: float, failed: NDArray[np.bool_], latency: Floats) -> Answers:  # fmt: skip
    n = len(number)
    ids = [f"r{i}" for i in number.tolist()]
    return Answers(
        service=NAME, package=str(ref), ids=ids, at=at, latency=latency,
        units=[str(u) if u else i for u, i in zip(unit.tolist(), ids, strict=True)],
        epoch=np.full(n, epoch), live=np.full(n, live), propensity=np.full(n, chance),
        errors=["planted" if f else "" for f in failed.tolist()], fallback=np.zeros(n, np.bool_),
        scores=np.zeros((n, 1)), values=nothing,
    )  # fmt: skip


# Releases of the past


def _judged(records: Records, service: str, since: float, until: float) -> list[Release]:
    """Releases that compared somebody, and are over."""
    return [r for r in records.releases(service) if r.baseline is not None and r.phase.final
            and any(s.checks for s in r.plan.steps) and since <= r.started_at < until]  # fmt: skip


def _again(
    release: Release, policies: Sequence[Policy], answers: Sequence[Answers],
    notes: Sequence[Feedback], records: Records, fresh: Callable[[], Records],
) -> Again:  # fmt: skip
    began, end = release.started_at, release.ended_at
    inside = [take(a, np.flatnonzero((a.at >= began - BEFORE) & (a.at < end))) for a in answers]
    inside = [a for a in inside if len(a)]
    told = next(iter(records.events(subject=f"release/{release.id}")))
    moments = np.sort(np.concatenate([a.at[a.live & (a.at >= began)] for a in inside] or [np.empty(0)]))
    asked = len(moments)
    looks = moments[np.linspace(0, asked - 1, LOOKS).astype(np.intp)] if asked else moments
    # Each step is left up to one look late: so much longer the last evidence stands.
    late = float(np.diff(looks, prepend=began, append=end).max())
    extra = [end + late * i for i in range(1 + max(len(p.plan.steps) for p in policies))]
    under = []
    for policy in policies:
        begun = changed(release, plan=_without(policy, (Balance,)), phase=Phase.RUNNING, step=0, winner=None,
                        entered_at=began, ended_at=0.0, reason="", revision=0, shares=(),
                        candidates=tuple(map(Ref.parse, told.body["to"]["candidates"])))  # fmt: skip
        store = fresh()
        service = Service(name=release.service, package=release.baseline, release=release.id,
                          epoch=int(told.body["epoch"]))  # fmt: skip
        parts = tuple(records.artifact(p) for p in (*begun.candidates, release.baseline) if p)
        store.commit(Change(at=began, actor=told.actor, verb=told.verb, subject=told.subject,
                            body=told.body, artifacts=parts, releases=((None, begun),),
                            services=((None, service),)))  # fmt: skip
        under.append(_walk(store, release.id, Tape(inside, notes), policy, [*looks.tolist(), *extra]))
    ended = Run(phase=release.phase, requests=asked, seconds=end - began, reason=release.reason)
    return Again(release=release.id, plan=release.plan.name, ended=ended, under=tuple(under))


def _walk(records: Records, release_id: str, tape: Tape, policy: Policy,
          looks: Iterable[float]) -> Run:  # fmt: skip
    """Let the loop see what was logged, as it was; how the release ends under other rules.

    The traffic stays split as it was split: steps pass on the evidence that this traffic gave.
    """
    release = records.release(release_id)
    clock, board = _Hand(release.started_at), _Board()
    observer = Observer(tape, records, release.service, slow=policy.slow)
    tape.until(release.started_at)
    requests = 0
    for now in looks:
        requests += tape.until(now)
        clock.at = now
        loop.tick(records, board, clock, observer.observe)
        release = records.release(release_id)
        if release.phase.final:
            break
    reason = release.reason or _open(advance(release, observer.observe(release, clock.at), clock.at))
    return Run(phase=release.phase, requests=requests, seconds=clock.at - release.started_at,
               reason=reason, late=_late(records, release))  # fmt: skip


def _late(records: Records, release: Release) -> bool:
    """Whether a release was rolled back although no check had failed."""
    if release.phase is not Phase.ROLLED_BACK:
        return False
    last = max((d for c in release.candidates for d in records.decisions(c)), key=lambda d: d.at)
    return all(v.outcome is not Outcome.FAIL for v in last.because)


def _open(decision: Decision) -> str:
    """What was not known when the log ended."""
    return "; ".join(v.reason for v in decision.because if v.outcome is Outcome.UNKNOWN)


def _without(policy: Policy, rules: tuple[type, ...]) -> TrafficPlan:
    """The plan without checks of some rules: nothing could answer them here."""

    def left(step: Step) -> tuple[Check, ...]:
        return tuple(c for c in step.checks if not isinstance(c.rule, rules))

    return changed(policy.plan, steps=tuple(changed(s, checks=left(s)) for s in policy.plan.steps))
