"""BentoML over ONNX Runtime with adaptive batching."""
import os

import bentoml
import numpy as np

MODEL = os.environ["BENCH_MODEL"]


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Service:
    def __init__(self):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options)

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"X": np.asarray(x, dtype=np.float32)})[0]
