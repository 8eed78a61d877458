"""Evidently's data drift preset on the bench's columns (run in its own environment): CPU seconds, MB."""

import json
import resource
import sys
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from evidently import Report  # noqa: E402
from evidently.presets import DataDriftPreset  # noqa: E402

columns, rows, known = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
reference = pd.DataFrame({f"f{i}": rng.normal(size=known) for i in range(columns)})
current = pd.DataFrame({f"f{i}": rng.normal(size=rows) for i in range(columns)})
start = time.process_time()
Report([DataDriftPreset()]).run(current, reference)
print(json.dumps({"seconds": time.process_time() - start,
                  "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))  # fmt: skip
