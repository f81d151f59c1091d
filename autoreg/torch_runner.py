"""Running optimizer objects of `torch.optim`'s kind for all members of a stack.

Nothing is kept in an object: before a step its memory is loaded from stacked tensors and afterwards written back, so
that a member's memory can be kept, copied or dropped like any other state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from autoreg.errors import ContractError
from autoreg.gradients import Role, Tensors, over_members
from autoreg.torch_worker import Leaf, Path, Worker

State = dict[str, Any]

LARGEST_RATE = 1024.0
"""Above it a rate is not common to all: where one member's changes overflow, those of the others must not."""

_NUMBERS: dict[str, tuple[type, torch.dtype]] = {
    "bool": (bool, torch.bool),
    "int": (int, torch.int64),
    "float": (float, torch.float64),
}
_EMPTY: dict[str, Any] = {"dict": dict, "list": list, "tuple": tuple, "None": lambda: None}


class Runner:
    """Optimizer objects of one class for M members.

    Parameters
    ----------
    cls : type
    options : mapping
        For the class; a number may be an (M,) tensor.
    together : bool
        Members with equal options, numbers and learning rate are one (M', ...) parameter of one object. Otherwise
        each member has an object of its own.
    linear : bool
        With `together`, also members with different learning rates: a change is the rate times what does not depend
        on it.
    fused : bool
        Use the class's fused kernel on the CPU, where it was tried: less than half the time.
    """

    def __init__(
        self,
        cls: type[Optimizer],
        options: Mapping[str, Any],
        together: bool = False,
        linear: bool = False,
        fused: bool = False,
    ) -> None:
        self.cls, self.options, self.together, self.linear, self.fused = cls, options, together, linear, fused
        self.workers: dict[Any, Worker] = {}

    @staticmethod
    def init(params: Tensors) -> State:
        """Nothing but that no member has begun: what a class keeps shows after its first step."""
        members = len(next(iter(params.values()))) if params else 0
        return {"begun": torch.zeros(members, dtype=torch.bool), "leaves": {}, "present": {}, "factors": {}}

    @torch.no_grad()
    def update(
        self, gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: Mapping[str, Role]
    ) -> tuple[Tensors, State]:
        shelf, begun = Shelf(state, self.together), state["begun"].tolist()
        rates = learning_rate.tolist()
        by_role = {} if self.linear else {name: float(roles.get(name, Role()).rate) for name in params}
        factors = by_role if any(factor != 1 for factor in by_role.values()) else {}
        changes: Tensors = {}
        for members in self._cohorts(shelf, begun, rates):
            own = self._take(params, members)
            worker = self._worker(own, factors, members[0], begun[members[0]])
            if begun[members[0]]:
                worker.load(shelf.read(members))
            rate = common_rate([rates[m] for m in members])
            worker.step(own, self._take(gradients, members), rate)
            shelf.write(members, worker)
            differ = any(rates[m] != rate for m in members)
            for name, param in worker.params.items():
                change = torch.sub(param, own[name], out=param.data)
                if differ:
                    change.mul_(over_members((learning_rate[members].double() / rate).to(change.dtype), change))
                factor = roles.get(name, Role()).rate
                if self.linear and not (isinstance(factor, float) and factor == 1.0):
                    change.mul_(factor)
                if len(members) == shelf.members and self.together:
                    changes[name] = change
                else:
                    if name not in changes:
                        changes[name] = torch.empty_like(params[name])
                    changes[name][members if self.together else members[0]] = change
        kept = {name: torch.full((shelf.members,), factor).double() for name, factor in factors.items()}
        return changes, {"begun": torch.ones_like(state["begun"]), "factors": kept, **shelf.state()}

    @torch.no_grad()
    def averaged(self, params: Tensors, state: State) -> Tensors:
        """The parameters to score."""
        shelf, begun = Shelf(state, self.together), state["begun"].tolist()
        out = {name: param.clone() for name, param in params.items()}
        for members in self._cohorts(shelf, begun, [0.0] * shelf.members):
            if not begun[members[0]]:
                continue
            own = self._take(params, members)
            factors = {name: factor[members[0]].item() for name, factor in state["factors"].items()}
            worker = Worker(self.cls, options_of(self.options, members[0]), own, factors)
            worker.load([(path, _copied(value)) for path, value in shelf.read(members)])
            for name, value in worker.averaged(own).items():
                out[name][members if self.together else members[0]] = value
        return out

    def _cohorts(self, shelf: Shelf, begun: Sequence[bool], rates: Sequence[float]) -> list[list[int]]:
        """Members that one object can change in one step."""
        if not self.together:
            return [[m] for m in range(shelf.members)]
        differing: list[Sequence[Any]] = [shelf.numbers_of(path) for path in shelf.present]
        differing += [shelf.present[path] for path in shelf.present] + [begun]
        if not self.linear:
            differing.append(rates)
        differing += [[repr(options_of(self.options, m)) for m in range(shelf.members)]] if self._vary() else []
        differing = [values for values in differing if any(value != values[0] for value in values)]
        cohorts: dict[str, list[int]] = {}
        for m in range(shelf.members):
            cohorts.setdefault(repr([values[m] for values in differing]), []).append(m)
        return list(cohorts.values())

    def _vary(self) -> bool:
        return repr(options_of(self.options, 0)) != repr(dict(self.options))

    def _take(self, tensors: Tensors, members: list[int]) -> Tensors:
        if not self.together:
            return {name: tensor[members[0]] for name, tensor in tensors.items()}
        everyone = all(len(members) == len(tensor) for tensor in tensors.values())
        return tensors if everyone else {name: tensor[members] for name, tensor in tensors.items()}

    def _worker(self, params: Tensors, factors: Mapping[str, float], m: int, begun: bool) -> Worker:
        options = options_of(self.options, m)
        key = repr(options) if self.together else m
        if key not in self.workers or not begun:
            if self.fused and all(param.device.type == "cpu" for param in params.values()):
                options["fused"] = True
            self.workers[key] = Worker(self.cls, options, params, factors)
        return self.workers[key]


class Shelf:
    """The members' memory as stacked tensors.

    A leaf is named ``(kind, *path)``; `present` says which members have it. Of a *wide* leaf the first axis is that of
    the members by itself; any other is stacked.
    """

    def __init__(self, state: State, together: bool) -> None:
        self.tensors: dict[Path, Tensor] = dict(state["leaves"])
        self.members, self.together = len(state["begun"]), together
        self.present = {path: flags.tolist() for path, flags in state["present"].items()}
        self.numbers = {path: t.tolist() for path, t in self.tensors.items() if path[0] not in ("Tensor", "Wide")}

    def numbers_of(self, path: Path) -> Sequence[Any]:
        """By member, what members of one cohort must have in common."""
        if path[0] == "Wide":
            return [0] * self.members
        # a list of texts compares NaN as any other
        return [repr(value) for value in (self.numbers[path] if path in self.numbers else self.tensors[path].tolist())]

    def read(self, members: list[int]) -> list[Leaf]:
        """What a cohort remembers; where nothing has to be gathered, views that a step may change in place."""
        found: list[Leaf] = []
        for path, present in self.present.items():
            if not present[members[0]]:
                continue
            kind, tensor = path[0], self.tensors[path]
            if kind == "Wide":
                value: Any = tensor if len(members) == self.members else tensor[members]
            elif kind == "Tensor":
                value = tensor[members[0]].clone() if self.together else tensor[members[0]]
            else:
                value = _EMPTY[kind]() if kind in _EMPTY else self.numbers[path][members[0]]
            found.append((path[1:], value))
        return found

    def write(self, members: list[int], worker: Worker) -> None:
        """Take over what a step of a cohort left behind."""
        ours = {tensor.untyped_storage().data_ptr() for tensor in self.tensors.values()}
        seen, waiting = [], []
        for place, value in worker.leaves():
            path = (self._kind(place, value, worker), *place)
            seen.append(path)
            if path not in self.tensors:
                self._add(path, value)
            if not isinstance(value, Tensor):
                for m in members:
                    self.numbers[path][m] = value if path[0] in _NUMBERS else 0
            elif not self._is_written(path, members, value):
                # a copy at once: the class may have swapped two of its tensors, and both may be ours
                swapped = value.untyped_storage().data_ptr() in ours
                waiting.append((path, value.clone() if swapped else value))
        for path, value in waiting:
            self._put(path, members, value)
        for present in self.present.values():
            for m in members:
                present[m] = False
        for path in seen:
            for m in members:
                self.present[path][m] = True

    def _kind(self, place: Path, value: Any, worker: Worker) -> str:
        """The word for a leaf's type."""
        if isinstance(value, Tensor):
            if not self.together:
                return "Tensor"
            if place[0] == "parameter" and value.shape == worker.params[place[1]].shape:
                return "Wide"
            if value.numel() == 1:
                return "Tensor"
            raise ContractError(f"optimizer state {place} has shape {tuple(value.shape)}: not that of its parameter")
        kind = "None" if value is None else type(value).__name__
        if kind not in _NUMBERS and kind not in _EMPTY:
            raise ContractError(f"optimizer state {place} is a {kind}: only tensors and numbers can be kept per member")
        return kind

    def _is_written(self, path: Path, members: list[int], value: Tensor) -> bool:
        """Whether a tensor is the view of ours that was lent."""
        if not value.numel() or (self.together and path[0] != "Wide"):
            return False
        whole = self.tensors[path]
        lent = whole if len(members) == self.members and path[0] == "Wide" else whole[members[0]]
        return value.data_ptr() == lent.data_ptr() and value.shape == lent.shape

    def _put(self, path: Path, members: list[int], value: Tensor) -> None:
        wide, whole = path[0] == "Wide", self.tensors[path]
        if value.shape[wide:] != whole.shape[1:]:
            raise ContractError(
                f"optimizer state {path[1:]} has shape {tuple(value.shape)} for member {members[0]}, "
                f"others have {tuple(whole.shape[1:])}: shapes must be those of all members"
            )
        whole[members] = value

    def _add(self, path: Path, value: Any) -> None:
        if isinstance(value, Tensor):
            self.tensors[path] = value.new_zeros(self.members, *value.shape[path[0] == "Wide" :])
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


def common_rate(rates: Sequence[float]) -> float:
    """A learning rate whose changes can be scaled to those of all the given ones.

    >>> common_rate([0.1, 0.1]), common_rate([0.1, 0.2]), common_rate([0.0, 1e30])
    (0.1, 0.2, 1024.0)
    """
    if all(rate == rates[0] for rate in rates):
        return rates[0]
    return min(max(rates), LARGEST_RATE)


def options_of(options: Mapping[str, Any], m: int) -> dict[str, Any]:
    """One member's options."""

    def own(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(own(part) for part in value)
        return value[m].item() if isinstance(value, Tensor) and value.ndim == 1 else value

    return {name: own(value) for name, value in options.items()}


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
