"""What an optimizer class does, found out by trying it: no list of names says it.

Every claim that lets members be run together is tested on two members with unequal gradients, some of them huge, zero
or not a number, against the class alone in a plain loop.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from autoreg.errors import ContractError, OptionError
from autoreg.gradients import Role, Tensors
from autoreg.stacking import drawing
from autoreg.torch_runner import Runner, options_of
from autoreg.torch_worker import Worker, averages

STEPS = 12
"""Of a trial; RAdam changes its ways after five."""

SHAPES = {"matrix": (4, 3), "vector": (5,)}


@dataclass(frozen=True)
class Findings:
    """How a class with some options can be run.

    Attributes
    ----------
    only_matrices : bool
        It refuses all but matrices.
    together : bool
        It treats every element alone, so that members can be one parameter.
    linear : bool
        Besides, its memory does not depend on the learning rate, and a change is the rate times what does not.
    fused : bool
        Besides, it has a fused kernel, the user has not spoken of it, and it gives the same numbers.
    """

    only_matrices: bool = False
    together: bool = False
    linear: bool = False
    fused: bool = False


def examine(cls: type[Optimizer], options: Mapping[str, Any]) -> Findings:
    """Try a class with options; a number among them may be an (M,) tensor.

    Raises
    ------
    OptionError
        When the class does not take the options.
    ContractError
        When it needs a closure, or sparse gradients.

    Examples
    --------
    >>> found = examine(torch.optim.Adagrad, {})
    >>> found.together, found.linear
    (True, True)
    >>> examine(torch.optim.Rprop, {}).linear
    False
    """
    with torch.no_grad(), drawing(0):
        return _examine(cls, options)


def _examine(cls: type[Optimizer], options: Mapping[str, Any]) -> Findings:
    lengths = {len(value) for value in _tensors(options)}
    sets = {repr(own): own for own in (options_of(options, m) for m in range(max(lengths, default=1)))}
    if any(_only_matrices(cls, own) for own in sets.values()):
        return Findings(only_matrices=True)
    if not all(_is_elementwise(cls, own) for own in sets.values()):
        return Findings()
    fused = "fused" in inspect.signature(cls).parameters and not options.keys() & {"fused", "foreach"}
    return Findings(
        together=True,
        linear=all(_is_linear(cls, own) for own in sets.values()),
        fused=fused and all(_is_elementwise(cls, own, {"fused": True}) for own in sets.values()),
    )


def _tensors(options: Mapping[str, Any]) -> list[Tensor]:
    parts = [part for value in options.values() for part in (value if isinstance(value, tuple) else (value,))]
    return [part for part in parts if isinstance(part, Tensor) and part.ndim == 1]


def _only_matrices(cls: type[Optimizer], options: Mapping[str, Any]) -> bool:
    """Whether the class refuses all but matrices."""
    step = inspect.signature(cls.step).parameters
    if "closure" in step and step["closure"].default is inspect.Parameter.empty:
        raise ContractError(f"optimizer {cls.__name__} needs a closure, which autoreg has not: choose another class")
    if _refusal(cls, options, 3) is None:
        return False
    error = _refusal(cls, options, 3, 3)
    if error is None:
        return True
    message = f"optimizer {cls.__name__}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if isinstance(error, (TypeError, ValueError)):
        raise OptionError(message) from error
    raise ContractError(f"{message}; it cannot be run by autoreg") from error


def _refusal(cls: type[Optimizer], options: Mapping[str, Any], *shape: int) -> Exception | None:
    try:
        worker = Worker(cls, options, {"w": torch.zeros(shape)}, {})
        worker.step({"w": torch.zeros(shape)}, {"w": torch.ones(shape)}, 1e-3)
    except Exception as error:  # a stranger's class says no in any way it likes
        return error
    return None


def _is_elementwise(
    cls: type[Optimizer], options: Mapping[str, Any], added: Mapping[str, Any] = MappingProxyType({})
) -> bool:
    """Whether two members as one parameter, without any shape of theirs, get what each gets alone."""
    rates = torch.tensor([0.01, 0.03, 0.02]).double().repeat(STEPS // 3).unsqueeze(1).expand(STEPS, 2)
    return _stand_together(Runner(cls, {**options, **added}, together=True), options, rates)


def _is_linear(cls: type[Optimizer], options: Mapping[str, Any]) -> bool:
    """Whether members with different learning rates get in one step what each gets alone.

    Three things: they do; no memory depends on the rate; with equal memory, changes go with the rate.
    """
    rates = torch.tensor([[1e-3, 0.3], [0.1, 1e-6], [1.0, 0.02], [1e-5, 3.0]]).double().repeat(STEPS // 4, 1)
    if not _stand_together(Runner(cls, options, together=True, linear=True), options, rates):
        return False
    values = _flat(_values(0))
    fixed, varied = (Worker(cls, options, {"flat": values}, {}) for _ in range(2))
    for step in range(STEPS):
        values, gradient, rate = values * 0.9, _flat(_gradients(0, step, spoiled=False)), rates[step, 0].item()
        for worker, own in ((fixed, 1.0), (varied, rate)):
            worker.step({"flat": values}, {"flat": gradient}, own)
        memories = [dict(worker.leaves()) for worker in (fixed, varied)]
        if memories[0].keys() != memories[1].keys():
            return False
        if not all(_equal(memories[0][path], memories[1][path]) for path in memories[0]):
            return False
        changes = [worker.params["flat"] - values for worker in (fixed, varied)]
        if not _equal(changes[0] * rate, changes[1]):
            return False
    return True


def _stand_together(runner: Runner, options: Mapping[str, Any], rates: Tensor) -> bool:
    """Whether a runner gives two members what they get alone, by rates of (STEPS, 2)."""
    for spoiled in (False, True):
        alone = [_alone(runner.cls, options, rates[:, m], m, spoiled) for m in range(2)]
        params = {"flat": torch.stack([_flat(_values(m)) for m in range(2)])}
        state = runner.init(params)
        try:
            for step in range(STEPS):
                gradients = torch.stack([_flat(_gradients(m, step, spoiled)) for m in range(2)])
                changes, state = runner.update({"flat": gradients}, state, params, rates[step], {"flat": Role()})
                params["flat"] = params["flat"] + changes["flat"]
                if not all(_equal(params["flat"][m], alone[m][step]) for m in range(2)):
                    return False
            if averages(runner.cls):
                scored = runner.averaged(params, state)["flat"]
                if not all(_equal(scored[m], alone[m][STEPS]) for m in range(2)):
                    return False
        except Exception:  # such as memory in a shape of its own
            return False
    return True


def _alone(cls: type[Optimizer], options: Mapping[str, Any], rates: Tensor, m: int, spoiled: bool) -> list[Tensor]:
    """A member's parameters after every step of a plain loop, and at last those to score."""
    values = _values(m)
    worker = Worker(cls, options, values, {})
    path = []
    for step, rate in enumerate(rates.tolist()):
        worker.step({name: param.detach() for name, param in worker.params.items()},
                    _gradients(m, step, spoiled), rate)  # fmt: skip
        path.append(_flat({name: param.detach().clone() for name, param in worker.params.items()}))
    if averages(cls):
        path.append(_flat(worker.averaged({name: param.detach() for name, param in worker.params.items()})))
    return path


def _values(m: int) -> Tensors:
    generator = torch.Generator().manual_seed(m)
    return {name: torch.randn(shape, generator=generator).double() * 10**m for name, shape in SHAPES.items()}


def _gradients(m: int, step: int, spoiled: bool) -> Tensors:
    """Of member m at a step: the second's are huge, and not a number at last if `spoiled`; some are zero."""
    generator = torch.Generator().manual_seed(1000 * m + step)
    size = (1e-3, 1e6)[m] * 10 ** (step % 4)
    gradients = {name: torch.randn(shape, generator=generator).double() * size for name, shape in SHAPES.items()}
    if step % 3 == 2:
        gradients["vector"] = gradients["vector"] * (torch.arange(5) % 2)
    if spoiled and m == 1 and step >= 4:
        gradients["matrix"] = gradients["matrix"] * torch.nan
    return gradients


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def _equal(one: Any, other: Any) -> bool:
    """Up to rounding, which grows with the largest number at hand."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        largest = one.nan_to_num().abs().max().item() if one.numel() else 0.0
        return torch.allclose(one, other, rtol=1e-9, atol=1e-12 * max(1.0, largest), equal_nan=True)
    return bool(one == other) or repr(one) == repr(other)
