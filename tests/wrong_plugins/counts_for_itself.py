"""Momentum with a count of steps that no member owns."""

from autoreg import hookimpl
from autoreg.gradients import GradientTransform, over_members


def make():
    def init(params):
        return {"steps": 0, "average": {name: 0 * p for name, p in params.items()}}

    def update(gradients, state, params, learning_rate, roles):
        steps = state["steps"] + 1
        average = {name: 0.9 * state["average"][name] + 0.1 * g for name, g in gradients.items()}
        changes = {name: -over_members(learning_rate, a) * a / (1 - 0.9**steps) for name, a in average.items()}
        return changes, {"steps": steps, "average": average}

    return GradientTransform(init, update)


@hookimpl
def register_optimizers(register):
    register("counts_for_itself", make)
