"""Saves model.onnx of the folder given as an MLflow model."""
import os
import shutil
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
from mlflow.models import infer_signature

work = Path(sys.argv[1])
shutil.rmtree(work / "mlflow", ignore_errors=True)
rows = np.zeros((2, 30), np.float32)
mlflow.onnx.save_model(
    onnx.load(os.environ["BENCH_MODEL"]), str(work / "mlflow"),
    signature=infer_signature(rows, np.zeros((2, 1), np.float32)),
    onnx_execution_providers=["CPUExecutionProvider"],
    onnx_session_options={"execution_mode": "sequential", "intra_op_num_threads": 1, "inter_op_num_threads": 1},
)
