"""Layers that add to what they get."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from autoreg.builtins.layers import Dropout, LayerNorm


class Residual(nn.Module):
    """What it gets plus what its layers make of it.

    Examples
    --------
    >>> import torch
    >>> Residual(nn.Linear(3, 3), nn.ReLU())(torch.zeros(5, 3)).shape
    torch.Size([5, 3])
    """

    leading_axes = True

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)

    def added_within_run(self) -> nn.Module:
        """The layers, for a run to add their output itself."""
        return self.layers


class ResidualBlock(nn.Module):
    """``x + second(dropout(activation(first(norm(x)))))``, with a hidden layer of its own width.

    Examples
    --------
    >>> import torch
    >>> ResidualBlock(8, 16, nn.ReLU)(torch.zeros(5, 8)).shape
    torch.Size([5, 8])
    """

    leading_axes = True

    def __init__(self, width: int, hidden: int, activation: Callable[[], nn.Module], dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = LayerNorm(width)
        self.first = nn.Linear(width, hidden)
        self.activation = activation()
        self.dropout = Dropout(dropout)
        self.second = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.dropout(self.activation(self.first(self.norm(x)))))
