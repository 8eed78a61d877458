"""The page of proofs: every situation drawn again, written as one table in Markdown."""

from collections.abc import Callable, Iterable

from prove import errors, fairness, labels, latency, traps
from prove.gateway import section
from prove.row import Row

__all__ = ["rows", "write"]

HEAD = """# Proofs: the stated errors, simulated

This page is generated: `make prove` draws everything again, with the seeds at the end, and writes
the same bytes, but for what is measured on running processes. The sources are in `prove/`; no
figure is written by hand. What the words mean is said in
[How Fairlead decides](how-fairlead-decides.md).

Unless a row says otherwise: 3,000 requests a minute, 10 % of them to the candidate, a look every
minute, errors of 0.5 %, α = β = 5 %. All methods see the same draws. "Requests" are those of both
arms together. In brackets: how many of the runs. A method that is quick to roll back has to be read
beside the first row: whoever always cries wolf is the first to see one. Rows without a bar only inform.

| situation | bar | Fairlead | others, same traffic | kept |
|---|---|---|---|---|
"""

TAIL = """
## How it was done

**Fairlead.** Evidence for thousands of runs is computed at once, by the formula of
`fairlead.core.sequential` and in the windows in which `fairlead.core.arms` counts, because a decision
of the product takes about a millisecond and this table needs millions. Then runs are taken out of
each situation, half of them among those that acted, and shown to the product itself: `advance` and
`apply` of `fairlead.core.release` over an `EvidenceSet` of the counts so far, at the look that acts
and at the one before. The release must end as the figures say, and `replay` of each decision must
give the same bytes. {judged:,} decisions were compared; none differed. Revenue runs through
`fairlead.core.amounts` itself.

**Guardrails beside each other** share α by averaging their evidence, which costs the one in trouble
the logarithm of its part. No rule that treats all alike and trusts nothing about how they hang
together is better everywhere (Vovk, Wang 2021: every such rule is at most the average), so the only
thing left to choose is the weights, beforehand. Errors weigh eight times as much as the other
ready-made guardrails: at equal weights the row above needs 30,000 requests. Multiplying evidence, or
adding the average of products, was tried and lost: a guardrail that is fine drags the product down.

**Others**, as their documentation or source says; none of them states a chance of being wrong:
- Argo Rollouts: a success rate below 99 % fails a check, `failureLimit: 3`, so the fourth failed
  check ends the rollout. Latency: a p99 above 1.1 times the baseline's in the same look.
- Flagger: the same checks, `threshold: 10`; failed checks add up. Real rollouts of Flagger end
  after their last weight, earlier than a day.
- Peeking z-test: the two-sample z-test at 5 % on everything so far, at every look, acting on the
  harmful side only.
- Kayenta style: Mann-Whitney at 98 % on the rates per look against as large a piece of the baseline,
  at every look. Its tolerance of a quarter of the estimated effect is left out, which counts
  against it; over a day it sees every fourth run, because the test costs the square of the looks.
- Oracle: Wald's sequential test of somebody who knows the true ratio. No test that keeps α is much
  faster, so it says how much is left to gain.

Seed and runs of each row, from the top: {seeds}.
"""


def rows(part: int = 1, told: Callable[[str], object] = str) -> list[Row]:
    """Every row of the table, from a `part`-th of the runs; `told` hears of each as it is ready."""
    many, some, few = (max(n // part, 40) for n in (4000, 1000, 600))
    made: list[Row] = []
    for make, runs in (
        (errors.harmless, many), (errors.incident, many), (errors.twofold, many), (errors.guarded, many),
        (errors.tenfold, many), (latency.tail, some), (errors.harmful, many), (traps.sticky, few),
        (traps.leaking, many), (traps.delayed, some), (traps.eight, many), (labels.shadow, many),
        (errors.better, many), (errors.quiet, many),
        (fairness.coverage, some), (fairness.blocked, many), (fairness.crossed, some),
        (latency.everywhere, some), (labels.revenue, some),
    ):  # fmt: skip
        found = make(runs)
        for row in found if isinstance(found, tuple) else (found,):
            told(f"{row.situation}: {row.ours}")
            made.append(row)
    return sorted(made, key=lambda row: row.met is None)


def write(table: Iterable[Row]) -> str:
    """The page as Markdown."""
    lines, seeds, judged = [], [], 0
    for row in table:
        kept = {True: "yes", False: "**no**", None: ""}[row.met]
        cells = (row.situation, row.bar, row.ours, row.others, kept)
        lines.append("| " + " | ".join(cells) + " |")
        seeds.append(f"{row.seed} ({row.runs:,})")
        judged += row.judged
    return HEAD + "\n".join(lines) + "\n" + section() + TAIL.format(judged=judged, seeds=", ".join(seeds))
