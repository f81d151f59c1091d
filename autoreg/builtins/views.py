"""Several views of a row through one network: what TabM shares between its members, and what it does not."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from autoreg.gradients import Role


class Views(nn.Module):
    """Each row k times, its features multiplied by the factors of each view: TabM's adapter, arXiv 2410.24210.

    Parameters
    ----------
    n_views, n_features : int
    signs : bool
        Begin with factors 1 and -1 in place of normal numbers.

    Examples
    --------
    >>> Views(4, 3)(torch.ones(5, 3)).shape
    torch.Size([5, 4, 3])
    """

    leading_axes = True
    parameter_roles = {"factors": Role("scale", decay=0.0)}  # noqa: RUF012

    def __init__(self, n_views: int, n_features: int, signs: bool = False) -> None:
        super().__init__()
        first = torch.randn(n_views, n_features)
        self.factors = nn.Parameter(first.sign() if signs else first)

    def forward(self, x: Tensor) -> Tensor:
        """(..., B, D) to (..., B, k, D)."""
        return x.unsqueeze(-2) * self.factors.to(x.dtype).unsqueeze(-3)


class Heads(nn.Module):
    """A linear layer for each view.

    Examples
    --------
    >>> Heads(4, 3, 1)(torch.ones(5, 4, 3)).shape
    torch.Size([5, 4, 1])
    """

    leading_axes = True
    parameter_roles = {"weight": Role("output"), "bias": Role("bias", decay=0.0)}  # noqa: RUF012

    def __init__(self, n_views: int, n_features: int, n_outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_features)
        self.weight = nn.Parameter(torch.empty(n_views, n_outputs, n_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_views, n_outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(..., B, k, D) to (..., B, k, O)."""
        weight, bias = self.weight.to(x.dtype).flatten(0, -3), self.bias.to(x.dtype)
        rows = x.transpose(-2, -3)  # (..., k, B, D)
        # a product of one row takes less time than one of one column
        y = torch.bmm(weight, rows.reshape(-1, *rows.shape[-2:]).mT).view(*rows.shape[:-2], -1, rows.shape[-2])
        return (y + bias.unsqueeze(-1)).movedim(-1, -3)
