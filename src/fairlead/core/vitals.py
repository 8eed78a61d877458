"""Vitals: how a package fares without any label: volume, errors, latency, what it answers."""

from collections.abc import Iterator
from math import ceil, floor, sqrt
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fairlead.core.artifact import PackageSpec
from fairlead.core.chat import NUMBERS
from fairlead.core.evidence import Evidence
from fairlead.core.intervals import wilson, z_score
from fairlead.core.join import Truth
from fairlead.core.ledger import FAILED, FALLBACK, Rows
from fairlead.core.ref import Ref

__all__ = ["Frame", "older", "spoken", "vitals"]


class Frame(Struct, frozen=True, kw_only=True):
    """What numbers are about: a package, a span of time, and the level of their intervals."""

    subject: Ref
    since: float
    until: float
    level: float = 0.95

    def number(self, measure: str, value: float, n: int, low: float, high: float) -> Evidence:
        return Evidence(subject=self.subject, measure=measure, value=value, n=n, low=low, high=high,
                        level=self.level, since=self.since, until=self.until)  # fmt: skip

    def share(self, measure: str, happened: NDArray[np.bool_]) -> Evidence:
        """The share of true values, with its Wilson interval; of at least one value."""
        k, n = int(happened.sum()), len(happened)
        return self.number(measure, k / n, n, *wilson(k, n, self.level))

    def mean(self, measure: str, values: NDArray[np.float64]) -> Evidence:
        """The mean of at least one value, with its normal interval."""
        n, value = len(values), float(values.mean())
        reach = z_score(self.level) * float(values.std(ddof=1)) / sqrt(n) if n > 1 else float("inf")
        return self.number(measure, value, n, value - reach, value + reach)

    def quantile(self, measure: str, values: NDArray[Any], q: float) -> Evidence:
        """The q-quantile of at least one value; its interval by the binomial law of ranks."""
        n = len(values)
        reach = z_score(self.level) * sqrt(n * q * (1 - q))
        ranks = [max(0, min(n - 1, r)) for r in
                 (ceil(n * q) - 1, floor(n * q - reach) - 1, ceil(n * q + reach))]  # fmt: skip
        value, low, high = np.partition(values, sorted(set(ranks)))[ranks].tolist()
        return self.number(measure, value, n, low, high)


def older(frame: Frame, age: float) -> Frame:
    """The same span, `age` seconds earlier."""
    return replace(frame, since=frame.since - age, until=frame.until - age)


def vitals(
    rows: Rows, truth: Truth, frame: Frame, spec: PackageSpec | None, slow: float
) -> Iterator[Evidence]:
    """Numbers over live rows of one package: "volume" (requests), "errors", "slow", "fallback"
    (shares), "latency_p50_ms", "latency_p99_ms", "positive_rate" (binary), "mean_prediction"
    (regression), "labelled" (share), "label_delay" (median seconds from question to truth).

    `slow`: seconds. Of no rows there is only the volume.
    """
    volume = float(len(rows))
    yield frame.number("volume", volume, len(rows), volume, volume)
    if not len(rows):
        return
    stood_in = (rows.flags & FALLBACK) > 0
    yield frame.share("fallback", stood_in)
    own = rows.where(~stood_in)
    if not len(own):
        return
    failed = (own.flags & FAILED) > 0
    yield frame.share("errors", failed)
    yield frame.share("slow", failed | (own.latency > slow))
    yield from _answers(own.where(~failed), frame, spec)
    place = truth.place(own.key)
    known = place >= 0
    yield frame.share("labelled", known)
    if known.any():
        yield frame.quantile("label_delay", truth.at[place[known]] - own.at[known], 0.5)


def spoken(rows: Rows, frame: Frame) -> Iterator[Evidence]:
    """Numbers over live answers of a chat: "cost_per_thousand" and "tokens" (means of those whose
    provider counts), "first_token_p50_ms", "first_token_p99_ms"."""
    if not len(rows) or rows.scores.shape[1] < len(NUMBERS):
        return
    cost, prompt, completion, first = rows.scores[:, : len(NUMBERS)].T
    for measure, values in (("cost_per_thousand", cost * 1000), ("tokens", prompt + completion)):
        known = values[np.isfinite(values)]
        if len(known):
            yield frame.mean(measure, known)
    waits = first[np.isfinite(first)] * 1000
    for measure, q in (("first_token_p50_ms", 0.5), ("first_token_p99_ms", 0.99)) if len(waits) else ():
        yield frame.quantile(measure, waits, q)


def _answers(rows: Rows, frame: Frame, spec: PackageSpec | None) -> Iterator[Evidence]:
    if not len(rows):
        return
    milliseconds = rows.latency.astype(np.float64) * 1000
    yield frame.quantile("latency_p50_ms", milliseconds, 0.5)
    yield frame.quantile("latency_p99_ms", milliseconds, 0.99)
    scores = rows.scores[:, 0][np.isfinite(rows.scores[:, 0])]
    if spec is None or not len(scores):
        return
    if spec.task == "binary":
        yield frame.share("positive_rate", scores >= spec.threshold)
    if spec.task == "regression":
        yield frame.mean("mean_prediction", scores)
