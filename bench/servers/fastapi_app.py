"""What people write by hand: FastAPI, pydantic and ONNX Runtime."""
import os

import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list


class Request(BaseModel):
    id: str | None = None
    inputs: list[Tensor]


class Response(BaseModel):
    model_name: str
    id: str | None = None
    outputs: list[Tensor]


@app.post("/v2/models/m/infer")
async def infer(request: Request) -> Response:
    tensor = request.inputs[0]
    x = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    scores = session.run(None, {"X": x})[0]
    output = Tensor(name="score", datatype="FP32", shape=list(scores.shape), data=scores.ravel().tolist())
    return Response(model_name="m", id=request.id, outputs=[output])
