"""An optimizer with a sign too few."""

from autoreg import hookimpl
from autoreg.gradients import GradientTransform, over_members


def make():
    def update(gradients, state, params, learning_rate, roles):
        return {name: over_members(learning_rate, g) * g for name, g in gradients.items()}, state

    return GradientTransform(lambda params: (), update)


@hookimpl
def register_optimizers(register):
    register("goes_uphill", make)
