"""A companion that ends the process."""

import sys

from sklearn.dummy import DummyRegressor

from autoreg import hookimpl


class Leaving(DummyRegressor):
    def fit(self, X, y, sample_weight=None):
        sys.exit(3)


def make(layout, random_state):
    return Leaving()


@hookimpl
def register_companions(register):
    register("exits_in_fit", make)
