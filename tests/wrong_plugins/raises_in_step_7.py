"""An activation that works for a while."""

from torch import nn

from autoreg import hookimpl


class Activation(nn.Module):
    leading_axes = True

    def __init__(self):
        super().__init__()
        self.steps = 0

    def forward(self, x):
        self.steps += self.training
        if self.steps >= 7:
            raise RuntimeError("out of cheese")
        return x.relu()


@hookimpl
def register_activations(register):
    register("raises_in_step_7", Activation)
