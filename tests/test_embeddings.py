"""Embeddings of numbers, in a stack that trains and outside of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from autoreg.builtins.embeddings import Periodic, PiecewiseLinear
from autoreg.encoding import N_QUANTILES
from autoreg.parameters import FlatParameters
from autoreg.stacking import stack_modules

M, B, N = 3, 11, 4


def periodic(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return Periodic(N, 6, 4, sigma=1.0, rate=1.0)


def piecewise(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    knots = np.sort(np.random.default_rng(seed).normal(size=(N_QUANTILES, N)), axis=0)
    layer = PiecewiseLinear(knots, n_bins=5, size=3, rate=1.0)
    nn.init.normal_(layer.bins)
    return layer


@pytest.mark.parametrize("make", [periodic, piecewise])
def test_a_stack_in_training_has_the_gradients_of_its_members_alone(make):
    members = [make(seed).double() for seed in range(M)]
    stack, z = stack_modules(members).train(), torch.randn(M, B, N, dtype=torch.float64)
    output = stack(z)
    pull = torch.randn_like(output)
    found = torch.autograd.grad((output * pull).sum(), list(stack.parameters()))
    for m, member in enumerate(members):
        alone = member(z[m])
        torch.testing.assert_close(output[m], alone, rtol=0, atol=1e-12)
        expected = torch.autograd.grad((alone * pull[m]).sum(), list(member.parameters()))
        for mine, own in zip(found, expected, strict=True):
            torch.testing.assert_close(mine[m], own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [periodic, piecewise])
def test_numbers_that_are_learned_themselves_have_a_gradient(make):
    members = [make(seed).double() for seed in range(M)]
    stack, z = stack_modules(members).train(), torch.randn(M, B, N, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(stack(z).square().sum(), [z])
    own = z.detach()[1].requires_grad_()
    (expected,) = torch.autograd.grad(members[1](own).square().sum(), [own])
    torch.testing.assert_close(slope[1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [periodic, piecewise])
def test_products_in_bfloat16_are_those_of_float32_to_three_digits(make):
    z = torch.randn(M, B, N)
    found = []
    for half in (False, True):
        stack = stack_modules([make(seed) for seed in range(M)]).train()
        store = FlatParameters(stack, half)
        before = store.flat.clone()
        output = stack(z)
        assert output.dtype == (torch.bfloat16 if half else torch.float32)
        gradients = torch.autograd.grad(output.float().square().sum(), list(store.parameters.values()))
        found.append(store.views(store.gather(gradients).clone()))
        assert torch.equal(store.flat, before)
    for name, exact in found[0].items():
        assert found[1][name].dtype == torch.float32
        assert (found[1][name] - exact).abs().max() < 0.03 * exact.abs().max()
