"""An activation that centres each batch."""

import torch

from autoreg import hookimpl


def activation(x):
    return torch.relu(x - x.mean(-2, keepdim=True))


@hookimpl
def register_activations(register):
    register("mixes_rows", activation)
