"""The other way: fairlearn's reduction towards equal rates (`train: {code: fairer.py}`; fairlead[fair]).

It searches for a random mixture of models; here their average answers, which is one rule for all and
can be shipped. It costs more than reweighing does: README.md says how much.
"""

from fairlearn.reductions import DemographicParity, ExponentiatedGradient
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.preprocessing import LabelEncoder


def train(data, params):
    """An average of models, each with a say of its own."""
    base = HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0)
    search = ExponentiatedGradient(base, DemographicParity(), eps=0.02, max_iter=15)
    search.fit(data.X, data.y, sensitive_features=data.frame["sex"].to_numpy())
    kept = [(f"m{i}", m, w) for i, (m, w) in enumerate(zip(search.predictors_, search.weights_, strict=True)) if w > 0.01]
    model = VotingClassifier([(n, m) for n, m, _ in kept], voting="soft", weights=[w for *_, w in kept])
    model.estimators_ = [m for _, m, _ in kept]
    model.le_ = LabelEncoder().fit(data.y)
    model.classes_ = model.le_.classes_
    return model
