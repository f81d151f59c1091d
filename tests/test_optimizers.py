"""Every optimizer gives the numbers of its class in torch.optim, for one member and for a stack of members."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoreg import from_torch_optim
from autoreg.builtins.optimizers import adam, adamw, momentum, nadam, rmsprop, sgd
from autoreg.errors import ContractError, OptionError
from autoreg.gradients import GradientTransform, Role, Tensors, map_state

STEPS = 50
SHAPES = {"weight": (4, 3), "bias": (4,)}


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """torch keeps NAdam's product of momenta in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def first_params(members: int) -> Tensors:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(members, *shape, generator=generator) for name, shape in SHAPES.items()}


def slopes(params: Tensors, step: int) -> Tensors:
    """Gradients of a bumpy bowl; a little different in each step, as batches make them."""
    return {name: p + 2 * torch.sin(3 * p) + math.cos(step) / 2 for name, p in params.items()}


def run(
    transform: GradientTransform, params: Tensors, learning_rate: Tensor, roles: dict[str, Role] | None = None
) -> Tensors:
    """The parameters after all steps."""
    params = {name: p.clone() for name, p in params.items()}
    state = transform.init(params)
    for step in range(STEPS):
        changes, state = transform.update(slopes(params, step), state, params, learning_rate, roles or {})
        for name, change in changes.items():
            params[name].add_(change)
    return params


def run_torch(
    cls: Callable[..., torch.optim.Optimizer], params: Tensors, m: int, rate: float, **options: Any
) -> Tensors:
    """The same for one member with torch's class."""
    own = {name: nn.Parameter(p[m].clone()) for name, p in params.items()}
    optimizer = cls(list(own.values()), lr=rate, **options)
    for step in range(STEPS):
        gradients = slopes({name: p.detach() for name, p in own.items()}, step)
        for name, p in own.items():
            p.grad = gradients[name]
        optimizer.step()
    return {name: p.detach() for name, p in own.items()}


def flat(params: Tensors) -> Tensors:
    return {"flat": torch.cat([p.flatten(1) for p in params.values()], dim=1)}


def assert_same(got: Tensors, m: int, wanted: Tensors, tolerance: float = 1e-12) -> None:
    for name, value in wanted.items():
        assert value.isfinite().all()
        torch.testing.assert_close(got[name][m], value, rtol=0, atol=tolerance)


def betas_of(options: dict[str, Any]) -> dict[str, Any]:
    options = dict(options)
    if "beta1" in options or "beta2" in options:
        options["betas"] = (options.pop("beta1", 0.9), options.pop("beta2", 0.999))
    return options


OURS: list[tuple[Callable[..., GradientTransform], type[torch.optim.Optimizer], dict[str, list[float] | bool]]] = [
    (sgd, torch.optim.SGD, {}),
    (sgd, torch.optim.SGD, {"weight_decay": [0.1, 0.0, 0.2, 0.3, 0.05]}),
    (momentum, torch.optim.SGD, {"momentum": [0.9, 0.5, 0.0, 0.8, 0.95]}),
    (momentum, torch.optim.SGD, {"momentum": [0.9, 0.5, 0.3, 0.8, 0.95], "nesterov": True, "weight_decay": [0.1] * 5}),
    (adam, torch.optim.Adam, {}),
    (adam, torch.optim.Adam, {"beta1": [0.9, 0.8, 0.95, 0.9, 0.0], "beta2": [0.999, 0.9, 0.95, 0.99, 0.5]}),
    (adam, torch.optim.Adam, {"eps": [1e-8, 1e-3, 1e-2, 1e-8, 0.1], "weight_decay": [0.1, 0.0, 0.2, 0.3, 0.05]}),
    (adamw, torch.optim.AdamW, {}),
    (adamw, torch.optim.AdamW, {"beta2": [0.999, 0.9, 0.95, 0.99, 0.5], "weight_decay": [0.1, 0.0, 0.2, 0.3, 0.05]}),
    (adamw, torch.optim.AdamW, {"weight_decay": [0.0] * 5}),
    (rmsprop, torch.optim.RMSprop, {}),
    (rmsprop, torch.optim.RMSprop, {"alpha": [0.9, 0.5, 0.99, 0.8, 0.95], "centered": True}),
    (rmsprop, torch.optim.RMSprop, {"momentum": [0.9, 0.5, 0.0, 0.8, 0.95], "weight_decay": [0.1] * 5}),
    (nadam, torch.optim.NAdam, {}),
    (nadam, torch.optim.NAdam, {"beta1": [0.9, 0.8, 0.95, 0.9, 0.0], "momentum_decay": [4e-3, 1e-2, 0.0, 1e-3, 0.1]}),
    (nadam, torch.optim.NAdam, {"weight_decay": [0.1, 0.0, 0.2, 0.3, 0.05]}),
    (nadam, torch.optim.NAdam, {"weight_decay": [0.1, 0.0, 0.2, 0.3, 0.05], "decoupled_weight_decay": True}),
]  # fmt: skip


@pytest.mark.parametrize("members", [1, 5])
@pytest.mark.parametrize(("make", "cls", "options"), OURS)
def test_equals_torch(
    make: Callable[..., GradientTransform], cls: type, options: dict[str, list[float] | bool], members: int
) -> None:
    rates = torch.tensor([0.01, 0.1, 0.003, 0.03, 0.05])[:members]
    ours: dict[str, Any] = {}
    for name, values in options.items():
        if isinstance(values, list):
            ours[name] = torch.tensor(values[:members]) if members > 1 and len(set(values)) > 1 else values[0]
        else:
            ours[name] = values
    params = first_params(members)
    got = run(make(**ours), params, rates)
    for m, rate in enumerate(rates.tolist()):
        own = {name: values[m] if isinstance(values, list) else values for name, values in options.items()}
        assert_same(got, m, run_torch(cls, params, m, rate, **betas_of(own)))


@pytest.mark.parametrize("make", [sgd, momentum, adam, adamw, rmsprop, nadam])
def test_one_flat_tensor_is_all_parameters(make: Callable[..., GradientTransform]) -> None:
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.003])
    transform = make(weight_decay=0.1)
    roles = {"weight": Role("matrix"), "bias": Role("bias", rate=0.5, decay=0.0)}
    assert transform.elementwise
    apart = run(transform, params, rates, roles)
    spread = Role(
        "mixed",
        torch.cat([torch.full((12,), 1.0), torch.full((4,), 0.5)]),
        torch.cat([torch.ones(12), torch.zeros(4)]),
    )
    together = run(make(weight_decay=0.1), flat(params), rates, {"flat": spread})
    torch.testing.assert_close(together["flat"], flat(apart)["flat"], rtol=0, atol=1e-12)
    for m, rate in enumerate(rates.tolist()):
        alone = run(make(weight_decay=0.0), {"bias": params["bias"][m : m + 1]}, torch.tensor([rate * 0.5]))
        torch.testing.assert_close(apart["bias"][m], alone["bias"][0], rtol=0, atol=1e-12)


def test_betas_may_come_as_torch_takes_them() -> None:
    params, rates = first_params(2), torch.tensor([0.01, 0.1])
    for make in (adam, adamw, nadam):
        pair = run(make(betas=(0.8, 0.95)), params, rates)
        assert_same(pair, 1, {n: p[1] for n, p in run(make(beta1=0.8, beta2=0.95), params, rates).items()}, 0)


@pytest.mark.parametrize("make", [adam, adamw])
def test_members_may_have_taken_different_numbers_of_steps(make: Callable[..., GradientTransform]) -> None:
    params, rates = first_params(2), torch.tensor([0.01, 0.1])
    params = {name: p[:1].repeat_interleave(2, 0) for name, p in params.items()}
    transform = make()
    state = transform.init(params)
    for step in range(3):
        before = map_state(lambda t: t[1].clone(), state)
        changes, state = transform.update(slopes(params, step), state, params, rates, {})
        if step == 1:  # the second member rests
            for name, tensors in state.items():
                for key, tensor in tensors.items() if isinstance(tensors, dict) else [(None, tensors)]:
                    tensor[1] = before[name] if key is None else before[name][key]
            changes = {name: change.index_fill(0, torch.tensor([1]), 0) for name, change in changes.items()}
        for name, change in changes.items():
            params[name].add_(change)
    assert state["steps"].tolist() == [3, 2]
    alone = {name: p[1:] for name, p in first_params(2).items()}
    alone = {name: first_params(2)[name][:1].clone() for name in alone}
    one = make()
    state = one.init(alone)
    for step in (0, 2):
        changes, state = one.update(slopes(alone, step), state, alone, rates[1:], {})
        for name, change in changes.items():
            alone[name].add_(change)
    assert_same(params, 1, {name: p[0] for name, p in alone.items()})


def test_single_precision_comes_near() -> None:
    torch.set_default_dtype(torch.float32)
    params, rates = first_params(5), torch.tensor([0.01, 0.1, 0.003, 0.03, 0.05])
    got = run(adamw(), params, rates)
    for m, rate in enumerate(rates.tolist()):
        assert_same(got, m, run_torch(torch.optim.AdamW, params, m, rate), 1e-5)


TORCH: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.ASGD, {"t0": 10, "weight_decay": 0.01}),
    (torch.optim.Adadelta, {"weight_decay": 0.01}),
    (torch.optim.Adafactor, {}),
    (torch.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.AdamW, {"betas": (0.8, 0.95)}),
    (torch.optim.Adamax, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.RAdam, {"weight_decay": 0.01, "decoupled_weight_decay": True}),
    (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
    (torch.optim.Rprop, {}),
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01, "maximize": True}),
    (torch.optim.SGD, {"momentum": 0.9, "foreach": True}),
]  # fmt: skip


def test_every_class_of_torch_is_tried() -> None:
    classes = {getattr(torch.optim, name) for name in torch.optim.__all__ if name[0].isupper() or name[0] == "R"}
    classes = {c for c in classes if isinstance(c, type) and issubclass(c, torch.optim.Optimizer)}
    unfit = {torch.optim.Optimizer, torch.optim.LBFGS, torch.optim.SparseAdam}
    assert classes - unfit - {cls for cls, _ in TORCH} <= {getattr(torch.optim, "Muon", None)}


@pytest.mark.parametrize("members", [1, 5])
@pytest.mark.parametrize(("cls", "options"), TORCH)
def test_from_torch_optim_equals_torch(cls: type, options: dict[str, Any], members: int) -> None:
    params, rates = first_params(members), torch.tensor([0.01, 0.1, 0.003, 0.03, 0.05])[:members]
    got = run(from_torch_optim(cls, **options)(), params, rates)
    for m, rate in enumerate(rates.tolist()):
        assert_same(got, m, run_torch(cls, params, m, rate, **options))


@pytest.mark.parametrize(("cls", "options"), TORCH)
def test_members_can_be_kept_dropped_and_held_back(cls: type, options: dict[str, Any]) -> None:
    """What the engine does: state of resting members is put back, weak members leave, `make` is called again."""
    make = from_torch_optim(cls, **options)
    transform, params, rates = make(), first_params(4), torch.tensor([0.01, 0.1, 0.003, 0.03])
    state = transform.init(params)
    for step in range(6):
        if step == 3:
            index = torch.tensor([3, 1])
            params, rates = {name: p[index] for name, p in params.items()}, rates[index]
            state, transform = map_state(lambda t, index=index: t[index], state), make()
        resting = 1 if step == 4 else None
        before = map_state(torch.clone, state)
        changes, state = transform.update(slopes(params, step), state, params, rates, {})
        if resting is not None:
            put_back(state, before, resting)
            changes = {name: c.index_fill(0, torch.tensor([resting]), 0.0) for name, c in changes.items()}
        for name, change in changes.items():
            params[name] += change
    for place, m, steps in ((0, 3, range(6)), (1, 1, [0, 1, 2, 3, 5])):
        own = {name: nn.Parameter(p[m].clone()) for name, p in first_params(4).items()}
        optimizer = cls(list(own.values()), lr=[0.01, 0.1, 0.003, 0.03][m], **options)
        for step in steps:
            gradients = slopes({name: p.detach() for name, p in own.items()}, step)
            for name, p in own.items():
                p.grad = gradients[name]
            optimizer.step()
        assert_same(params, place, {name: p.detach() for name, p in own.items()})


def put_back(state: Any, before: Any, m: int) -> None:
    if isinstance(state, Tensor):
        state[m] = before[m]
    else:
        for key in state:
            put_back(state[key], before[key], m)


def test_numbers_among_the_options_may_differ_by_member() -> None:
    params, rates = first_params(2), torch.tensor([0.01, 0.1])
    decays, second = [0.1, 0.3], [0.9, 0.99]
    make = from_torch_optim(torch.optim.AdamW, weight_decay=5.0)
    got = run(make(weight_decay=torch.tensor(decays), betas=(0.9, torch.tensor(second))), params, rates)
    for m in range(2):
        options = {"weight_decay": decays[m], "betas": (0.9, second[m])}
        assert_same(got, m, run_torch(torch.optim.AdamW, params, m, rates[m].item(), **options))


def test_roles_become_groups() -> None:
    roles = {"weight": Role("matrix", rate=2.0), "bias": Role("bias", decay=0.0)}
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.003])
    got = run(from_torch_optim(torch.optim.AdamW, weight_decay=0.1)(), params, rates, roles)
    ours = run(adamw(weight_decay=0.1), params, rates, roles)
    for name in params:
        torch.testing.assert_close(got[name], ours[name], rtol=0, atol=1e-12)


class MatricesOnly(torch.optim.RMSprop):
    """Refuses all but matrices."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        if any(p.ndim != 2 for group in self.param_groups for p in group["params"]):
            raise ValueError("matrices only")


@pytest.mark.parametrize("cls", [MatricesOnly, *([torch.optim.Muon] if hasattr(torch.optim, "Muon") else [])])
def test_matrices_only(cls: type) -> None:
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.003])
    params["output"] = params["weight"].clone()
    roles = {"weight": Role("matrix"), "bias": Role("bias"), "output": Role("output")}
    got = run(from_torch_optim(cls, weight_decay=0.1)(), params, rates, roles)
    for m, rate in enumerate(rates.tolist()):
        hidden = {"weight": params["weight"]}
        rest = {name: params[name] for name in ("bias", "output")}
        assert_same(got, m, run_torch(cls, hidden, m, rate, weight_decay=0.1))
        assert_same(got, m, run_torch(torch.optim.AdamW, rest, m, rate, weight_decay=0.1))
    del params["weight"]
    run(from_torch_optim(cls)(), params, rates, roles)


class Hoarder(torch.optim.Optimizer):
    """Keeps state of every kind in every place, and steps by all of it."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self.calls = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.calls += 1
        for group in self.param_groups:
            group["count"] = group.get("count", 0) + 1
            group["size"] = torch.tensor(float(group["count"]))
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(n=0, late=None, even=True, pair=(p.clone(), [torch.zeros_like(p), []]), grad=0.0)
                state["n"] += 1
                state["even"] = not state["even"]
                first, (second, nothing) = state["pair"]
                assert nothing == []
                state["pair"] = (second, [first, []])  # swapped without a copy
                if state["n"] > 2:
                    state["late"] = state.get("late") or 1.5
                    state["extra"] = p.grad
                pull = second + state["n"] + (3 if state["even"] else 0) + (state["late"] or 0) + state["grad"]
                pull = pull + self.calls + group["size"] + state.get("extra", 0.0)
                state["grad"] = p.grad.mean().item()
                p.add_(pull + p.grad, alpha=-0.01 * group["lr"])


def test_state_of_every_kind() -> None:
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.003])
    got = run(from_torch_optim(Hoarder)(), params, rates)
    for m, rate in enumerate(rates.tolist()):
        assert_same(got, m, run_torch(Hoarder, params, m, rate))


class Secretive(torch.optim.SGD):
    """Keeps text in its state."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.state[self.param_groups[0]["params"][0]]["note"] = "text"


def test_what_cannot_be_run_is_said() -> None:
    with pytest.raises(ContractError, match="LBFGS needs a closure"):
        from_torch_optim(torch.optim.LBFGS)()
    with pytest.raises(ContractError, match="SparseAdam does not support dense gradients"):
        from_torch_optim(torch.optim.SparseAdam)()
    with pytest.raises(OptionError, match="optimizer SGD: Invalid momentum value: -1"):
        from_torch_optim(torch.optim.SGD, momentum=-1)()
    with pytest.raises(OptionError, match=r"optimizer SGD: .*unexpected keyword argument 'nonsense'"):
        from_torch_optim(torch.optim.SGD)(nonsense=1)
    with pytest.raises(OptionError, match=r"lr=0\.1: give it as the regressor's learning_rate"):
        from_torch_optim(torch.optim.SGD, lr=0.1)()
    transform, params = from_torch_optim(Secretive)(), first_params(1)
    with pytest.raises(ContractError, match="is a str: only tensors and numbers"):
        transform.update(params, transform.init(params), params, torch.tensor([0.1]), {})
