"""The elementwise activations of `torch.nn`, under their names in lower case."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from autoreg.builtins.layers import Mish, PReLU
from autoreg.hookspecs import hookimpl

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "celu": nn.CELU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "hardshrink": nn.Hardshrink,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "logsigmoid": nn.LogSigmoid,
    "mish": Mish,
    "prelu": PReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softshrink": nn.Softshrink,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
    "tanhshrink": nn.Tanhshrink,
}
"""Name -> class. Left out: `nn.RReLU`, which draws random slopes, and `nn.Threshold`, which has no defaults."""


@hookimpl
def register_activations(register: Callable[..., None]) -> None:
    for name, activation in ACTIVATIONS.items():
        register(name, activation)
