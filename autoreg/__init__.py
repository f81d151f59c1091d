"""Automated training of neural regressors for tables.

Importing this package imports neither torch nor a plugin: the public names below are looked up when used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autoreg.hookspecs import hookimpl

if TYPE_CHECKING:
    from autoreg.estimators import AutoRegressor, NeuralRegressor, load
    from autoreg.plugins import register
    from autoreg.torch_optim import from_torch_optim

__version__ = "0.1.0"

_HOMES = {
    "AutoRegressor": "autoreg.estimators",
    "NeuralRegressor": "autoreg.estimators",
    "load": "autoreg.estimators",
    "register": "autoreg.plugins",
    "from_torch_optim": "autoreg.torch_optim",
}

__all__ = ["AutoRegressor", "NeuralRegressor", "from_torch_optim", "hookimpl", "load", "register"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'autoreg' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
