"""Reweighing (Kamiran, Calders 2012): weights under which group and truth are independent."""

import numpy as np


def weights(group, y):
    """One weight per row: P(group) P(y) / P(group, y), so that no group is seen to fare better.

    `group`: a column of data.frame; `y`: data.y. Only the training changes: the model that comes
    out is an ordinary one, treats everybody by one rule, and needs no group when it answers.
    """
    _, g = np.unique(np.asarray(group.cast(str).fill_null("")), return_inverse=True)
    joint = np.zeros((g.max() + 1, y.max() + 1))
    np.add.at(joint, (g, y), 1)
    share = joint / joint.sum()
    wanted = np.outer(share.sum(axis=1), share.sum(axis=0))
    return (wanted / np.maximum(share, 1e-12))[g, y]
