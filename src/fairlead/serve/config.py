"""The gateway's configuration: one struct in ``run/gateway.json``."""

from pathlib import Path

import msgspec
from msgspec import Struct

from fairlead.core.journal import Durability
from fairlead.core.manifest import LogSection
from fairlead.core.ref import UNREADABLE
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.serve.http import Limits

__all__ = ["GatewayConfig", "read_config", "write_config"]

Value = str | int | float | bool | None


class GatewayConfig(Struct, frozen=True, kw_only=True):
    """`port` 0 takes a free one. `deadline_ms`: from the last byte of a request to its answer;
    a candidate gets the share `candidate_share` of it, the baseline the rest. `max_body`: bytes.
    `queue`: rows inside at once; `shadow_queue`: mirrored rows that may wait. `replicas`: processes
    for each package that answers; `gateways`: processes that take requests. `load_seconds`: after
    these a package that is still loading counts as failing. `replica_memory_mb`: how much a replica
    may grow beyond the loaded model before a fresh one takes its place; 0: never. `fallback`: the answer when even the baseline fails (None: 503).
    `walls`, `keys`: what packages with code of their own need (see `replica.Bounds`).
    `token_file`: file with the token callers must show; needed when `host` is not loopback.
    `durability`: what the acknowledgement of a prediction means for its log. `grpc_port`: 0 is off.
    `log`: what of a prediction reaches the disk; `sticky_by`: the column that names the unit.
    `access_log`: share of the requests written down; `trace_to`: URL of an OTLP receiver, for
    `trace_share` of the requests; `cpu_hour_price`: of one CPU.
    """

    service: str
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int = 0
    deadline_ms: float = 1000.0
    candidate_share: float = 0.5
    max_body: int = 1 << 20
    queue: int = 1024
    shadow_queue: int = 256
    replicas: int = 1
    gateways: int = 1
    load_seconds: float = 60.0
    replica_memory_mb: int = 1024
    walls: bool = True
    keys: dict[str, str] = {}
    fallback: Value = None
    token_file: str = ""
    durability: Durability = "os"
    access_log: float = 0.0
    trace_to: str = ""
    trace_share: float = 0.01
    cpu_hour_price: float = 0.0
    limits: Limits = Limits()
    log: LogSection = LogSection()
    sticky_by: str = ""
    chat: bool = False

    def __post_init__(self) -> None:
        if not (self.deadline_ms > 0 and 0 < self.candidate_share < 1):
            raise Invalid(f"deadline {self.deadline_ms} ms with a candidate's share of "
                          f"{self.candidate_share}", hint="above 0, and between 0 and 1")  # fmt: skip
        if self.load_seconds <= 0 or self.replica_memory_mb < 0:
            raise Invalid(f"load_seconds {self.load_seconds}, replica_memory_mb {self.replica_memory_mb}",
                          hint="above 0 seconds, and 0 MB (no limit) or more")  # fmt: skip
        counts = (self.max_body, self.queue, self.shadow_queue, self.replicas, self.gateways)
        if min(counts) < 1:
            raise Invalid("max_body, queue, shadow_queue, replicas or gateways is below 1")

    @property
    def deadline(self) -> float:
        """Seconds."""
        return self.deadline_ms / 1000.0


def write_config(path: Path, config: GatewayConfig) -> None:
    """Atomic; 0600."""
    fresh = path.with_name(path.name + ".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))
    fresh.replace(path)


def read_config(path: Path) -> GatewayConfig:
    """Raises Missing or Corrupt."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=GatewayConfig)
    except OSError as error:
        raise Missing(f"no gateway configuration at {path.name}: {error.strerror}",
                      hint="`fairlead serve` writes it") from error  # fmt: skip
    except UNREADABLE as error:
        raise Corrupt(f"{path.name} is not a gateway configuration: {error}",
                      hint="start `fairlead serve` again") from error  # fmt: skip
