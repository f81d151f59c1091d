"""The optimizer contract: a pair of functions over stacked parameters.

The form is optax's (``init``, ``update``), with the state passed and never held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Role:
    """What a parameter is to its network.

    Attributes
    ----------
    kind : str
        ``matrix`` (hidden matrix), ``output`` (last matrix), ``bias``, ``embedding``, ``scale`` or ``other``;
        ``mixed`` for a flat tensor that holds several.
    rate : float or Tensor
        Factor of the learning rate. For a flat tensor a (P,) tensor.
    decay : float or Tensor
        Factor of the weight decay: 1 for matrices, 0 for biases, scales and embeddings' offsets.
    """

    kind: str = "other"
    rate: float | Tensor = 1.0
    decay: float | Tensor = 1.0


@dataclass(frozen=True)
class GradientTransform:
    """An optimizer as functions over ``(M, ...)`` tensors, each member a problem of its own.

    Attributes
    ----------
    init : function
        ``init(params) -> state``; params : dict of name -> (M, ...). The state is a nest of dicts and tuples of
        tensors whose first axis is M, so that a member's state can be kept, copied or dropped.
    update : function
        ``update(gradients, state, params, learning_rate, roles) -> (changes, state)``. gradients, changes: names
        and shapes of params; learning_rate : (M,), the schedule already in it; roles : dict of name -> `Role`.
        The engine then adds the changes to the params. The state may be changed in place and returned.
    evaluation : function or None
        ``evaluation(params, state) -> params`` to score, for averaging methods.
    apply : function or None
        ``apply(gradients, state, params, learning_rate, roles) -> state``: the same step with the parameters changed
        in place, for those who do it in less time than a change takes to be written and added. Used on the CPU.
    elementwise : bool
        True when ``update`` treats every element alone, apart from the roles; the engine may then hand it all
        parameters as one flat (M, P) tensor.
    """

    init: Callable[[Tensors], Any]
    update: Callable[[Tensors, Any, Tensors, Tensor, dict[str, Role]], tuple[Tensors, Any]]
    evaluation: Callable[[Tensors, Any], Tensors] | None = None
    elementwise: bool = False
    apply: Callable[[Tensors, Any, Tensors, Tensor, dict[str, Role]], Any] | None = None


def over_members(value: float | Tensor, like: Tensor) -> float | Tensor:
    """Shape a per-member value (M,) so that it broadcasts over `like`, (M, ...); a float stays as it is.

    Examples
    --------
    >>> import torch
    >>> over_members(torch.ones(3), torch.zeros(3, 5, 4)).shape
    torch.Size([3, 1, 1])
    """
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.view(-1, *[1] * (like.ndim - 1))
    return value


def map_state(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """Apply a function to every tensor of a nest of dicts, tuples and lists.

    Examples
    --------
    >>> import torch
    >>> map_state(lambda t: t + 1, {"a": torch.zeros(2), "b": (torch.ones(1), None)})
    {'a': tensor([1., 1.]), 'b': (tensor([2.]), None)}
    """
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, dict):
        return {key: map_state(function, value) for key, value in state.items()}
    if isinstance(state, (tuple, list)):
        return type(state)(map_state(function, value) for value in state)
    return state
