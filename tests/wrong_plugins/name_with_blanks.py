"""A name that cannot be typed."""

import torch

from autoreg import hookimpl


@hookimpl
def register_activations(register):
    register("My Activation!", torch.sin)
