"""Muon: torch's numbers on hidden matrices, AdamW's elsewhere, each member alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from descent import assert_same, betas_of, run, run_torch

from autoreg import NeuralRegressor
from autoreg.builtins.muon import muon, orthogonal
from autoreg.errors import OptionError
from autoreg.gradients import Role, Tensors
from autoreg.plugins import registry
from autoreg.testing import check_optimizer

ROLES = {"hidden": Role("matrix"), "bias": Role("bias", decay=0.0), "output": Role("output")}
RATES = torch.tensor([0.01, 0.1, 0.003])


def params_of(dtype: torch.dtype = torch.float64) -> Tensors:
    generator = torch.Generator().manual_seed(2)
    shapes = {"hidden": (3, 8, 5), "bias": (3, 8), "output": (3, 1, 8)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for name, shape in shapes.items()
    }


@pytest.mark.parametrize("shape", [(2, 6, 6), (2, 4, 9), (2, 9, 4)])
def test_orthogonal_keeps_the_directions_and_evens_out_their_lengths(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, lengths, v = torch.linalg.svd(matrices, full_matrices=False)
    inner = u.mT @ orthogonal(matrices) @ v.mT
    after = inner.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(inner, torch.diag_embed(after), rtol=0, atol=1e-12)
    assert (lengths[:, 0] / lengths[:, -1]).min() > 2
    assert 0.6 < after.min() < after.max() < 1.3


def test_orthogonal_of_nothing_and_of_no_number_stays_with_its_member() -> None:
    matrices = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    alone = orthogonal(matrices[:1])
    matrices[1], matrices[2, 0, 0] = 0.0, torch.nan
    found = orthogonal(matrices)
    torch.testing.assert_close(found[:1], alone)
    assert not found[1].any()
    assert found[2].isnan().all()


def one_step(params: Tensors, gradients: Tensors, **options: Any) -> Tensors:
    transform = muon(**options)
    return transform.update(gradients, transform.init(params), params, RATES.to(params["bias"].dtype), ROLES)[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"adjust_lr_fn": "original"}, {"nesterov": False, "momentum": 0.8}, {"weight_decay": 0.5, "ns_steps": 3}],
    ids=str,
)
def test_hidden_matrices_get_what_torch_gives_them(options: dict[str, Any]) -> None:
    """torch computes in bfloat16, whatever it is given: near in bfloat16, not far in float64."""
    if not hasattr(torch.optim, "Muon"):  # from PyTorch 2.9 on
        return
    params = params_of()
    theirs = {"adjust_lr_fn": "match_rms_adamw", **options}
    generator = torch.Generator().manual_seed(3)
    gradients = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in params.items()}
    for precision, allowed in (("bfloat16", 0.02), ("float32", 0.1)):
        changes = one_step(params, gradients, precision=precision, **options)
        for m, rate in enumerate(RATES.tolist()):
            own = torch.nn.Parameter(params["hidden"][m].clone())
            own.grad = gradients["hidden"][m]
            torch.optim.Muon([own], lr=rate, **theirs).step()
            wanted = own.detach() - params["hidden"][m]
            assert (changes["hidden"][m] - wanted).norm() < allowed * wanted.norm()


def test_all_else_gets_adamw() -> None:
    params = params_of()
    got = run(muon(weight_decay=0.2, beta2=0.95), params, RATES, ROLES)
    for m, rate in enumerate(RATES.tolist()):
        for name, decay in (("bias", 0.0), ("output", 0.2)):
            options = betas_of({"weight_decay": decay, "beta2": 0.95})
            assert_same(got, m, run_torch(torch.optim.AdamW, {name: params[name]}, m, rate, **options))


def test_members_may_differ_in_every_number() -> None:
    params = params_of()
    options = {"momentum": [0.9, 0.95, 0.5], "weight_decay": [0.0, 0.1, 0.3], "beta2": [0.9, 0.99, 0.999]}
    got = run(
        muon(**{name: torch.tensor(values, dtype=torch.float64) for name, values in options.items()}),
        params,
        RATES,
        ROLES,
    )
    for m in range(3):
        own = {name: values[m] for name, values in options.items()}
        alone = run(muon(**own), {name: p[m : m + 1] for name, p in params.items()}, RATES[m : m + 1], ROLES)
        assert_same(got, m, {name: p[0] for name, p in alone.items()}, 1e-9)


def test_factors_of_rate_and_decay_are_taken() -> None:
    params, gradients = params_of(), params_of()
    half = {**ROLES, "hidden": Role("matrix", rate=0.5, decay=0.0)}
    transform = muon(weight_decay=0.3)
    changes, _ = transform.update(gradients, transform.init(params), params, RATES.double(), half)
    plain = one_step(params, gradients, weight_decay=0.0)
    torch.testing.assert_close(changes["hidden"], plain["hidden"] / 2)


def test_float32_weights_keep_their_precision_on_request() -> None:
    params = params_of(torch.float32)
    wanted = one_step(params_of(), params_of())["hidden"]
    exact = one_step(params, params, precision="float32")["hidden"]
    rough = one_step(params, params, precision="bfloat16")["hidden"]
    assert exact.dtype == rough.dtype == torch.float32
    torch.testing.assert_close(exact.double(), wanted, rtol=1e-4, atol=1e-6)
    assert 1e-4 < (rough - wanted).norm() / wanted.norm() < 0.1


def test_it_keeps_the_contract_of_optimizers() -> None:
    entry = registry().get("optimizer", "muon")
    check_optimizer(entry.thing, name="muon", space=entry.space, **entry.facts)


@pytest.mark.parametrize("option", ["precision", "adjust_lr_fn"])
def test_a_word_that_is_none_is_one_line(option: str) -> None:
    with pytest.raises(OptionError, match=f"no {option} 'bfloat'"):
        muon(**{option: "bfloat"})


def test_it_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator).numpy()
    y = x[:, 0] * x[:, 1] + x[:, 2]
    sizes = {"network_options": {"width": 16, "depth": 2}, "max_epochs": 60, "learning_rate": 0.02, "random_state": 0}
    model = NeuralRegressor(optimizer="muon", **sizes).fit(x, y)
    assert model.score(x, y) > 0.9
