"""Checks of activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import autoreg.testing.engine as engine
import autoreg.testing.tensors as tensors
from autoreg.parts import activation_factory
from autoreg.stacking import stack_modules
from autoreg.testing.onnx import exportable
from autoreg.testing.options import check_facts, check_options
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look
from autoreg.testing.speed import beside

SHAPES = ((4, 3), (1, 1), (2, 5, 3), (2, 4, 2, 3))


def check_activation(
    activation: Any, *, name: str | None = None, space: Mapping[str, Any] | None = None, raises: bool = True,
    **facts: Any,
) -> list[Check]:  # fmt: skip
    """Check an activation against what `register_activations` asks for.

    Parameters
    ----------
    activation : function or nn.Module class
        As it is registered.
    name : str, optional
        For the messages.
    space, **facts
        As they are registered.
    raises : bool
        Raise when a check fails; otherwise the list says it.

    Returns
    -------
    list of Check

    Raises
    ------
    ConformanceError
        An `AssertionError` that lists every failure.

    Examples
    --------
    >>> from autoreg.testing import check_activation
    >>> def centred(x):
    ...     return x - x.mean(0)
    >>> for check in check_activation(centred, raises=False)[4:6]:
    ...     print(check)
    failed    members: expected each member's values to decide about its own output only; came an output that depends
    on another member; see reference/testing.md#activations
    failed    rows: expected each row's values to decide about its own output only; came an output that depends on
    another row; see reference/testing.md#activations
    """
    name = name or getattr(activation, "__name__", "own").strip("<>").lower()
    subject = _Subject(activation, name, {**({"space": space} if space else {}), **facts})
    looks: list[tuple[str, Look]] = [
        ("shape", subject.shape),
        ("dtype", subject.dtype),
        ("unchanged", subject.unchanged),
        ("repeatable", subject.repeatable),
        ("members", subject.members),
        ("rows", subject.rows),
        ("elements", subject.elements),
        ("finite", subject.finite),
        ("gradient", subject.gradient),
        ("facts", partial(check_facts, facts, {})),
        ("options", subject.options),
        ("stack", subject.stack),
        ("bfloat16", subject.bfloat16),
        ("saved", subject.saved),
        ("pickled", subject.pickled),
        ("onnx", subject.onnx),
        ("speed", subject.speed),
    ]
    return concluded(look(f"activation {name}", "activations", looks), raises)


class _Subject:
    def __init__(self, activation: Any, name: str, facts: Mapping[str, Any]) -> None:
        self.activation, self.name, self.facts = activation, name, facts
        made = activation.func if isinstance(activation, partial) else activation
        self.is_module = isinstance(made, type) and issubclass(made, nn.Module)

    def make(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A fresh module, as the engine makes it."""
        if isinstance(self.activation, nn.Module):
            raise Fault("a function or a class", "an nn.Module instance: register its class")
        module = activation_factory(self.activation)()
        return module.to(dtype).eval()

    def call(self, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
        module = self.make(dtype)
        return lambda x: module(x)

    def shape(self) -> None:
        for shape in SHAPES:
            x = tensors.normal(*shape)
            tensors.check_tensor(self.call()(x), shape, torch.float32, f"an input of shape {shape} and torch.float32")

    def dtype(self) -> None:
        x = tensors.normal(4, 3, dtype=torch.float64)
        tensors.check_tensor(self.call(torch.float64)(x), (4, 3), torch.float64, "an input of torch.float64")

    def unchanged(self) -> None:
        tensors.check_unchanged(self.call(), [tensors.normal(4, 3)])

    def members(self) -> None:
        x, function = tensors.normal(3, 4, 5, dtype=torch.float64), self._stacked(3)
        if tensors.mixes(function, [x], 0):
            raise Fault(_own("member"), "an output that depends on another member")

    def rows(self) -> None:
        x = tensors.normal(3, 4, 5, dtype=torch.float64)
        if tensors.mixes(self._stacked(3), [x], 1) or tensors.mixes(self.call(torch.float64), [x[0]], 0):
            raise Fault(_own("row"), "an output that depends on another row")

    def elements(self) -> Report | None:
        x, function = tensors.normal(3, 4, 5, dtype=torch.float64), self._stacked(3)
        if not tensors.mixes(function, [x], 2):
            return None
        if self.is_module:
            return Report("an output depends on other features of its row")
        raise Fault(_own("element"), "an output that depends on another feature: make it an nn.Module if it is meant")

    def _stacked(self, n: int) -> Callable[[Tensor], Tensor]:
        stack = stack_modules([self.make(torch.float64) for _ in range(n)])
        return lambda x: stack(x)

    def repeatable(self) -> None:
        tensors.check_repeats(self.call(), [tensors.normal(4, 3)])

    def finite(self) -> None:
        x = torch.cat([torch.linspace(-20, 20, 81), torch.tensor([0.0, -0.0, 1e-30, -1e-30])]).requires_grad_()
        out = self.call()(x)
        tensors.check_finite(out, "inputs from -20 to 20, 0 among them")
        if out.requires_grad:
            (gradient,) = torch.autograd.grad(out.sum(), x)
            if not torch.isfinite(gradient).all():
                at = x[~torch.isfinite(gradient)][0].item()
                bad = gradient[~torch.isfinite(gradient)][0].item()
                raise Fault("finite gradients for inputs from -20 to 20, 0 among them", f"{bad} at {at:g}")

    def gradient(self) -> None:
        module = self.make(torch.float64)
        parameters = dict(module.named_parameters())

        def function(x: Tensor, *values: Tensor) -> Tensor:
            return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (x,))

        inputs = [tensors.normal(6, 3, dtype=torch.float64), *parameters.values()]
        tensors.check_gradient(function, inputs, ["the input", *(f"parameter '{name}'" for name in parameters)])

    def options(self) -> Report | str:
        def check(options: dict[str, Any]) -> None:
            other = _Subject(partial(self.activation, **options), self.name, {})
            for function in (other.shape, other.members, other.rows, other.finite, other.gradient):
                function()

        return check_options("activation", self.facts.get("space"), check)

    def stack(self) -> None:
        with self._offered() as name:
            engine.check_stack([{"activation": name}])

    def bfloat16(self) -> Report | None:
        x = tensors.normal(64, 3)
        out = self.call()(x.bfloat16())
        if not isinstance(out, Tensor) or not out.dtype.is_floating_point:
            raise Fault("numbers for an input of torch.bfloat16", f"{getattr(out, 'dtype', type(out).__name__)}")
        # rounding the input is not the activation's fault
        expected = self.call()(x.bfloat16().float())
        tensors.check_same(
            out.float(), expected, "about the same numbers in torch.bfloat16 as in torch.float32",
            "others", tensors.TOLERANCE[torch.bfloat16],
        )  # fmt: skip
        with self._offered() as name:
            engine.check_half({"activation": name})
        if out.dtype != torch.bfloat16:
            return Report(
                f"gives {out.dtype} for torch.bfloat16, which costs time: use parameters in the input's dtype"
            )
        return None

    def saved(self) -> None:
        with self._offered() as name:
            engine.check_saved({"activation": name})

    def pickled(self) -> None:
        with self._offered() as name:
            engine.check_pickled({"activation": name})

    def onnx(self) -> Report:
        return exportable(nn.Sequential(nn.Linear(3, 4), self.make()), tensors.normal(5, 3))

    def speed(self) -> Report:
        x = tensors.normal(8, 256, 64).requires_grad_()
        stack, relu = stack_modules([self.make() for _ in range(8)]), nn.ReLU()
        return beside(lambda: stack(x).sum().backward(), lambda: relu(x).sum().backward(), "relu")

    def _offered(self) -> Any:
        return engine.offered("activation", self.name, self.activation, self.facts)


def _own(what: str) -> str:
    return f"each {what}'s values to decide about its own output only"
