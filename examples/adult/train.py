"""Plain gradient boosting; with the parameter `reweigh` it learns from reweighed rows."""

from reweighing import weights
from sklearn.ensemble import HistGradientBoostingClassifier


def train(data, params):
    """`params["reweigh"]`: a column of groups that are to fare alike, "" for none."""
    column = params.get("reweigh")
    weight = weights(data.frame[column], data.y) if column else None
    model = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)
    return model.fit(data.X, data.y, sample_weight=weight)
