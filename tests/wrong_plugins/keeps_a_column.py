"""A loss of shape (B, 1)."""

from autoreg import hookimpl


def loss(prediction, target):
    return ((prediction - target) ** 2).mean(-1, keepdim=True)


@hookimpl
def register_losses(register):
    register("keeps_a_column", loss)
