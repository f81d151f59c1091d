"""Networks, activations, losses and an optimizer as users write them, for tests that hand them to autoreg."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoreg import AutoRegressor, NeuralRegressor
from autoreg.gradients import GradientTransform, over_members

Table = tuple[np.ndarray, np.ndarray]
SMALL: dict[str, Any] = {"max_epochs": 4, "learning_rate": 0.01, "random_state": 0}


def make_table() -> Table:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(90, 3))
    return x, 2 * x[:, 0] - x[:, 1] + 0.5


def fitted(table: Table, **options: Any) -> NeuralRegressor:
    return NeuralRegressor(**{**SMALL, **options}).fit(*table)


def search(**options: Any) -> AutoRegressor:
    space = {"max_epochs": [3], "learning_rate": [0.01]}
    return AutoRegressor(strategy="grid", space=space, companions=None, cv=2, random_state=0, verbose=0, **options)


class Plain(nn.Module):
    """As PyTorch's tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)))


class Sized(nn.Module):
    """Told the sizes, as autoreg's own networks are."""

    def __init__(self, n_features: int, n_outputs: int, activation: Any = nn.ReLU, width: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(n_features, width), nn.Linear(width, n_outputs)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.activation(self.first(x)))


class Scaled(nn.Module):
    """A parameter and a constant that nothing resets, and a private number."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self._factor = factor
        self.line = nn.Linear(3, 1)
        self.offset = nn.Parameter(torch.full((1,), 7.0))
        self.register_buffer("table", torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return self._factor * self.line(x + self.table) + self.offset


class Swish(nn.Module):
    """An activation with a learned parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.slope * x)


def two_layers(d_in: int, d_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(d_in, 8), nn.ReLU(), nn.Linear(8, d_out))


def square(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction - target) ** 2).sum(dim=1)


def careful(prediction: Tensor, target: Tensor) -> Tensor:
    """Asks about values, which vmap refuses."""
    error = prediction - target
    return error.abs().mean(1) if error.abs().max() > 1e6 else (error**2).mean(1)


def averaging(prediction: Tensor, target: Tensor) -> Tensor:
    return ((prediction - target) ** 2).mean()


def small_steps(scale: float = 1.0) -> GradientTransform:
    def init(params: dict[str, Tensor]) -> tuple[()]:
        return ()

    def update(gradients: Any, state: Any, params: Any, learning_rate: Tensor, roles: Any) -> Any:
        return {name: -scale * over_members(learning_rate, g) * g for name, g in gradients.items()}, state

    return GradientTransform(init, update)


class Squeezed(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(-1)
