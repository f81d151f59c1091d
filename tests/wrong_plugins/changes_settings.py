"""A plugin that computes in float64, and makes everybody else do so."""

import torch

from autoreg import hookimpl

torch.set_default_dtype(torch.float64)


@hookimpl
def register_activations(register):
    register("changes_settings", torch.sin)
