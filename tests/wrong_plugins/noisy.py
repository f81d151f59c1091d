"""An activation that draws noise of its own."""

import torch

from autoreg import hookimpl


def activation(x):
    return torch.relu(x) + 0.1 * torch.randn_like(x)


@hookimpl
def register_activations(register):
    register("noisy", activation)
