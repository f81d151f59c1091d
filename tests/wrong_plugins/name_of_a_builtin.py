"""A plugin that offers a name of autoreg's own."""

import torch

from autoreg import hookimpl


@hookimpl
def register_activations(register):
    register("relu", torch.sin)
