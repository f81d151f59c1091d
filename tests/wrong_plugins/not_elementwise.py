"""Steps of the length of each tensor's norm, said to be elementwise."""

from autoreg import hookimpl
from autoreg.gradients import GradientTransform, over_members


def make():
    def update(gradients, state, params, learning_rate, roles):
        norms = {name: g.flatten(1).norm(dim=1).clamp_min(1e-12) for name, g in gradients.items()}
        changes = {name: -over_members(learning_rate / norms[name], g) * g for name, g in gradients.items()}
        return changes, state

    return GradientTransform(lambda params: (), update, elementwise=True)


@hookimpl
def register_optimizers(register):
    register("not_elementwise", make)
