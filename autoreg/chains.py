"""Runs of linear layers, activations and residuals as one function, with its own backward pass.

Autograd keeps a tensor for every operation and writes every gradient to new memory. A run knows what its backward pass
needs: activations are computed in place where their slope can be told from their output, inner gradients are changed
in place, and the gradients of weights go straight to where the optimizer reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from autoreg.arithmetic import onednn_multiplies

aten = torch.ops.aten


class Inner(NamedTuple):
    """An elementwise layer within a run.

    Attributes
    ----------
    forward : function
        ``forward(x) -> (y, kept)``; `kept` is what `backward` needs.
    backward : function
        ``backward(gradient, kept) -> gradient``.
    in_place : bool
        Whether `forward` may overwrite x.
    parameters : tuple of Parameter
        What the layer learns.
    slopes : function
        ``slopes(gradient, kept, *into)``, called before `backward`: writes a gradient for each parameter.
    overwrites : bool
        Whether `backward` may overwrite the gradient.
    """

    forward: Callable[[Tensor], tuple[Tensor, Any]]
    backward: Callable[[Tensor, Any], Tensor]
    in_place: bool = True
    parameters: tuple[nn.Parameter, ...] = ()
    slopes: Callable[..., None] = lambda gradient, kept: None
    overwrites: bool = True


UNCHANGED = Inner(lambda x: (x, None), lambda gradient, kept: gradient)


def _kept_output(forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Tensor]) -> Inner:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        y = forward(x)
        return y, y

    return Inner(run, backward)


def _kept_input(forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor, Tensor], Tensor]) -> Inner:
    return Inner(lambda x: (forward(x), x), backward, in_place=False)


def _relu_(x: Tensor) -> Tensor:
    if x.dtype == torch.bfloat16:
        # a negative number is a negative integer in its bits, and integers are compared three times as fast
        x.view(torch.int16).clamp_(min=0)
        return x
    return x.relu_()


def _relu_backward(gradient: Tensor, y: Tensor) -> Tensor:
    return aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)


def inner_of(layer: nn.Module) -> Inner | None:
    """How a layer runs within a run; None where it has to stand by itself."""
    if _stands_alone(layer):
        return None
    make = _INNER.get(type(layer))
    if make is not None:
        return make(layer)
    offered = _offered(layer, "within_run")
    return offered(layer) if offered is not None else None


def _stands_alone(layer: nn.Module) -> bool:
    return has_hooks(layer) or getattr(layer.forward, "alone", False)


def has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _offered(layer: nn.Module, name: str) -> Callable[[Any], Any] | None:
    # asked of the class itself: a subclass may have another forward, and a layer within it any name
    own = vars(type(layer))
    return own.get(name) if own.get("leading_axes") else None


_INNER: dict[type[nn.Module], Callable[[Any], Inner | None]] = {
    nn.Identity: lambda layer: UNCHANGED,
    nn.ReLU: lambda layer: _kept_output(_relu_, _relu_backward),
    nn.Tanh: lambda layer: _kept_output(
        lambda x: x.tanh_(), lambda g, y: aten.tanh_backward.grad_input(g, y, grad_input=g)
    ),
    nn.Sigmoid: lambda layer: _kept_output(
        lambda x: x.sigmoid_(), lambda g, y: aten.sigmoid_backward.grad_input(g, y, grad_input=g)
    ),
    nn.SiLU: lambda layer: _kept_input(aten.silu, lambda g, x: aten.silu_backward.grad_input(g, x, grad_input=g)),
    nn.GELU: lambda layer: _kept_input(
        lambda x: aten.gelu(x, approximate=layer.approximate),
        lambda g, x: aten.gelu_backward.grad_input(g, x, approximate=layer.approximate, grad_input=g),
    ),
    nn.LeakyReLU: lambda layer: _kept_input(
        lambda x: aten.leaky_relu(x, layer.negative_slope),
        lambda g, x: aten.leaky_relu_backward.grad_input(g, x, layer.negative_slope, False, grad_input=g),
    ),
}


class Linear(NamedTuple):
    """A stacked `nn.Linear` within a run."""

    module: nn.Module

    @property
    def parameters(self) -> tuple[Any, ...]:
        return tuple(p for p in (self.module.weight, self.module.bias) if p is not None)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, torch.dtype]]:
        """The output; the input as it was multiplied, and what it was before."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        bias: Tensor | None = self.module.bias  # type: ignore[assignment]
        # weights in bfloat16 pull the layer's input and bias along
        kept = x.to(weight.dtype), x.dtype
        x = kept[0]
        add = None if bias is None else bias.to(x.dtype).unsqueeze(1)
        if weight.shape[1] == 1:
            # a matrix product of one column takes many times as long as one of one row
            y = torch.bmm(weight, x.mT).mT
            return y if add is None else y.add_(add), kept
        return torch.bmm(x, weight.mT) if add is None else torch.baddbmm(add, x, weight.mT), kept

    def slopes(self, gradient: Tensor, kept: Any, of_weight: Tensor | None, of_bias: Tensor | None = None) -> None:
        """Write the gradients of weight and bias."""
        x, _ = kept
        if of_bias is not None:
            sum_rows(gradient, of_bias)
        if of_weight is None:
            return
        if of_weight.shape[1] == 1:
            # not into lent memory: oneDNN takes the strides of a single row for those of a column
            of_weight.copy_(torch.bmm(gradient.mT, x))
        else:
            # the weights lie as (M, D, H)
            torch.bmm(x.mT, gradient, out=of_weight.mT)

    def backward(self, gradient: Tensor, kept: Any) -> Tensor:
        """(M, R, D), of the input's precision and laid out as it is."""
        x, dtype = kept
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        if weight.shape[1] == 1 and gradient.dtype != torch.bfloat16:
            return (gradient * weight).to(dtype)
        if gradient.dtype == torch.float32 and onednn_multiplies() and not weight.mT.is_contiguous():
            # oneDNN would copy strided matrices entry by entry
            weight = weight.mT.contiguous().mT
        if x.mT.is_contiguous() and not x.is_contiguous():
            return torch.bmm(weight.mT, gradient.mT).mT.to(dtype)
        return torch.bmm(gradient, weight).to(dtype)


class Fork(NamedTuple):
    """Where a residual begins: what comes here is added at its `Join`."""

    parameters: tuple[nn.Parameter, ...] = ()


class Join(NamedTuple):
    """Where a residual ends."""

    parameters: tuple[nn.Parameter, ...] = ()


Step = Linear | Inner | Fork | Join


def steps_of(layer: nn.Module) -> list[Step] | None:
    """A stacked layer as steps of a run; None where it has to stand by itself.

    Next to linear layers, elementwise ones and sequences of them a class that declares ``leading_axes`` may offer
    ``within_run()``, an `Inner`, or ``added_within_run()``, the layers whose output it adds to its input.
    """
    if _stands_alone(layer):
        return None
    if type(layer) is nn.Linear:
        return [Linear(layer)]
    if type(layer) is nn.Sequential:
        parts = [steps_of(one) for one in layer._modules.values() if one is not None]
        return None if any(part is None for part in parts) else [step for part in parts for step in part or ()]
    added = _offered(layer, "added_within_run")
    if added is not None:
        within = steps_of(added(layer))
        return None if within is None else [Fork(), *within, Join()]
    inner = inner_of(layer)
    return None if inner is None else [] if inner is UNCHANGED else [inner]


class ChainForward:
    """`nn.Sequential` over a leading axis: its runs of layers as one function each."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        run: list[Step] = []
        for layer in self.module._modules.values():  # what stands there twice runs twice
            assert layer is not None
            steps = steps_of(layer)
            if steps is not None:
                run += steps
                continue
            if run:
                x, run = run_layers(run, x), []
            x = layer(x)
        return run_layers(run, x) if run else x


def run_layers(steps: Sequence[Step], x: Tensor) -> Tensor:
    """Apply a run to x, (M, ..., D)."""
    parameters = [p for step in steps for p in step.parameters]
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters)):
        out = _Run.apply(steps, flat, *parameters)
    else:
        out, _ = _forward(steps, flat, keep=False)
    return out.view(*x.shape[:-1], out.shape[-1])


def _forward(steps: Sequence[Step], x: Tensor, keep: bool = True) -> tuple[Tensor, list[Any]]:
    """The output, and what each step keeps for a backward pass that will come."""
    kept: list[Any] = []
    forks: list[Tensor] = []
    own = False  # whether nobody else needs x
    for step in steps:
        note: Any = x.dtype
        if isinstance(step, Fork):
            forks.append(x)
            own = False
        elif isinstance(step, Join):
            x, own = _sum(x, forks.pop(), own), True
        elif isinstance(step, Linear):
            x, note = step.forward(x)
            own = True
        else:
            x, note = step.forward(x.clone() if step.in_place and not own else x)
            # what a layer keeps is not the next one's to overwrite
            own = note is not x
        if keep:
            kept.append(note)
    return x, kept


def _sum(x: Tensor, other: Tensor, own: bool) -> Tensor:
    return x.add_(other) if own and (x.dtype, x.shape) == (other.dtype, other.shape) else x + other


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steps: Sequence[Step], x: Tensor, *parameters: Tensor) -> Tensor:
        out, ctx.kept = _forward(steps, x)
        ctx.steps, ctx.dtype = steps, x.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        into = [[_memory(p) for p in step.parameters] for step in ctx.steps]
        wanted = ctx.needs_input_grad[1]
        # no gradient has to reach further than the first step that learns
        first = 0 if wanted else next(i for i, places in enumerate(into) if any(p is not None for p in places))
        # what is kept may refer to this node
        kept, ctx.kept = ctx.kept, None
        gradient = _backward(ctx.steps[first:], kept[first:], gradient, into[first:], wanted)
        found = [place for places in into for place in places]
        return (None, gradient.to(ctx.dtype) if wanted else None, *found)


def _backward(
    steps: Sequence[Step], kept: Sequence[Any], gradient: Tensor, into: Sequence[Any], wanted: bool
) -> Tensor:
    """Write the parameters' gradients; returns that of what goes in, where it is wanted."""
    joins: list[Tensor] = []
    own = False  # whether nobody else needs the gradient
    for i in reversed(range(len(steps))):
        step, note = steps[i], kept[i]
        if isinstance(step, Join):
            joins.append(gradient)
            gradient, own = gradient.to(note), False
            continue
        if isinstance(step, Fork):
            gradient, own = _sum(gradient, joins.pop(), own).to(note), True
            continue
        if isinstance(step, Inner) and step.overwrites and not own:
            gradient = gradient.clone(memory_format=torch.contiguous_format)
        if any(place is not None for place in into[i]):
            step.slopes(gradient, note, *into[i])
        if i or wanted:
            gradient, own = step.backward(gradient, note), True
    return gradient


def _memory(parameter: Tensor) -> Tensor | None:
    """Where a parameter's gradient goes: the memory it names for that, once in every step, or new one."""
    if not parameter.requires_grad:
        return None
    lend = getattr(parameter, "lend", None)
    place: Tensor | None = None if lend is None else lend()
    if place is None and parameter.ndim > 2:
        # a matrix lies transposed
        return torch.empty_like(parameter.mT, memory_format=torch.contiguous_format).mT
    return torch.empty_like(parameter) if place is None else place


def sum_rows(gradient: Tensor, into: Tensor) -> None:
    """(M, R, H) to (M, H)."""
    if gradient.dtype == torch.bfloat16 and gradient.shape[2] > 1:
        # a sum in another precision writes all that it adds up in that precision first
        ones = gradient.new_ones(()).expand(len(gradient), 1, gradient.shape[1])
        into.copy_(torch.bmm(ones, gradient).squeeze(1))
    else:
        torch.sum(gradient, 1, dtype=into.dtype, out=into)
