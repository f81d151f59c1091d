"""Every built-in optimizer gives the numbers of its class in torch.optim, for one member and for a stack of members."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from descent import assert_same, betas_of, first_params, flat, run, run_torch, slopes

from autoreg.builtins.optimizers import adam, adamw, momentum, nadam, rmsprop, sgd
from autoreg.gradients import GradientTransform, Role, map_state


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """torch keeps NAdam's product of momenta in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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
