"""A companion that fills gaps in the caller's matrix."""

import numpy as np
from sklearn.dummy import DummyRegressor

from autoreg import hookimpl


class Filling(DummyRegressor):
    def fit(self, X, y, sample_weight=None):
        X[np.isnan(X)] = 0.0
        return super().fit(X, y, sample_weight)


def make(layout, random_state):
    return Filling()


@hookimpl
def register_companions(register):
    register("changes_the_table", make)
