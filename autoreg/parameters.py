"""The numbers of a stack: all trained parameters in one tensor, and copies of some members' as they are at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autoreg.stacking import LinearForward


class FlatParameters:
    """All trained parameters of a stack in one (M, P) tensor, of which the parameters are views.

    An elementwise optimizer then needs a handful of large operations. A matrix of `nn.Linear` lies transposed,
    (M, in, out) in memory, which is what the matrix product of a step reads.

    Parameters
    ----------
    stack : nn.Module
    half : bool
        Give the matrices of `nn.Linear` to the stack in bfloat16, and those that a module names in an attribute
        ``half_weights``; the numbers that the optimizer changes stay as they are.

    Attributes
    ----------
    flat : Tensor, (M, P)
    names : list of str
        Those that may be in bfloat16 first.
    """

    def __init__(self, stack: nn.Module, half: bool = False) -> None:
        linear = {
            f"{prefix}.weight" if prefix else "weight"
            for prefix, module in stack.named_modules()
            if isinstance(module.forward, LinearForward)
        }
        declared = {
            f"{prefix}.{name}" if prefix else name
            for prefix, module in stack.named_modules()
            for name in getattr(module, "half_weights", ())
        }
        trained = {name: p for name, p in stack.named_parameters() if p.requires_grad}
        self._halved = (linear | declared) & trained.keys()
        self.names = sorted(trained, key=lambda name: name not in self._halved)
        self.parameters: dict[str, nn.Parameter] = {name: trained[name] for name in self.names}
        self._linear = {name: name in linear for name in self.names}
        self._sizes = {name: parameter[0].numel() for name, parameter in self.parameters.items()}
        self._shapes = {name: parameter.shape[1:] for name, parameter in self.parameters.items()}
        state = state_tensors(stack)
        some = next(iter(state.values()), torch.zeros(0))
        self.flat = torch.zeros(len(some), 0, device=some.device)
        if self.names:
            self.flat = torch.cat([self._block(name, p.data) for name, p in self.parameters.items()], dim=1)
        self._half = half
        self._bind()
        self._make_places()

    def _block(self, name: str, tensor: Tensor) -> Tensor:
        tensor = tensor.mT if self._linear[name] else tensor
        return tensor.reshape(tensor.shape[0], -1)

    def views(self, flat: Tensor, halved_only: bool = False) -> dict[str, Tensor]:
        """An (M', P) tensor as named tensors of the parameters' shapes."""
        out, start = {}, 0
        for name in self.names:
            if halved_only and name not in self._halved:
                break
            block = flat[:, start : start + self._sizes[name]]
            shape = self._shapes[name]
            if self._linear[name]:
                out[name] = block.view(-1, shape[1], shape[0]).mT
            else:
                out[name] = block.view(-1, *shape)
            start += self._sizes[name]
        return out

    def _bind(self) -> None:
        views = self.views(self.flat)
        if self._half:
            self._shadow = {name: self._half_copy(name, views[name]) for name in views if name in self._halved}
            views.update(self._shadow)
        for name, view in views.items():
            self.parameters[name].data = view

    def _half_copy(self, name: str, matrix: Tensor) -> Tensor:
        """Weights in memory of their own: products of strided bfloat16 matrices copy them first."""
        matrix = matrix.mT if self._linear[name] else matrix
        copied = matrix.to(torch.bfloat16, memory_format=torch.contiguous_format, copy=True)
        return copied.mT if self._linear[name] else copied

    def _make_places(self) -> None:
        """Memory for the gradients, laid out as the parameters are; whoever computes a gradient may write there."""
        self._gradient = torch.zeros_like(self.flat)
        places = self.views(self._gradient)
        self._full_places = {name: places[name] for name in self._shadow} if self._half else {}
        places.update({name: self._half_copy(name, place) for name, place in self._full_places.items()})
        self._places, self._lent = places, set[str]()
        for name, parameter in self.parameters.items():
            parameter.lend = partial(self._lend, name)  # type: ignore[attr-defined]

    def _lend(self, name: str) -> Tensor | None:
        if name in self._lent:
            return None
        self._lent.add(name)
        return self._places[name]

    def gather(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """The gradients of a step, in the parameters' order, as one (M, P) tensor; None counts as zeros.

        The next step overwrites it, unless `release` is called.
        """
        for (name, place), gradient in zip(self._places.items(), gradients, strict=True):
            if gradient is None:
                place.zero_()
            elif name not in self._lent or gradient.data_ptr() != place.data_ptr():
                place.copy_(gradient)
        self._lent.clear()
        for name, place in self._full_places.items():
            place.copy_(self._places[name])
        return self._gradient

    def release(self) -> None:
        """Let somebody keep what `gather` returned."""
        self._make_places()

    def changed(self) -> None:
        """Called after `flat` was changed in place: brings the bfloat16 matrices up to date."""
        if self._half:
            views = self.views(self.flat, halved_only=True)
            for name, shadow in self._shadow.items():
                shadow.copy_(views[name])

    def flatten(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors in the parameters' order as one (M, P) tensor."""
        blocks = [self._block(name, tensor) for name, tensor in zip(self.names, tensors, strict=True)]
        return torch.cat(blocks, dim=1).to(self.flat.dtype)

    def repeat(self, values: dict[str, Any]) -> Tensor:
        """One number per parameter spread over its elements, (P,)."""
        return torch.cat([self.flat.new_full((self._sizes[name],), float(values[name])) for name in self.names])

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members only."""
        self.load(self.flat[torch.as_tensor(members)].contiguous())
        self._make_places()

    def load(self, flat: Tensor) -> Tensor:
        """Use other values, (M, P); returns those used before."""
        before, self.flat = self.flat, flat
        self._bind()
        return before


class Snapshot:
    """Members' parameters and buffers as they are now; taken in a few large copies, named only when asked for."""

    def __init__(self, stack: nn.Module, members: Sequence[int], store: FlatParameters) -> None:
        index = torch.as_tensor(members)
        self.flat = store.flat[index]
        state, trained = state_tensors(stack), {id(tensor): name for name, tensor in store.parameters.items()}
        self.trained = {name: trained[id(tensor)] for name, tensor in state.items() if id(tensor) in trained}
        self.others = {name: t.detach()[index] for name, t in state.items() if id(t) not in trained}

    def states(self, store: FlatParameters) -> list[dict[str, Tensor]]:
        """Each member's tensors on the CPU, under a single module's names."""
        views = store.views(self.flat)
        tensors = {**self.others, **{name: views[first] for name, first in self.trained.items()}}
        members = range(len(self.flat))
        return [{name: tensor[m].clone().cpu() for name, tensor in tensors.items()} for m in members]


def state_tensors(stack: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, by all its names; non-persistent buffers too."""
    parameters, buffers = stack.named_parameters(remove_duplicate=False), stack.named_buffers(remove_duplicate=False)
    return {**dict(parameters), **dict(buffers)}
