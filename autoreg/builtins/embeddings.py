"""Embeddings of numbers: each number column as several features of it.

Written once over leading axes: buffers and parameters may have a leading M axis, the inputs too, or they are shared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from autoreg.builtins.features import as_buffer
from autoreg.builtins.layers import PIECE
from autoreg.encoding import N_QUANTILES
from autoreg.gradients import Role

Floats = NDArray[np.float64]


class PiecewiseLinear(nn.Module):
    """Each number as `size` piecewise linear functions of it, with knots at the fold's quantiles.

    A linear map plus a map per bin that starts at zero: version B of Gorishniy et al., arXiv 2203.05556.

    Parameters
    ----------
    knots : array, (N_QUANTILES, Dn)
        Quantiles of the scaled numbers.
    n_bins : int
        At most; columns with few values have fewer.
    size : int
    rate : float
        Factor of the learning rate.

    Examples
    --------
    >>> layer = PiecewiseLinear(np.linspace(-1, 1, N_QUANTILES)[:, None].repeat(2, 1), n_bins=4, size=3, rate=1.0)
    >>> layer(torch.zeros(5, 2)).shape
    torch.Size([5, 6])
    """

    leading_axes = True

    def __init__(self, knots: Floats, n_bins: int, size: int, rate: float) -> None:
        super().__init__()
        self.rate = float(rate)
        n = knots.shape[1]
        self.n_features = n * size
        bins = torch.zeros(n, size, n_bins)  # before the arrays below, as in `OneHot`
        start, gain = np.zeros((n, n_bins)), np.zeros((n, n_bins))
        wanted = np.linspace(0, 1, n_bins + 1) * (N_QUANTILES - 1)
        for j, column in enumerate(knots.T):
            edges = np.unique(np.interp(wanted, np.arange(N_QUANTILES), column).astype(np.float32)).astype(float)
            start[j, : len(edges) - 1] = edges[:-1]
            gain[j, : len(edges) - 1] = 1 / np.diff(edges)
        self.register_buffer("start", as_buffer(start))
        self.register_buffer("gain", as_buffer(gain))
        bound = 1 / math.sqrt(size)
        self.weight = nn.Parameter(torch.empty(n, size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n, size).uniform_(-bound, bound))
        self.bins = nn.Parameter(bins)
        self.parameter_roles = {
            "weight": Role("embedding", self.rate),
            "bias": Role("bias", self.rate, 0.0),
            "bins": Role("embedding", self.rate),
        }

    half_weights = ("weight", "bins")
    start: Tensor
    gain: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """(..., B, Dn) -> (..., B, Dn * size)."""
        weight = torch.cat([self.weight.unsqueeze(-1), self.bins], dim=-1)
        start = torch.cat([torch.zeros_like(self.start[..., :1]), self.start], dim=-1)
        gain = torch.cat([torch.ones_like(self.gain[..., :1]), self.gain], dim=-1)
        if in_parts(self, z, start.ndim == 3):
            return by_rows(_Pieces.apply(z.mT.contiguous(), start, gain, weight, self.bias))
        return by_rows(per_column(weight, self.bias, pieces(z.mT, start, gain)))


class Periodic(nn.Module):
    """Each number as itself and `size - 1` mixtures of waves of it: RealMLP's "PBLD" embedding, arXiv 2407.04491.

    Parameters
    ----------
    n : int
        Number columns, Dn.
    n_frequencies : int
    size : int
    sigma : float
        Spread of the frequencies at the start; greater lets nearby numbers differ more.
    rate : float
        Factor of the learning rate.

    Examples
    --------
    >>> Periodic(2, 16, 4, sigma=0.1, rate=1.0)(torch.zeros(5, 2)).shape
    torch.Size([5, 8])
    """

    leading_axes = True

    def __init__(self, n: int, n_frequencies: int, size: int, sigma: float, rate: float) -> None:
        super().__init__()
        self.rate = float(rate)
        self.n_features = n * size
        bound = 1 / math.sqrt(n_frequencies)
        self.frequency = nn.Parameter(torch.randn(n, n_frequencies) * sigma)
        self.phase = nn.Parameter(torch.empty(n, n_frequencies).uniform_(-math.pi, math.pi))
        self.weight = nn.Parameter(torch.empty(n, size - 1, n_frequencies).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n, size - 1).uniform_(-bound, bound))
        self.parameter_roles = {
            "frequency": Role("embedding", self.rate),
            "phase": Role("bias", self.rate, 0.0),
            "weight": Role("embedding", self.rate),
            "bias": Role("bias", self.rate, 0.0),
        }

    half_weights = ("weight",)

    def forward(self, z: Tensor) -> Tensor:
        """(..., B, Dn) -> (..., B, Dn * size)."""
        if in_parts(self, z, self.frequency.ndim == 3):
            columns = z.mT.contiguous()
            mixed = _Waves.apply(columns, self.frequency, self.phase, self.weight, self.bias)
            return by_rows(torch.cat([columns.to(mixed.dtype).unsqueeze(-2), mixed], dim=-2))
        z = z.mT.unsqueeze(-2)
        # a sine is a cosine with another phase, and the phases are uniform; its gradient takes a step less
        waves = torch.addcmul(self.phase.unsqueeze(-1), 2 * math.pi * self.frequency.unsqueeze(-1), z).sin()
        mixed = per_column(self.weight, self.bias, waves)
        return by_rows(torch.cat([z.to(mixed.dtype), mixed], dim=-2))


def in_parts(module: nn.Module, z: Tensor, stacked: bool) -> bool:
    """Whether columns are embedded some at a time, by functions that know what their backward pass needs.

    What a whole stack would write on its way to the embeddings is several times as large as they are, and would leave
    the cache before it is read again. Only a stack in training gains, so all else takes the plain way.
    """
    return stacked and z.ndim == 3 and module.training and torch.is_grad_enabled() and not z.requires_grad


def pieces(columns: Tensor, start: Tensor, gain: Tensor) -> Tensor:
    """(..., Dn, B) numbers to (..., Dn, 1 + n_bins, B): the number itself, then how far it is into each bin."""
    inside = (columns.unsqueeze(-2) - start.unsqueeze(-1)).mul_(gain.unsqueeze(-1))
    inside[..., 1:, :].clamp_(0, 1)
    return inside


class _Pieces(torch.autograd.Function):
    """`per_column` of `pieces`, which are computed anew in the backward pass."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, start: Tensor, gain: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(columns, start, gain, weight)
        ctx.bias_dtype = bias.dtype
        out = weight.new_empty(*weight.shape[:3], columns.shape[-1])
        first = bias.to(weight.dtype).unsqueeze(-1)
        for z, low, slope, own, add, into in in_cache(weight.shape[-1], columns, start, gain, weight, first, out):
            torch.baddbmm(add, own, pieces(z, low, slope).to(own.dtype), out=into)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        columns, start, gain, weight = ctx.saved_tensors
        of_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        for z, low, slope, pull, into in in_cache(weight.shape[-1], columns, start, gain, gradient, of_weight):
            torch.bmm(pull, pieces(z, low, slope).to(pull.dtype).mT, out=into)
        return None, None, None, of_weight, gradient.sum(-1).to(ctx.bias_dtype)


class _Waves(torch.autograd.Function):
    """`per_column` of the sines of each number."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, frequency: Tensor, phase: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        waves = weight.new_empty(*frequency.shape, columns.shape[-1])
        out = weight.new_empty(*weight.shape[:3], columns.shape[-1])
        first, angular = bias.to(weight.dtype).unsqueeze(-1), 2 * math.pi * frequency
        tensors = columns, angular, phase, weight, first, waves, out
        for z, speed, shift, own, add, wave, into in in_cache(weight.shape[-1], *tensors):
            torch.baddbmm(add, own, wave.copy_(_angles(z, speed, shift).sin_()), out=into)
        ctx.save_for_backward(columns, angular, phase, weight, waves)
        ctx.bias_dtype = bias.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        columns, angular, phase, weight, waves = ctx.saved_tensors
        of_weight = torch.empty_like(weight, memory_format=torch.contiguous_format)
        of_frequency, of_phase = (torch.empty_like(angular) for _ in range(2))
        tensors = columns, angular, phase, weight, waves, gradient, of_weight, of_frequency, of_phase
        for z, speed, shift, own, wave, pull, *into in in_cache(weight.shape[-1], *tensors):
            torch.bmm(pull, wave.mT, out=into[0])
            slope = _angles(z, speed, shift).cos_().mul_(torch.bmm(own.mT, pull))
            torch.sum(slope, -1, out=into[2])
            torch.sum(slope.mul_(z.unsqueeze(-2)), -1, out=into[1])
        return None, of_frequency.mul_(2 * math.pi), of_phase, of_weight, gradient.sum(-1).to(ctx.bias_dtype)


def in_cache(features: int, columns: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some columns of a stack at a time, (C, ...) each, whose features, (C, features, B), stay in a core's cache.

    Parameters
    ----------
    features : int
    columns, *others : Tensor, (M, Dn, ...)

    Examples
    --------
    >>> [part.shape[0] for (part,) in in_cache(16, torch.zeros(5, 7, 512))]
    [16, 16, 3]
    """
    many = max(1, PIECE // (features * columns.shape[-1]))
    flat = [tensor.flatten(0, 1) for tensor in (columns, *others)]
    return zip(*(tensor.split(many) for tensor in flat), strict=True)


def _angles(columns: Tensor, angular: Tensor, phase: Tensor) -> Tensor:
    return (columns.unsqueeze(-2) * angular.unsqueeze(-1)).add_(phase.unsqueeze(-1))


def per_column(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Apply each number column's own linear map, rows last: every step then runs along contiguous memory.

    Parameters
    ----------
    weight : Tensor, (..., Dn, p, q)
    bias : Tensor, (..., Dn, p), or None
    x : Tensor, (..., Dn, q, B)

    Returns
    -------
    Tensor, (..., Dn, p, B)

    Examples
    --------
    >>> per_column(torch.ones(2, 3, 4), torch.zeros(2, 3), torch.ones(2, 4, 5)).shape
    torch.Size([2, 3, 5])
    """
    # weights in bfloat16 pull the rest along
    flat_weight, flat_x = weight.reshape(-1, *weight.shape[-2:]), x.to(weight.dtype).reshape(-1, *x.shape[-2:])
    if bias is None:
        out = torch.bmm(flat_weight, flat_x)
    else:
        out = torch.baddbmm(bias.to(weight.dtype).reshape(len(flat_weight), -1, 1), flat_weight, flat_x)
    return out.view(*x.shape[:-2], *out.shape[-2:])


def by_rows(x: Tensor) -> Tensor:
    """(..., Dn, p, B) -> (..., B, Dn * p), a view: rows that lie as columns."""
    return x.flatten(-3, -2).mT
