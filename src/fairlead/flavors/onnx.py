"""ONNX models: opened by ONNX Runtime, asked with a float32 matrix, answered with scores."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors.files import read

__all__ = ["FILE", "UNABLE", "Scorer", "refusals"]

FILE = "model.onnx"
CHUNK = 50_000
"""Rows per call: bounds what the runtime holds at once."""
UNABLE = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError,
          OSError, RuntimeError, TypeError, ValueError)  # fmt: skip
"""What a third-party converter raises when it cannot."""


class Scorer:
    """One model, ready to answer. Not shared between threads that need their own pace."""

    def __init__(self, model: Path | bytes, *, threads: int = 1) -> None:
        """Open a file, or bytes. Raises Missing (file, runtime) or Corrupt (not such a model)."""
        try:
            import onnxruntime as ort
        except ImportError:
            raise Missing(
                "onnxruntime is not installed", hint='pip install "fairlead[serve]"'
            ) from None
        data = model if isinstance(model, bytes) else read(model.parent, model.name)
        ort.disable_telemetry_events()
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except refusals() as error:
            raise Corrupt(f"not a model that ONNX Runtime opens: {error}",
                          hint="package the model again") from None  # fmt: skip
        self.width = self._described()

    def _described(self) -> int:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        names = [i.name for i in inputs], [o.name for o in outputs]
        if names != (["X"], ["scores"]) or inputs[0].type != "tensor(float)":
            raise Corrupt(f"the graph has inputs {names[0]} and outputs {names[1]}",
                          hint="one float32 input `X` and one output `scores` are expected")  # fmt: skip
        return int(inputs[0].shape[1])

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n, width] -> scores float32 [n, k]. Raises Invalid when the shape does not fit."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise Invalid(f"the matrix is {rows.shape}, the model reads [rows, {self.width}]",
                          hint="encode the rows with the encoding of this very model")  # fmt: skip
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        parts = [self._session.run(None, {"X": rows[i : i + CHUNK]})[0]
                 for i in range(0, max(len(rows), 1), CHUNK)]  # fmt: skip
        scores: NDArray[np.float32] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return scores


def refusals() -> tuple[type[Exception], ...]:
    """The runtime's errors at loading; they share no base narrower than Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf,
            state.NotImplemented, state.NoModel, state.RuntimeException, state.NotFound)  # fmt: skip

