"""NannyML's CBPE on the tables it is given (run in its own environment): the estimates as JSON."""

import json
import os
import sys
import warnings

warnings.simplefilter("ignore")
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"

import nannyml as nml  # noqa: E402
import pandas as pd  # noqa: E402

reference, analysis, size = pd.read_csv(sys.argv[1]), pd.read_csv(sys.argv[2]), int(sys.argv[3])
estimator = nml.CBPE(
    y_pred_proba="score", y_pred="guess", y_true="y", problem_type="classification_binary",
    metrics=["roc_auc", "accuracy", "precision", "recall", "f1"], chunk_size=size,
)  # fmt: skip
found = estimator.fit(reference).estimate(analysis).filter(period="analysis").to_df()
print(json.dumps({m: found[m]["value"].tolist() for m in ("roc_auc", "accuracy", "precision", "recall", "f1")}))
