"""Settings: the only reader of the environment, and the names a project's folder goes by."""

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

__all__ = ["MANIFEST", "STATE", "Settings", "child_environment", "settings"]

MANIFEST = "fairlead.yaml"
"""The file that makes a folder a project."""
STATE = ".fairlead"
"""The folder beside it that holds everything a project knows."""


class Settings(Struct, frozen=True, kw_only=True):
    """`clock`: file that holds the time for every process (see adapters/clock.py), or None.

    `debug`: show tracebacks. `actor`: who is written into the audit log.
    """

    clock: Path | None = None
    debug: bool = False
    actor: str = ""


def settings() -> Settings:
    """FAIRLEAD_CLOCK, FAIRLEAD_DEBUG and FAIRLEAD_ACTOR (default: the login name)."""
    clock = os.environ.get("FAIRLEAD_CLOCK", "")
    return Settings(
        clock=Path(clock) if clock else None,
        debug=os.environ.get("FAIRLEAD_DEBUG", "") not in ("", "0"),
        actor=os.environ.get("FAIRLEAD_ACTOR", "") or os.environ.get("USER", "") or "fairlead",
    )


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: this one's, with `changes`."""
    return {**os.environ, **changes}
