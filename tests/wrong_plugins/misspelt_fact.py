"""A loss for the target's own units, with a fact that nobody reads."""

from autoreg import hookimpl


def loss(prediction, target):
    return ((prediction - target) ** 2).mean(-1)


@hookimpl
def register_losses(register):
    register("misspelt_fact", loss, target_scalling=None)
