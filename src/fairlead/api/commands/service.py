"""The commands that need no records, only the service: serve and predict."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from fairlead.adapters import manifest as manifests
from fairlead.adapters.keys.local import LocalSigner
from fairlead.api.client import Client, found
from fairlead.api.console import console, emit
from fairlead.api.folder import find
from fairlead.api.present.answers import answers_view, call_view
from fairlead.core.artifact import PackageSpec
from fairlead.core.duration import seconds
from fairlead.core.manifest import Manifest
from fairlead.dataplane import GatewayConfig, open_door, serve_alone
from fairlead.dataplane import restart as restart_service
from fairlead.dataplane import serve as run_service
from fairlead.errors import Forbidden, Invalid, Missing
from fairlead.serve.http import Limits
from fairlead.settings import MANIFEST, STATE

__all__ = ["gateway_config", "predict", "restart", "samples_of", "serve", "serve_package"]

PATIENCE = 120.0
"""Seconds to wait for the first package before saying that none is ready."""


def serve(given: Path | None, host: str, port: int | None) -> int:
    """Serve until stopped; says where once it answers."""
    root = find(given)
    manifest = manifests.load(root / MANIFEST)
    out = console()
    if not (root / STATE / "run" / "route.json").is_file():
        out.print(Text("nothing is released yet: requests are refused until `fairlead run` has released a model", "yellow"))  # fmt: skip
    out.print(f"starting {manifest.service} ...")
    threading.Thread(target=_announce, args=(root, manifest), daemon=True).start()
    controller = [sys.executable, "-m", "fairlead", "controller", str(root.resolve())]
    status = run_service(root, gateway_config(root, manifest, host, port), controller)
    out.print("stopped")
    return status


def serve_package(folder: Path, host: str, port: int | None) -> int:
    """Serve one package until stopped."""
    config = open_door(host or "127.0.0.1", 8080 if port is None else port)
    console().print(f"serving the package in {folder} on {config.host}:{config.port}")
    return serve_alone(folder, config)


def restart(given: Path | None) -> int:
    """Renew the running service's gateways and controller; say so once they answer."""
    root = find(given)
    config = gateway_config(root, manifests.load(root / MANIFEST), "", None)
    pids = ", ".join(map(str, restart_service(root, config)))
    console().print(f"restarted: {config.service} is answered by process {pids} now; no request was lost")
    return 0


def predict(given: Path | None, row: str, unit: str, *, as_json: bool) -> None:
    """Send one row, several, or a sample; print the answers."""
    root = find(given)
    client = found(root)
    body = _body(row) if row else msgspec.json.encode(_sample(root, client))
    answer = client.post("/predict", body, {"x-unit": unit} if unit else None)
    emit(answer, answers_view(answer, "" if row else body.decode()), as_json=as_json)


def _keys(root: Path, manifest: Manifest) -> dict[str, str]:
    """Whose trust in packages counts: that given here; nobody's where nothing can be signed."""
    try:
        return {manifest.environment.name: LocalSigner(root / STATE / "keys" / "audit").key}
    except Missing:
        return {}


def gateway_config(root: Path, manifest: Manifest, host: str, port: int | None) -> GatewayConfig:
    """What a manifest says of serving; `host` and `port` as given on the command line, or not."""
    section = manifest.serve
    token = str((root / section.token_file).resolve()) if section.token_file else ""
    return GatewayConfig(
        service=manifest.service, host=host or section.host,
        port=section.port if port is None else port,
        deadline_ms=section.deadline_ms if manifest.chat is None else 1000 * seconds(manifest.chat.timeout),
        chat=manifest.chat is not None,
        max_body=section.max_body_kb * 1024, queue=section.max_queue, replicas=section.replicas,
        gateways=section.gateways,
        fallback=section.fallback, token_file=token, durability=section.durability,
        replica_memory_mb=section.replica_memory_mb, load_seconds=section.load_seconds,
        walls=section.walls, keys=_keys(root, manifest),
        grpc_port=section.grpc_port, access_log=section.access_log, trace_to=section.trace_to,
        log=manifest.log, sticky_by=manifest.release.sticky_by or ("user" if manifest.chat else ""), trace_share=section.trace_share, cpu_hour_price=section.cpu_hour_price,
        limits=Limits(rate=section.rate, per_peer=section.connections_per_peer),
    )  # fmt: skip


def _announce(root: Path, manifest: Manifest) -> None:
    """Wait until the service answers, then show how to call it."""
    path, end = root / STATE / "run" / "serve.json", time.monotonic() + PATIENCE
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    if not path.exists():
        console().print(Text("no package is ready yet: `fairlead status` says more", "yellow"))
        return
    client = found(root)
    ready = msgspec.json.decode(path.read_bytes()).get("ready", False)
    door, sample = "/predict", _sample_of(root, client) if ready else None
    if ready and manifest.chat is not None:
        door, sample = "/v1/chat/completions", {
            "model": manifest.service, "messages": [{"role": "user", "content": "Hello"}]}  # fmt: skip
    console().print(call_view(manifest.service, client.url, sample, manifest.serve.token_file, door), crop=False)


def _body(row: str) -> bytes:
    """The JSON to send: given itself, in a file, or on standard input. Raises Invalid, Missing."""
    if row.lstrip().startswith(("{", "[")):
        data = row.encode()
    elif row == "-":
        data = sys.stdin.buffer.read()
    else:
        try:
            data = Path(row).read_bytes()
        except OSError as error:
            raise Missing(f"no file {row!r}: {error.strerror}",
                          hint="""give JSON like '{"column": 1}', a file, or - for standard input""") from None  # fmt: skip
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Invalid(f"this is not JSON: {error}", hint="""one row looks like '{"column": 1}'""") from None  # fmt: skip
    return msgspec.json.encode({"rows": value}) if isinstance(value, list) else data


def _sample(root: Path, client: Client) -> dict[str, Any]:
    sample = _sample_of(root, client)
    if sample is None:
        raise Missing("there is no sample row: no package is ready, or your token may not look",
                      hint="""send a row: fairlead predict '{"column": 1}'""")  # fmt: skip
    return sample


def _sample_of(root: Path, client: Client) -> dict[str, Any] | None:
    rows = samples_of(root, client)
    return rows[0] if rows else None


def samples_of(root: Path, client: Client) -> list[dict[str, Any]]:
    """Held-out rows as a caller would send them, from the package that answers; none when none does,
    or when that is not for everybody to see."""
    try:
        arms = client.get("/status").get("arms") or []
    except Forbidden:
        return []
    if not arms:
        return []
    folder = root / STATE / "packages" / str(arms[0]["package"]).rpartition("@")[2]
    try:
        spec = msgspec.json.decode((folder / "package.json").read_bytes(), type=PackageSpec)
        rows = msgspec.json.decode((folder / "samples.json").read_bytes())["rows"]
    except (OSError, msgspec.DecodeError, KeyError):
        return []
    names = set(spec.contract.names)
    return [{k: v for k, v in row.items() if k in names} for row in rows]
