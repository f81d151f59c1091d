"""Networks of torch.nn layers as plain data, and back.

A saved model may hold a user's ``nn.Sequential``. It is written down layer by layer, with names from the table below
and constructor arguments; nothing that is not in the table is ever built, imported or looked up.
"""

from __future__ import annotations

import math
import operator
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from autoreg.errors import ModelFileError
from autoreg.strictjson import quoted

MAX_LAYERS = 10_000
MAX_NESTING = 16
MAX_PARAMETERS = 500_000_000
MAX_SIZE = 2**31 - 1


_UNFIT = (ValueError, TypeError, OverflowError)
"""What the checks below raise for a value that an argument cannot have."""


def _size(value: Any) -> int:
    if isinstance(value, bool) or not 1 <= operator.index(value) <= MAX_SIZE:
        raise ValueError
    return operator.index(value)


def _sizes(value: Any) -> list[int]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= 8:
        raise ValueError
    return [_size(length) for length in value]


def _axis(value: Any) -> int:
    if isinstance(value, bool) or not -16 <= operator.index(value) <= 16:
        raise ValueError
    return operator.index(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _share(value: Any) -> float:
    if not 0 <= _real(value) <= 1:
        raise ValueError
    return float(value)


def _maybe(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _form_of_gelu(value: Any) -> str:
    if value not in ("none", "tanh"):
        raise ValueError
    return value


Arguments = dict[str, Callable[[Any], Any]]
_INPLACE: Arguments = {"inplace": _flag}
_DROPOUT: Arguments = {"p": _share, "inplace": _flag}
_AXIS: Arguments = {"dim": _maybe(_axis)}
_RUNNING: Arguments = {
    "num_features": _size,
    "eps": _real,
    "momentum": _maybe(_real),
    "affine": _flag,
    "track_running_stats": _flag,
}

_LAYERS: dict[type[nn.Module], Arguments] = {
    nn.Linear: {"in_features": _size, "out_features": _size, "bias": _flag},
    nn.Identity: {},
    nn.Flatten: {"start_dim": _axis, "end_dim": _axis},
    nn.Unflatten: {"dim": _axis, "unflattened_size": _sizes},
    nn.Dropout: _DROPOUT,
    nn.AlphaDropout: _DROPOUT,
    nn.FeatureAlphaDropout: _DROPOUT,
    nn.LayerNorm: {"normalized_shape": _sizes, "eps": _real, "elementwise_affine": _flag, "bias": _flag},
    nn.RMSNorm: {"normalized_shape": _sizes, "eps": _maybe(_real), "elementwise_affine": _flag},
    nn.BatchNorm1d: _RUNNING,
    nn.InstanceNorm1d: _RUNNING,
    nn.GroupNorm: {"num_groups": _size, "num_channels": _size, "eps": _real, "affine": _flag},
    nn.CELU: {"alpha": _real, "inplace": _flag},
    nn.ELU: {"alpha": _real, "inplace": _flag},
    nn.GELU: {"approximate": _form_of_gelu},
    nn.GLU: {"dim": _axis},
    nn.Hardshrink: {"lambd": _real},
    nn.Hardsigmoid: _INPLACE,
    nn.Hardswish: _INPLACE,
    nn.Hardtanh: {"min_val": _real, "max_val": _real, "inplace": _flag},
    nn.LeakyReLU: {"negative_slope": _real, "inplace": _flag},
    nn.LogSigmoid: {},
    nn.LogSoftmax: _AXIS,
    nn.Mish: _INPLACE,
    nn.PReLU: {"num_parameters": _size},
    nn.RReLU: {"lower": _real, "upper": _real, "inplace": _flag},
    nn.ReLU: _INPLACE,
    nn.ReLU6: _INPLACE,
    nn.SELU: _INPLACE,
    nn.SiLU: _INPLACE,
    nn.Sigmoid: {},
    nn.Softmax: _AXIS,
    nn.Softmin: _AXIS,
    nn.Softplus: {"beta": _real, "threshold": _real},
    nn.Softshrink: {"lambd": _real},
    nn.Softsign: {},
    nn.Tanh: {},
    nn.Tanhshrink: {},
    nn.Threshold: {"threshold": _real, "value": _real, "inplace": _flag},
}
"""Layer -> its constructor's arguments, each with the function that checks it. The layer has an attribute of each."""

_TYPES = {layer.__name__: layer for layer in _LAYERS}
"""Name in a description -> layer. `nn.Sequential`, the one container, is not in the table."""

_EMPTY = nn.Sequential()
"""What it has already, no layer in it may be called."""


def _count(layer: type[nn.Module], options: dict[str, Any]) -> int:
    """Parameters and buffers of a layer, from its options alone."""
    if layer is nn.Linear:
        return options["in_features"] * options["out_features"] + options["out_features"]
    if layer in (nn.LayerNorm, nn.RMSNorm):
        return 2 * math.prod(options["normalized_shape"]) * options["elementwise_affine"]
    if layer in (nn.BatchNorm1d, nn.InstanceNorm1d):
        return 4 * options["num_features"] + 1
    return 2 * options.get("num_channels", 0) + options.get("num_parameters", 0)


def describe_module(module: nn.Module) -> dict[str, Any] | None:
    """Write a module down, or say that it cannot be.

    Weights and running statistics are not described: they go into the file as tensors. A layer that stands in two
    places becomes two layers of equal numbers.

    Parameters
    ----------
    module : nn.Module
        An ``nn.Sequential`` or a layer of torch.nn.

    Returns
    -------
    description : dict or None
        Plain JSON values, for `build_module`. None when a layer is not exactly of a type that is known here, has a
        hook or a forward of its own, or holds other tensors than its arguments tell.

    Examples
    --------
    >>> describe_module(nn.Sequential(nn.Linear(3, 1, bias=False)))
    {'type': 'Sequential', 'layers': [{'name': '0', 'type': 'Linear', 'in_features': 3, 'out_features': 1,
      'bias': False}]}
    >>> describe_module(nn.LSTM(3, 1)) is None
    True
    """
    description = _describe(module, 1)
    if description is None:
        return None
    try:
        outline = build_module(description, device="meta")
    except ModelFileError:  # too large or nested too deep to be read again
        return None
    return description if _shapes(outline) == _shapes(module) else None


def _describe(module: nn.Module | None, nesting: int) -> dict[str, Any] | None:
    if module is None or nesting > MAX_NESTING:
        return None
    if "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
        return None
    kind = type(module)
    if kind is nn.Sequential:
        # not named_children(), which gives a layer that stands in two places only once
        layers = {name: _describe(layer, nesting + 1) for name, layer in module._modules.items()}
        if None in layers.values():
            return None
        return {"type": "Sequential", "layers": [{"name": name, **(layer or {})} for name, layer in layers.items()]}
    if kind not in _LAYERS:
        return None
    values = {name: getattr(module, name, None) for name in _LAYERS[kind]}
    if "bias" in values:
        values["bias"] = values["bias"] is not None
    try:
        return {"type": kind.__name__, **{name: check(values[name]) for name, check in _LAYERS[kind].items()}}
    except _UNFIT:
        return None


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def build_module(
    description: Any,
    *,
    device: str | None = None,
    max_layers: int = MAX_LAYERS,
    max_parameters: int = MAX_PARAMETERS,
) -> nn.Module:
    """Build what `describe_module` wrote down, with first weights drawn anew.

    The whole description is checked, and its layers and parameters counted, before the first layer is built.

    Parameters
    ----------
    description : dict
        From a file that may be hostile.
    device : str, optional
        ``"meta"`` gives the shapes without memory or random draws; ``load_state_dict(..., assign=True)`` then fills it.
    max_layers, max_parameters : int
        Bounds on the whole module; buffers count as parameters.

    Raises
    ------
    ModelFileError
        For an unknown layer, a wrong argument or a module beyond the bounds.

    Examples
    --------
    >>> build_module({"type": "Linear", "in_features": 2, "out_features": 1, "bias": True})
    Linear(in_features=2, out_features=1, bias=True)
    """
    plan = _Plan(max_layers, max_parameters)
    plan.check(description, 1)
    with torch.device(device) if device else nullcontext():
        return _build(description)


class _Plan:
    """Counts the layers and parameters of a description while it is checked."""

    def __init__(self, max_layers: int, max_parameters: int) -> None:
        self.layers_left, self.parameters_left = max_layers, max_parameters

    def check(self, description: Any, nesting: int) -> None:
        kind = description.get("type") if isinstance(description, dict) else None
        if kind == "Sequential":
            self._check_sequential(description, nesting)
        elif isinstance(kind, str) and kind in _TYPES:
            self._check_layer(_TYPES[kind], description)
        else:
            raise ModelFileError(f"the model describes a layer {quoted(kind)}, which is not on the list of safe layers")

    def _check_sequential(self, description: dict[str, Any], nesting: int) -> None:
        self._count_layer()
        layers = description.get("layers")
        if set(description) - {"name"} != {"type", "layers"} or not isinstance(layers, list):
            raise ModelFileError("the model describes a Sequential that has not exactly a list of layers")
        if nesting > MAX_NESTING:
            raise ModelFileError(f"the model describes layers nested deeper than {MAX_NESTING}")
        names = set()
        for layer in layers:
            name = layer.get("name") if isinstance(layer, dict) else None
            if not isinstance(name, str) or not 0 < len(name) <= 100 or "." in name or hasattr(_EMPTY, name):
                raise ModelFileError(f"the model describes a layer of a name that is not allowed: {quoted(name)}")
            names.add(name)
            self.check(layer, nesting + 1)
        if len(names) != len(layers):
            raise ModelFileError("the model describes two layers of one name")

    def _check_layer(self, layer: type[nn.Module], description: dict[str, Any]) -> None:
        self._count_layer()
        checks = _LAYERS[layer]
        if set(description) - {"name", "type"} != set(checks):
            raise ModelFileError(f"the model describes a {layer.__name__} with missing or unknown arguments")
        for name, check in checks.items():
            try:
                check(description[name])
            except _UNFIT:
                shown = f"{layer.__name__} with {name}={quoted(description[name])}"
                raise ModelFileError(f"the model describes a {shown}, which is not allowed") from None
        self.parameters_left -= _count(layer, description)
        if self.parameters_left < 0:
            raise ModelFileError("the model describes a network with more parameters than are allowed")

    def _count_layer(self) -> None:
        self.layers_left -= 1
        if self.layers_left < 0:
            raise ModelFileError("the model describes a network with more layers than are allowed")


def _build(description: dict[str, Any]) -> nn.Module:
    """Build a description that was checked."""
    if description["type"] == "Sequential":
        return nn.Sequential(OrderedDict((layer["name"], _build(layer)) for layer in description["layers"]))
    layer = _TYPES[description["type"]]
    values = {name: check(description[name]) for name, check in _LAYERS[layer].items()}
    try:
        return layer(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    except (ValueError, AssertionError) as error:  # arguments that do not go together
        raise ModelFileError(f"the model describes a {layer.__name__} that torch refuses: {error}") from None
