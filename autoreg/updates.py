"""Applying optimizers to a stack: members with one optimizer form a group, a slice of the flat parameters."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autoreg.gradients import GradientTransform, Role, Tensors, map_state
from autoreg.parameters import FlatParameters


@dataclass(frozen=True)
class OptimizerPart:
    """An optimizer as the engine takes it.

    Attributes
    ----------
    make : function
        ``make(**options) -> GradientTransform``.
    options : mapping
    member_options : bool
        Whether `make` takes numeric options as (M,) tensors, so that members that differ in them share a group.
    """

    make: Callable[..., GradientTransform]
    options: Mapping[str, Any] = field(default_factory=dict)
    member_options: bool = False

    @property
    def key(self) -> Hashable:
        """Equal for members that can be updated together."""
        options = tuple(
            (name, "number" if self.member_options and isinstance(value, float) else repr(value))
            for name, value in sorted(self.options.items())
        )
        return id(self.make), options


def infer_roles(stack: nn.Module) -> dict[str, Role]:
    """The role of each parameter: what its module declares, otherwise what its shape says.

    A module declares roles of its own parameters in an attribute ``parameter_roles``. Without it a vector is a
    bias, which is not decayed, and anything larger a matrix; the last matrix of the stack is its ``output``.
    """
    roles: dict[str, Role] = {}
    for prefix, module in stack.named_modules():
        declared = getattr(module, "parameter_roles", {})
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            vector = parameter.ndim <= 2  # with the member axis
            roles[full] = declared.get(name, Role("bias", decay=0.0) if vector else Role("matrix"))
    matrices = [name for name, role in roles.items() if role.kind == "matrix"]
    if matrices and not any(role.kind == "output" for role in roles.values()):
        last = roles[matrices[-1]]
        roles[matrices[-1]] = Role("output", last.rate, last.decay)
    return roles


class OptimizerGroup:
    """Members start..stop of a stack, updated by one `GradientTransform`."""

    def __init__(self, parts: Sequence[OptimizerPart], start: int, store: FlatParameters, roles: dict[str, Role]):
        self.parts, self.start, self.stop = list(parts), start, start + len(parts)
        self.store, self.roles = store, {name: roles[name] for name in store.names}
        self.transform = self._make()
        self.flat_roles = {"flat": _flat_role(store, self.roles)} if self.transform.elementwise else {}
        self.state = self.transform.init(self._named(store.flat))

    def _make(self) -> GradientTransform:
        first = self.parts[0]
        options: dict[str, Any] = {}
        for name, value in first.options.items():
            values = [part.options[name] for part in self.parts]
            options[name] = (
                value
                if all(v == value for v in values)
                else torch.tensor(values, dtype=torch.float64, device=self.store.flat.device)
            )
        return first.make(**options)

    def _named(self, flat: Tensor) -> Tensors:
        rows = flat[self.start : self.stop]
        return {"flat": rows} if self.transform.elementwise else self.store.views(rows)

    def update(self, gradient: Tensor, learning_rate: Tensor, idle: Sequence[int]) -> None:
        """Change the parameters by one step; idle members (places in the stack) keep theirs, and their state."""
        own = [m - self.start for m in idle if self.start <= m < self.stop]
        resting = torch.tensor(own, dtype=torch.long, device=gradient.device)
        before = map_state(lambda t: t[resting.to(t.device)], self.state) if own else None
        params, gradients = self._named(self.store.flat), self._named(gradient)
        rate, roles = learning_rate[self.start : self.stop], self.flat_roles or self.roles
        apply = self.transform.apply if gradient.device.type == "cpu" else None
        if apply is not None:
            kept = {name: param[resting] for name, param in params.items()} if before is not None else {}
            self.state = apply(gradients, self.state, params, rate, roles)
            for name, values in kept.items():
                params[name][resting] = values
        else:
            changes, self.state = self.transform.update(gradients, self.state, params, rate, roles)
            if before is not None:
                changes = {name: change.index_fill(0, resting, 0.0) for name, change in changes.items()}
            for name, param in params.items():
                param.add_(changes[name])
        if before is not None:
            self.state = _restore(self.state, before, resting)

    def evaluation(self) -> Tensor | None:
        """Weights to score, (M', P), for methods that average; None when they are the parameters themselves."""
        if self.transform.evaluation is None:
            return None
        tensors = self.transform.evaluation(self._named(self.store.flat), self.state)
        if self.transform.elementwise:
            return tensors["flat"]
        return self.store.flatten([tensors[name] for name in self.store.names])

    def keep(self, members: Sequence[int]) -> int:
        """Go on with some of the stack's members; returns how many of them are this group's."""
        own = [m - self.start for m in members if self.start <= m < self.stop]
        if len(own) < len(self.parts):
            self.parts = [self.parts[m] for m in own]
            index = torch.as_tensor(own, dtype=torch.long)
            self.state = map_state(lambda t: t[index.to(t.device)], self.state)
            if own:
                self.transform = self._make()
        return len(own)


def _restore(state: Any, before: Any, rows: Tensor) -> Any:
    if isinstance(state, Tensor):
        state[rows.to(state.device)] = before
        return state
    if isinstance(state, dict):
        # what appeared in this step, idle members have not begun
        return {
            key: _restore(value, before[key], rows) if key in before else map_state(partial(_emptied, rows), value)
            for key, value in state.items()
        }
    if isinstance(state, (tuple, list)):
        return type(state)(_restore(a, b, rows) for a, b in zip(state, before, strict=True))
    return state


def _emptied(rows: Tensor, tensor: Tensor) -> Tensor:
    tensor[rows.to(tensor.device)] = 0
    return tensor


def _holds(state: Any, tensor: Tensor) -> bool:
    """Whether part of the state lies in a tensor's memory."""
    place = tensor.untyped_storage().data_ptr()
    found = False

    def look(part: Tensor) -> Tensor:
        nonlocal found
        found = found or part.untyped_storage().data_ptr() == place
        return part

    map_state(look, state)
    return found


def _flat_role(store: FlatParameters, roles: dict[str, Role]) -> Role:
    def spread(values: dict[str, Any]) -> float | Tensor:
        return 1.0 if all(value == 1.0 for value in values.values()) else store.repeat(values)

    return Role(
        "mixed",
        spread({name: role.rate for name, role in roles.items()}),
        spread({name: role.decay for name, role in roles.items()}),
    )


class Updates:
    """All optimizer groups of a stack. Members of a group must stand side by side."""

    def __init__(self, parts: Sequence[OptimizerPart], store: FlatParameters, roles: dict[str, Role]) -> None:
        self.store = store
        self.groups: list[OptimizerGroup] = []
        start = 0
        for m in range(1, len(parts) + 1):
            if m == len(parts) or parts[m].key != parts[start].key:
                self.groups.append(OptimizerGroup(parts[start:m], start, store, roles))
                start = m

    def step(self, gradients: Sequence[Tensor | None], learning_rate: Tensor, idle: Sequence[int]) -> None:
        """One step of every group; gradients in the parameters' order, learning_rate (M,)."""
        gradient = self.store.gather(gradients)
        for group in self.groups:
            group.update(gradient, learning_rate, idle)
        if any(_holds(group.state, gradient) for group in self.groups):
            self.store.release()
        self.store.changed()

    def evaluation(self) -> Tensor | None:
        """Weights to score for the whole stack, or None."""
        parts = [group.evaluation() for group in self.groups]
        if all(part is None for part in parts):
            return None
        return torch.cat(
            [
                self.store.flat[group.start : group.stop] if part is None else part
                for group, part in zip(self.groups, parts, strict=True)
            ]
        )

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members only; called before the parameters shrink."""
        counts = [group.keep(members) for group in self.groups]
        start = 0
        for group, count in zip(self.groups, counts, strict=True):
            group.start, group.stop = start, start + count
            start += count
        self.groups = [group for group in self.groups if group.stop > group.start]
