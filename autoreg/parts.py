"""From a candidate's names and objects to the functions that the engine takes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autoreg.encoding import FoldStatistics
from autoreg.errors import ContractError, OptionError, unknown
from autoreg.member import Member, Point, seed_layers
from autoreg.plugins import registry
from autoreg.registry import Entry
from autoreg.schedules import SCHEDULES, Schedule
from autoreg.space import Candidate, short
from autoreg.stacking import mix
from autoreg.training import LossPart
from autoreg.updates import OptimizerPart

POINTS: dict[str, Point] = {"exp": torch.exp}
"""Links that a saved model may name, so that it loads without the plugin of its loss."""


class Elementwise(nn.Module):
    """A function as an activation module."""

    leading_axes = True

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return short(self.function)


@dataclass(frozen=True)
class Recipe:
    """A candidate with every name looked up."""

    candidate: Candidate
    make_encoding: Callable[[FoldStatistics], nn.Module]
    make_network: Callable[[int, int, Callable[[], nn.Module]], nn.Module]
    make_activation: Callable[[], nn.Module]
    loss: LossPart
    outputs_per_target: int
    scales_target: bool
    optimizer: OptimizerPart
    schedule: Schedule

    def make_member(self, statistics: FoldStatistics, center: Tensor, spread: Tensor, seed: int) -> Member:
        """Build one member, every random draw of its first weights from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
            encoding = self.make_encoding(statistics)
            n_outputs = len(center) * self.outputs_per_target
            network = self.make_network(int(encoding.n_features), n_outputs, self.make_activation)  # type: ignore[arg-type]
        member = Member(encoding, network, center, spread)
        seed_layers(member, seed, mix)
        return member


def resolve(candidate: Candidate) -> Recipe:
    """Look up all of a candidate's parts.

    Raises
    ------
    UnknownNameError
        For a name that no plugin offers.
    OptionError, ContractError
        For a value that cannot be that part.
    """
    loss = candidate["loss"]
    entry = registry().get("loss", loss) if isinstance(loss, str) else None
    facts = entry.facts if entry else {}
    scaling = candidate["target_scaling"]
    if scaling not in ("standard", None):
        raise OptionError(unknown("target scaling", scaling, ["standard", "None"]))
    return Recipe(
        candidate,
        _encoding(candidate),
        _network(candidate),
        activation_factory(candidate["activation"]),
        LossPart(_loss_function(candidate, entry), facts.get("point"), _loss_key(candidate)),
        int(facts.get("outputs_per_target", 1)),
        scaling == "standard" and facts.get("target_scaling", "standard") is not None,
        _optimizer(candidate),
        _schedule(candidate["schedule"]),
    )


def _options(candidate: Candidate, part: str, entry: Entry | None = None) -> dict[str, Any]:
    return candidate.options(part)


def _encoding(candidate: Candidate) -> Callable[[FoldStatistics], nn.Module]:
    value = candidate["encoding"]
    options = candidate.options("encoding")
    if value is None:
        value = "none"
    make = registry().get("encoding", value).thing if isinstance(value, str) else value
    if not callable(make):
        raise OptionError(f"encoding {value!r}: give a name, None or a function (statistics, **options) -> nn.Module")
    return lambda statistics: make(statistics, **options)


def activation_factory(value: Any) -> Callable[[], nn.Module]:
    """A function that returns a fresh activation module, from a name, a class, an instance or a function."""
    thing = registry().get("activation", value).thing if isinstance(value, str) else value
    if isinstance(thing, nn.Module):
        return partial(_copy_and_reset, thing)
    if isinstance(thing, type) and issubclass(thing, nn.Module):
        return thing
    if callable(thing):
        return partial(Elementwise, thing)
    raise OptionError(f"activation {value!r}: give a name, an nn.Module class or instance, or a function")


def _network(candidate: Candidate) -> Callable[[int, int, Callable[[], nn.Module]], nn.Module]:
    value, options = candidate["network"], candidate.options("network")
    if isinstance(value, str):
        make = registry().get("network", value).thing
        return lambda d, o, activation: make(d, o, activation, **options)
    if isinstance(value, nn.Module):
        if options:
            raise OptionError(
                f"network options {sorted(options)} need a network by name, class or factory, not an instance"
            )
        return lambda d, o, activation: _copy_and_reset(value)
    if callable(value):
        return partial(_call_as_taught, value, options)
    raise OptionError(f"network {value!r}: give a name, an nn.Module instance or class, or a factory")


def _copy_and_reset(module: nn.Module) -> nn.Module:
    """A copy with fresh first weights; what nothing resets keeps its values."""
    fresh = copy.deepcopy(module)
    for layer in fresh.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
    return fresh


def _call_as_taught(
    make: Callable[..., nn.Module],
    options: Mapping[str, Any],
    n_features: int,
    n_outputs: int,
    activation: Callable[[], nn.Module],
) -> nn.Module:
    """Call a user's class or factory with as much as its signature asks for.

    Arguments named ``n_features``, ``n_outputs`` and ``activation`` are given by name; otherwise the first required
    argument is the number of features and the second the number of outputs; a class without arguments gets none.
    """
    offers: dict[str, Any] = {"n_features": n_features, "n_outputs": n_outputs, "activation": activation}
    parameters = [
        p for p in inspect.signature(make).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]  # fmt: skip
    named = {p.name: offers[p.name] for p in parameters if p.name in offers and p.kind != p.POSITIONAL_ONLY}
    if named:
        return make(**{**named, **options})
    required = [p for p in parameters if p.default is p.empty and p.name not in options]
    return make(*[n_features, n_outputs, activation][: len(required)], **options)


def _loss_key(candidate: Candidate) -> tuple[Any, ...]:
    loss = candidate["loss"]
    options = tuple(sorted((name, repr(value)) for name, value in candidate.options("loss").items()))
    return (loss if isinstance(loss, str) else id(loss), options)


def _loss_function(candidate: Candidate, entry: Entry | None) -> Callable[[Tensor, Tensor], Tensor]:
    value, options = candidate["loss"], candidate.options("loss")
    if entry is not None:
        return partial(entry.thing, **options) if options else entry.thing
    if isinstance(value, type) and issubclass(value, nn.Module):
        value = value(**options)
    if isinstance(value, nn.Module):
        module = copy.deepcopy(value)
        module.reduction = "none"  # type: ignore[assignment]
        return partial(_per_row, module, short(value))
    if callable(value):
        if "reduction" in _signature(value):
            options = {**options, "reduction": "none"}
        return partial(_per_row, partial(value, **options), short(value))
    raise OptionError(f"loss {value!r}: give a name, a torch loss class or instance, or a function")


def _signature(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except ValueError:  # some built-in functions have none
        return {}


def _per_row(function: Callable[[Tensor, Tensor], Tensor], label: str, prediction: Tensor, target: Tensor) -> Tensor:
    loss = function(prediction, target)
    if loss.shape == target.shape:
        return loss.mean(-1)
    if loss.shape == target.shape[:-1]:
        return loss
    raise ContractError(
        f"loss {label} gave shape {tuple(loss.shape)} for a target of shape {tuple(target.shape)}: "
        f"return one value per row, without averaging over rows"
    )


def _optimizer(candidate: Candidate) -> OptimizerPart:
    value, options = candidate["optimizer"], candidate.options("optimizer")
    if isinstance(value, str):
        entry = registry().get("optimizer", value)
        return OptimizerPart(entry.thing, options, bool(entry.facts.get("member_options", False)))
    if isinstance(value, torch.optim.Optimizer):
        defaults = {name: v for name, v in value.defaults.items() if name in _signature(type(value))}
        value, options = type(value), {**defaults, **options}
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer):
        from autoreg.torch_optim import from_torch_optim

        return OptimizerPart(_torch_maker(from_torch_optim, value), {k: v for k, v in options.items() if k != "lr"})
    if callable(value):
        return OptimizerPart(value, options)
    raise OptionError(
        f"optimizer {value!r}: give a name, a torch.optim class, or a function that makes a GradientTransform"
    )


_TORCH_MAKERS: dict[type, Callable[..., Any]] = {}


def _torch_maker(from_torch_optim: Callable[..., Any], cls: type) -> Callable[..., Any]:
    # one maker per class, so that members with the same class fall into one group
    return _TORCH_MAKERS.setdefault(cls, from_torch_optim(cls))


def _schedule(value: Any) -> Schedule:
    if isinstance(value, str):
        if value not in SCHEDULES:
            raise OptionError(unknown("schedule", value, list(SCHEDULES)))
        return SCHEDULES[value]
    if callable(value):
        return value
    raise OptionError(f"schedule {value!r}: give one of {', '.join(SCHEDULES)} or a function of t in [0, 1]")
