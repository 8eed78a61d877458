"""The peers: how each server is installed, started and asked, and the bar it sets."""

from pathlib import Path

from msgspec import Struct

from bench.material import BINARY_HEAD

__all__ = ["OURS", "PEERS", "VENVS", "Peer", "ours"]

HERE = Path(__file__).parent
VENVS = HERE / ".venvs"
INFER = "/v2/models/m/infer"


class Peer(Struct, frozen=True, kw_only=True):
    """`venv`: its folder in ``.venvs``, "" for this interpreter, made with `requires`. `command` may
    name {bin}, {port}, {here}, {work}, {model}. `form`: of its bodies, "" asks with GET. `bar`: how many
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


def ours(name: str, form: str = "named", note: str = "", *, path: str = "/predict",
         durability: str = "os", route: str = "canary", headers: str = "") -> Peer:  # fmt: skip
    """Fairlead; `route` is one of `bench.ours.ROUTES`."""
    command = f"{{bin}}/python -m bench.ours {{port}} {durability} {{model}} {route}"
    return Peer(name=name, command=command, path=path, form=form, note=note, headers=headers)


OURS = ours("Fairlead", note="named columns, everything on, log level os")

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
    Peer(name="Ray Serve", venv="ray", requires=("ray[serve]", "onnxruntime"), bar=10.0,
         command="{bin}/python {here}/servers/ray_app.py {port}", path="/predict", form="rows",
         note="ONNX Runtime, batching 64 requests or 1 ms"),
    Peer(name="nginx, a constant", venv="nginx", bar=0.2, path="/", form="", port=18090,
         command="{nginx} -p {work} -c {here}/servers/nginx.conf -g 'daemon off;'", note="one worker"),
    ours("Fairlead, log level memory", note="named columns", durability="memory"),
    ours("Fairlead, log level fsync", note="named columns", durability="fsync"),
    ours("Fairlead, OIP v2 JSON", "tensor", "one FP32 tensor, not validated by column", path=INFER),
    ours("Fairlead, OIP v2 binary", "binary", "one FP32 tensor in raw bytes", path=INFER,
         headers=f"Inference-Header-Content-Length: {BINARY_HEAD}"),
)  # fmt: skip
"""Those with a bar come before the variants of Fairlead, which have none."""
