"""Settings: the only reader of the environment, and the names a project's folder goes by."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from fairlead.errors import Unavailable

__all__ = ["MANIFEST", "STATE", "Settings", "bare_environment", "callers_token", "child_environment", "job_environment", "quiet_mlflow", "registry_authorities", "registry_logins",
           "secret", "settings", "show_token", "token", "tracking_store", "workflow"]  # fmt: skip

MANIFEST = "fairlead.yaml"
"""The file that makes a folder a project."""
STATE = ".fairlead"
"""The folder beside it that holds everything a project knows."""
TOKEN, TOKEN_FILE = "FAIRLEAD_TOKEN", "FAIRLEAD_TOKEN_FILE"
STORE = re.compile(r"(sqlite:///|file:(?!//)|)((?!\w+:|databricks).+)")
"""A tracking store of MLflow on this machine, by a path."""
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


def registry_authorities(host: str) -> tuple[Path, ...]:
    """Certificates (PEM) that vouch for a registry beside the system's: FAIRLEAD_REGISTRY_CA, and those
    that Podman and Docker keep for it in ``certs.d/HOST:PORT/*.crt``."""
    named = os.environ.get("FAIRLEAD_REGISTRY_CA", "")
    homes = (Path.home() / ".config" / "containers", Path("/etc/containers"), Path("/etc/docker"))
    kept = (p for home in homes for p in sorted((home / "certs.d" / host).glob("*.crt")))
    return (*([Path(named)] if named else []), *kept)


def workflow() -> tuple[Path | None, Path | None]:
    """Files that a step of GitHub Actions may append to: GITHUB_STEP_SUMMARY (Markdown) and
    GITHUB_OUTPUT (``name=value``); None where there is none."""
    summary, output = (os.environ.get(f"GITHUB_{n}", "") for n in ("STEP_SUMMARY", "OUTPUT"))
    return Path(summary) if summary else None, Path(output) if output else None


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


def job_environment(here: Path) -> dict[str, str]:
    """The environment of a job: a child's, where MLflow reports nothing to anybody, and a tracking
    store that was named by a path from `here` is the same one in the job's own folder, which goes."""
    changes = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    if named := STORE.fullmatch(tracking_store()):
        changes["MLFLOW_TRACKING_URI"] = f"{named[1]}{here.absolute() / named[2]}"
        # What a database makes its experiments keep files in, else ./mlruns of whoever asks first.
        changes["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(here.absolute() / "mlruns")
    return child_environment(changes)


def quiet_mlflow() -> None:
    """From now on MLflow in this process reports nothing to anybody, prints nothing, and gives a server
    that does not answer up after seconds (unless MLFLOW_HTTP_REQUEST_MAX_RETRIES says otherwise)."""
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


def tracking_store() -> str:
    """The tracking server or store of MLflow: MLFLOW_TRACKING_URI; "" for none."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def bare_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """For a process that runs somebody's model: where Python and its libraries are, the language and
    the time zone, and `changes`; nothing else of this one's environment."""
    return {k: v for k, v in os.environ.items() if k in HARMLESS or k.startswith("LC_")} | dict(changes)
