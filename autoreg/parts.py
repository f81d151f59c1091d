"""From a candidate's names and objects to the functions that the engine takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from autoreg.encoding import FoldStatistics
from autoreg.errors import ContractError, OptionError, unknown
from autoreg.lossparts import is_squared_error, loss_facts, loss_function, loss_key, signature_of
from autoreg.member import Member, Point, has_views, seed_layers
from autoreg.plugins import registry
from autoreg.schedules import SCHEDULES, Schedule
from autoreg.space import Candidate, short
from autoreg.specs import LossPart
from autoreg.stacking import drawing
from autoreg.updates import OptimizerPart

POINTS: dict[str, Point] = {"exp": torch.exp}
"""Links that a saved model may name, so that it loads without the plugin of its loss."""

SCALINGS = ("standard", "log")
"""What may be done to the target before it is learned, besides nothing."""


class Elementwise(nn.Module):
    """A function as an activation module."""

    leading_axes = True

    def __init__(self, function: Callable[..., Tensor], options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        # apart from each other, so that members with equal options are of one program
        self.function, self.options = function, dict(options or {})

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.options)

    def extra_repr(self) -> str:
        return short(self.function)


class Drawing(Elementwise):
    """A function that draws random numbers: one member at a time, under that member's seed."""


def _draws(function: Callable[..., Tensor], options: Mapping[str, Any]) -> bool:
    """Whether an activation gives other numbers under another seed."""
    x = torch.linspace(-3, 3, 64, device="cpu")
    found = []
    try:
        for seed in (0, 1):
            with torch.no_grad(), drawing(seed):
                found.append(function(x.clone(), **options))
        return not torch.equal(torch.nan_to_num(found[0]), torch.nan_to_num(found[1]))
    except Exception:  # a stranger's function may raise anything; it is told where it is used
        return False


@dataclass(frozen=True)
class Recipe:
    """A candidate with every name looked up."""

    candidate: Candidate
    make_encoding: Callable[[FoldStatistics], nn.Module]
    make_network: Callable[[int, int, Callable[[], nn.Module]], nn.Module]
    make_activation: Callable[[], nn.Module]
    loss: LossPart
    outputs_per_target: int
    target_scaling: str | None
    log_target: bool
    predicts_mean: bool
    optimizer: OptimizerPart
    schedule: Schedule
    target_range: str = ""

    def make_member(self, statistics: FoldStatistics, center: Tensor, spread: Tensor, seed: int) -> Member:
        """Build one member, every random draw of its first weights from `seed`.

        Raises
        ------
        ContractError
            When the network does not take what the encoding gives, or gives another shape than (B, O).
        """
        with drawing(seed):
            encoding = self.make_encoding(statistics)
            n_features, n_outputs = int(encoding.n_features), len(center) * self.outputs_per_target  # type: ignore[arg-type]
            network = self.make_network(n_features, n_outputs, self.make_activation)
            n_views = check_network(network, n_features, n_outputs, short(self.candidate["network"]))
        member = Member(encoding, network, center, spread, n_views, self.log_target)
        seed_layers(member, seed)
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
    facts = loss_facts(entry, candidate.options("loss")) if entry else {}
    scaling = candidate["target_scaling"]
    if scaling not in (*SCALINGS, None):
        raise OptionError(unknown("target scaling", scaling, [*SCALINGS, "None"]))
    # a loss that wants another scale than the usual one has the last word
    scaled = None if scaling is None else facts.get("target_scaling", "standard")
    return Recipe(
        candidate,
        _encoding(candidate),
        _network(candidate),
        activation_factory(candidate["activation"], candidate.options("activation")),
        LossPart(loss_function(candidate, entry), facts.get("point"), loss_key(candidate)),
        int(facts.get("outputs_per_target", 1)),
        scaled,
        scaling == "log" and scaled == "standard",
        facts.get("statistic") == "mean" or is_squared_error(loss),
        _optimizer(candidate),
        _schedule(candidate["schedule"]),
        facts.get("target_range", ""),
    )


def _encoding(candidate: Candidate) -> Callable[[FoldStatistics], nn.Module]:
    value = candidate["encoding"]
    options = candidate.options("encoding")
    if value is None:
        value = "none"
    make = registry().get("encoding", value).thing if isinstance(value, str) else value
    if not callable(make):
        raise OptionError(f"encoding {value!r}: give a name, None or a function (statistics, **options) -> nn.Module")
    return lambda statistics: make(statistics, **options)


def activation_factory(value: Any, options: Mapping[str, Any] | None = None) -> Callable[[], nn.Module]:
    """A function that returns a fresh activation module, from a name, a class, an instance or a function.

    >>> activation_factory("leaky_relu", {"negative_slope": 0.2})()
    LeakyReLU(negative_slope=0.2)
    """
    thing = registry().get("activation", value).thing if isinstance(value, str) else value
    if isinstance(thing, nn.Module):
        if options:
            raise OptionError(f"activation options {sorted(options)} need an activation by name, class or function")
        return partial(_copy_and_reset, thing)
    made = thing.func if isinstance(thing, partial) else thing
    if isinstance(made, type) and issubclass(made, nn.Module):
        return partial(thing, **options) if options else thing
    if callable(thing):
        return partial(Drawing if _draws(thing, options or {}) else Elementwise, thing, options)
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

    def reset(layer: nn.Module) -> None:
        if callable(getattr(layer, "reset_parameters", None)):
            layer.reset_parameters()  # type: ignore[operator]

    # apply() takes inner layers first: a module that resets its own layers has the last word
    return copy.deepcopy(module).apply(reset)


def _call_as_taught(
    make: Callable[..., nn.Module],
    options: Mapping[str, Any],
    n_features: int,
    n_outputs: int,
    activation: Callable[[], nn.Module],
) -> nn.Module:
    """Call a user's class or factory with as much as its signature asks for.

    Arguments named ``n_features``, ``n_outputs`` and ``activation`` are given by name; where none is, the first two
    required arguments are the number of features and the number of outputs.
    """
    offers: dict[str, Any] = {"n_features": n_features, "n_outputs": n_outputs, "activation": activation}
    for name in make.keywords if isinstance(make, partial) else ():
        offers.pop(name, None)  # the user has bound it
    parameters = [
        p for p in signature_of(make).values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]  # fmt: skip
    given = {p.name: offers[p.name] for p in parameters if p.name in offers and p.kind != p.POSITIONAL_ONLY}
    given.update(options)
    required = [p for p in parameters if p.default is p.empty and p.name not in given]
    positional = [] if given.keys() & offers.keys() else [n_features, n_outputs][: len(required)]
    without = [p.name for p in required[len(positional) :]]
    if without:
        raise ContractError(
            f"network {short(make)} needs a value for '{without[0]}': "
            f"give it one with network_options={{'{without[0]}': ...}}, or a default"
        )
    return make(*positional, **given)


def check_network(network: Any, n_features: int, n_outputs: int, label: str) -> int:
    """Let a network read some rows of zeros, and say in one line what it does wrong.

    A lazy layer learns its number of features from these rows.

    Returns
    -------
    int
        The views of each row that its output holds.

    Raises
    ------
    ContractError
    """
    if not isinstance(network, nn.Module):
        raise ContractError(f"network {label} is {type(network).__name__}: a class or function must give an nn.Module")
    tensors = [*network.parameters(), *network.buffers()]
    lazy = any(is_lazy(tensor) for tensor in tensors)
    if any(tensor.is_meta for tensor in tensors):
        return 1
    rows = 2 if n_outputs != 2 else 3
    # running statistics stay as they are
    buffers = {} if lazy else {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.eval()
    dtype = next((tensor.dtype for tensor in network.parameters() if not is_lazy(tensor)), None)
    try:
        with torch.no_grad():
            output = functional_call(network, buffers, (torch.zeros(rows, n_features, dtype=dtype),))
    except Exception as error:  # a stranger's forward may raise anything
        raise ContractError(_does_not_take(network, n_features, label, error)) from error
    network.train()
    good = isinstance(output, Tensor) and output.ndim in (2, 3)
    if not good or (output.shape[0], output.shape[-1]) != (rows, n_outputs):
        found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ContractError(
            f"network {label} gave {found} for {rows} rows, the shape must be ({rows}, {n_outputs}): "
            f"(rows, outputs), also where there is one output"
        )
    return output.shape[1] if has_views(output, stacked=False) else 1


def _does_not_take(network: nn.Module, n_features: int, label: str, error: Exception) -> str:
    reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Linear)), None)
    if first is None or first.in_features == n_features:
        return f"network {label} fails on a table of {n_features} features: {reason}"
    return (
        f"network {label} takes {first.in_features} features, the encoding gives {n_features}: make its first layer "
        f"nn.Linear({n_features}, ...) or nn.LazyLinear(...), or give a class or function of (n_features, n_outputs); "
        f"encoding=None gives one feature a column"
    )


def _optimizer(candidate: Candidate) -> OptimizerPart:
    value, options = candidate["optimizer"], candidate.options("optimizer")
    if isinstance(value, str):
        entry = registry().get("optimizer", value)
        return OptimizerPart(entry.thing, options, bool(entry.facts.get("member_options", False)))
    if isinstance(value, torch.optim.Optimizer):
        options = {**_options_of(value, candidate["learning_rate"]), **options}
        value = type(value)
    if isinstance(value, type) and issubclass(value, torch.optim.Optimizer):
        from autoreg.torch_optim import from_torch_optim

        return OptimizerPart(_torch_maker(from_torch_optim, value), {k: v for k, v in options.items() if k != "lr"})
    if callable(value):
        return OptimizerPart(value, options)
    raise OptionError(
        f"optimizer {value!r}: give a name, a torch.optim class, or a function that makes a GradientTransform"
    )


def _options_of(optimizer: torch.optim.Optimizer, learning_rate: float) -> dict[str, Any]:
    """What a torch optimizer was made with. Its own learning rate must not be lost in silence."""
    name, known = short(type(optimizer)), signature_of(type(optimizer))
    if len(optimizer.param_groups) > 1:
        raise OptionError(f"optimizer {name} has {len(optimizer.param_groups)} groups of parameters: give one group")
    rate = optimizer.defaults.get("lr")
    usual = known["lr"].default if "lr" in known else rate
    if rate != usual and rate != learning_rate:
        raise OptionError(
            f"optimizer {name} was made with lr={rate}, but learning_rate is {learning_rate}: "
            f"give learning_rate={rate}, or the class {name} without parameters"
        )
    return {key: value for key, value in optimizer.defaults.items() if key in known}


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
