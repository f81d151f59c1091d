"""Any optimizer class of `torch.optim`'s kind as a `GradientTransform`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from autoreg.errors import OptionError
from autoreg.gradients import GradientTransform, Role, Tensors
from autoreg.torch_runner import Runner, State
from autoreg.torch_trials import Findings, examine
from autoreg.torch_worker import averages


def from_torch_optim(cls: type[Optimizer], **options: Any) -> Callable[..., GradientTransform]:
    """Make an optimizer for autoreg from a class of `torch.optim`'s kind.

    Every member gives the numbers that the class gives in a plain PyTorch loop. So its decay of weights takes all
    parameters, biases too, as it does there; only a learning-rate factor that a module declares for a parameter counts,
    as a parameter group of its own would. A class that refuses all but matrices, such as `torch.optim.Muon`, gets the
    hidden matrices; AdamW with the same learning rate, and the decay of weights if one is given, takes the rest.

    How the members are run is found out by trying the class on a few numbers, once:

    * a class that treats every element alone changes all members in one step, if its memory does not depend on the
      learning rate and its changes are proportional to it (`Adam`, `SGD`, `RMSprop`, and most others);
    * without that (`ASGD`, `Rprop`, schedule-free methods) it takes a step for each distinct learning rate;
    * any other class (`Adafactor`, `Muon`) takes a step for each member.

    A class with methods ``train()`` and ``eval()``, such as those of the package ``schedulefree``, scores the weights
    that its ``eval()`` sets.

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
    known: dict[str, Findings] = {}

    def make(**more: Any) -> GradientTransform:
        together = {**options, **more}
        if "lr" in together:
            raise OptionError(f"optimizer option lr={together['lr']!r}: give it as the regressor's learning_rate")
        key = repr(together)
        if key not in known:
            known[key] = examine(cls, together)
        return _transform(cls, together, known[key])

    make.__name__ = make.__qualname__ = cls.__name__.lower()
    make.__doc__ = f"`{cls.__name__}`."
    return make


def _transform(cls: type[Optimizer], options: Mapping[str, Any], found: Findings) -> GradientTransform:
    if found.only_matrices:
        split = _Split(cls, options)
        return GradientTransform(split.init, split.update, split.averaged if averages(cls) else None)
    runner = Runner(cls, options, found.together, found.linear, found.fused)
    evaluation = runner.averaged if averages(cls) else None
    return GradientTransform(runner.init, runner.update, evaluation, elementwise=found.linear)


class _Split:
    """A class for the hidden matrices, member by member, and AdamW for the rest."""

    def __init__(self, cls: type[Optimizer], options: Mapping[str, Any]) -> None:
        decay = {name: value for name, value in options.items() if name == "weight_decay"}
        self.hidden, self.rest = Runner(cls, options), Runner(torch.optim.AdamW, decay, True, True, True)

    def init(self, params: Tensors) -> State:
        return {"hidden": self.hidden.init(params), "rest": self.rest.init(params)}

    def update(
        self, gradients: Tensors, state: State, params: Tensors, learning_rate: Tensor, roles: Mapping[str, Role]
    ) -> tuple[Tensors, State]:
        changes: Tensors = {}
        after = {}
        for part, runner in (("hidden", self.hidden), ("rest", self.rest)):
            own = {
                name: param
                for name, param in params.items()
                if (part == "hidden") == _is_hidden(param, roles.get(name))
            }
            after[part] = state[part]
            if own:
                grads = {name: gradients[name] for name in own}
                found, after[part] = runner.update(grads, state[part], own, learning_rate, roles)
                changes.update(found)
        return changes, after

    def averaged(self, params: Tensors, state: State) -> Tensors:
        names = {path[2] for path in state["hidden"]["leaves"] if path[1] == "parameter"}
        hidden = {name: param for name, param in params.items() if name in names}
        return {**params, **(self.hidden.averaged(hidden, state["hidden"]) if hidden else {})}


def _is_hidden(param: Tensor, role: Role | None) -> bool:
    return param.ndim == 3 and (role is None or role.kind == "matrix")
