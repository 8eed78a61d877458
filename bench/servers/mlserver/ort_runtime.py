"""An MLServer runtime over ONNX Runtime."""
import os

import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

MODEL = os.environ["BENCH_MODEL"]


class Onnx(MLModel):
    async def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(MODEL, options)
        return True

    async def predict(self, request: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(request.inputs[0]).astype(np.float32, copy=False)
        output = NumpyCodec.encode_output("score", self.session.run(None, {"X": x})[0])
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
