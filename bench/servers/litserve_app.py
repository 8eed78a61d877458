"""LitServe over ONNX Runtime with batching."""
import os
import sys

import litserve as ls
import numpy as np

MODEL = os.environ["BENCH_MODEL"]


class Api(ls.LitAPI):
    def setup(self, device):
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options)

    def decode_request(self, request):
        return np.array(request["rows"], dtype=np.float32)

    def batch(self, parts):
        self.sizes = [len(p) for p in parts]
        return np.concatenate(parts)

    def predict(self, x):
        return self.session.run(None, {"X": x})[0]

    def unbatch(self, scores):
        start, found = 0, []
        for size in self.sizes:
            found.append(scores[start : start + size])
            start += size
        return found

    def encode_response(self, scores):
        return {"scores": scores.ravel().tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Api(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False, access_log=False)
