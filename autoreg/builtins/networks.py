"""Networks: ``(n_features, n_outputs, activation, **sizes)`` -> an ordinary `nn.Module`, (B, D) to (B, O)."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from autoreg.builtins.layers import Dropout, LayerNorm, Parametric, Scale
from autoreg.builtins.ntp import LEVEL, gain_of, ntp_linear
from autoreg.builtins.residual import Residual, ResidualBlock
from autoreg.builtins.views import Heads, Views
from autoreg.errors import OptionError, unknown
from autoreg.hookspecs import hookimpl

Activation = Callable[[], nn.Module]


def linear(n_features: int, n_outputs: int, activation: Activation | None = None) -> nn.Module:
    """One linear layer, the perceptron; the activation has no place in it.

    >>> linear(4, 1)
    Linear(in_features=4, out_features=1, bias=True)
    """
    return nn.Linear(n_features, n_outputs)


def mlp(
    n_features: int, n_outputs: int, activation: Activation, depth: int = 2, width: int = 128, dropout: float = 0.0
) -> nn.Module:
    """`depth` hidden layers of `width` units: linear, activation, dropout.

    Examples
    --------
    >>> mlp(4, 1, nn.ReLU, depth=1, width=8)
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): ReLU()
      (2): Dropout(rate=0.0)
      (3): Linear(in_features=8, out_features=1, bias=True)
    )
    """
    depth, width = _whole(depth=depth, width=width)
    return nn.Sequential(*_hidden(n_features, activation, depth, width, dropout), nn.Linear(width, n_outputs))


def _hidden(n_features: int, activation: Activation, depth: int, width: int, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    # no list as long as the depth: a file may name any number
    for i in range(depth):
        layers += [nn.Linear(width if i else n_features, width), activation(), Dropout(dropout)]
    return layers


def resnet(
    n_features: int,
    n_outputs: int,
    activation: Activation,
    depth: int = 2,
    width: int = 128,
    expansion: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """`depth` residual blocks with layer normalisation first, after Gorishniy et al. (2021), arXiv 2106.11959.

    Parameters
    ----------
    n_features, n_outputs : int
    activation : function
        Returns a fresh activation module.
    depth : int
        Blocks.
    width : int
        Units between the blocks.
    expansion : int
        Units within a block, as a multiple of `width`.
    dropout : float
        Within each block, after the activation.

    Examples
    --------
    >>> import torch
    >>> resnet(4, 1, nn.ReLU, depth=1, width=8)(torch.zeros(5, 4)).shape
    torch.Size([5, 1])
    """
    depth, width, expansion = _whole(depth=depth, width=width, expansion=expansion)
    blocks = [ResidualBlock(width, expansion * width, activation, dropout) for _ in range(depth)]
    return nn.Sequential(
        nn.Linear(n_features, width), *blocks, LayerNorm(width), activation(), nn.Linear(width, n_outputs)
    )


def realmlp(
    n_features: int,
    n_outputs: int,
    activation: Activation,
    depth: int = 3,
    width: int = 128,
    dropout: float = 0.0,
    parametric: bool = True,
    residual: bool = False,
    scale_rate: float = 6.0,
    bias_rate: float = 0.1,
    alpha_rate: float = 0.1,
) -> nn.Module:
    """A multilayer perceptron in RealMLP's parametrisation, Holzmueller et al. (2024), arXiv 2407.04491.

    A factor for each feature stands before the first layer; layers are in NTP (see `ntp_linear`), each begins with
    outputs of variance one, and biases are not decayed. A learning rate here does what it does in an `mlp` of 256
    units: RealMLP's 0.2 is 0.0125.

    First weights depend on the seed alone: RealMLP's own look at the training rows, to bring every unit's variance to
    one and to draw biases from its values. Left to other parts: the encoding (``pbld``), schedule (``coslog4``),
    optimizer (``adamw`` with ``beta2=0.95``). Left out: schedules of dropout and decay.

    Parameters
    ----------
    n_features, n_outputs : int
    activation : function
        Returns a fresh activation module.
    depth, width : int
        Hidden layers and their units.
    dropout : float
        After each activation.
    parametric : bool
        Let each unit learn how much of the activation it takes.
    residual : bool
        Let each hidden layer but the first add to what it gets; RealMLP has no such thing.
    scale_rate, bias_rate, alpha_rate : float
        Learning rates of the features' factors, the biases and the parametric activations, as multiples of NTP's.

    Examples
    --------
    >>> import torch
    >>> realmlp(4, 1, nn.SiLU, depth=1, width=8)(torch.zeros(5, 4)).shape
    torch.Size([5, 1])
    """
    depth, width = _whole(depth=depth, width=width)
    # what residual layers add grows from layer to layer by itself
    gain = 1.0 if residual else gain_of(activation)
    bias_rate, alpha_rate = _rate(bias_rate=bias_rate), _rate(alpha_rate=alpha_rate)

    def block(n_units: int) -> list[nn.Module]:
        unit = Parametric(activation(), width, LEVEL * alpha_rate) if parametric else activation()
        return [unit, Dropout(dropout), ntp_linear(width, n_units, gain, bias_rate)]

    layers: list[nn.Module] = [Scale(n_features, LEVEL * _rate(scale_rate=scale_rate))]
    layers.append(ntp_linear(n_features, width, 1.0, bias_rate))
    for _ in range(depth - 1):
        layers += [Residual(*block(width))] if residual else block(width)
    return nn.Sequential(*layers, *block(n_outputs))


def tabm(
    n_features: int,
    n_outputs: int,
    activation: Activation,
    depth: int = 3,
    width: int = 128,
    dropout: float = 0.0,
    views: int = 8,
    factors: str = "normal",
) -> nn.Module:
    """TabM-mini: several views of a row through one perceptron, Gorishniy et al. (2025), arXiv 2410.24210.

    Each view multiplies the features by factors of its own and has an output layer of its own; what lies between is
    shared. Losses and predictions of the views are averaged. A step takes `views` times as long as an `mlp`'s.

    Parameters
    ----------
    n_features, n_outputs : int
    activation : function
        Returns a fresh activation module.
    depth, width : int
        Hidden layers and their units.
    dropout : float
        After each activation.
    views : int
    factors : {"normal", "signs"}
        How the views' factors begin: as normal numbers, which suits embeddings, or as 1 and -1.

    Examples
    --------
    >>> import torch
    >>> tabm(4, 1, nn.ReLU, depth=1, width=8, views=3)(torch.zeros(5, 4)).shape
    torch.Size([5, 3, 1])
    """
    depth, width, views = _whole(depth=depth, width=width, views=views)
    if factors not in FACTORS:
        raise OptionError(unknown("factors", factors, FACTORS))
    adapter = Views(views, n_features, signs=factors == "signs")
    return nn.Sequential(
        adapter, *_hidden(n_features, activation, depth, width, dropout), Heads(views, width, n_outputs)
    )


FACTORS = ("normal", "signs")


def _whole(**sizes: float) -> list[int]:
    for name, value in sizes.items():
        if value < 1 or value != int(value):
            raise OptionError(f"network option {name}={value!r}: give a whole number of at least 1")
    return [int(value) for value in sizes.values()]


def _rate(**rates: float) -> float:
    ((name, value),) = rates.items()
    if not 0 <= value < math.inf:
        raise OptionError(f"network option {name}={value!r}: give a finite number of at least 0")
    return float(value)


DROPOUT = [0.0, 0.1, 0.3]


@hookimpl
def register_networks(register: Callable[..., None]) -> None:
    register("linear", linear)
    register("mlp", mlp, space={"depth": [1, 2, 3], "width": [64, 128, 256], "dropout": DROPOUT})
    register("resnet", resnet, space={"depth": [1, 2, 3], "width": [64, 128], "dropout": DROPOUT})
    register(
        "realmlp",
        realmlp,
        space={"depth": [1, 2, 3], "width": [64, 128, 256], "dropout": DROPOUT, "residual": [False, True]},
    )
    register("tabm", tabm, space={"depth": [1, 2, 3], "width": [64, 128], "dropout": DROPOUT, "views": [4, 8]})
