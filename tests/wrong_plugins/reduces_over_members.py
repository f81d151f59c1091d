"""Gradients clipped by the norm over all members."""

from autoreg import hookimpl
from autoreg.gradients import GradientTransform, over_members


def make():
    def update(gradients, state, params, learning_rate, roles):
        norm = sum(g.square().sum() for g in gradients.values()).sqrt().clamp_min(1e-12)
        return {name: -over_members(learning_rate, g) * g / norm for name, g in gradients.items()}, state

    return GradientTransform(lambda params: (), update)


@hookimpl
def register_optimizers(register):
    register("reduces_over_members", make)
