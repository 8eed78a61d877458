"""The data plane's wiring: what answers requests, and keeps answering when everything else is dead."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fairlead.adapters.clock import open_clock
from fairlead.adapters.fleet.local import LocalFleet
from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.adapters.router.local import LocalRouter
from fairlead.core.artifact import PackageSpec
from fairlead.errors import FairleadError, Invalid
from fairlead.flavors.sklearn import scorer
from fairlead.ports import Online
from fairlead.serve import gateway, replica
from fairlead.serve.config import GatewayConfig, read_config, write_config
from fairlead.serve.endpoint import Callers
from fairlead.serve.parent import keep
from fairlead.serve.supervisor import Supervisor, alone, listen
from fairlead.settings import STATE, child_environment, settings

__all__ = ["GatewayConfig", "main", "serve"]

HANG = 1.5
"""A batch that runs for so many deadlines counts as hung: its replica is replaced."""
LEAN = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
"""Gateways and replicas are many; each keeps to one thread."""


def serve(root: Path, config: GatewayConfig, controller: Sequence[str] | None) -> int:
    """Serve the project in `root` until SIGTERM or SIGINT; the exit status.

    `controller`: the arguments of the controller process, or None to serve without one.
    ``run/serve.json`` says host, port and process ids once the first package is ready. Raises
    Conflict (served already), Unavailable (the port is taken), Invalid (open to the network
    without a token).
    """
    state = (root / STATE).absolute()
    run = state / "run"
    os.umask(0o077)
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    Callers(config.host, "?" if config.token_file else "")
    lock = alone(run)
    for stale in [*run.glob("gateway-*.json"), *run.glob("*.sock*"), run / "serve.json"]:
        stale.unlink(missing_ok=True)
    write_config(run / "gateway.json", config)
    listener = listen(config.host, config.port)
    fleet = LocalFleet(state / "packages", run, partial(_replica, config),
                       replica.socket_name, _environment())  # fmt: skip
    supervisor = Supervisor(
        config, run, listener, LocalRouter(run), fleet,
        gateway=partial(_launch, _gateway(state, listener), run, listener, _environment()),
        controller=None if controller is None
        else partial(_launch, controller, root, None, child_environment({})),
    )  # fmt: skip
    try:
        return supervisor.run()
    finally:
        fleet.stop()
        os.close(lock)


def main(argv: Sequence[str]) -> int:
    """``gateway STATE FD`` or ``replica PACKAGE SOCKET SECONDS``: one of the inner processes."""
    os.umask(0o077)
    try:
        match argv:
            case ["gateway", state, fd]:
                return _gateway_main(Path(state), int(fd))
            case ["replica", package, path, seconds]:
                return replica.run(Path(package), Path(path), _open, float(seconds))
    except FairleadError as error:
        print(f"{argv[0]}: {error} ({error.hint})", file=sys.stderr)  # noqa: T201
        return 3
    raise Invalid(f"no such process: {' '.join(argv)}", hint="gateway STATE FD, replica PACKAGE SOCKET SECONDS")  # fmt: skip


def _gateway_main(state: Path, fd: int) -> int:
    clock = open_clock(settings().clock)
    run = state / "run"
    os.chdir(run)
    config = read_config(run / "gateway.json")
    doors = gateway.Doors(router=LocalRouter(run), clock=clock,
                          online=partial(_online, state / "online.db"))  # fmt: skip
    listener = socket.socket(fileno=fd)
    return keep(lambda lifeline: gateway.run(config, state, listener, doors, lifeline))


def _online(path: Path) -> Online:
    return SqliteOnline(path, readonly=True)


def _open(directory: Path, spec: PackageSpec) -> replica.Scorer:
    return scorer(directory, spec.flavor, spec.task, len(spec.classes))


def _environment() -> dict[str, str]:
    clock = settings().clock
    return child_environment(LEAN | ({"FAIRLEAD_CLOCK": str(clock.absolute())} if clock else {}))


def _replica(config: GatewayConfig, package: Path, path: str) -> list[str]:
    return [sys.executable, "-m", "fairlead", "replica", str(package), path,
            str(config.deadline * HANG)]  # fmt: skip


def _gateway(state: Path, listener: socket.socket) -> list[str]:
    return [sys.executable, "-m", "fairlead", "gateway", str(state), str(listener.fileno())]


def _launch(
    argv: Sequence[str], cwd: Path, listener: socket.socket | None, env: dict[str, str]
) -> "subprocess.Popen[bytes]":
    """A child that ends with this process: its standard input is a pipe that closes then."""
    passed = () if listener is None else (listener.fileno(),)
    return subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=cwd, env=env, pass_fds=passed,
                            start_new_session=True)  # fmt: skip
