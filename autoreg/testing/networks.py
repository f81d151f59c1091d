"""Checks of networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import autoreg.testing.engine as engine
import autoreg.testing.tensors as tensors
from autoreg.parts import activation_factory
from autoreg.registry import Entry
from autoreg.stacking import drawing, mapped_forwards, stack_modules
from autoreg.testing.onnx import exportable
from autoreg.testing.options import check_facts, check_options, takes
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look
from autoreg.testing.speed import beside

SMALL = {"width": 4, "depth": 1}
"""Sizes that keep the checks short, where the network has options of these names."""


def check_network(
    make: Callable[..., nn.Module], *, name: str | None = None, space: Mapping[str, Any] | None = None,
    raises: bool = True, **facts: Any,
) -> list[Check]:  # fmt: skip
    """Check a network against what `register_networks` asks for.

    Parameters
    ----------
    make : function
        As it is registered: ``make(n_features, n_outputs, activation, **sizes) -> nn.Module``.
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
    >>> from torch import nn
    >>> from autoreg.testing import check_network
    >>> def one_layer(n_features, n_outputs, activation):
    ...     return nn.Sequential(nn.Linear(n_features, 1), nn.Flatten(0))
    >>> print(*check_network(one_layer, raises=False))
    failed    shape: expected shape (7, 1) or (7, k, 1) for 7 rows of 3 features; came shape (7,); see
    reference/testing.md#networks
    """
    name = name or getattr(make, "__name__", "own").strip("<>").lower()
    subject = _Subject(make, name, {**({"space": space} if space else {}), **facts})
    looks: list[tuple[str, Look]] = [
        ("shape", subject.shape),
        ("dtype", subject.dtype),
        ("unchanged", subject.unchanged),
        ("rows", subject.rows),
        ("repeatable", subject.repeatable),
        ("first_weights", subject.first_weights),
        ("state", subject.state),
        ("gradient", subject.gradient),
        ("activation", subject.activation),
        ("facts", partial(check_facts, facts, {})),
        ("options", subject.options),
        ("stack", subject.stack),
        ("stacking", subject.stacking),
        ("bfloat16", subject.bfloat16),
        ("saved", subject.saved),
        ("pickled", subject.pickled),
        ("onnx", subject.onnx),
        ("speed", subject.speed),
    ]
    return concluded(look(f"network {name}", "networks", looks), raises)


class _Subject:
    def __init__(self, make: Callable[..., nn.Module], name: str, facts: Mapping[str, Any]) -> None:
        self.make, self.name, self.registered = make, name, facts
        self.sizes = {size: value for size, value in SMALL.items() if size in takes(make, 3)}

    def build(self, n_features: int = 3, n_outputs: int = 1, activation: str = "silu", seed: int = 0) -> nn.Module:
        """As the engine makes it, in evaluation mode."""
        with drawing(seed):
            module = self.make(n_features, n_outputs, activation_factory(activation), **self.sizes)
        if not isinstance(module, nn.Module):
            raise Fault("make(n_features, n_outputs, activation) to return an nn.Module", f"a {type(module).__name__}")
        return module.eval()

    def shape(self) -> None:
        for n_rows, n_features, n_outputs in ((7, 3, 1), (1, 3, 1), (7, 1, 1), (7, 3, 2), (5, 20, 3)):
            out = self.build(n_features, n_outputs)(tensors.normal(n_rows, n_features))
            given = f"{n_rows} rows of {n_features} features"
            if not isinstance(out, Tensor):
                raise Fault(f"a tensor for {given}", f"a {type(out).__name__}")
            if out.ndim not in (2, 3) or (out.shape[0], out.shape[-1]) != (n_rows, n_outputs):
                raise Fault(
                    f"shape {(n_rows, n_outputs)} or ({n_rows}, k, {n_outputs}) for {given}",
                    f"shape {tuple(out.shape)}",
                )
            tensors.check_finite(out, given)

    def dtype(self) -> None:
        for dtype in (torch.float32, torch.float64):
            out = self.build().to(dtype)(tensors.normal(7, 3, dtype=dtype))
            tensors.check_tensor(out, out.shape, dtype, f"a network and rows of {dtype}")

    def unchanged(self) -> None:
        tensors.check_unchanged(self.build(), [tensors.normal(7, 3)])

    def rows(self) -> Report | None:
        module, x = self.build().double(), tensors.normal(7, 3, dtype=torch.float64)
        if tensors.mixes(module, [x], 0):
            raise Fault(
                "each row's features to decide about its own output only, after module.eval()",
                "an output that depends on another row",
            )
        with drawing(0), torch.no_grad():
            state = torch.get_rng_state()
            module.train()(x)
            draws = not torch.equal(torch.get_rng_state(), state)
        if not draws and tensors.mixes(module, [x], 0):
            return Report("in training an output depends on other rows of the batch; members run one at a time, slower")
        return None

    def repeatable(self) -> None:
        tensors.check_repeats(self.build(), [tensors.normal(7, 3)])

    def first_weights(self) -> str | None:
        one, same, other = self.build(), self.build(), self.build(seed=1)
        shapes = [{key: tuple(t.shape) for key, t in module.state_dict().items()} for module in (one, same)]
        if shapes[0] != shapes[1]:
            raise Fault("the same parameters and shapes for the same arguments", "others the second time")
        for key, tensor in one.state_dict().items():
            if not torch.equal(tensor, same.state_dict()[key]):
                raise Fault(
                    f"first weights that follow from torch's random generator alone, in '{key}'",
                    "others with the same seed",
                )
        equal = all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
        return Report("the first weights are the same with every seed") if equal else None

    def state(self) -> None:
        one, other = self.build(), self.build(seed=1)
        x = tensors.normal(7, 3)
        other.load_state_dict(one.state_dict())
        tensors.check_same(
            other(x), one(x), "equal outputs from equal parameters and buffers",
            "others: what is drawn or computed belongs in a parameter, or in a buffer by register_buffer", 1e-6,
        )  # fmt: skip

    def gradient(self) -> Report | None:
        module, x = self.build(activation="tanh").double(), tensors.normal(6, 3, dtype=torch.float64)
        parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not parameters:
            return Report("it has no parameters to train")

        def function(*values: Tensor) -> Tensor:
            return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (x,))

        names = [f"parameter '{name}'" for name in parameters]
        tensors.check_gradient(function, list(parameters.values()), names, n=4)
        found = torch.autograd.grad(function(*parameters.values()).sum(), list(parameters.values()), allow_unused=True)
        unused = [name for name, gradient in zip(parameters, found, strict=True) if gradient is None]
        return Report(f"parameter '{unused[0]}' is never used") if unused else None

    def activation(self) -> Report | None:
        x = tensors.normal(7, 3)
        same = tensors.difference(self.build(activation="silu")(x), self.build(activation="sigmoid")(x)) == 0
        return Report("the activation makes no difference") if same else None

    def options(self) -> Report | str:
        def check(options: dict[str, Any]) -> None:
            other = _Subject(self.make, self.name, {})
            other.sizes = {**other.sizes, **options}
            for function in (other.shape, other.rows, other.first_weights, other.gradient):
                function()

        return check_options("network", self.registered.get("space"), check)

    def _given(self, name: str) -> dict[str, Any]:
        """The small sizes that the network knows, in place of those of the built-in one."""
        return {"network": name, **{f"network__{size}": value for size, value in self.sizes.items()}}

    def stack(self) -> None:
        with self._offered() as name:
            engine.check_stack([self._given(name), {**self._given(name), "learning_rate": 0.01}])
            engine.check_stack([self._given(name)], n_targets=2)

    def stacking(self) -> Report:
        stack = stack_modules([self.build(seed=seed) for seed in range(3)]).train()
        with torch.no_grad():
            stack(tensors.normal(3, 8, 3))
        mapped = mapped_forwards(stack)
        slow = [forward for forward in mapped if forward.one_at_a_time]
        if slow:
            kinds = ", ".join(sorted({type(forward.template).__name__ for forward in slow}))
            return Report(f"members run one at a time in {kinds}, slower ({slow[0].reason[:80]})")
        if mapped:
            kinds = ", ".join(sorted({type(forward.template).__name__ for forward in mapped}))
            return Report(f"{kinds} under torch.func.vmap; leading_axes = True would be faster")
        return Report("members run as one, which is fastest")

    def bfloat16(self) -> None:
        with self._offered() as name:
            engine.check_half(self._given(name))

    def saved(self) -> None:
        with self._offered() as name:
            engine.check_saved(self._given(name))

    def pickled(self) -> None:
        with self._offered() as name:
            engine.check_pickled(self._given(name))

    def onnx(self) -> Report:
        return exportable(self.build(), tensors.normal(5, 3))

    def speed(self) -> Report:
        mlp: Entry = engine.registry().get("network", "mlp")
        x, looks = tensors.normal(4, 128, 20), list[Callable[[], object]]()
        for make in (self.make, mlp.thing):
            members = [make(20, 1, activation_factory("silu")) for _ in range(4)]
            looks.append(partial(_step, stack_modules(members).train(), x))
        return beside(looks[0], looks[1], "mlp, both as they are without options")

    def _offered(self) -> Any:
        return engine.offered("network", self.name, self.make, self.registered)


def _step(stack: nn.Module, x: Tensor) -> None:
    stack(x).square().sum().backward()
