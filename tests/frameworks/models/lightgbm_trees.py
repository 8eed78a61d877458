"""LightGBM with categories: trees that become ONNX."""

import numpy as np
from lightgbm import LGBMClassifier


def train(data, params):
    model = LGBMClassifier(n_estimators=40, n_jobs=1, deterministic=True, verbose=-1)
    model.fit(data.X, data.y, categorical_feature=list(data.categorical))
    np.save(params["own"], model.predict_proba(data.X)[: params["rows"], 1])
    return model
