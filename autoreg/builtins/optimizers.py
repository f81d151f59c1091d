"""Optimizers over stacked tensors. Each gives the numbers of the class of `torch.optim` that its docstring names.

An option that is a number may be an (M,) tensor: one value per member. A decay of weights is multiplied by the
`Role.decay` of each parameter, the learning rate by its `Role.rate`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from autoreg.builtins.fused import alike, by_member, decay_in_place, fused_adam
from autoreg.gradients import GradientTransform, Role, Tensors, over_members
from autoreg.hookspecs import hookimpl

Number = float | Tensor
State = dict[str, Any]


def sgd(weight_decay: Number = 0.0) -> GradientTransform:
    """Stochastic gradient descent, `torch.optim.SGD`.

    >>> change, state = sgd().update({"w": torch.ones(1, 2)}, {}, {"w": torch.zeros(1, 2)}, torch.tensor([0.1]), {})
    >>> change
    {'w': tensor([[-0.1000, -0.1000]])}
    """

    def init(params: Tensors) -> State:
        return {}

    def update(
        gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> tuple[Tensors, State]:
        changes = {}
        for name, gradient in gradients.items():
            role = roles.get(name, Role())
            gradient = _with_decay(gradient, params[name], weight_decay, role)
            changes[name] = gradient * -_rate(learning_rate, gradient, role)
        return changes, state

    return GradientTransform(init, update, elementwise=True)


def momentum(momentum: Number = 0.9, nesterov: bool = False, weight_decay: Number = 0.0) -> GradientTransform:
    """Gradient descent with momentum, `torch.optim.SGD` with ``momentum``."""

    def init(params: Tensors) -> State:
        return {"momentum": _zeros(params)}

    def update(
        gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> tuple[Tensors, State]:
        changes = {}
        for name, gradient in gradients.items():
            role = roles.get(name, Role())
            gradient = _with_decay(gradient, params[name], weight_decay, role)
            factor = aligned(momentum, gradient)
            buffer = state["momentum"][name].mul_(factor).add_(gradient)
            direction = gradient + buffer * factor if nesterov else buffer
            changes[name] = direction * -_rate(learning_rate, gradient, role)
        return changes, state

    return GradientTransform(init, update, elementwise=True)


def adam(
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    betas: tuple[Number, Number] | None = None,
) -> GradientTransform:
    """Adam with the decay of weights in the gradient, `torch.optim.Adam`.

    Parameters
    ----------
    beta1, beta2 : float or Tensor
        How much of the averages of gradients and of squared gradients stays in a step.
    eps : float or Tensor
    weight_decay : float or Tensor
    betas : pair, optional
        Both, as torch takes them.
    """
    beta1, beta2 = betas or (beta1, beta2)
    return _adam(beta1, beta2, eps, weight_decay, decoupled=False)


def adamw(
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.01,
    betas: tuple[Number, Number] | None = None,
) -> GradientTransform:
    """Adam with decoupled decay of weights, which is multiplied by the learning rate, `torch.optim.AdamW`.

    Parameters
    ----------
    beta1, beta2 : float or Tensor
        How much of the averages of gradients and of squared gradients stays in a step.
    eps : float or Tensor
    weight_decay : float or Tensor
    betas : pair, optional
        Both, as torch takes them.

    Examples
    --------
    >>> transform = adamw(weight_decay=torch.tensor([0.0, 0.5]))
    >>> params = {"w": torch.ones(2, 1)}
    >>> changes, state = transform.update(
    ...     {"w": torch.ones(2, 1)}, transform.init(params), params, torch.tensor([0.1, 0.1]), {}
    ... )
    >>> changes["w"].T
    tensor([[-0.1000, -0.1500]])
    """
    beta1, beta2 = betas or (beta1, beta2)
    return _adam(beta1, beta2, eps, weight_decay, decoupled=True)


def _adam(beta1: Number, beta2: Number, eps: Number, weight_decay: Number, decoupled: bool) -> GradientTransform:
    def init(params: Tensors) -> State:
        return {"steps": _steps(params), "average": _zeros(params), "square": _zeros(params)}

    def update(
        gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> tuple[Tensors, State]:
        steps = state["steps"].add_(1)
        changes = {}
        for name, gradient in gradients.items():
            role, param = roles.get(name, Role()), params[name]
            average, square = state["average"][name], state["square"][name]
            if not decoupled:
                gradient = _with_decay(gradient, param, weight_decay, role)
            _move(average, gradient, beta1)
            _move_square(square, gradient, beta2)
            root = aligned(_left_of_one(beta2, steps).sqrt(), gradient)
            # eps is added to the corrected root; both sides are multiplied by the correction
            below = square.sqrt().add_(root * aligned(eps, gradient))
            step = torch.div(average, below, out=below).mul_(root / aligned(_left_of_one(beta1, steps), gradient))
            change = _shrink(param, weight_decay, role).sub_(step) if decoupled else step.neg_()
            changes[name] = change.mul_(_rate(learning_rate, gradient, role))
        return changes, state

    def apply(
        gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> State:
        """With torch's fused kernel, for members side by side that are alike: a fifth of the memory traffic."""
        steps = state["steps"].add_(1)
        rates, counts = learning_rate.tolist(), steps.tolist()
        options = (by_member(value, len(rates)) for value in (weight_decay, beta1, beta2, eps))
        settings = list(zip(rates, counts, *options, strict=True))
        for name, gradient in gradients.items():
            role, param = roles.get(name, Role()), params[name]
            if not decoupled:
                gradient = _with_decay(gradient, param, weight_decay, role)
            decays = decoupled and not _is_zero(weight_decay) and not _is_zero(role.decay)
            averages, squares = state["average"][name], state["square"][name]
            for first, last in alike(settings):
                own, _, decay, *betas_and_eps = settings[first]
                members = slice(first, last)
                if decays:
                    decay_in_place(param[members], own * decay, role)
                fused_adam(
                    param[members], gradient[members], averages[members], squares[members], steps[first], own, role,
                    *betas_and_eps,
                )  # fmt: skip
        return state

    return GradientTransform(init, update, elementwise=True, apply=apply)


def nadam(
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    momentum_decay: Number = 4e-3,
    decoupled_weight_decay: bool = False,
    betas: tuple[Number, Number] | None = None,
) -> GradientTransform:
    """Adam with Nesterov's momentum, `torch.optim.NAdam`.

    Parameters
    ----------
    beta1, beta2 : float or Tensor
        How much of the averages of gradients and of squared gradients stays in a step.
    eps : float or Tensor
    weight_decay : float or Tensor
    momentum_decay : float or Tensor
        How fast the momentum grows to `beta1`.
    decoupled_weight_decay : bool
        Decay of weights as in `adamw`.
    betas : pair, optional
        Both, as torch takes them.
    """
    beta1, beta2 = betas or (beta1, beta2)

    def init(params: Tensors) -> State:
        steps = _steps(params)
        product = torch.ones_like(steps, dtype=torch.float64)
        return {"steps": steps, "product": product, "average": _zeros(params), "square": _zeros(params)}

    def factor(steps: Tensor) -> Tensor:
        return _wide(beta1) * (1 - 0.5 * 0.96 ** (steps.double() * _wide(momentum_decay)))

    def update(
        gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> tuple[Tensors, State]:
        steps = state["steps"].add_(1)
        now, following = factor(steps), factor(steps + 1)
        product = state["product"].mul_(now)
        own, past = (1 - now) / (1 - product), following / (1 - product * following)
        changes = {}
        for name, gradient in gradients.items():
            role, param = roles.get(name, Role()), params[name]
            if not decoupled_weight_decay:
                gradient = _with_decay(gradient, param, weight_decay, role)
            average, square = state["average"][name], state["square"][name]
            _move(average, gradient, beta1)
            _move_square(square, gradient, beta2)
            below = square / aligned(_left_of_one(beta2, steps), gradient)
            below.sqrt_().add_(aligned(eps, gradient))
            step = (gradient * aligned(own, gradient)).addcmul_(average, aligned(past, gradient)).div_(below)
            if decoupled_weight_decay:
                step.sub_(_shrink(param, weight_decay, role))
            changes[name] = step.mul_(-_rate(learning_rate, gradient, role))
        return changes, state

    return GradientTransform(init, update, elementwise=True)


def rmsprop(
    alpha: Number = 0.99,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    momentum: Number = 0.0,
    centered: bool = False,
) -> GradientTransform:
    """Gradients over the root of their average square, `torch.optim.RMSprop`.

    Parameters
    ----------
    alpha : float or Tensor
        How much of the average stays in a step.
    eps : float or Tensor
    weight_decay : float or Tensor
    momentum : float or Tensor
    centered : bool
        Take the variance in place of the average square.
    """

    def init(params: Tensors) -> State:
        state = {"square": _zeros(params)}
        if centered:
            state["average"] = _zeros(params)
        if not _is_zero(momentum):
            state["momentum"] = _zeros(params)
        return state

    def update(
        gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> tuple[Tensors, State]:
        changes = {}
        for name, gradient in gradients.items():
            role = roles.get(name, Role())
            gradient = _with_decay(gradient, params[name], weight_decay, role)
            square = state["square"][name]
            _move_square(square, gradient, alpha)
            if centered:
                average = state["average"][name]
                _move(average, gradient, alpha)
                below = torch.addcmul(square, average, average, value=-1).sqrt_()
            else:
                below = square.sqrt()
            step = torch.div(gradient, below.add_(aligned(eps, gradient)), out=below)
            if not _is_zero(momentum):
                step = step.copy_(state["momentum"][name].mul_(aligned(momentum, gradient)).add_(step))
            changes[name] = step.mul_(-_rate(learning_rate, gradient, role))
        return changes, state

    return GradientTransform(init, update, elementwise=True)


def _steps(params: Tensors) -> Tensor:
    first = next(iter(params.values()))
    return torch.zeros(len(first), device=first.device)


def _zeros(params: Tensors) -> Tensors:
    return {name: torch.zeros_like(param, memory_format=torch.contiguous_format) for name, param in params.items()}


def _is_zero(value: Number) -> bool:
    return not isinstance(value, Tensor) and value == 0


def _wide(value: Number) -> Number:
    return value.double() if isinstance(value, Tensor) else value


def aligned(value: Number, like: Tensor) -> Any:
    """A number, or one per member, ready to be combined with `like`, (M, ...), in its precision."""
    if isinstance(value, Tensor):
        return over_members(value.to(like.dtype), like)
    return value


def _left_of_one(beta: Number, steps: Tensor) -> Tensor:
    """``1 - beta**steps``, (M,), in double precision."""
    return 1 - _wide(beta) ** steps.double()


def _move(average: Tensor, value: Tensor, beta: Number) -> None:
    """Move a running average towards a value."""
    if isinstance(beta, Tensor):
        average.lerp_(value, aligned(1 - beta.double(), value).expand_as(value))
    else:
        average.lerp_(value, 1 - beta)


def _move_square(average: Tensor, value: Tensor, beta: Number) -> None:
    """Move a running average towards a value's square."""
    if isinstance(beta, Tensor):
        _move(average, value.square(), beta)
    else:
        average.mul_(beta).addcmul_(value, value, value=1 - beta)


def _rate(learning_rate: Tensor, like: Tensor, role: Role) -> Tensor:
    """The learning rate of every element, (M, 1, ...), or (M, P) where the elements' factors differ."""
    rate: Tensor = aligned(learning_rate, like)
    return rate if not isinstance(role.rate, Tensor) and role.rate == 1 else rate * role.rate


def _decay_of(param: Tensor, weight_decay: Number, role: Role) -> Any:
    """The decay of every element; 0.0 for none at all."""
    if _is_zero(weight_decay) or _is_zero(role.decay):
        return 0.0
    return aligned(weight_decay, param) * role.decay


def _with_decay(gradient: Tensor, param: Tensor, weight_decay: Number, role: Role) -> Tensor:
    """The gradient of loss and decay."""
    decay = _decay_of(param, weight_decay, role)
    if isinstance(decay, Tensor):
        return torch.addcmul(gradient, param, decay)
    return gradient.add(param, alpha=decay) if decay else gradient


def _shrink(param: Tensor, weight_decay: Number, role: Role) -> Tensor:
    """Minus the decay times the parameters, as a new tensor."""
    decay = _decay_of(param, weight_decay, role)
    contiguous = torch.empty_like(param, memory_format=torch.contiguous_format)
    return torch.mul(param, -decay, out=contiguous) if isinstance(decay, Tensor) or decay else contiguous.zero_()


BETA2 = [0.9, 0.95, 0.99, 0.999]
DECAY = [0.0, 1e-4, 1e-3, 1e-2, 1e-1]


@hookimpl
def register_optimizers(register: Callable[..., None]) -> None:
    register("adam", adam, space={"beta2": BETA2}, member_options=True)
    register("adamw", adamw, space={"beta2": BETA2, "weight_decay": DECAY}, member_options=True)
    register("momentum", momentum, space={"momentum": [0.8, 0.9, 0.95]}, member_options=True)
    register("nadam", nadam, space={"beta2": BETA2}, member_options=True)
    register("rmsprop", rmsprop, space={"alpha": [0.9, 0.95, 0.99]}, member_options=True)
    register("sgd", sgd, member_options=True)
