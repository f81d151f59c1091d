"""From a loss as it is given to a function that the engine takes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.functional import mse_loss

from autoreg.errors import ContractError, OptionError
from autoreg.registry import Entry
from autoreg.space import Candidate, short


def loss_facts(entry: Entry, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a loss was registered with, and what its own ``facts`` say about these options.

    >>> from autoreg.registry import Owner
    >>> entry = Entry("loss", "levels", len, Owner(""), facts={"facts": lambda n=3: {"outputs_per_target": n}})
    >>> loss_facts(entry, {})["outputs_per_target"], loss_facts(entry, {"n": 5})["outputs_per_target"]
    (3, 5)
    """
    of_options = entry.facts.get("facts")
    return {**entry.facts, **of_options(**options)} if of_options else entry.facts


def is_squared_error(loss: Any) -> bool:
    """Whether a loss given as an object is torch's squared error.

    >>> is_squared_error(nn.MSELoss()), is_squared_error(nn.MSELoss), is_squared_error(nn.L1Loss())
    (True, True, False)
    """
    return loss in (nn.MSELoss, mse_loss) or type(loss) is nn.MSELoss


def loss_key(candidate: Candidate) -> tuple[Any, ...]:
    """Equal for candidates with one loss."""
    loss = candidate["loss"]
    options = tuple(sorted((name, repr(value)) for name, value in candidate.options("loss").items()))
    return (loss if isinstance(loss, str) else id(loss), options)


def loss_function(candidate: Candidate, entry: Entry | None) -> Callable[[Tensor, Tensor], Tensor]:
    """A candidate's loss as ``(prediction, target) -> (..., B)``; `entry` is its own where it goes by a name."""
    value, options = candidate["loss"], candidate.options("loss")
    if entry is not None:
        return partial(entry.thing, **options) if options else entry.thing
    if isinstance(value, type) and issubclass(value, nn.Module):
        value = value(**options)
    if isinstance(value, nn.Module):
        module = copy.deepcopy(value)
        module.reduction = "none"  # type: ignore[assignment]
        return RowLoss(module, short(value), of_torch=type(value).__module__.startswith("torch."))
    if callable(value):
        if "reduction" in signature_of(value):
            options = {**options, "reduction": "none"}
        of_torch = getattr(value, "__module__", None) == "torch.nn.functional"
        return RowLoss(partial(value, **options), short(value), of_torch)
    raise OptionError(f"loss {value!r}: give a name, a torch loss class or instance, or a function")


class RowLoss:
    """A loss of the user's or of torch as the engine takes it: (..., B, O) to (..., B).

    Parameters
    ----------
    function : function
        ``(prediction, target)``, (B, O) each, to (B, O) or (B,).
    label : str
    of_torch : bool
        Whether it works element by element, so that it takes leading axes as it is.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], label: str, of_torch: bool) -> None:
        self.function, self.label, self.of_torch = function, label, of_torch
        self.one_at_a_time = False

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.of_torch or target.ndim == 2:
            return self._per_row(prediction, target)
        if target.ndim == 4:  # (M, B, k, O): each view is a table of its own
            views = [self(p, t) for p, t in zip(prediction.unbind(2), target.unbind(2), strict=True)]
            return torch.stack(views, dim=2)
        if not self.one_at_a_time:
            try:
                return vmap(self._per_row)(prediction, target)
            except RuntimeError:  # vmap's word for what it refuses, such as an `if` about a tensor's values
                self.one_at_a_time = True
        return torch.stack([self._per_row(p, t) for p, t in zip(prediction, target, strict=True)])

    def _per_row(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = self.function(prediction, target)
        if isinstance(loss, Tensor) and loss.shape == target.shape:
            return loss.mean(-1)
        if isinstance(loss, Tensor) and loss.shape == target.shape[:-1]:
            return loss
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise ContractError(
            f"loss {self.label} gave {found} for a target of shape {tuple(target.shape)}: "
            f"return one value per row, without averaging over rows"
        )


def signature_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """A function's arguments by name; none where it does not tell."""
    try:
        return inspect.signature(function).parameters
    except ValueError:  # some built-in functions have none
        return {}
