"""Runs of linear layers and activations as one function, with its own backward pass.

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
        ``forward(x) -> (y, kept)``; x is its own to overwrite; `kept` is what `backward` needs.
    backward : function
        ``backward(gradient, kept) -> gradient``; the gradient is its own to overwrite.
    in_place : bool
        Whether `forward` may overwrite x.
    parameters : tuple of Parameter
        What the layer learns.
    slopes : function
        ``slopes(gradient, kept)``, called before `backward`: a gradient for each parameter.
    """

    forward: Callable[[Tensor], tuple[Tensor, Any]]
    backward: Callable[[Tensor, Any], Tensor]
    in_place: bool = True
    parameters: tuple[nn.Parameter, ...] = ()
    slopes: Callable[[Tensor, Any], tuple[Tensor, ...]] = lambda gradient, kept: ()


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
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        return None
    make = _INNER.get(type(layer))
    if make is not None:
        return make(layer)
    # asked of the class: a layer of this name within it is another thing
    offered = getattr(type(layer), "inner", None) if vars(type(layer)).get("leading_axes") else None
    return offered(layer) if offered is not None else None


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


class Step(NamedTuple):
    """A linear layer and the elementwise layers behind it."""

    linear: nn.Module
    inner: tuple[Inner, ...]


class ChainForward:
    """`nn.Sequential` over a leading axis: its runs of linear and elementwise layers as one function each."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        run: list[Step] = []
        for layer in self.module._modules.values():  # what stands there twice runs twice
            assert layer is not None
            if type(layer) is nn.Linear and not (layer._forward_hooks or layer._forward_pre_hooks):
                run.append(Step(layer, ()))
                continue
            inner = inner_of(layer) if run else None
            if inner is not None:
                if inner is not UNCHANGED:
                    run[-1] = Step(run[-1].linear, (*run[-1].inner, inner))
                continue
            if run:
                x, run = run_layers(run, x), []
            x = layer(x)
        return run_layers(run, x) if run else x


def run_layers(steps: Sequence[Step], x: Tensor) -> Tensor:
    """Apply a run to x, (M, ..., D)."""
    parameters = [p for step in steps for p in _parameters(step)]
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in parameters)):
        out = _Run.apply(steps, flat, *parameters)
    else:
        out, _ = _forward(steps, flat)
    return out.view(*x.shape[:-1], out.shape[-1])


def _parameters(step: Step) -> list[Any]:
    own = [p for p in (step.linear.weight, step.linear.bias) if p is not None]
    return [*own, *(p for layer in step.inner for p in layer.parameters)]


def _forward(steps: Sequence[Step], x: Tensor) -> tuple[Tensor, list[tuple[Tensor, list[Any]]]]:
    """The output, and for each step its input and what its elementwise layers keep."""
    kept = []
    for linear, inner in steps:
        # weights in bfloat16 pull the layer's input and bias along
        x = x.to(_weight(linear).dtype)
        y = apply_linear(linear, x)
        notes: list[Any] = []
        for layer in inner:
            # what a layer keeps is not the next one's to overwrite
            y, note = layer.forward(y.clone() if notes and notes[-1] is y else y)
            notes.append(note)
        kept.append((x, notes))
        x = y
    return x, kept


def _weight(linear: nn.Module) -> Tensor:
    return linear.weight  # type: ignore[return-value]


def apply_linear(linear: nn.Module, x: Tensor) -> Tensor:
    """A stacked `nn.Linear` on x, (M, R, D), to (M, R, H)."""
    weight = _weight(linear)
    bias: Tensor | None = linear.bias  # type: ignore[assignment]
    if weight.shape[1] == 1:
        # a matrix product of one column takes many times as long as one of one row
        y = torch.bmm(weight, x.mT).mT
        return y if bias is None else y.add_(bias.to(y.dtype).unsqueeze(1))
    return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.to(x.dtype).unsqueeze(1), x, weight.mT)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steps: Sequence[Step], x: Tensor, *parameters: Tensor) -> Tensor:
        out, kept = _forward(steps, x)
        ctx.steps, ctx.kept, ctx.dtype = steps, kept, x.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        found: list[Tensor | None] = []
        own = False
        first = ctx.steps[0]
        for step, (x, notes) in zip(reversed(ctx.steps), reversed(ctx.kept), strict=True):
            linear, inner = step
            if inner and not own:
                gradient = gradient.clone(memory_format=torch.contiguous_format)
            for layer, note in zip(reversed(inner), reversed(notes), strict=True):
                found += reversed(layer.slopes(gradient, note))
                gradient = layer.backward(gradient, note)
            weight, bias = _weight(linear), linear.bias
            if bias is not None:
                found.append(sum_rows(gradient, bias) if bias.requires_grad else None)
            found.append(_weight_gradient(gradient, x, weight) if weight.requires_grad else None)
            if step is first and not ctx.needs_input_grad[1]:
                return (None, None, *reversed(found))
            gradient, own = _input_gradient(gradient, weight, x), True
        return (None, gradient.to(ctx.dtype), *reversed(found))


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """(M, H, D), in the memory that the weight names for it where there is one."""
    if weight.shape[1] == 1:
        # not into lent memory: oneDNN takes the strides of a single row for those of a column
        return torch.bmm(gradient.mT, x)
    place = _place(weight)
    # the weights lie as (M, D, H)
    return (torch.bmm(x.mT, gradient) if place is None else torch.bmm(x.mT, gradient, out=place.mT)).mT


def sum_rows(gradient: Tensor, parameter: Tensor) -> Tensor:
    """(M, R, H) to (M, H), in the memory that the parameter names for it where there is one."""
    place: Tensor | None = _place(parameter)
    if gradient.dtype == torch.bfloat16 and gradient.shape[2] > 1:
        # a sum in another precision writes all that it adds up in that precision first
        ones = gradient.new_ones(()).expand(len(gradient), 1, gradient.shape[1])
        total = torch.bmm(ones, gradient).squeeze(1)
        return total.to(parameter.dtype) if place is None else place.copy_(total)
    if place is None:
        return gradient.sum(1, dtype=parameter.dtype)
    return torch.sum(gradient, 1, dtype=parameter.dtype, out=place)


def _input_gradient(gradient: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """(M, R, D), laid out as the input x is."""
    if weight.shape[1] == 1 and gradient.dtype != torch.bfloat16:
        return gradient * weight
    if gradient.dtype == torch.float32 and onednn_multiplies() and not weight.mT.is_contiguous():
        # oneDNN would copy strided matrices entry by entry
        weight = weight.mT.contiguous().mT
    if x.mT.is_contiguous() and not x.is_contiguous():
        return torch.bmm(weight.mT, gradient.mT).mT
    return torch.bmm(gradient, weight)


def _place(parameter: Tensor) -> Tensor | None:
    """Memory for a parameter's gradient, once in every step: what is used twice has two gradients."""
    lend = getattr(parameter, "lend", None)
    return None if lend is None else lend()
