"""An optimizer object of `torch.optim`'s kind that can be lent parameters and memory, and give the memory back.

What such an object remembers lies in its state, in its parameter groups and in its own attributes, as tensors and
numbers in nests. Each piece is a *leaf* with a path, so that it can be stacked with that of other members.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from autoreg.gradients import Tensors

Path = tuple[Any, ...]
Leaf = tuple[Path, Any]


class Worker:
    """One optimizer object.

    Parameters
    ----------
    cls : type
    options : mapping
        For the class, without ``lr``.
    values : dict of name -> Tensor
        The parameters' first values.
    factors : mapping of name -> float
        Of the learning rate; parameters with one factor form a group.
    """

    def __init__(
        self, cls: type[Optimizer], options: Mapping[str, Any], values: Tensors, factors: Mapping[str, float]
    ) -> None:
        self.params = {name: nn.Parameter(value.clone()) for name, value in values.items()}
        self.name_of = {param: name for name, param in self.params.items()}
        groups: dict[float, list[nn.Parameter]] = {}
        for name, param in self.params.items():
            groups.setdefault(factors.get(name, 1.0), []).append(param)
        self.factors = list(groups)
        takes = inspect.signature(cls).parameters
        needs_rate = "lr" in takes and takes["lr"].default is inspect.Parameter.empty
        self.optimizer: Optimizer = cast(Any, cls)(
            [{"params": params} for params in groups.values()], **({"lr": 1e-3} if needs_rate else {}), **options
        )
        self.first = [dict(owner) for _, owner in self._owners()]
        self.before = self.first
        self.kept: set[Path] = set()

    def step(self, values: Tensors, gradients: Tensors, rate: float) -> None:
        """Set the parameters, and change them by one step."""
        self._set(values)
        for name, param in self.params.items():
            # a copy: classes may change it, or keep it
            param.grad = gradients[name].clone()
        for group, factor in zip(self.optimizer.param_groups, self.factors, strict=True):
            if "lr" in group:
                group["lr"] = rate * factor
        self.before = [dict(owner) for _, owner in self._owners()]
        if averages(type(self.optimizer)):
            cast(Any, self.optimizer).train()
        self.optimizer.step()

    def averaged(self, values: Tensors) -> Tensors:
        """The parameters to score, for a class that `averages`."""
        self._set(values)
        cast(Any, self.optimizer).eval()
        return {name: param.detach().clone() for name, param in self.params.items()}

    def _set(self, values: Tensors) -> None:
        for name, param in self.params.items():
            if param.shape == values[name].shape:
                param.copy_(values[name])
            else:  # fewer members than before
                param.grad = None
                param.data = values[name].clone()

    def leaves(self) -> Iterator[Leaf]:
        """Everything that the last step left behind, piece by piece."""
        for key, value in self.optimizer.state.items():
            if isinstance(key, Tensor):
                yield from _leaves(value, ("parameter", self.name_of[key]))  # type: ignore[index]
            else:
                yield from _leaves(value, ("state", key))
        for (place, owner), before in zip(self._owners(), self.before, strict=True):
            for name, value in owner.items():
                changed = _is_number(value) and not (_is_number(before.get(name)) and value == before[name])
                if name != "lr" and (changed or isinstance(value, Tensor) or (*place, name) in self.kept):
                    yield (*place, name), value

    def load(self, leaves: Sequence[Leaf]) -> None:
        """Take up what a step left behind, and forget everything else."""
        self.optimizer.state.clear()
        owners = dict(self._owners())
        for owner, first in zip(owners.values(), self.first, strict=True):
            owner.update({key: value for key, value in first.items() if _is_number(value)})
        self.kept = set()
        nests: dict[Path, list[Leaf]] = {}
        for path, value in leaves:
            if path[0] in ("group", "self"):
                owners[path[:-1]][path[-1]] = value.clone() if isinstance(value, Tensor) else value
                self.kept.add(path)
            else:
                nests.setdefault(path[:2], []).append((path[2:], value))
        for (kind, key), inner in nests.items():
            self.optimizer.state[self.params[key] if kind == "parameter" else key] = _nest(inner)

    def _owners(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Where a class may keep numbers besides its state: its own attributes and its parameter groups."""
        yield ("self",), vars(self.optimizer)
        for g, group in enumerate(self.optimizer.param_groups):
            yield ("group", g), group


def averages(cls: type[Optimizer]) -> bool:
    """Whether a class scores other weights than it trains: it then has `train()` and `eval()`, as modules have."""
    return callable(getattr(cls, "train", None)) and callable(getattr(cls, "eval", None))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _leaves(value: Any, path: Path) -> Iterator[Leaf]:
    """The tensors and numbers of a nest of dicts, lists and tuples; an empty one is a leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, (list, tuple)) and value:
        for i, inner in enumerate(value):
            yield from _leaves(inner, (*path, (type(value).__name__, i)))
    else:
        yield path, dict(value) if isinstance(value, dict) else value


def _nest(leaves: Sequence[Leaf]) -> Any:
    """What `_leaves` took apart.

    >>> nest = {"a": [1, (2, 3)], "b": {}}
    >>> _nest(list(_leaves(nest, ()))) == nest
    True
    """
    if len(leaves) == 1 and not leaves[0][0]:
        return leaves[0][1]
    inner: dict[Any, list[Leaf]] = {}
    for path, value in leaves:
        inner.setdefault(path[0], []).append((path[1:], value))
    built = {key: _nest(parts) for key, parts in inner.items()}
    first = next(iter(built))
    if isinstance(first, tuple) and first[0] in ("list", "tuple"):
        return list(built.values()) if first[0] == "list" else tuple(built.values())
    return built
