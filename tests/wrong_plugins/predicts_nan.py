"""A companion that does not know."""

import numpy as np
from sklearn.dummy import DummyRegressor

from autoreg import hookimpl


class Unsure(DummyRegressor):
    def predict(self, X, return_std=False):
        return np.full(len(X), np.nan)


def make(layout, random_state):
    return Unsure()


@hookimpl
def register_companions(register):
    register("predicts_nan", make)
