"""One network with what stands before and behind it: encoding, network, target scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autoreg.stacking import mix

Point = Callable[[Tensor], Tensor]


class Member(nn.Module):
    """Encoding and network, with the target's centre and spread as buffers.

    Parameters
    ----------
    encoding : nn.Module
        ``(numbers, codes)``, (B, Dn) and (B, Dc), to (B, D).
    network : nn.Module
        (B, D) to (B, O') or (B, k, O').
    center, spread : Tensor, (O,), float64
        The network's output times `spread` plus `center` is in the target's units, or is its logarithm.
    n_views : int
        Views of each row in the network's output; what a step takes grows with them.
    log : bool
        Whether the network learns the target's logarithm.
    """

    leading_axes = True

    def __init__(
        self,
        encoding: nn.Module,
        network: nn.Module,
        center: Tensor,
        spread: Tensor,
        n_views: int = 1,
        log: bool = False,
    ) -> None:
        super().__init__()
        self.n_views = n_views
        self.encoding = encoding
        self.network = network
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)
        self.register_buffer("log", torch.full_like(center, log, dtype=torch.bool))

    center: Tensor
    spread: Tensor
    log: Tensor

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """The network's output, in scaled units."""
        # an encoding may give rows that lie as columns, and a network may count on neighbours in memory
        return self.network(self.encoding(numbers, codes).contiguous())

    def original_units(self, output: Tensor, point: Point | None, views: bool) -> Tensor:
        """Predictions from the network's output.

        Parameters
        ----------
        output : Tensor, (..., B, O') or (..., B, k, O') with `views`
        point : function or None
            The loss's link from output to what is predicted.

        Returns
        -------
        Tensor, (..., B, O), float64
        """
        prediction = output if point is None else point(output)
        if views:
            prediction = prediction.mean(-2)
        return self.unscaled(prediction)

    def unscaled(self, values: Tensor) -> Tensor:
        """Scaled values, (..., B, O), in the target's units, float64."""
        center, spread, log = (scale.unsqueeze(-2) for scale in (self.center, self.spread, self.log))
        values = values.double() * spread + center
        # the inner one keeps the gradient finite where no logarithm was taken
        return torch.where(log, torch.where(log, values, 0.0).exp(), values)


def has_views(output: Tensor, stacked: bool) -> bool:
    """Whether a network's output holds k views: (B, k, O'), or (M, B, k, O') stacked."""
    return output.ndim == (4 if stacked else 3)


def seed_layers(module: nn.Module, seed: int) -> None:
    """Give every layer that keeps a random stream of its own (buffers ``seed`` and ``step``) the member's seed."""
    streams = [layer for layer in module.modules() if {"seed", "step"} <= set(layer._buffers)]
    for index, layer in enumerate(streams):
        # 31 bits: the layers hash in 32-bit words
        layer._buffers["seed"] = torch.as_tensor(mix(seed, index) & 0x7FFFFFFF)


def step_buffers(stack: nn.Module) -> list[Any]:
    """The step counters of the layers with a random stream of their own, each (M,)."""
    return [layer._buffers["step"] for layer in stack.modules() if {"seed", "step"} <= set(layer._buffers)]
