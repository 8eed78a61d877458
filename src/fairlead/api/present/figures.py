"""Numbers, times and digests as people read them."""

from datetime import UTC, datetime
from math import isfinite

from fairlead.core.ref import SHORT, Ref

__all__ = ["ago", "count", "measure", "name", "percent", "short", "size", "span", "stamp"]


def count(value: float) -> str:
    """``336,776``."""
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Bytes as ``17 B``, ``1.2 kB``, ``8.7 MB``, ``3.1 GB``."""
    if value < 1000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:,.1f} TB"


def percent(share: float) -> str:
    """``5 %``, ``0.25 %``, ``100 %``."""
    return f"{share * 100:.3g} %" if share < 0.9995 or share == 1 else f"{share * 100:.4g} %"


def span(seconds: float) -> str:
    """A duration with its two largest units: ``12 ms``, ``3.4 s``, ``2m 05s``, ``1h 30m``, ``4d 2h``."""
    if not isfinite(seconds):
        return "for ever"
    if seconds < 0.9995:
        return f"{seconds * 1000:.{2 if seconds < 0.00995 else 3}g} ms" if seconds else "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s" if whole % 60 else f"{whole // 60}m"
    if whole < 86400:
        return f"{whole // 3600}h {whole // 60 % 60:02}m" if whole // 60 % 60 else f"{whole // 3600}h"  # fmt: skip
    hours = whole // 3600 % 24
    return f"{whole // 86400}d {hours}h" if hours else f"{whole // 86400}d"


def stamp(at: float) -> str:
    """UTC seconds as ``2013-05-04 13:22:01``; "never" for 0."""
    if not at or not isfinite(at):
        return "never"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(at: float, now: float) -> str:
    """``3m 10s ago``; the date when it is more than 30 days back or lies ahead."""
    if not at:
        return "never"
    past = now - at
    if past < 0 or past > 30 * 86400:
        return stamp(at)
    return "just now" if past < 1 else f"{span(past)} ago"


def measure(value: float) -> str:
    """A measured number with four significant digits."""
    if not isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def short(digest: str) -> str:
    """The part of a digest that people compare."""
    return digest[:SHORT]


def name(ref: Ref | None) -> str:
    """A reference for a screen; "-" for none."""
    return "-" if ref is None else ref.short
