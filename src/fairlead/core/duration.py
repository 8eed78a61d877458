"""Durations as people write them in `fairlead.yaml`: ``90s``, ``10m``, ``3h``, ``1d12h``."""

import re

from fairlead.errors import Invalid

__all__ = ["allowance", "seconds"]

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*")


def seconds(text: str) -> float:
    """Read a duration: one or more numbers with a unit (ms, s, m, h, d, w), added up.

    Raises Invalid for anything else, a bare number included: ``90`` does not say of what.
    """
    total, end = 0.0, 0
    word = text.strip()
    while match := PART.match(word, end):
        total += float(match[1]) * UNITS[match[2]]
        end = match.end()
    if not word or end != len(word):
        raise Invalid(
            f"not a duration: {text!r}", hint="write a number and a unit: 90s, 10m, 3h, 1d12h, 2w"
        )
    return total


def allowance(text: str) -> tuple[int, float]:
    """Read ``10 per 30d``: (how many, seconds). Raises Invalid for a duration that is none."""
    count, _, span = text.partition(" per ")
    return int(count), seconds(span)
