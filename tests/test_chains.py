"""A run of layers equals the layers one after another, for every member, gradients included."""

import copy

import pytest
import torch
from torch import nn

from autoreg.arithmetic import fast_products
from autoreg.builtins.layers import Dropout, Mish, Parametric, PReLU, Scale
from autoreg.builtins.residual import Residual
from autoreg.parameters import FlatParameters
from autoreg.stacking import stack_modules

M, B, D = 3, 7, 5


def dropout():
    layer = Dropout(0.4)
    layer.seed.fill_(11)
    return layer


def moved(activation, n_units):
    layer = Parametric(activation, n_units)
    with torch.no_grad():
        layer.alpha.copy_(torch.linspace(-0.5, 1.5, n_units))
    return layer


NETWORKS = {
    **{
        name: lambda act=act: nn.Sequential(nn.Linear(D, 6), act(), nn.Linear(6, 6), act(), nn.Linear(6, 1))
        for name, act in {
            "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "gelu": nn.GELU,
            "gelu_tanh": lambda: nn.GELU("tanh"), "leaky": nn.LeakyReLU, "mish": Mish, "elu": nn.ELU,
        }.items()
    },
    **{
        f"parametric {name}": lambda act=act: nn.Sequential(
            nn.Linear(D, 6), moved(act(), 6), dropout(), nn.Linear(6, 6), moved(act(), 6), nn.Linear(6, 1)
        )
        for name, act in {
            "silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh, "mish": Mish, "elu": nn.ELU, "prelu": PReLU,
            "identity": nn.Identity,
        }.items()
    },
    "two activations in a row": lambda: nn.Sequential(nn.Linear(D, 6), nn.Tanh(), nn.ReLU(), nn.Linear(6, 2)),
    "dropout after tanh": lambda: nn.Sequential(nn.Linear(D, 6), nn.Tanh(), dropout(), nn.Linear(6, 2)),
    "ends in an activation": lambda: nn.Sequential(nn.Linear(D, 6), nn.ReLU()),
    "begins with an activation": lambda: nn.Sequential(nn.ReLU(), nn.Linear(D, 2)),
    "no bias": lambda: nn.Sequential(nn.Linear(D, 6, bias=False), nn.ReLU(), nn.Linear(6, 1, bias=False)),
    "linear layers only": lambda: nn.Sequential(nn.Linear(D, 1), nn.Linear(1, 4)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Linear(D, 6), nn.ReLU()), nn.Sequential(nn.Linear(6, 1))),
}  # fmt: skip


NETWORKS |= {
    "residual": lambda: nn.Sequential(
        nn.Linear(D, 6), Residual(moved(nn.SiLU(), 6), dropout(), nn.Linear(6, 6)),
        Residual(nn.Tanh(), nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 1),
    ),
    "residual first, and one within another": lambda: nn.Sequential(
        Residual(nn.ReLU(), Residual(nn.Linear(D, D), nn.Tanh()), nn.Linear(D, D)), nn.Linear(D, 2)
    ),
    "residual without a layer that learns": lambda: nn.Sequential(Residual(nn.Tanh()), nn.Linear(D, 2)),
    "residual last": lambda: nn.Sequential(nn.Linear(D, 6), Residual(nn.Linear(6, 6), nn.ReLU())),
    "scaled features": lambda: nn.Sequential(scaled(), nn.Linear(D, 6), nn.SiLU(), scaled(6), nn.Linear(6, 1)),
}  # fmt: skip


def scaled(n_features=D):
    layer = Scale(n_features)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1, 2, n_features))
    return layer


def used_twice():
    shared = nn.Linear(D, D)
    return nn.Sequential(shared, nn.Tanh(), shared, nn.ReLU())


NETWORKS["a layer twice"] = used_twice


def alone(network, x, target):
    x = x.clone().requires_grad_()
    output = network(x)
    parameters = list(network.parameters())
    return output, torch.autograd.grad((output - target).square().sum(), [x, *parameters], allow_unused=True)


@pytest.mark.parametrize("places", [False, True], ids=["own memory", "lent memory"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_stacked_run_equals_each_member_alone(name, places):
    torch.manual_seed(0)
    members = [NETWORKS[name]().double() for _ in range(M)]
    stack = stack_modules(members)
    x = torch.randn(M, B, D, dtype=torch.float64)
    store = FlatParameters(stack) if places else None
    parameters = list(store.parameters.values() if store else stack.parameters())
    names = [n for n, _ in members[0].named_parameters()]
    for _ in range(2):  # memory that was lent is lent again
        given = x.clone().requires_grad_()
        output = stack(given)
        target = torch.ones_like(output)
        loss = (output - target).square().sum()
        slope, *gradients = torch.autograd.grad(loss, [given, *parameters], allow_unused=True)
        views = store.views(store.gather(gradients)) if store else dict(zip(names, gradients, strict=True))
        for m, member in enumerate(members):
            expected, (own_slope, *own) = alone(copy.deepcopy(member), x[m], target[m])
            torch.testing.assert_close(output[m], expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(slope[m], own_slope, rtol=0, atol=1e-12)
            for key, gradient in zip(names, own, strict=True):
                torch.testing.assert_close(views[key][m], gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(given.detach(), x, rtol=0, atol=0)


def test_float32_keeps_its_digits_whichever_library_multiplies():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    stack = stack_modules([copy.deepcopy(network) for _ in range(8)])
    store = FlatParameters(stack)
    x = torch.randn(8, 256, 20)
    with fast_products():
        gradients = torch.autograd.grad(stack(x).square().sum(), list(store.parameters.values()))
        views = store.views(store.gather(gradients))
    exact = network.double()
    _, own = alone(exact, x[5].double(), 0.0)
    for name, gradient in zip([n for n, _ in exact.named_parameters()], own[1:], strict=True):
        assert (views[name][5] - gradient).abs().max() < 1e-5 * gradient.abs().max()


class Beside(nn.Module):
    """A network of a user's, with a layer under a name that runs have a use for."""

    leading_axes = True

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(D, D))

    def forward(self, x):
        return x + self.inner(x)


def test_a_layer_may_be_called_inner():
    members = [nn.Sequential(nn.Linear(D, D), Beside()) for _ in range(M)]
    x = torch.randn(M, B, D)
    torch.testing.assert_close(stack_modules(members)(x)[1], members[1](x[1]))


def test_frozen_weights_have_no_gradient_and_the_rest_has():
    stack = stack_modules([nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 1)) for _ in range(M)])
    stack[0].weight.requires_grad_(False)
    stack(torch.ones(M, B, D)).sum().backward()
    assert stack[0].weight.grad is None
    assert stack[0].bias.grad is not None
    assert stack[2].weight.grad is not None


def test_features_that_nobody_learns_from_need_no_gradient():
    def network():
        return nn.Sequential(nn.Tanh(), Residual(nn.ReLU(), nn.Linear(D, D)), nn.Linear(D, 1))

    members = [network() for _ in range(M)]
    stack, x = stack_modules(members), torch.randn(M, B, D)
    stack(x).square().sum().backward()
    for m, member in enumerate(members):
        member(x[m]).square().sum().backward()
        torch.testing.assert_close(stack[1].layers[1].weight.grad[m], member[1].layers[1].weight.grad)


@pytest.mark.parametrize("name", ["residual", "residual first, and one within another", "scaled features"])
def test_a_run_in_bfloat16_is_near_the_one_in_float32(name):
    torch.manual_seed(0)
    members = [NETWORKS[name]() for _ in range(M)]
    x = torch.randn(M, B, D)
    found = []
    for half in (False, True):
        store = FlatParameters(stack := stack_modules(members), half)
        given = x.clone().requires_grad_()
        loss = stack(given).float().square().sum()
        slope, *gradients = torch.autograd.grad(loss, [given, *store.parameters.values()])
        assert slope.dtype == torch.float32
        found.append((slope, store.gather(gradients).clone()))
    for exact, near in zip(*found, strict=True):
        assert (near - exact).abs().max() < 0.05 * exact.abs().max()


def test_hooks_of_a_layer_are_called():
    network = nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 1))
    stack = stack_modules([network, copy.deepcopy(network)])
    seen = []
    stack[0].register_forward_hook(lambda layer, inputs, output: seen.append(output.shape))
    stack(torch.ones(2, B, D))
    assert seen == [(2, B, 4)]


def test_relu_in_bfloat16_is_relu():
    x = torch.tensor([-3.0, -0.0, 0.0, 1e-30, 2.5, float("inf"), float("-inf")]).bfloat16()
    stack = stack_modules([nn.Sequential(nn.Linear(1, 7), nn.ReLU())]).bfloat16()
    with torch.no_grad():
        stack[0].weight.zero_()
        stack[0].bias.copy_(x)
    assert torch.equal(stack(torch.ones(1, 1, 1).bfloat16()).flatten(), x.relu())


def test_the_input_may_have_views():
    network = nn.Sequential(nn.Linear(D, 4), nn.ReLU(), nn.Linear(4, 2))
    stack = stack_modules([network, copy.deepcopy(network)])
    x = torch.randn(2, B, 3, D)
    torch.testing.assert_close(stack(x)[1], network(x[1]))
