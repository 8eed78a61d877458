"""Settings: the only reader of the environment, and the names a project's folder goes by."""

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from fairlead.errors import Unavailable

__all__ = ["MANIFEST", "STATE", "Settings", "bare_environment", "callers_token", "child_environment", "registry_logins",
           "secret", "settings", "show_token", "token"]  # fmt: skip

MANIFEST = "fairlead.yaml"
"""The file that makes a folder a project."""
STATE = ".fairlead"
"""The folder beside it that holds everything a project knows."""
TOKEN, TOKEN_FILE = "FAIRLEAD_TOKEN", "FAIRLEAD_TOKEN_FILE"
HARMLESS = {"PATH", "LANG", "TZ", "TZDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV",
            "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"}  # fmt: skip


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


def token() -> str:
    """What shows who is calling, where people are known: FAIRLEAD_TOKEN, or the content of the file
    that FAIRLEAD_TOKEN_FILE names; "" for nothing. Raises Unavailable for a file without one."""
    file = os.environ.get(TOKEN_FILE, "")
    return secret("", Path(file)) if file else os.environ.get(TOKEN, "").strip()


def callers_token() -> str:
    """The file with the token that callers of a package without a project must show:
    FAIRLEAD_SERVE_TOKEN_FILE; "" for none."""
    return os.environ.get("FAIRLEAD_SERVE_TOKEN_FILE", "")


def registry_logins() -> tuple[Path, ...]:
    """Where `podman login` and `docker login` keep logins: REGISTRY_AUTH_FILE, DOCKER_CONFIG, and
    their defaults."""
    named, folder = os.environ.get("REGISTRY_AUTH_FILE", ""), os.environ.get("DOCKER_CONFIG", "")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return (
        *([Path(named)] if named else []),
        *([Path(runtime) / "containers" / "auth.json"] if runtime else []),
        (Path(folder) if folder else Path.home() / ".docker") / "config.json",
    )


def show_token(file: Path) -> None:
    """From now on the caller is who the token in `file` says."""
    os.environ[TOKEN_FILE] = str(file)


def secret(variable: str, file: Path | None = None) -> str:
    """A secret that is kept in an environment variable or in a file, without blanks around it.

    Raises Unavailable, naming the place and never the secret, when there is none.
    """
    try:
        found = os.environ.get(variable, "") if file is None else file.read_text()
    except (OSError, UnicodeDecodeError):
        found = ""
    if not found.strip():
        where = f"environment variable {variable}" if file is None else f"file {file.name}"
        raise Unavailable(f"no secret in {where}", hint="set it where `fairlead serve` is started")
    return found.strip()


def child_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: this one's, with `changes`, and without the token: what
    trains or is told of alerts does not act for whoever started it."""
    return {k: v for k, v in os.environ.items() if k not in (TOKEN, TOKEN_FILE)} | dict(changes)


def bare_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """For a process that runs somebody's model: where Python and its libraries are, the language and
    the time zone, and `changes`; nothing else of this one's environment."""
    return {k: v for k, v in os.environ.items() if k in HARMLESS or k.startswith("LC_")} | dict(changes)
