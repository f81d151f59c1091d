"""Networks: ``(n_features, n_outputs, activation, **sizes)`` -> an ordinary `nn.Module`, (B, D) to (B, O)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from autoreg.builtins.layers import Dropout, LayerNorm, ResidualBlock
from autoreg.errors import OptionError
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
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(n_features, width), activation(), Dropout(dropout)]
        n_features = width
    return nn.Sequential(*layers, nn.Linear(n_features, n_outputs))


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


def _whole(**sizes: float) -> list[int]:
    for name, value in sizes.items():
        if value < 1 or value != int(value):
            raise OptionError(f"network option {name}={value!r}: give a whole number of at least 1")
    return [int(value) for value in sizes.values()]


DROPOUT = [0.0, 0.1, 0.3]


@hookimpl
def register_networks(register: Callable[..., None]) -> None:
    register("linear", linear)
    register("mlp", mlp, space={"depth": [1, 2, 3], "width": [64, 128, 256], "dropout": DROPOUT})
    register("resnet", resnet, space={"depth": [1, 2, 3], "width": [64, 128], "dropout": DROPOUT})
