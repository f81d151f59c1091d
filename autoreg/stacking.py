"""Turning M networks of one kind into one module over ``(M, B, ...)`` tensors.

Three ways, tried in this order for every module of the tree:

* *by rule*: `nn.Linear`, containers, elementwise torch modules, and classes that declare ``leading_axes = True``
  run their layers once over the leading axis;
* *vmap*: any other module runs under ``torch.func.vmap``;
* *one at a time*: a module that vmap refuses, whose rows depend on each other or that draws random numbers.

The names of parameters and buffers stay those of a single module, so a member's state is a slice.
"""

from __future__ import annotations

import copy
import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from autoreg.chains import ChainForward, Linear, has_hooks, run_layers

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity)

ELEMENTWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU,
    nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink,
    nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip


_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"_forward_hooks", "_forward_pre_hooks"}
"""Attributes that say nothing about what a module computes, or are compared as tensors and children."""


def signature(module: nn.Module) -> Hashable:
    """What modules must share to stand in one stack: types, attributes, and shapes of tensors, names included.

    >>> signature(nn.LeakyReLU(0.1)) == signature(nn.LeakyReLU(0.1)), signature(nn.ELU(1.0)) == signature(nn.ELU(2.0))
    (True, False)
    """
    rows: list[Hashable] = []
    seen: dict[int, int] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        own = tuple((key, _comparable(v)) for key, v in sorted(vars(part).items()) if key not in _OF_EVERY_MODULE)
        tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        # what stands at two places is one thing there
        shapes = tuple(
            (key, tuple(tensor.shape), tensor.requires_grad, seen.setdefault(id(tensor), len(seen)))
            for key, tensor in tensors
        )
        rows.append((name, type(part), own, shapes, seen.setdefault(id(part), len(seen))))
    return tuple(rows)


def _comparable(value: Any) -> Hashable:
    """Equal for attributes by which two modules compute the same; other things are only equal to themselves."""
    if isinstance(value, Tensor):
        return tuple(value.shape), str(value.dtype), tuple(value.flatten().tolist())
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes() if value.dtype != object else id(value)
    if isinstance(value, (list, tuple)):
        return type(value), tuple(_comparable(item) for item in value)
    if isinstance(value, dict):
        return type(value), tuple((key, _comparable(item)) for key, item in value.items())
    try:
        hash(value)
    except TypeError:
        return id(value)
    return type(value), value


_GENERATOR = threading.RLock()


def _renew() -> None:
    # who held it while a process was forked is not in the fork
    global _GENERATOR
    _GENERATOR = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draws from torch's generators come from `seed`, one thread at a time; their state before comes back.

    Parameters
    ----------
    seed : int
    device : torch.device, optional
        A GPU that has a generator of its own.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with drawing(0):
    ...     _ = torch.rand(1)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with _GENERATOR, torch.random.fork_rng(devices=cuda):
        # torch.manual_seed takes a hundred times as long, and seeds other devices for good
        torch.default_generator.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
        for own in cuda:
            with torch.cuda.device(own):
                torch.cuda.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
        yield


def stack_modules(modules: Sequence[nn.Module], seeds: Sequence[int] | None = None) -> nn.Module:
    """Stack modules of one program into one module.

    Parameters
    ----------
    modules : sequence of nn.Module
        M modules with equal types and shapes; their numbers may differ. They are not changed.
    seeds : sequence of int, optional
        Each member's seed, for modules that draw random numbers of their own.

    Returns
    -------
    nn.Module
        Takes (M, B, ...) where a single one takes (B, ...).

    Examples
    --------
    >>> stack = stack_modules([nn.Linear(3, 2), nn.Linear(3, 2)])
    >>> stack(torch.zeros(2, 5, 3)).shape, stack.weight.shape
    (torch.Size([2, 5, 2]), torch.Size([2, 2, 3]))
    """
    return _stack(modules, seeds or range(len(modules)), {})


def _stack(modules: Sequence[nn.Module], seeds: Iterable[int], made: dict[Any, Any]) -> nn.Module:
    """The stack of modules; `made` holds that of every part so far, so that what members use twice stays one."""
    first = modules[0]
    if id(first) in made:
        return made[id(first)]
    known = type(first) is nn.Linear or type(first) in ELEMENTWISE or type(first) in CONTAINERS or _leads(first)
    # hooks expect what a single module sees
    if known and not any(map(has_hooks, modules)):
        stacked = _shell(modules, made)
        for name in first._modules:
            children = [module._modules[name] for module in modules]
            stacked._modules[name] = None if children[0] is None else _stack(children, seeds, made)  # type: ignore[arg-type]
        if type(first) is nn.Linear:
            stacked.forward = LinearForward(stacked)
        elif type(first) is nn.Sequential:
            stacked.forward = ChainForward(stacked)
    else:
        stacked = _deep_shell(modules, made)
        # what draws random numbers in one layer is not what draws them in another
        place = made["mapped"] = made.get("mapped", 0) + 1
        for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
            setattr(stacked, hooks, OrderedDict())  # the single module calls them
        stacked.forward = Mapped(stacked, copy.deepcopy(first), [mix(seed, place) for seed in seeds])
    made[id(first)] = stacked
    return stacked


def _leads(module: nn.Module) -> bool:
    # asked of the class itself: a subclass may have another forward
    return bool(vars(type(module)).get("leading_axes", False))


def _shell(modules: Sequence[nn.Module], made: dict[Any, Any]) -> nn.Module:
    """A copy of the first module with its own tensors stacked and its children left out."""
    first = modules[0]
    stacked = copy.copy(first)
    stacked._parameters, stacked._buffers, stacked._modules = {}, {}, {}
    for name, parameter in first._parameters.items():
        if parameter is not None and id(parameter) not in made:
            made[id(parameter)] = nn.Parameter(
                torch.stack([module._parameters[name].detach() for module in modules]),  # type: ignore[union-attr]
                requires_grad=parameter.requires_grad,
            )
        stacked._parameters[name] = None if parameter is None else made[id(parameter)]
    for name, buffer in first._buffers.items():
        stacked._buffers[name] = (
            None if buffer is None else torch.stack([module._buffers[name] for module in modules])  # type: ignore[misc]
        )
    return stacked


def _deep_shell(modules: Sequence[nn.Module], made: dict[Any, Any]) -> nn.Module:
    key = "shell", id(modules[0])
    if key not in made:
        made[key] = stacked = _shell(modules, made)
        for name, child in modules[0]._modules.items():
            children = [module._modules[name] for module in modules]
            stacked._modules[name] = None if child is None else _deep_shell(children, made)  # type: ignore[arg-type]
    return made[key]


class LinearForward:
    """`nn.Linear` over a leading axis."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        return run_layers([Linear(self.module)], x)


class Mapped:
    """The forward of a stacked module that knows nothing of stacks.

    Attributes
    ----------
    one_at_a_time : bool or None
        Decided at the first call, by comparing both ways on a few rows.
    reason : str
        Why the members run one at a time.
    counts : list of int or None
        How many of the B rows are real for each member; the others are padding. A member without any is not run, and
        its buffers stay as they are.
    """

    alone = True  # never part of a run, whatever its type

    def __init__(self, stacked: nn.Module, template: nn.Module, seeds: Iterable[int]) -> None:
        self.stacked, self.template, self.seeds = stacked, template, [int(seed) for seed in seeds]
        self.one_at_a_time: bool | None = None
        self.reason = ""
        self.counts: list[int] | None = None
        self.steps = np.zeros(len(self.seeds), dtype=np.int64)
        # a call lends the template the members' tensors, and a fitted model may be asked from several threads
        self.lock = threading.Lock()

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members only."""
        self.seeds = [self.seeds[m] for m in members]
        self.steps = self.steps[list(members)]
        self.counts = None

    def begin_step(self, counts: NDArray[np.int64], rows: int) -> None:
        """Say how many of the step's rows are real for each member."""
        self.counts = counts.tolist() if counts.min() < rows else None
        self.steps += counts > 0

    def __call__(self, *inputs: Tensor) -> Tensor:
        with self.lock:
            self.template.train(self.stacked.training)
            inputs = self._fitting(inputs)
            if self.one_at_a_time is None:
                self.one_at_a_time = self._must_separate(*inputs)
            parameters, buffers = self._tensors()
            if self.one_at_a_time:
                return self._loop(parameters, buffers, self.counts, *inputs)
            return self._vmap(parameters, buffers, *inputs)

    def _fitting(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Inputs in the precision of the module's own numbers: layers before it may give bfloat16."""
        own = next((p.dtype for p in self.stacked.parameters() if p.is_floating_point()), None)
        return tuple(x.to(own) if own is not None and x.is_floating_point() else x for x in inputs)

    def _tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return dict(self.stacked.named_parameters()), dict(self.stacked.named_buffers())

    def _vmap(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        def call(p: dict[str, Tensor], b: dict[str, Tensor], *x: Tensor) -> Tensor:
            return functional_call(self.template, (p, b), x)

        return vmap(call)(parameters, buffers, *inputs)

    def _loop(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        counts: list[int] | None,
        *inputs: Tensor,
    ) -> Tensor:
        # unbind once: selecting member by member would add M full-size gradients
        split = {name: tensor.unbind() for name, tensor in parameters.items()}
        outputs: list[Tensor | None] = []
        rows = inputs[0].shape[1]
        for m, seed in enumerate(self.seeds):
            count = rows if counts is None else counts[m]
            if not count:
                outputs.append(None)
                continue
            own = {name: tensors[m] for name, tensors in split.items()}
            views = {name: tensor[m] for name, tensor in buffers.items()}
            with drawing(mix(seed, int(self.steps[m])), inputs[0].device):
                outputs.append(functional_call(self.template, (own, views), tuple(x[m, :count] for x in inputs)))
        # padding repeats a row: what stands behind may have no finite value at zero
        filler = next(output[:1].detach() for output in outputs if output is not None)
        return torch.stack([_padded(output, filler, rows) for output in outputs])

    @torch.no_grad()
    def _must_separate(self, *inputs: Tensor) -> bool:
        """Whether vmap refuses the module, or gives other numbers than one member at a time on few rows."""
        few = [x[:, :8].detach() for x in inputs]
        n_fewer = max(2, few[0].shape[1] * 5 // 8)
        fewer = [x[:, :n_fewer] for x in few]
        parameters, buffers = self._tensors()

        def fresh() -> dict[str, Tensor]:
            return {name: buffer.clone() for name, buffer in buffers.items()}

        alone = self._loop(parameters, fresh(), None, *few)
        try:
            together = self._vmap(parameters, fresh(), *few)
        except Exception as error:  # vmap has no error class of its own for what it refuses
            self.reason = str(error).splitlines()[0]
            return True
        if not torch.allclose(alone, together, rtol=1e-3, atol=1e-5, equal_nan=True):
            self.reason = "vmap gives other numbers"
        elif not torch.allclose(
            alone[:, :n_fewer], self._loop(parameters, fresh(), None, *fewer), rtol=1e-3, atol=1e-5, equal_nan=True
        ):
            self.reason = "rows depend on each other"
        return bool(self.reason)


def _padded(output: Tensor | None, filler: Tensor, rows: int) -> Tensor:
    if output is None:
        return filler.expand(rows, *filler.shape[1:])
    missing = rows - len(output)
    return torch.cat([output, output[:1].detach().expand(missing, *output.shape[1:])]) if missing else output


def takes_any_layout(module: nn.Module) -> bool:
    """Whether a stacked module begins with an `nn.Linear`, which reads rows as quickly when they lie as columns."""
    if isinstance(module.forward, ChainForward):
        return bool(module._modules) and takes_any_layout(next(iter(module.children())))
    return isinstance(module.forward, LinearForward)


def mapped_forwards(stack: nn.Module) -> list[Mapped]:
    """All vmapped or looped parts of a stack."""
    return [module.forward for module in stack.modules() if isinstance(module.forward, Mapped)]


def keep_members(stack: nn.Module, members: Sequence[int]) -> None:
    """Shrink a stack to the given members, in that order; parameters are left to `FlatParameters.keep`."""
    index = torch.as_tensor(members)
    for module in stack.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer[index.to(buffer.device)]
        if isinstance(module.forward, Mapped):
            module.forward.keep(members)


def mix(*numbers: int) -> int:
    """A 63-bit seed from several integers, by splitmix64 steps; equal on every machine.

    >>> mix(1, 2) == mix(1, 2), mix(1, 2) == mix(2, 1)
    (True, False)
    """
    state = 0
    for number in numbers:
        state = (state ^ (number & 0xFFFFFFFFFFFFFFFF)) + 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF
