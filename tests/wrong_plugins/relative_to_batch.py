"""A loss in units of the batch's largest error: every row's depends on the others."""

from autoreg import hookimpl


def loss(prediction, target):
    error = (prediction - target) ** 2
    return (error / error.amax(-2, keepdim=True).clamp_min(1e-9)).mean(-1)


@hookimpl
def register_losses(register):
    register("relative_to_batch", loss)
