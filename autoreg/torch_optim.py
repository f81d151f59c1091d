"""Any optimizer class of `torch.optim`'s kind as a `GradientTransform`, run one member at a time.

Each member has an optimizer object of its own, but nothing is kept in it: before a step its state is loaded from
stacked tensors and afterwards written back, so that a member's state can be kept, copied or dropped like any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoreg.errors import ContractError, OptionError
from autoreg.gradients import GradientTransform, Role, Tensors

Path = tuple[Any, ...]
State = dict[str, Any]
Groups = dict[tuple[float, float], list[str]]

_NUMBERS: dict[str, tuple[type, torch.dtype]] = {
    "bool": (bool, torch.bool),
    "int": (int, torch.int64),
    "float": (float, torch.float64),
}
_EMPTY: dict[str, Callable[[], Any]] = {"dict": dict, "list": list, "tuple": tuple, "None": lambda: None}


def from_torch_optim(cls: type[Optimizer], **options: Any) -> Callable[..., GradientTransform]:
    """Make an optimizer for autoreg from a class of `torch.optim`'s kind.

    Every member gives the numbers that the class gives alone. A learning-rate factor that a module declares for a
    parameter, and the share of the decay of weights that the parameter takes (none for biases), become parameter
    groups. A class that refuses all but matrices, such as `torch.optim.Muon`, gets the hidden matrices; AdamW with
    the same learning rate, and the decay of weights if one is given, takes the rest.

    Parameters
    ----------
    cls : type
        The class. Its ``step`` must do without a closure and with dense gradients.
    **options
        For the class; not ``lr``, which is the regressor's ``learning_rate``.

    Returns
    -------
    function
        ``make(**options) -> GradientTransform``, to be registered or given as ``optimizer``; its options go over
        those given here, and a number among them may be an (M,) tensor.

    Raises
    ------
    OptionError
        From `make`, when the class does not take the options.
    ContractError
        From `make`, when the class cannot be run so.

    Examples
    --------
    >>> transform = from_torch_optim(torch.optim.Adagrad, lr_decay=0.1)()
    >>> params = {"w": torch.zeros(2, 3)}
    >>> state = transform.init(params)
    >>> changes, state = transform.update({"w": torch.ones(2, 3)}, state, params, torch.tensor([0.1, 0.2]), {})
    >>> changes["w"]
    tensor([[-0.1000, -0.1000, -0.1000],
            [-0.2000, -0.2000, -0.2000]])
    """

    def make(**more: Any) -> GradientTransform:
        runner = _Runner(cls, {**options, **more})
        return GradientTransform(_init, runner.update)

    make.__name__ = make.__qualname__ = cls.__name__.lower()
    make.__doc__ = f"`{cls.__name__}`, one member at a time."
    return make


def _init(params: Tensors) -> State:
    """Nothing but that no member has begun: what a class keeps shows after its first step."""
    first = next(iter(params.values()))
    return {"begun": torch.zeros(len(first), dtype=torch.bool, device=first.device), "leaves": {}, "present": {}}


class _Runner:
    """The members' optimizer objects, made when first needed and filled anew before every step."""

    def __init__(self, cls: type[Optimizer], options: Mapping[str, Any]) -> None:
        if "lr" in options:
            raise OptionError(f"optimizer option lr={options['lr']!r}: give it as the regressor's learning_rate")
        self.cls, self.options = cls, options
        self.only_matrices = _only_matrices(cls, _options_of(options, 0))
        self.workers: list[_Worker] = []

    @torch.no_grad()
    def update(
        self, gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: dict[str, Role]
    ) -> tuple[Tensors, State]:
        changes = {name: torch.empty_like(param) for name, param in params.items()}
        shelf = _Shelf(state["leaves"], state["present"], len(learning_rate))
        begun = state["begun"].tolist()
        for m, rate in enumerate(learning_rate.tolist()):
            own = {name: param[m] for name, param in params.items()}
            if m == len(self.workers):
                self.workers.append(self._worker(own, roles, m))
            elif not begun[m]:
                self.workers[m] = self._worker(own, roles, m)
            worker = self.workers[m]
            if begun[m]:
                worker.load(shelf.read(m))
            worker.step(own, {name: gradient[m] for name, gradient in gradients.items()}, rate)
            for name, param in worker.params.items():
                torch.sub(param, own[name], out=changes[name][m])
            shelf.write(m, worker.leaves())
        return changes, {"begun": torch.ones_like(state["begun"]), **shelf.state()}

    def _worker(self, params: Tensors, roles: dict[str, Role], m: int) -> _Worker:
        scratch = {name: nn.Parameter(param.clone()) for name, param in params.items()}
        options = _options_of(self.options, m)
        taken = [
            name
            for name, param in scratch.items()
            if not self.only_matrices or (param.ndim == 2 and roles.get(name, Role("matrix")).kind == "matrix")
        ]
        rest = [name for name in scratch if name not in taken]
        optimizers = []
        for cls, names, own in (
            (self.cls, taken, options),
            (torch.optim.AdamW, rest, {key: value for key, value in options.items() if key == "weight_decay"}),
        ):
            if names:
                groups: Groups = {}
                for name in names:
                    role = roles.get(name, Role())
                    groups.setdefault((float(role.rate), float(role.decay)), []).append(name)
                optimizers.append(_build(cls, own, groups, scratch))
        return _Worker(scratch, optimizers)


class _Worker:
    """One member's parameters and optimizer objects."""

    def __init__(self, params: dict[str, nn.Parameter], optimizers: Sequence[Optimizer]) -> None:
        self.params, self.optimizers = params, optimizers
        self.name_of = {param: name for name, param in params.items()}
        self.first = [dict(owner) for _, owner in self._owners()]
        self.before = self.first
        self.kept: set[tuple[Path, str]] = set()

    def step(self, values: Tensors, gradients: Tensors, rate: float) -> None:
        """Set the parameters, and change them by one step."""
        for name, param in self.params.items():
            param.copy_(values[name])
            param.grad = gradients[name].clone()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if "lr" in group:
                    group["lr"] = rate * group["_rate"]
        self.before = [dict(owner) for _, owner in self._owners()]
        for optimizer in self.optimizers:
            optimizer.step()

    def leaves(self) -> Iterator[tuple[Path, Any]]:
        """Everything that the last step left behind, piece by piece."""
        for i, optimizer in enumerate(self.optimizers):
            for key, value in optimizer.state.items():
                if isinstance(key, Tensor):
                    yield from _leaves(value, ("parameter", i, self.name_of[key]))  # type: ignore[index]
                else:
                    yield from _leaves(value, ("state", i, key))
        for (place, owner), before in zip(self._owners(), self.before, strict=True):
            for name, value in owner.items():
                changed = _is_number(value) and not (_is_number(before.get(name)) and value == before[name])
                if name != "lr" and (changed or isinstance(value, Tensor) or (place, name) in self.kept):
                    yield (*place, name), value

    def load(self, leaves: Sequence[tuple[Path, Any]]) -> None:
        """Take up what a step left behind, and forget everything else."""
        for optimizer in self.optimizers:
            optimizer.state.clear()
        owners = dict(self._owners())
        for owner, first in zip(owners.values(), self.first, strict=True):
            owner.update({key: value for key, value in first.items() if _is_number(value)})
        self.kept = set()
        nests: dict[Path, list[tuple[Path, Any]]] = {}
        for path, value in leaves:
            if path[0] in ("group", "self"):
                place, key = path[:-1], path[-1]
                owners[place][key] = value.clone() if isinstance(value, Tensor) else value
                self.kept.add((place, key))
            else:
                nests.setdefault(path[:3], []).append((path[3:], value))
        for (kind, i, key), inner in nests.items():
            self.optimizers[i].state[self.params[key] if kind == "parameter" else key] = _nest(inner)

    def _owners(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Where a class may keep numbers besides its state: its parameter groups and its own attributes."""
        for i, optimizer in enumerate(self.optimizers):
            yield ("self", i), vars(optimizer)
            for g, group in enumerate(optimizer.param_groups):
                yield ("group", i, g), group


class _Shelf:
    """The members' state as stacked tensors.

    A leaf is named ``(type, *path)``; `present` says which members have it.
    """

    def __init__(self, tensors: dict[Path, Tensor], present: dict[Path, Tensor], members: int) -> None:
        self.tensors, self.members = dict(tensors), members
        self.present = {path: flags.tolist() for path, flags in present.items()}
        self.numbers = {path: tensor.tolist() for path, tensor in tensors.items() if path[0] != "Tensor"}

    def read(self, m: int) -> list[tuple[Path, Any]]:
        """The member's leaves; tensors are views, so that what a step changes in place is written already."""
        found = []
        for path, present in self.present.items():
            if present[m]:
                kind = path[0]
                value = self.tensors[path][m] if kind == "Tensor" else self.numbers[path][m]
                found.append((path[1:], _EMPTY[kind]() if kind in _EMPTY else value))
        return found

    def write(self, m: int, leaves: Iterator[tuple[Path, Any]]) -> None:
        """Take a member's leaves over."""
        seen = []
        copies = []
        for place, value in leaves:
            path = (_kind(place, value), *place)
            seen.append(path)
            if path not in self.tensors:
                self._add(path, value)
            if not isinstance(value, Tensor):
                self.numbers[path][m] = value if path[0] in _NUMBERS else 0
            elif value.data_ptr() != self.tensors[path][m].data_ptr() or not value.numel():
                # a copy at once: the class may have swapped two of its tensors, and both are views of ours
                copies.append((path, value.clone()))
        for path, value in copies:
            if value.shape != self.tensors[path].shape[1:]:
                raise ContractError(
                    f"optimizer state {path[1:]} has shape {tuple(value.shape)} for member {m}, "
                    f"others have {tuple(self.tensors[path].shape[1:])}: shapes must be those of all members"
                )
            self.tensors[path][m] = value
        for present in self.present.values():
            present[m] = False
        for path in seen:
            self.present[path][m] = True

    def _add(self, path: Path, value: Any) -> None:
        if isinstance(value, Tensor):
            self.tensors[path] = value.new_zeros(self.members, *value.shape)
        else:
            dtype = _NUMBERS[path[0]][1] if path[0] in _NUMBERS else torch.bool
            self.tensors[path] = torch.zeros(self.members, dtype=dtype)
            self.numbers[path] = [0] * self.members
        self.present[path] = [False] * self.members

    def state(self) -> State:
        """As the engine keeps it."""
        for path, values in self.numbers.items():
            self.tensors[path] = torch.tensor(values, dtype=self.tensors[path].dtype)
        return {"leaves": self.tensors, "present": {path: torch.tensor(flags) for path, flags in self.present.items()}}


def _kind(place: Path, value: Any) -> str:
    """The word for a leaf's type."""
    if isinstance(value, Tensor):
        return "Tensor"
    kind = "None" if value is None else type(value).__name__
    if kind not in _NUMBERS and kind not in _EMPTY:
        raise ContractError(f"optimizer state {place} is a {kind}: only tensors and numbers can be kept per member")
    return kind


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The tensors and numbers of a nest of dicts, lists and tuples; an empty one is a leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, (list, tuple)) and value:
        for i, inner in enumerate(value):
            yield from _leaves(inner, (*path, (type(value).__name__, i)))
    else:
        yield path, dict(value) if isinstance(value, dict) else value


def _nest(leaves: Sequence[tuple[Path, Any]]) -> Any:
    """What `_leaves` took apart."""
    if len(leaves) == 1 and not leaves[0][0]:
        return leaves[0][1]
    inner: dict[Any, list[tuple[Path, Any]]] = {}
    for path, value in leaves:
        inner.setdefault(path[0], []).append((path[1:], value))
    built = {key: _nest(parts) for key, parts in inner.items()}
    first = next(iter(built))
    if isinstance(first, tuple) and first[0] in ("list", "tuple"):
        return list(built.values()) if first[0] == "list" else tuple(built.values())
    return built


def _options_of(options: Mapping[str, Any], m: int) -> dict[str, Any]:
    """One member's options."""

    def own(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(own(part) for part in value)
        return value[m].item() if isinstance(value, Tensor) and value.ndim == 1 else value

    return {name: own(value) for name, value in options.items()}


def _build(
    cls: type[Optimizer], options: Mapping[str, Any], groups: Groups, params: Mapping[str, nn.Parameter]
) -> Optimizer:
    """An optimizer object with a parameter group for each pair of rate and decay factors."""
    given = [{"params": [params[name] for name in names], "_rate": rate} for (rate, _), names in groups.items()]
    takes = inspect.signature(cls).parameters
    needs_rate = "lr" in takes and takes["lr"].default is inspect.Parameter.empty
    optimizer: Optimizer = cast(Any, cls)(given, **({"lr": 1e-3} if needs_rate else {}), **options)
    for group, (_, decay) in zip(optimizer.param_groups, groups, strict=True):
        if decay != 1 and "weight_decay" in group:
            group["weight_decay"] = group["weight_decay"] * decay
    return optimizer


def _only_matrices(cls: type[Optimizer], options: Mapping[str, Any]) -> bool:
    """Whether the class refuses all but matrices, seen by trying."""
    step = inspect.signature(cls.step).parameters
    if "closure" in step and step["closure"].default is inspect.Parameter.empty:
        raise ContractError(f"optimizer {cls.__name__} needs a closure, which autoreg has not: choose another class")
    if _trial(cls, options, 3) is None:
        return False
    error = _trial(cls, options, 3, 3)
    if error is None:
        return True
    message = f"optimizer {cls.__name__}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if isinstance(error, (TypeError, ValueError)):
        raise OptionError(message) from error
    raise ContractError(f"{message}; it cannot be run by autoreg") from error


def _trial(cls: type[Optimizer], options: Mapping[str, Any], *shape: int) -> Exception | None:
    param = nn.Parameter(torch.zeros(shape))
    param.grad = torch.ones(shape)
    try:
        _build(cls, options, {(1.0, 1.0): ["w"]}, {"w": param}).step()
    except Exception as error:  # a stranger's class says no in any way it likes
        return error
    return None
