"""Adam in place by torch's fused kernel, for members side by side that are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from autoreg.gradients import Role


def alike(settings: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Runs of equal values: where each begins and ends.

    >>> list(alike(["a", "a", "b", "a"]))
    [(0, 2), (2, 3), (3, 4)]
    """
    first = 0
    for place in range(1, len(settings) + 1):
        if place == len(settings) or settings[place] != settings[first]:
            yield first, place
            first = place


def fused_adam(
    param: Tensor, gradient: Tensor, average: Tensor, square: Tensor, steps: Tensor,
    learning_rate: float, role: Role, beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    factor = role.rate
    # where the factors of the rate differ from element to element, the kernel makes a change that they multiply
    target = torch.zeros_like(param) if isinstance(factor, Tensor) else param
    rate = learning_rate if isinstance(factor, Tensor) else learning_rate * factor
    torch._fused_adam_(
        [target], [gradient], [average], [square], [], [steps],
        lr=rate, beta1=beta1, beta2=beta2, weight_decay=0.0, eps=eps, amsgrad=False, maximize=False,
    )  # fmt: skip
    if isinstance(factor, Tensor):
        param.addcmul_(target, factor)


def decay_in_place(param: Tensor, rate: float, role: Role) -> None:
    """Shrink a member's parameters, where the role says so by its factors."""
    if isinstance(role.rate, Tensor) or isinstance(role.decay, Tensor):
        factor: Any = role.rate * role.decay
        param.addcmul_(param, factor, value=-rate)
    else:
        param.mul_(1 - rate * role.rate * role.decay)


def by_member(value: float | Tensor, n: int) -> list[float]:
    return value.tolist() if isinstance(value, Tensor) else [float(value)] * n
