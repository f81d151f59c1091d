"""The neural tangent parametrisation (NTP) by rates: ``W x / sqrt(fan_in)`` without the division in every step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from autoreg.gradients import Role

REFERENCE = 256
"""Inputs of the layer whose step is the learning rate itself, so that rates suit this parametrisation and others."""

LEVEL = math.sqrt(REFERENCE)
"""What NTP's learning rate is here, as a multiple of the learning rate."""


def ntp_linear(n_features: int, n_outputs: int, gain: float = 1.0, bias_rate: float = 0.1) -> nn.Linear:
    """A linear layer that begins and learns as one in NTP.

    A weight W ~ N(0, 1) that is divided by sqrt(n_features) in every forward pass gives the same numbers as a weight
    of spread 1 / sqrt(n_features) whose learning rate is divided by it: exactly so for optimizers that do not look at
    the size of gradients, Adam's family and Muon. The decay in a step is that of any other matrix.

    Parameters
    ----------
    n_features, n_outputs : int
    gain : float
        Factor of the first weights.
    bias_rate : float
        The biases' learning rate, as a multiple of NTP's.

    Examples
    --------
    >>> ntp_linear(1024, 8).parameter_roles["weight"]
    Role(kind='matrix', rate=0.5, decay=2.0)
    """
    layer, root = nn.Linear(n_features, n_outputs), math.sqrt(max(n_features, 1))
    nn.init.normal_(layer.weight, std=gain / root)
    # as far as the points lie from which RealMLP draws biases, when inputs have variance one
    nn.init.normal_(layer.bias, std=BIAS)
    rate = LEVEL / root
    layer.parameter_roles = {  # type: ignore[assignment]
        "weight": Role("matrix", rate, 1 / rate),
        "bias": Role("bias", LEVEL * bias_rate, 0.0),
    }
    return layer


BIAS = math.sqrt(2 / 6)
"""Spread of a convex combination of five normal numbers with exponential weights, made to sum to one."""


def gain_of(make: Callable[[], nn.Module]) -> float:
    """What makes an activation's outputs one in mean square, where its inputs are normal.

    Examples
    --------
    >>> round(gain_of(nn.ReLU), 2), round(gain_of(nn.Identity), 2)
    (1.41, 1.0)
    """
    activation = make().eval()
    if any(tensor.is_meta for tensor in (*activation.parameters(), *activation.buffers())):
        return 1.0
    places = (torch.arange(999, dtype=torch.float64, device="cpu") + 0.5) / 999
    x = torch.special.ndtri(places).float().unsqueeze(-1)
    with torch.no_grad():
        size = float((activation(x).square().mean() / x.square().mean()).sqrt())
    return 1 / min(max(size, 0.1), 10.0) if math.isfinite(size) else 1.0
