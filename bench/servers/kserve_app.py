"""KServe's Python model server over ONNX Runtime."""
import argparse
import os

import onnxruntime as ort
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server

MODEL = os.environ["BENCH_MODEL"]


class Served(Model):
    def __init__(self, name):
        super().__init__(name)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options)
        self.ready = True

    def predict(self, payload: InferRequest, headers=None) -> InferResponse:
        scores = self.session.run(None, {"X": payload.inputs[0].as_numpy()})[0]
        output = InferOutput("score", list(scores.shape), "FP32")
        output.set_data_from_numpy(scores, binary_data=False)
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    arguments, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()
    ModelServer().start([Served(arguments.model_name)])
