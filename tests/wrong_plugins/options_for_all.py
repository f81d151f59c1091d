"""An option that is said to be each member's own, and is one number."""

import torch

from autoreg import hookimpl
from autoreg.gradients import GradientTransform, over_members


def make(scale=1.0):
    def update(gradients, state, params, learning_rate, roles):
        factor = float(torch.as_tensor(scale).mean())
        return {name: -factor * over_members(learning_rate, g) * g for name, g in gradients.items()}, state

    return GradientTransform(lambda params: (), update)


@hookimpl
def register_optimizers(register):
    register("options_for_all", make, space={"scale": [0.5, 2.0]}, member_options=True)
