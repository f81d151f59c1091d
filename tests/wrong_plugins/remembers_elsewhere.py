"""Momentum that lives outside of the state."""

from autoreg import hookimpl
from autoreg.gradients import GradientTransform, over_members


def make():
    average = {}

    def update(gradients, state, params, learning_rate, roles):
        for name, g in gradients.items():
            average[name] = 0.9 * average.get(name, 0) + g
        return {name: -over_members(learning_rate, a) * a for name, a in average.items()}, state

    return GradientTransform(lambda params: (), update)


@hookimpl
def register_optimizers(register):
    register("remembers_elsewhere", make)
