"""An activation that gives up in its own way."""

import sys

from autoreg import hookimpl


def activation(x):
    if x.requires_grad:
        sys.exit("no licence")
    return x.relu()


@hookimpl
def register_activations(register):
    register("exits_in_training", activation)
