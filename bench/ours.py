"""Fairlead as the benchmark serves it: ``python -m bench.ours PORT LEVEL MODEL ROUTE``."""

import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import cast

import msgspec

from bench.material import COLUMNS, WORK, model_file
from fairlead import dataplane
from fairlead.adapters.router.local import LocalRouter
from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import Encoding, Number
from fairlead.core.journal import Durability
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.schema import Column, Schema
from fairlead.core.traffic import Arm, Route
from fairlead.settings import STATE

__all__ = ["BARE", "ROUTES"]

SHARE = 0.1
"""Of the canary."""
BARE = "bare"
ROUTES = {"canary": (1 - SHARE, SHARE, 0.0), "alone": (1.0,), "shadow": (1.0, 0.0, 1.0), BARE: (1.0,)}
"""Share of the baseline; share and mirror of the candidate. `BARE` is alone, with neither prediction
log nor metrics."""
QUEUE = 8192
"""Rows that may wait: the default of 1,024 refuses part of 64 requests of 100 rows, as it should; here
all are to be answered, as by the other servers."""


def package(state: Path, model: str, threshold: float) -> Ref:
    """Materialise the model as a package; another threshold makes another package."""
    data = model_file(model).read_bytes()
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


def main(port: int, durability: Durability, model: str, route: str) -> int:
    """Serve until told to stop."""
    shares = ROUTES[route]
    if route == BARE:
        launch = dataplane._gateway
        dataplane._gateway = lambda *a: [
            "bench.bare" if word == "fairlead" else word for word in launch(*a)]
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", dir=WORK) as folder:
        root = Path(folder)
        arms = [Arm(package(root / STATE, model, 0.5), shares[0])]
        if len(shares) > 1:
            arms.append(Arm(package(root / STATE, model, 0.4), *shares[1:]))
        (root / STATE / "run").mkdir(mode=0o700)
        LocalRouter(root / STATE / "run").publish(Route(service="m", epoch=1, arms=tuple(arms)))
        config = dataplane.GatewayConfig(service="m", port=port, durability=durability, queue=QUEUE)
        return dataplane.serve(root, config, None)


if __name__ == "__main__":
    _, place, level, *rest = sys.argv
    msgspec.convert(level, Durability)
    sys.exit(main(int(place), cast(Durability, level), *rest))
