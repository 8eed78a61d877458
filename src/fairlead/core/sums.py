"""Exact running sums: a window's total is the same number whatever the order facts arrived in.

A feature over a window is the difference of two running sums, once made by the as-of join of
training and once by the online store. Floating-point sums would differ in the last digits with the
order of late facts, and one huge fact would blur all later ones. So each value is cut into two
integers, coarse steps of 2^-16 and fine steps of 2^-48, whose sums are exact; what is finer than
3.6e-15 is dropped. Only the window's total is rounded, once.
"""

from typing import Any

__all__ = ["COARSE", "FAR", "FINE", "LIMIT", "cut", "instant", "total"]

COARSE = 2.0**16
FINE = 2.0**32
LIMIT = 2**62
"""A running sum of coarse steps stays below this (7e13 in units of the value): it is an int64."""

FAR = 1e12
"""No time in UTC seconds lies this far from 1970; a number beyond it is milliseconds or finer."""


def cut(value: float) -> tuple[int, int]:
    """(coarse, fine): value x 2^16 without its fraction, and that fraction in units of 2^-48.

    `cut(-value)` is minus `cut(value)`. Needs a finite value.
    """
    scaled = value * COARSE
    coarse = int(scaled)
    return coarse, int((scaled - coarse) * FINE)


def total(coarse: Any, fine: Any) -> Any:
    """The float64 that two summed integers stand for; works on ints and on polars expressions."""
    return coarse * (1.0 / COARSE) + fine * (1.0 / COARSE / FINE)


def instant(at: float) -> int:
    """UTC seconds as whole microseconds: the resolution at which times are compared."""
    return round(at * 1e6)
