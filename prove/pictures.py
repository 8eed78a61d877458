"""Pictures: how evidence grows, how often others are wrong, what an incident does, what harm costs."""

from collections.abc import Callable
from math import exp

import numpy as np

from prove import ours
from prove.canvas import Canvas, Chart, Ink
from prove.errors import others
from prove.ours import ACT
from prove.traffic import HOUR, NEVER, Floats, Ints, draw, first, median

__all__ = ["PICTURES"]

Mark = tuple[float, str]
THOUSANDS: tuple[Mark, ...] = ((0, "0"), (10_000, "10,000"), (20_000, "20,000"), (30_000, "30,000"))
EVIDENCE: tuple[Mark, ...] = ((0.01, "0.01"), (0.1, "0.1"), (1, "1"), (10, "10"), (100, "100"))
HARM, SAFETY = 0, 1


def evidence(runs: int) -> str:
    """One typical bad and one typical good candidate, request by request."""
    canvas = Canvas(860, 350, "Evidence of harm and of safety, growing against their bounds")
    _grows(canvas, runs, HARM, "Bad candidate: 1.0 % errors against 0.5 %", "rolled back")
    _grows(canvas, runs, SAFETY, "Good candidate: 0.5 % errors against 0.5 %", "promoted")
    canvas.label(422, 338, "━ evidence of harm", "bad", anchor="end", kind="small")
    canvas.label(438, 338, "━ evidence of safety", "good", kind="small")
    return canvas.svg()


def _grows(canvas: Canvas, runs: int, kind: int, title: str, end: str) -> None:
    rows, inks = 250, ("bad", "good")
    traffic = draw(60 + kind, runs, 200, ratio=(2.0, 1.0)[kind], rows=rows)
    paths = ours.harm(traffic), ours.safe(traffic)
    run, last = _typical(first(paths[kind] >= ACT), paths[1 - kind])
    chart = Chart(canvas, (70 + 420 * kind, 50, 340, 230), (0, 30_000), (0.03, 200), log_y=True)
    chart.ticks(THOUSANDS, EVIDENCE[1:])
    chart.frame(title, "requests so far, both arms", "" if kind else "evidence (e-value)")
    chart.level(20, "acts at 20 = 1 / 5 %", "muted", left=True)
    for path, ink in zip(paths, inks, strict=True):
        grown = [((t + 1) * rows, exp(v)) for t, v in enumerate(path[run, : last + 1].tolist())]
        chart.line([(0, 1), *grown], _ink(ink))
    at = (last + 1) * rows
    chart.dot(at, exp(float(paths[kind][run, last])), _ink(inks[kind]))
    chart.note(at, 20, f"{end} after {at:,}", _ink(inks[kind]), up=26, anchor="middle")


def _ink(name: str) -> Ink:
    return "bad" if name == "bad" else "good"


def _typical(ends: Ints, other: Floats) -> tuple[int, int]:
    """A run that acts at the median look and whose other evidence stays in the middle; that look."""
    last = int(np.sort(ends)[len(ends) // 2])
    alike = np.flatnonzero(ends == last)
    return int(alike[np.argsort(other[alike, last])[len(alike) // 2]]), last


def looking(runs: int) -> str:
    """How many harmless candidates have been rolled back after so many hours."""
    traffic = draw(1, runs, 24 * HOUR)
    acted = others(traffic)
    mine = first(ours.harm(traffic) >= ACT)
    canvas = Canvas(860, 380, "Harmless candidates rolled back within a day, by method")
    chart = Chart(canvas, (70, 50, 510, 270), (0, 24), (0, 100))
    chart.ticks([(h, str(h)) for h in range(0, 25, 4)], [(p, f"{p} %") for p in range(0, 101, 20)])
    chart.frame("Harmless candidates rolled back, looking once a minute", "hours", "")
    chart.line([(0, 5), (24, 5)], "muted", dash=True)
    chart.note(18, 5, "α = 5 %", "muted", up=5, anchor="middle")
    named: tuple[tuple[str, Ints, Ink, float], ...] = (
        ("Argo Rollouts, failureLimit 3", acted["Argo Rollouts"], "bad", 8),
        ("Flagger, threshold 10", acted["Flagger"], "warm", -10),
        ("z-test, p < 5 % at every look", acted["peeking z-test"], "cool", -4),
        ("Kayenta style", acted["Kayenta style"], "ink", 0),
        ("Fairlead, α = 5 %", mine, "ours", 0),
    )  # fmt: skip
    for name, at, ink, up in named:
        part = [
            (look / HOUR, 100 * float((at < look).mean())) for look in range(0, 24 * HOUR + 1, 5)
        ]
        chart.line(part, ink)
        text = f"{part[-1][1]:.1f}".removesuffix(".0")
        chart.note(24, part[-1][1], f"{text} %  {name}", ink, aside=10, up=up)
    return canvas.svg()


def incident(runs: int) -> str:
    """Ten minutes in which a dependency fails for both arms: rates cross a limit, evidence does not."""
    rate = np.full(HOUR, 0.005)
    rate[20:30] = 0.06
    traffic = draw(63, runs, HOUR, base=rate)
    path = ours.harm(traffic)
    run = int(np.argsort(path.max(axis=1))[runs // 2])
    canvas = Canvas(
        860, 510, "An incident that hits both arms is no evidence against the candidate"
    )
    minutes = [(m, str(m)) for m in range(0, 61, 10)]
    rates = Chart(canvas, (70, 50, 730, 160), (0, 60), (0, 10))
    rates.band(20, 30)
    rates.ticks(minutes, [(p, f"{p} %") for p in (0, 2, 4, 6, 8, 10)])
    rates.frame("Errors per minute: an incident hits both arms", "", "")
    rates.level(1, "a limit of 1 %: every check in the incident fails", "warm", up=26)
    for x, n, ink in ((traffic.xt, traffic.nt, "muted"), (traffic.xc, traffic.nc, "ours")):
        points = [(m + 0.5, 100 * float(x[run, m] / n[run, m])) for m in range(HOUR)]
        rates.line(points, "ours" if ink == "ours" else "muted")
    rates.note(31, 6.5, "candidate", "ours")
    rates.note(31, 5.3, "baseline", "muted")
    growth = Chart(canvas, (70, 290, 730, 160), (0, 60), (0.001, 200), log_y=True)
    growth.band(20, 30)
    growth.ticks(minutes, [(0.001, "0.001"), *EVIDENCE])
    growth.frame("Evidence of harm asks who fails, not how much fails", "minutes", "")
    growth.level(20, "acts at 20", "muted")
    growth.line([(0, 1), *((m + 1, exp(v)) for m, v in enumerate(path[run].tolist()))], "bad")
    return canvas.svg()


SIZES = ((1.5, 500, 600), (2.0, 250, 500), (3.0, 100, 400), (5.0, 50, 300), (10.0, 10, 400))
"""Harm as a ratio, requests a look, looks."""


def effects(runs: int) -> str:
    """Median requests until a candidate that fails so much more often is rolled back."""
    canvas = Canvas(
        860, 400, "Requests until a harmful candidate is rolled back, by size of the harm"
    )
    chart = Chart(canvas, (80, 50, 560, 280), (1.4, 10.5), (100, 300_000), log_x=True, log_y=True)
    chart.ticks([(r, f"× {r:g}") for r, _, _ in SIZES],
                [(n, f"{n:,}") for n in (100, 1000, 10_000, 100_000)])  # fmt: skip
    chart.frame("Requests until a harmful candidate is rolled back (baseline: errors of 0.5 %)",
                "the candidate fails so many times as often", "")  # fmt: skip
    lines: tuple[tuple[float, Ink], ...] = ((0.05, "cool"), (0.1, "ours"), (0.5, "good"))
    for share, ink in lines:
        found = [(ratio, _needed(share, ratio, rows, looks, runs)) for ratio, rows, looks in SIZES]
        chart.line(found, ink)
        for ratio, needed in found:
            chart.dot(ratio, needed, ink)
        text = f"{100 * share:.0f} % to the candidate"
        chart.note(10, found[-1][1], text, ink, aside=22, up=-4)
    return canvas.svg()


def _needed(share: float, ratio: float, rows: int, looks: int, runs: int) -> float:
    rows = rows * 2 if share < 0.1 else rows
    traffic = draw(64, runs, looks, ratio=ratio, rows=rows, share=share)
    at = first(ours.harm(traffic) >= ACT)
    assert (at == NEVER).mean() < 0.5, "more looks are needed"
    return median(at, rows)


PICTURES: dict[str, Callable[[int], str]] = {
    "evidence.svg": evidence, "looking.svg": looking, "incident.svg": incident, "effects.svg": effects,
}  # fmt: skip
"""File name -> what draws it from so many runs."""
