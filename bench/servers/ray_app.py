"""Ray Serve over ONNX Runtime with batching."""
import os
import signal
import sys

import numpy as np
import ray
from ray import serve
from ray.serve.schema import LoggingConfig
from starlette.requests import Request

MODEL = os.environ["BENCH_MODEL"]
QUIET = LoggingConfig(enable_access_log=False, log_level="WARNING")


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0},
                  logging_config=QUIET)
class Model:
    def __init__(self):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, parts):
        scores = self.session.run(None, {"X": np.concatenate(parts)})[0].ravel()
        return np.split(scores, np.cumsum([len(p) for p in parts])[:-1])

    async def __call__(self, request: Request):
        body = await request.json()
        return {"scores": (await self.predict(np.array(body["rows"], dtype=np.float32))).tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=QUIET)
    serve.run(Model.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM})
    ray.shutdown()
