"""How a model of the price is learnt: gradient boosting, a tenth of a second."""

from sklearn.ensemble import HistGradientBoostingClassifier


def train(data, params):
    """Return a fitted model; missing values may stay as they are."""
    model = HistGradientBoostingClassifier(random_state=data.seed, **params)
    return model.fit(data.X, data.y)
