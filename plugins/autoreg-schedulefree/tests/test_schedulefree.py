"""The optimizers give the numbers of the package's own, alone in a plain loop, and score its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from autoreg_schedulefree import adamw, radam, sgd
from descent import first_params, slopes
from pages import run_page
from schedulefree import AdamWScheduleFree, RAdamScheduleFree, SGDScheduleFree
from torch import nn

from autoreg import NeuralRegressor
from autoreg.gradients import Role
from autoreg.testing import check_optimizer

CASES = [
    (adamw, AdamWScheduleFree, {}),
    (adamw, AdamWScheduleFree, {"beta1": [0.9, 0.95, 0.98], "beta2": 0.99, "weight_decay": [0.0, 0.1, 0.01]}),
    (adamw, AdamWScheduleFree, {"warmup_steps": 10, "r": 1.0, "weight_lr_power": 1.0, "eps": 1e-3}),
    (radam, RAdamScheduleFree, {}),
    (radam, RAdamScheduleFree, {"beta1": [0.9, 0.95, 0.98], "weight_decay": 0.1, "silent_sgd_phase": False}),
    (sgd, SGDScheduleFree, {}),
    (sgd, SGDScheduleFree, {"momentum": [0.9, 0.5, 0.98], "weight_decay": [0.0, 0.1, 0.01], "warmup_steps": 5}),
]


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def own(options: dict[str, Any], m: int) -> dict[str, Any]:
    """One member's options, by the package's names."""
    found = {name: value[m] if isinstance(value, list) else value for name, value in options.items()}
    if "beta1" in found:
        found["betas"] = (found.pop("beta1"), found.pop("beta2", 0.999))
    return found


@pytest.mark.parametrize("factor", [1.0, 0.1])
@pytest.mark.parametrize(("make", "cls", "options"), CASES)
def test_equals_the_packages_own_after_fifty_steps(
    make: Any, cls: type, options: dict[str, Any], factor: float, double: None
) -> None:
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.03])
    roles = {"weight": Role("matrix"), "bias": Role("bias", rate=factor)}
    transform = make(**{name: torch.tensor(v) if isinstance(v, list) else v for name, v in options.items()})
    state = transform.init(params)
    alone = [{name: nn.Parameter(p[m].clone()) for name, p in params.items()} for m in range(3)]
    optimizers = [
        cls([{"params": [p], "lr": rates[m].item() * roles[n].rate} for n, p in alone[m].items()], **own(options, m))
        for m in range(3)
    ]
    for step in range(50):
        changes, state = transform.update(slopes(params, step), state, params, rates, roles)
        params = {name: p + changes[name] for name, p in params.items()}
        for m, optimizer in enumerate(optimizers):
            optimizer.train()
            for name, gradient in slopes({n: p.detach() for n, p in alone[m].items()}, step).items():
                alone[m][name].grad = gradient
            optimizer.step()
    scored = transform.evaluation(params, state)
    for m, optimizer in enumerate(optimizers):
        for name, p in alone[m].items():
            torch.testing.assert_close(params[name][m], p.detach(), rtol=0, atol=1e-9)
        optimizer.eval()
        for name, p in alone[m].items():
            torch.testing.assert_close(scored[name][m], p.detach(), rtol=0, atol=1e-9)
            assert not torch.equal(scored[name][m], params[name][m])


@pytest.mark.parametrize("make", [adamw, radam, sgd])
def test_keeps_what_an_optimizer_promises(make: Any) -> None:
    check_optimizer(make, member_options=True)


def test_a_fit_predicts_with_the_averaged_weights() -> None:
    """A linear fit equals the package's own loop over the same rows, all of them in each step."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype(np.float32)
    y = x @ np.array([1.0, -2.0], np.float32) + 0.5
    start = nn.Linear(2, 1)
    model = NeuralRegressor(
        network=nn.Linear(2, 1), encoding=None, target_scaling=None, loss="mse", optimizer="schedulefree_sgd",
        schedule="constant", learning_rate=0.2, batch_size=40, max_epochs=200, random_state=0,
    )  # fmt: skip
    first = model.set_params(max_epochs=1, learning_rate=1e-30).fit(x, y).to_torch()
    linear = next(layer for layer in first.modules() if isinstance(layer, nn.Linear))
    start.load_state_dict(linear.state_dict())
    optimizer = SGDScheduleFree(start.parameters(), lr=0.2)
    for _ in range(200):
        optimizer.train()
        optimizer.zero_grad()
        nn.functional.mse_loss(start(torch.from_numpy(x))[:, 0], torch.from_numpy(y)).backward()
        optimizer.step()
    optimizer.eval()
    fitted = model.set_params(max_epochs=200, learning_rate=0.2).fit(x, y)
    with torch.no_grad():
        wanted = start(torch.from_numpy(x))[:, 0].numpy()
    assert fitted.predict(x) == pytest.approx(wanted, abs=1e-4)
    assert np.abs(wanted - y).max() < 0.1


def test_the_guide_runs() -> None:
    assert run_page("how-to/schedule-free.md") == 2
