"""Fairlead as the benchmark serves it: two packages in a canary split, everything switched on."""

import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from bench.material import COLUMNS, WORK
from fairlead.adapters.router.local import LocalRouter
from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import Encoding, Number
from fairlead.core.journal import Durability
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.schema import Column, Schema
from fairlead.core.traffic import Arm, Route
from fairlead.dataplane import GatewayConfig, serve
from fairlead.settings import STATE

SHARE = 0.1
"""Of the canary."""
QUEUE = 8192
"""Rows that may wait: the default of 1,024 refuses part of 64 requests of 100 rows, as it should; here
all are to be answered, as by the other servers."""


def package(state: Path, threshold: float) -> Ref:
    """Materialise the model as a package; another threshold makes another package."""
    data = (WORK / "model.onnx").read_bytes()
    file = sha256(data).hexdigest()
    spec = PackageSpec(
        model=Ref("model", "m", file), flavor="onnx", task="binary", classes=("no", "yes"),
        contract=Schema(columns=tuple(Column(name=c, dtype="float", nullable=True) for c in COLUMNS)),
        encoding=Encoding(tuple(Number(c) for c in COLUMNS)), threshold=threshold,
        files={"model.onnx": file},
    )  # fmt: skip
    ref = Ref("package", "m", digest(spec))
    folder = state / "packages" / ref.digest
    folder.mkdir(parents=True)
    (folder / "package.json").write_bytes(canonical(spec))
    (folder / "model.onnx").write_bytes(data)
    return ref


def main(port: int, durability: Durability) -> int:
    """Serve until told to stop."""
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", dir=WORK) as folder:
        root = Path(folder)
        old, new = package(root / STATE, 0.5), package(root / STATE, 0.4)
        (root / STATE / "run").mkdir(mode=0o700)
        LocalRouter(root / STATE / "run").publish(
            Route(service="m", epoch=1, arms=(Arm(old, 1 - SHARE), Arm(new, SHARE))))  # fmt: skip
        return serve(root, GatewayConfig(service="m", port=port, durability=durability, queue=QUEUE), None)


if __name__ == "__main__":
    level: Durability = "os"
    if sys.argv[2] in ("memory", "fsync"):
        level = "memory" if sys.argv[2] == "memory" else "fsync"
    sys.exit(main(int(sys.argv[1]), level))
