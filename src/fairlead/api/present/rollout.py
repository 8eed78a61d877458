"""Releases on a screen: where they stand, who answers how much, and the evidence so far."""

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fairlead.api.present.evidence import EvidenceTable
from fairlead.api.present.figures import ago, count, name, percent, span, stamp
from fairlead.core.decision import Decision
from fairlead.core.feedback import EVENT
from fairlead.core.growth import Growth, grown, needed
from fairlead.core.release import Phase, Release
from fairlead.core.traffic import Fixed, Route, Step

__all__ = ["COLOURS", "View", "headline", "line", "release_view", "releases_table", "seen", "step_words"]

COLOURS = {Phase.RUNNING: "bold cyan", Phase.PAUSED: "yellow", Phase.PROMOTED: "bold green",
           Phase.KEPT: "green", Phase.ROLLED_BACK: "bold red", Phase.ABORTED: "red"}  # fmt: skip


class View(Struct, frozen=True, kw_only=True):
    """One look at a release: its state, the newest judgement, and what the gateway was told.

    `growths`: how the evidence of each check came together; `requests`: of both arms so far;
    `needed`: how many more a decision will take (None while nobody can say).
    """

    release: Release
    decision: Decision | None
    route: Route | None
    now: float
    growths: tuple[Growth, ...] = ()
    requests: int = 0
    needed: float | None = None


def seen(release: Release, decision: Decision | None, route: Route | None, now: float) -> View:
    """The view of a release, with the curves of its evidence."""
    odds = release.plan.odds
    growths = grown(decision.because, odds) if decision else ()
    running = not release.phase.final and len(growths) > 0
    return View(release=release, decision=decision, route=route, now=now, growths=growths,
                requests=max((g.marks[-1].requests for g in growths if not g.measure.startswith(EVENT)), default=0),
                needed=needed(growths, odds) if running else None)  # fmt: skip


def release_view(view: View) -> RenderableType:
    """The whole picture of one release."""
    release = view.release
    parts: list[RenderableType] = [headline(release, view.now), _arms(release, view.route)]
    if view.decision is not None and view.decision.because:
        growths = {(g.check, g.subject): g for g in view.growths}
        parts += [Text(""), EvidenceTable(view.decision.because, release.plan.odds, growths)]
        if view.requests:
            parts += [Text(""), _pace(view)]
    if release.reason:
        colour = COLOURS[release.phase] if release.phase.final else "default"
        parts += [Text(""), Text(release.reason, colour)]
    return Group(*parts)


def headline(release: Release, now: float) -> Text:
    """One line: id, plan, phase, and the step with its clock."""
    head = Text.assemble((release.id, "bold"), "  ", release.plan.name, "  ",
                         (release.phase.value.replace("_", " "), COLOURS[release.phase]))  # fmt: skip
    if release.phase.final:
        took = span(release.ended_at - release.started_at)
        return head.append(f"  after {took}, {ago(release.ended_at, now)}")
    step, here = release.here, now - release.entered_at
    head.append(f"  step {release.step + 1} of {len(release.plan.steps)}, {step_words(step)}")
    waits = f" (at least {span(step.hold)}, at most {span(step.patience)})"
    return head.append(f", for {span(max(here, 0))}").append(waits, "dim")


def _pace(view: View) -> Text:
    """Requests so far, and how many more it will take."""
    until = view.release.ended_at or view.now
    rate = view.requests / max(until - view.release.started_at, 1e-9)
    shown = Text.assemble((count(view.requests), "bold"), " requests of both arms counted",
                          (f", {rate:,.3g} a second" if rate < 1e6 else "", "dim"))  # fmt: skip
    if view.release.phase.final:
        return shown
    if view.needed is None:
        return shown.append("; no end in sight yet", "dim")
    if view.needed == 0:
        return shown.append("; the evidence suffices", "green")
    about = count(float(f"{view.needed:.1g}"))
    return shown.append(f"; about {about} more to a decision, {span(view.needed / rate)}", "cyan")


def line(view: View) -> str:
    """One plain line for a log: time, phase, step and checks."""
    release, verdicts = view.release, view.decision.because if view.decision else ()
    checks = "  ".join(f"{v.check.name}={v.outcome.name.lower()}" for v in verdicts)
    where = f"step {release.step + 1}/{len(release.plan.steps)} {step_words(release.here)}"
    return f"{stamp(view.now)}  {release.id}  {release.phase.value}  {where}  {checks}".rstrip()


def step_words(step: Step) -> str:
    """``5 % live``, ``mirrored 100 %``, ``5 % to 95 % by label``."""
    share = step.share
    if isinstance(share, Fixed):
        live = f"{percent(share.weight)} live" if share.weight else ""
    else:
        live = f"{percent(share.floor)} to {percent(share.ceiling)} by {share.reward}"
    mirror = f"{percent(step.mirror)} mirrored" if step.mirror else ""
    return ", ".join(w for w in (live, mirror) if w) or "no traffic"


def releases_table(releases: list[Release], now: float) -> Table:
    """All releases, newest first."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for title in ("release", "plan", "phase", "package", "started", "took", "why"):
        table.add_column(title, no_wrap=title != "why", overflow="fold")
    for release in reversed(releases):
        ended = release.ended_at or now
        table.add_row(release.id, release.plan.name,
                      Text(release.phase.value.replace("_", " "), COLOURS[release.phase]),
                      name(release.winner or (release.candidates or (None,))[0]),
                      ago(release.started_at, now), span(ended - release.started_at),
                      release.reason)  # fmt: skip
    return table


def _arms(release: Release, route: Route | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    arms = {arm.package: arm for arm in route.arms} if route else {}
    shown = [("baseline", release.baseline)] if release.baseline else []
    for role, package in [*shown, *(("candidate", c) for c in release.candidates)]:
        arm = arms.get(package) if package else None
        live = percent(arm.weight) if arm else "0 %"
        mirrored = f"+ {percent(arm.mirror)} mirrored" if arm and arm.mirror else ""
        colour = "default" if role == "baseline" else "cyan"
        table.add_row(Text(f"  {role}", "dim"), Text(name(package), colour), live, mirrored)
    return table
