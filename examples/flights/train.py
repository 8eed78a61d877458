"""How the model of this example is trained: plain gradient boosting, about two seconds."""

from sklearn.ensemble import HistGradientBoostingClassifier


def train(data, params):
    """Return a fitted scikit-learn classifier.

    data.X: float32 matrix, one row per labelled flight, missing values are NaN; the columns of the
    request first, then those of the feature views. data.y: the class of each row (1: late).
    params: from fairlead.yaml.
    """
    model = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **params)
    return model.fit(data.X, data.y)
