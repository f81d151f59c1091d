"""An activation with state that can be copied and not pickled."""

from torch import nn

from autoreg import hookimpl


class Activation(nn.Module):
    def __init__(self):
        super().__init__()
        self.bend = lambda x: x.relu()

    def forward(self, x):
        return self.bend(x)


@hookimpl
def register_activations(register):
    register("holds_a_lambda", Activation)
