"""The peers: how each server is installed, started and asked, and the bar it sets."""

from pathlib import Path

from msgspec import Struct

from bench.material import BINARY_HEAD

__all__ = ["OURS", "PEERS", "Peer", "VENVS"]

HERE = Path(__file__).parent
VENVS = HERE / ".venvs"
INFER = "/v2/models/m/infer"


class Peer(Struct, frozen=True, kw_only=True):
    """`venv`: its folder in ``.venvs``, "" for this interpreter, made with `requires`. `command` may
    name {bin}, {port}, {here}, {work}. `form`: of its bodies, "" asks with GET. `bar`: how many
    times as many answers a second Fairlead must give (1 row, 64 connections)."""

    name: str
    venv: str = ""
    requires: tuple[str, ...] = ()
    command: str
    path: str = INFER
    form: str = "tensor"
    bar: float = 0.0
    note: str = ""
    prepare: str = ""
    port: int = 0
    headers: str = ""


def _ours(name: str, path: str, form: str, note: str, durability: str = "os", headers: str = "",
          ) -> Peer:  # fmt: skip
    return Peer(name=name, command=f"{{bin}}/python -m bench.ours {{port}} {durability}", path=path,
                form=form, note=note, headers=headers)  # fmt: skip


OURS = _ours("Fairlead", "/predict", "named", "named columns, everything on, log level os")

PEERS = (
    OURS,
    Peer(name="FastAPI by hand", venv="fastapi", bar=4.0,
         requires=("fastapi", "uvicorn", "uvloop", "httptools", "onnxruntime"),
         command="{bin}/uvicorn --app-dir {here}/servers --loop uvloop --http httptools --no-access-log "
                 "--log-level warning --port {port} fastapi_app:app", note="uvicorn, ONNX Runtime, async def"),
    Peer(name="mlflow models serve", venv="mlflow", requires=("mlflow", "onnx", "onnxruntime"), bar=25.0,
         prepare="{bin}/python {here}/servers/mlflow_save.py {work}",
         command="{bin}/mlflow models serve -m {work}/mlflow --env-manager local --host 127.0.0.1 "
                 "--port {port} --workers 1", path="/invocations", form="inputs", note="ONNX flavour"),
    Peer(name="MLServer", venv="mlserver", requires=("mlserver", "onnxruntime"), bar=15.0,
         command="{bin}/mlserver start {here}/servers/mlserver", port=18080,
         note="ONNX Runtime, adaptive batching 64 rows or 1 ms"),
    Peer(name="BentoML", venv="bentoml", requires=("bentoml", "onnxruntime"), bar=10.0,
         command="{bin}/bentoml serve bento_app:Service --working-dir {here}/servers --host 127.0.0.1 "
                 "--port {port} --api-workers 1", path="/predict", form="x", note="ONNX Runtime, batching"),
    Peer(name="KServe (Python server)", venv="kserve", requires=("kserve", "onnxruntime"), bar=10.0,
         command="{bin}/python {here}/servers/kserve_app.py --http_port {port} --enable_grpc false "
                 "--model_name m --workers 1 --enable_latency_logging false", note="ONNX Runtime"),
    Peer(name="LitServe", venv="litserve", requires=("litserve", "onnxruntime"), bar=10.0,
         command="{bin}/python {here}/servers/litserve_app.py {port}", path="/predict", form="rows",
         note="ONNX Runtime, batching 64 rows or 1 ms"),
    Peer(name="nginx, a constant", venv="nginx", bar=0.2, path="/", form="", port=18090,
         command="{nginx} -p {work} -c {here}/servers/nginx.conf -g 'daemon off;'", note="one worker"),
    _ours("Fairlead, log level memory", "/predict", "named", "named columns", "memory"),
    _ours("Fairlead, log level fsync", "/predict", "named", "named columns", "fsync"),
    _ours("Fairlead, OIP v2 JSON", INFER, "tensor", "one FP32 tensor, not validated by column"),
    _ours("Fairlead, OIP v2 binary", INFER, "binary", "one FP32 tensor in raw bytes",
          headers=f"Inference-Header-Content-Length: {BINARY_HEAD}"),
)  # fmt: skip
"""Those with a bar come before the variants of Fairlead, which have none."""

