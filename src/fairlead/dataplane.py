"""The data plane's wiring: what answers requests, and keeps answering when everything else is dead."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import Struct
from msgspec.structs import replace as changed

from fairlead.adapters.clock import open_clock
from fairlead.adapters.fleet.local import LocalFleet
from fairlead.adapters.keys.local import verify
from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.adapters.router.local import LocalRouter
from fairlead.adapters.router.register import LocalRegister
from fairlead.core import trust
from fairlead.core.artifact import PackageSpec
from fairlead.core.ref import Ref
from fairlead.core.traffic import Arm, Route
from fairlead.disk import content, settle
from fairlead.errors import FairleadError, Invalid, Unavailable
from fairlead.flavors.frameworks import demand, scorer
from fairlead.ports import Online
from fairlead.serve import gateway, replica
from fairlead.serve.config import GatewayConfig, read_config, write_config
from fairlead.serve.endpoint import Callers, is_loopback
from fairlead.serve.grpc import reserve
from fairlead.serve.package import identify
from fairlead.serve.parent import keep
from fairlead.serve.sandbox import Sandbox
from fairlead.serve.supervisor import RENEW, Supervisor, alone, listen
from fairlead.settings import (
    STATE,
    bare_environment,
    callers_token,
    child_environment,
    secret,
    settings,
)

__all__ = ["GatewayConfig", "main", "open_door", "restart", "serve", "serve_alone"]

LEAN = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
        "ORT_DISABLE_TELEMETRY": "1"}  # fmt: skip
"""Gateways and replicas are many; each keeps to one thread."""


def serve(root: Path, config: GatewayConfig, controller: Sequence[str] | None) -> int:
    """Serve the project in `root` until SIGTERM or SIGINT; the exit status.

    `controller`: the arguments of the controller process, or None to serve without one.
    ``run/serve.json`` says host, port and process ids once the first package is ready. Raises
    Conflict (served already), Unavailable (the port is taken), Invalid (open to the network
    without a token).
    """
    os.umask(0o077)
    settle(root / STATE)
    return _serve(root, config, controller)


def _serve(root: Path, config: GatewayConfig, controller: Sequence[str] | None) -> int:
    state = (root / STATE).absolute()
    run = state / "run"
    run.mkdir(parents=True, exist_ok=True, mode=0o700)
    Callers(config.host, "?" if config.token_file else "", LocalRegister(run).published())
    lock = alone(run)
    for stale in [*run.glob("gateway-*.json"), *run.glob("metrics-*.json"), *run.glob("*.sock*"), run / "serve.json"]:
        stale.unlink(missing_ok=True)
    held = reserve(config)
    write_config(run / "gateway.json", config)
    listener = listen(config.host, config.port)
    fleet = LocalFleet(state / "packages", run, partial(_replica, config),
                       replica.socket_name, _bare())  # fmt: skip
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
        if held is not None:
            held.close()


def serve_alone(package: Path, config: GatewayConfig) -> int:
    """Serve the one package that lies in the folder `package`, without a project, until SIGTERM or
    SIGINT; the exit status.

    What is written (journals, sockets) goes with the temporary folder it lies in. Raises Missing or
    Corrupt (no package, or not what it says), Unavailable (nowhere to write) and what `serve` does.
    """
    try:
        held = TemporaryDirectory(prefix="fairlead-")
    except OSError as error:
        raise Unavailable(f"nowhere to write: {error.strerror}", hint="mount an empty folder at /tmp") from None
    with held as name:
        state = Path(name) / STATE
        (state / "packages").mkdir(parents=True)
        digest = identify(package)
        (state / "packages" / digest).symlink_to(package.resolve(), target_is_directory=True)
        arm = Arm(Ref("package", config.service, digest), 1.0)
        LocalRouter(state / "run").publish(Route(service=config.service, arms=(arm,), epoch=1))
        return _serve(Path(name), config, None)


def restart(root: Path, config: GatewayConfig, patience: float = 60.0) -> list[int]:
    """Have the running service replace its gateways and its controller, by this version and with
    this configuration; where it listens and how many processes it has stay. Returns the new
    gateways' process ids. No request is lost: the old ones go when the new ones answer.

    Raises Unavailable when nothing is served, or when no new gateway answered within `patience`
    seconds; then the old ones go on.
    """
    run = root / STATE / "run"
    before = _facts(run)
    now = read_config(run / "gateway.json")
    write_config(run / "gateway.json", changed(
        config, host=now.host, port=now.port, grpc_port=now.grpc_port, replicas=now.replicas,
        gateways=now.gateways))  # fmt: skip
    os.kill(before.pid, RENEW)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = _facts(run).gateways
        if not {*found} & {*before.gateways}:
            return found
        time.sleep(0.02)
    raise Unavailable("no new gateway answers; the old ones go on",
                      hint="the output of `fairlead serve` says why; mend it and try again")  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """``gateway STATE FD``, ``replica PACKAGE SOCKET BOUNDS``: one of the inner processes; or what
    an image runs: ``alone PACKAGE HOST PORT``."""
    os.umask(0o077)
    try:
        match argv:
            case ["alone", package, host, port]:
                return serve_alone(Path(package), open_door(host, int(port)))
            case ["gateway", state, fd]:
                return _gateway_main(Path(state), int(fd))
            case ["replica", package, path, text]:
                bounds = msgspec.json.decode(text, type=replica.Bounds)
                box = Sandbox(bounds.memory * replica.MOST)
                return replica.run(Path(package), Path(path), _open, bounds, box, partial(_vouch, bounds.keys))
    except FairleadError as error:
        print(f"{argv[0]}: {error} ({error.hint})", file=sys.stderr)  # noqa: T201
        return 3
    raise Invalid(f"no such process: {' '.join(argv)}", hint="gateway STATE FD, replica PACKAGE SOCKET BOUNDS")  # fmt: skip


def open_door(host: str, port: int, name: str = "model") -> GatewayConfig:
    """How a package is served without a manifest; its callers show FAIRLEAD_SERVE_TOKEN.

    Raises Invalid when it would be open to the network without one.
    """
    token_file = callers_token()
    if not (token_file or is_loopback(host)):
        raise Invalid(f"serving on {host} is open to the network, and there is no token",
                      hint="name a file that holds one in FAIRLEAD_SERVE_TOKEN_FILE")  # fmt: skip
    return GatewayConfig(service=name, host=host, port=port, token_file=token_file)


class _Facts(Struct):
    """What run/serve.json says."""

    pid: int
    gateways: list[int]


def _facts(run: Path) -> _Facts:
    try:
        return msgspec.json.decode((run / "serve.json").read_bytes(), type=_Facts)
    except (OSError, msgspec.DecodeError):
        raise Unavailable("nothing is served here", hint="start it with `fairlead serve`") from None


def _gateway_main(state: Path, fd: int) -> int:
    clock = open_clock(settings().clock)
    run = state / "run"
    os.chdir(run)
    config = read_config(run / "gateway.json")
    doors = gateway.Doors(router=LocalRouter(run), register=LocalRegister(run), clock=clock,
                          online=partial(_online, state / "online.db"),
                          secret=partial(_secret, state.parent))  # fmt: skip
    listener = socket.socket(fileno=fd)
    return keep(lambda lifeline: gateway.run(config, state, listener, doors, lifeline))


def _online(path: Path) -> Online:
    return SqliteOnline(path, readonly=True)


def _secret(root: Path, variable: str, file: str) -> str:
    """The key of a provider: from the environment, or from a file of the project."""
    return secret(variable, root / file if file else None)


def _open(files: Mapping[str, bytes], spec: PackageSpec) -> replica.Scorer:
    demand(files)
    return scorer(files, spec.flavor, spec.task, len(spec.classes))


def _vouch(keys: Mapping[str, str], directory: Path, spec: PackageSpec) -> None:
    """Hold a package with code of its own to the trust that lies beside the packages."""
    folder, name = directory.parents[1] / "trust", trust.place(directory.name)
    data = content(folder, name) if (folder / name).exists() else None
    trust.demand(data, directory.name, open_clock(settings().clock).now(), keys, verify)


def _environment() -> dict[str, str]:
    return child_environment(LEAN | _clock())


def _bare() -> dict[str, str]:
    """What a replica knows of its surroundings: no credential that happens to be there."""
    return bare_environment(LEAN | _clock() | {"PYTHONSAFEPATH": "1"})


def _clock() -> dict[str, str]:
    clock = settings().clock
    return {"FAIRLEAD_CLOCK": str(clock.absolute())} if clock else {}


def _replica(config: GatewayConfig, package: Path, path: str) -> list[str]:
    # Nobody waits for a batch that runs for longer than a deadline.
    bounds = replica.Bounds(hang=config.deadline, load=config.load_seconds,
                            memory=config.replica_memory_mb << 20, walls=config.walls,
                            keys=config.keys)  # fmt: skip
    return [sys.executable, "-m", "fairlead", "replica", str(package), path,
            msgspec.json.encode(bounds).decode()]  # fmt: skip


def _gateway(state: Path, listener: socket.socket) -> list[str]:
    return [sys.executable, "-m", "fairlead", "gateway", str(state), str(listener.fileno())]


def _launch(
    argv: Sequence[str], cwd: Path, listener: socket.socket | None, env: dict[str, str]
) -> "subprocess.Popen[bytes]":
    """A child that ends with this process: its standard input is a pipe that closes then."""
    passed = () if listener is None else (listener.fileno(),)
    return subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=cwd, env=env, pass_fds=passed,
                            start_new_session=True)  # fmt: skip
