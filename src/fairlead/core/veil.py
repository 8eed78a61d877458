"""The veil: what of a prediction may reach the disk, decided before it does."""

import hmac
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b, sha256
from typing import Any

import msgspec
from msgspec.structs import replace

from fairlead.core.journal import Batch, Denial
from fairlead.core.manifest import LogSection
from fairlead.core.ref import canonical

__all__ = ["UNKEPT", "Veil", "denied", "hidden", "marked", "veil"]

UNKEPT = b""
"""The body of a request whose inputs were left out by sampling."""

HASHED = "hmac:"
SCALE = 2.0**64

Veil = Callable[[Batch], Batch]

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def hidden(log: LogSection) -> frozenset[str]:
    """Columns whose values the log does not have."""
    return frozenset((*log.redact, *log.drop))


def veil(log: LogSection, key: bytes, sticky_by: str = "") -> Veil | None:
    """How a batch is changed before it is written; None when it stays what it is.

    Redacted values become ``hmac:`` and 24 hex digits of an HMAC-SHA-256 under `key`, equal for equal
    values; dropped ones vanish. Units are hashed when their column is hidden, and the reasons of
    failures lose its values. Which requests keep their inputs is a function of their ids.
    """
    covered = hidden(log)
    if not covered and log.sample >= 1:
        return None

    mark = partial(marked, key)

    def row(values: Mapping[str, Any]) -> dict[str, Any]:
        kept = {n: v for n, v in values.items() if n not in log.drop}
        return kept | {n: mark(kept[n]) for n in log.redact if kept.get(n) is not None}

    def change(batch: Batch) -> Batch:
        bodies, features, errors, units = batch.bodies, batch.features, batch.errors, batch.units
        said = batch.said
        if covered:
            sent = [_read(body) for body in bodies]
            joined = [f or {} for f in features]
            errors = [_without(e, covered, s | f) for e, s, f in zip(errors, sent, joined, strict=True)]
            bodies = [msgspec.json.encode(row(s)) for s in sent]
            features, said = ([None if f is None else row(f) for f in some] for some in (features, said))
            if sticky_by in covered:
                units = [u if u == i else mark(u) for u, i in zip(units, batch.ids, strict=True)]
        keeps = [_chosen(i, log.sample) for i in batch.ids]
        bodies = [body if keep else UNKEPT for body, keep in zip(bodies, keeps, strict=True)]
        features = [f if keep else None for f, keep in zip(features, keeps, strict=True)]
        said = [s if keep else None for s, keep in zip(said, keeps, strict=True)] if said else said
        return replace(batch, bodies=bodies, features=features, errors=errors, units=units, said=said)

    return change


def denied(change: Veil, denial: Denial) -> Denial:
    """What of a refused request may reach the disk: as of an answered one."""
    row = change(Batch(
        service=denial.service, package=denial.package, at=denial.at, epoch=denial.epoch, live=False,
        propensity=0.0, ids=[denial.id], units=[denial.unit], bodies=[denial.body], features=[None],
        outputs=[None], errors=[denial.message], fallback=[False], latencies=[denial.latency],
    ))  # fmt: skip
    return replace(denial, unit=row.units[0], body=row.bodies[0], message=row.errors[0])


def marked(key: bytes, value: Any) -> str:
    """What stands in the log instead of a redacted value."""
    said = canonical(value) if not isinstance(value, str) else value.encode()
    return HASHED + hmac.new(key, said, sha256).hexdigest()[:24]


def _read(body: bytes) -> dict[str, Any]:
    """A row as sent; of what is no JSON object nothing is kept: nobody knows what it says."""
    try:
        return _decode(body)
    except msgspec.DecodeError:
        return {}


def _chosen(prediction: str, share: float) -> bool:
    digest = blake2b(prediction.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * SCALE


def _without(text: str, covered: frozenset[str], values: Mapping[str, Any]) -> str:
    for name in covered & values.keys():
        said = str(values[name])
        if said and said in text:
            text = text.replace(said, "<redacted>")
    return text
