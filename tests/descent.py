"""Optimizers run over gradients of a bumpy bowl, for tests: ours over stacked tensors, torch's for one member."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from autoreg.gradients import GradientTransform, Role, Tensors

STEPS = 50
SHAPES = {"weight": (4, 3), "bias": (4,)}


def first_params(members: int) -> Tensors:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(members, *shape, generator=generator) for name, shape in SHAPES.items()}


def slopes(params: Tensors, step: int) -> Tensors:
    """Gradients of a bumpy bowl; a little different in each step, as batches make them."""
    return {name: p + 2 * torch.sin(3 * p) + math.cos(step) / 2 for name, p in params.items()}


def run(
    transform: GradientTransform, params: Tensors, learning_rate: Tensor, roles: dict[str, Role] | None = None
) -> Tensors:
    """The parameters after all steps."""
    params = {name: p.clone() for name, p in params.items()}
    state = transform.init(params)
    for step in range(STEPS):
        changes, state = transform.update(slopes(params, step), state, params, learning_rate, roles or {})
        for name, change in changes.items():
            params[name].add_(change)
    return params


def run_torch(
    cls: Callable[..., torch.optim.Optimizer], params: Tensors, m: int, rate: float, **options: Any
) -> Tensors:
    """The same for one member with torch's class."""
    own = {name: nn.Parameter(p[m].clone()) for name, p in params.items()}
    optimizer = cls(list(own.values()), lr=rate, **options)
    for step in range(STEPS):
        gradients = slopes({name: p.detach() for name, p in own.items()}, step)
        for name, p in own.items():
            p.grad = gradients[name]
        optimizer.step()
    return {name: p.detach() for name, p in own.items()}


def flat(params: Tensors) -> Tensors:
    return {"flat": torch.cat([p.flatten(1) for p in params.values()], dim=1)}


def assert_same(got: Tensors, m: int, wanted: Tensors, tolerance: float = 1e-12) -> None:
    for name, value in wanted.items():
        assert value.isfinite().all()
        torch.testing.assert_close(got[name][m], value, rtol=tolerance, atol=tolerance)


def betas_of(options: dict[str, Any]) -> dict[str, Any]:
    options = dict(options)
    if "beta1" in options or "beta2" in options:
        options["betas"] = (options.pop("beta1", 0.9), options.pop("beta2", 0.999))
    return options
