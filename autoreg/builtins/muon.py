"""Muon: momentum whose matrices are orthogonalised before they change the weights.

K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024,
kellerjordan.github.io/posts/muon), gives the method; J. Liu and others, "Muon is Scalable for LLM Training" (2025,
arXiv:2502.16982), the decay of weights and the scale under which a learning rate means what it means to AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autoreg.arithmetic import has_bfloat16
from autoreg.builtins.optimizers import DECAY, Number, adamw, aligned
from autoreg.errors import OptionError, unknown
from autoreg.gradients import GradientTransform, Role, Tensors
from autoreg.hookspecs import hookimpl
from autoreg.space import PRECISIONS

State = dict[str, Any]

SCALES: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial of the fifth degree; applied five times it brings singular values to between 0.7 and 1.2."""


def muon(
    momentum: Number = 0.95,
    nesterov: bool = True,
    weight_decay: Number = 0.1,
    adjust_lr_fn: str = "match_rms_adamw",
    ns_steps: int = 5,
    precision: str = "auto",
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
) -> GradientTransform:
    """Muon for hidden matrices, `torch.optim.Muon`; AdamW with the same learning rate and decay for all else.

    A hidden matrix is one whose role is ``matrix``: every weight of two axes but the last, embeddings left out. Its
    running mean of gradients is made orthogonal by Newton and Schulz's iteration, for all members at once, so that all
    its directions learn equally fast.

    Parameters
    ----------
    momentum : float or Tensor
        How much of the running mean stays in a step.
    nesterov : bool
        Mix the gradient into the mean once more.
    weight_decay : float or Tensor
        Decoupled, multiplied by the learning rate.
    adjust_lr_fn : {"match_rms_adamw", "original"}
        The factor of an (A, B) matrix: 0.2 sqrt(max(A, B)), with which changes are as large as AdamW's, so that both
        share a learning rate (Liu and others); or sqrt(max(1, A / B)) (Jordan and others).
    ns_steps : int
        Rounds of the iteration.
    precision : {"auto", "float32", "bfloat16"}
        Of the iteration's products. The published method computes them in bfloat16, as does ``auto`` where processor
        or GPU have instructions for it and the weights are float32.
    beta1, beta2, eps : float or Tensor
        AdamW's.

    Examples
    --------
    >>> transform = muon(weight_decay=0.0)
    >>> params = {"w": torch.zeros(2, 4, 4, dtype=torch.float64)}
    >>> gradients = {"w": torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0])).double().expand(2, 4, 4)}
    >>> changes, state = transform.update(gradients, transform.init(params), params, torch.tensor([0.1, 1.0]), {})
    >>> changes["w"].diagonal(dim1=1, dim2=2)
    tensor([[-0.0390, -0.0420, -0.0273, -0.0426],
            [-0.3896, -0.4199, -0.2729, -0.4255]], dtype=torch.float64)
    """
    if adjust_lr_fn not in SCALES:
        raise OptionError(unknown("adjust_lr_fn", adjust_lr_fn, list(SCALES)))
    if precision not in PRECISIONS:
        raise OptionError(unknown("precision", precision, PRECISIONS))
    others = adamw(beta1, beta2, eps, weight_decay)
    scale = SCALES[adjust_lr_fn]

    def init(params: Tensors) -> State:
        # which parameter is what shows in the first step
        return {}

    def update(
        gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> tuple[Tensors, State]:
        hidden = [name for name, param in params.items() if param.ndim == 3 and _is_matrix(roles.get(name))]
        rest = {name: param for name, param in params.items() if name not in hidden}
        if not state:
            means = {name: torch.zeros_like(gradients[name]) for name in hidden}
            state = {"momentum": means, "others": others.init(rest) if rest else {}}
        changes: Tensors = {}
        if rest:
            own = {name: gradients[name] for name in rest}
            changes, state["others"] = others.update(own, state["others"], rest, learning_rate, roles)
        for name in hidden:
            gradient, param, role = gradients[name], params[name], roles.get(name, Role())
            factor = aligned(momentum, gradient)
            mean = state["momentum"][name]
            mean.mul_(factor).add_(gradient * (1 - factor))
            direction = gradient * (1 - factor) + mean * factor if nesterov else mean
            change = orthogonal(direction, ns_steps, _dtype(gradient, precision)).mul_(-scale(*gradient.shape[1:]))
            if isinstance(weight_decay, Tensor) or weight_decay:
                change.sub_(param * (aligned(weight_decay, param) * role.decay))
            changes[name] = change.mul_(aligned(learning_rate, param) * role.rate)
        return changes, state

    return GradientTransform(init, update)


def orthogonal(matrices: Tensor, steps: int = 5, dtype: torch.dtype | None = None) -> Tensor:
    """Matrices with nearly the same singular vectors, and singular values near one.

    Parameters
    ----------
    matrices : Tensor, (M, A, B)
    steps : int
    dtype : torch.dtype, optional
        Of the products.

    Returns
    -------
    Tensor, (M, A, B)
        Of the dtype of `matrices`.
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).to(dtype or matrices.dtype)
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


def _is_matrix(role: Role | None) -> bool:
    return role is None or role.kind == "matrix"


def _dtype(like: Tensor, precision: str) -> torch.dtype:
    """Of the products."""
    known = like.device.type in ("cpu", "cuda") and like.dtype == torch.float32
    # three to five times as fast as float32, where measured
    half = precision == "bfloat16" or (precision == "auto" and known and has_bfloat16(str(like.device)))
    return torch.bfloat16 if half else like.dtype


@hookimpl
def register_optimizers(register: Callable[..., None]) -> None:
    register("muon", muon, space={"momentum": [0.9, 0.95, 0.98], "weight_decay": DECAY}, member_options=True)
