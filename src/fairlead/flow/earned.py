"""Earned: what a policy would have earned on recorded requests that dice gave to several packages."""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct

from fairlead.core import offpolicy
from fairlead.core.artifact import Task
from fairlead.core.catalogue import GAIN
from fairlead.core.evidence import Evidence
from fairlead.core.join import TEXT, Labels, keys_of
from fairlead.core.offpolicy import Estimate, Logged, Refusal
from fairlead.core.prediction import Feedback
from fairlead.core.ref import Ref
from fairlead.core.replay import Vector, decided
from fairlead.flow.recorded import Request

__all__ = ["Policy", "earned"]

LABEL = "label"


class Policy(Struct, frozen=True, kw_only=True, eq=False):
    """A package as a policy: its name in the log ("" when nobody met it), its scores of every
    request float64 [n, k], and the threshold of its decisions."""

    ref: Ref
    package: str
    scores: Vector
    threshold: float


def earned(requests: Sequence[Request], notes: Sequence[Feedback], task: Task,
           policies: Sequence[Policy], level: float) -> tuple[list[Evidence], list[str]]:  # fmt: skip
    """For every reward (feedback that is no label): "snips:NAME" and "value:NAME" (doubly robust)
    of the first two policies, and "gain:value:NAME" of the first over the second.

    The second list says, in words, what the log cannot answer: too few requests decided at random
    as this policy would decide them. A reward is taken to follow from the request and the decision.
    """
    found: list[Evidence] = []
    refused: list[str] = []
    for name in sorted({n.name for n in notes} - {LABEL}):
        logged = _logged(requests, [n for n in notes if n.name == name], task, policies)
        if logged is None:
            continue
        for measure, subject, made in _estimates(logged, name, policies, level):
            if isinstance(made, Refusal):
                refused.append(f"{measure} of {subject.short}: {made.reason}")
            else:
                found.append(_evidence(measure, subject, policies[1].ref, made, requests, level))
    return found, refused


def _estimates(
    logged: Logged, name: str, policies: Sequence[Policy], level: float
) -> Iterator[tuple[str, Ref, Estimate | Refusal]]:
    for place, policy in enumerate(policies[:2]):
        alone, robust = offpolicy.value(logged, place, level=level)
        yield f"value:{name}", policy.ref, robust
        if isinstance(alone, Estimate):  # both are refused for the same reason
            yield f"snips:{name}", policy.ref, alone
    gained = offpolicy.gain(logged, 0, 1, level=level)
    if isinstance(gained, Estimate):
        yield f"{GAIN}value:{name}", policies[0].ref, gained


def _logged(requests: Sequence[Request], notes: Sequence[Feedback], task: Task,
            policies: Sequence[Policy]) -> Logged | None:  # fmt: skip
    """The requests that dice decided and that earned something known; None without any."""
    labels = Labels()
    labels.add(notes)
    truth = labels.truth()
    place = truth.place(keys_of([r.id for r in requests]))
    number = {p.package: i for i, p in enumerate(policies) if p.package}
    kept = [i for i, r in enumerate(requests)
            if 0 < r.propensity < 1 and r.package in number
            and place[i] >= 0 and truth.kind[place[i]] != TEXT]  # fmt: skip
    if not kept:
        return None
    dice = {(requests[i].epoch, number[requests[i].package]) for i in kept}
    active = np.array([[(requests[i].epoch, p) in dice for p in range(len(policies))] for i in kept])
    return Logged(
        reward=truth.code[place[kept]], active=active, decisions=_decisions(task, policies)[kept],
        propensity=np.array([requests[i].propensity for i in kept]),
        chosen=np.array([number[requests[i].package] for i in kept], dtype=np.intp),
        context=np.nan_to_num(policies[1].scores[kept].max(axis=1)),
    )  # fmt: skip


def _decisions(task: Task, policies: Sequence[Policy]) -> Vector:
    """What each policy decides, NaN where it gives no answer; numbers decide alike when equal."""
    columns = []
    for policy in policies:
        made = policy.scores[:, 0] if task == "regression" else decided(policy.scores, task, policy.threshold)
        columns.append(np.where(np.isfinite(policy.scores).all(axis=1), made, np.nan))
    return np.stack(columns, axis=1)


def _evidence(measure: str, subject: Ref, against: Ref, made: Estimate,
              requests: Sequence[Request], level: float) -> Evidence:  # fmt: skip
    return Evidence(subject=subject, measure=measure, value=made.value, n=round(made.effective),
                    low=made.low, high=made.high, level=level, since=requests[0].at,
                    until=requests[-1].at, against=against if subject != against else None)  # fmt: skip
