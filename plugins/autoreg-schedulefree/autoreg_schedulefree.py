"""Schedule-free optimizers for autoreg: those of the package ``schedulefree``, run as they are.

What is trained and what is scored differ in them: gradients are taken at one point, and an average of points is the
model. `autoreg.from_torch_optim` sees their ``train()`` and ``eval()`` and scores the average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schedulefree import AdamWScheduleFree, RAdamScheduleFree, SGDScheduleFree  # type: ignore[import-untyped]

from autoreg import from_torch_optim, hookimpl
from autoreg.gradients import GradientTransform

# made once, since members with one maker are updated together
_ADAMW, _RADAM, _SGD = (from_torch_optim(cls) for cls in (AdamWScheduleFree, RAdamScheduleFree, SGDScheduleFree))


def adamw(
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    warmup_steps: int = 0,
    r: Any = 0.0,
    weight_lr_power: Any = 2.0,
) -> GradientTransform:
    """`schedulefree.AdamWScheduleFree`.

    Parameters
    ----------
    beta1 : float
        How far gradients are taken from the average towards the latest point.
    beta2 : float
        How much of the average of squared gradients stays in a step.
    eps, weight_decay : float
    warmup_steps : int
        Steps over which the learning rate rises.
    r, weight_lr_power : float
        Weights of the average: the step's number, and the largest learning rate so far, to these powers.

    Examples
    --------
    >>> import torch
    >>> transform = adamw()
    >>> params = {"w": torch.zeros(2, 3)}
    >>> changes, state = transform.update({"w": torch.ones(2, 3)}, transform.init(params), params,
    ...                                   torch.tensor([0.1, 0.2]), {})
    >>> changes["w"][:, 0]
    tensor([-0.1000, -0.2000])
    """
    return _ADAMW(
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        r=r,
        weight_lr_power=weight_lr_power,
    )


def radam(
    beta1: Any = 0.9,
    beta2: Any = 0.999,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    r: Any = 0.0,
    weight_lr_power: Any = 2.0,
    silent_sgd_phase: bool = True,
) -> GradientTransform:
    """`schedulefree.RAdamScheduleFree`, which needs no warm-up either; the options as in `adamw`.

    Parameters
    ----------
    silent_sgd_phase : bool
        Whether the first steps only gather squared gradients.
    """
    return _RADAM(
        betas=(beta1, beta2),
        eps=eps,
        weight_decay=weight_decay,
        r=r,
        weight_lr_power=weight_lr_power,
        silent_sgd_phase=silent_sgd_phase,
    )


def sgd(
    momentum: Any = 0.9,
    weight_decay: Any = 0.0,
    warmup_steps: int = 0,
    r: Any = 0.0,
    weight_lr_power: Any = 2.0,
) -> GradientTransform:
    """`schedulefree.SGDScheduleFree`; the options as in `adamw`, `momentum` in the place of `beta1`."""
    return _SGD(
        momentum=momentum, weight_decay=weight_decay, warmup_steps=warmup_steps, r=r, weight_lr_power=weight_lr_power
    )


BETA1 = [0.9, 0.95, 0.98]
DECAY = [0.0, 1e-3, 1e-2, 1e-1]


@hookimpl
def register_optimizers(register: Callable[..., None]) -> None:
    register("schedulefree_adamw", adamw, space={"beta1": BETA1, "weight_decay": DECAY}, member_options=True)
    register("schedulefree_radam", radam, space={"beta1": BETA1, "weight_decay": DECAY}, member_options=True)
    register("schedulefree_sgd", sgd, space={"momentum": BETA1, "weight_decay": DECAY}, member_options=True)
