"""What sets `realmlp` and `tabm` apart from a perceptron."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from autoreg import NeuralRegressor
from autoreg.builtins.activations import ACTIVATIONS
from autoreg.builtins.layers import Dropout, Parametric, Scale
from autoreg.builtins.networks import mlp, realmlp, tabm
from autoreg.builtins.ntp import LEVEL, gain_of, ntp_linear
from autoreg.builtins.optimizers import adam, adamw
from autoreg.builtins.residual import Residual
from autoreg.builtins.views import Heads, Views
from autoreg.errors import OptionError
from autoreg.folds import Fold
from autoreg.grouping import Built, build
from autoreg.parameters import FlatParameters
from autoreg.problem import Problem
from autoreg.scoring import as_metric
from autoreg.space import Candidate
from autoreg.stacking import stack_modules
from autoreg.tables import infer_schema
from autoreg.updates import OptimizerPart, Updates, infer_roles


def size(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


# realmlp


@pytest.mark.parametrize("make", [realmlp, partial(realmlp, residual=True)], ids=["plain", "residual"])
@pytest.mark.parametrize("activation", ["relu", "silu", "mish", "tanh", "identity", "prelu"])
def test_the_size_of_outputs_does_not_depend_on_the_width(make: Callable[..., nn.Module], activation: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(500, 40)

    def of_width(width: int) -> float:
        sizes = [size(make(40, 64, ACTIVATIONS[activation], depth=3, width=width)(x)) for _ in range(4)]
        return sum(sizes) / 4

    narrow, wide = of_width(128), of_width(256)
    assert 0.9 < narrow / wide < 1.1
    # biases of spread 0.58 lie on outputs of variance one
    assert 0.7 < wide < 3


def test_an_mlp_of_torch_has_no_such_property() -> None:
    torch.manual_seed(0)
    assert size(mlp(40, 8, nn.ReLU, depth=3, width=256)(torch.randn(2000, 40))) < 0.3


class Divided(nn.Module):
    """NTP as the paper writes it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.root = math.sqrt(layer.in_features)
        self.weight = nn.Parameter(layer.weight.detach() * self.root)
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight / self.root, self.bias)


def test_rates_are_the_division_in_every_forward_pass() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(ntp_linear(9, 100), nn.SiLU(), ntp_linear(100, 2)).double()
    theirs = nn.Sequential(*[Divided(part) if isinstance(part, nn.Linear) else part for part in ours])
    matrices = [p for name, p in theirs.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in theirs.named_parameters() if name.endswith("bias")]
    rate = 0.003
    loop = torch.optim.AdamW(
        [
            # a decay of a step is learning rate times decay, whatever the layer
            {"params": matrices, "lr": rate * LEVEL, "weight_decay": 0.1 / LEVEL},
            {"params": biases, "lr": rate * LEVEL * 0.1, "weight_decay": 0.0},
        ],
        eps=1e-30,
    )
    stack = stack_modules([ours])
    store = FlatParameters(stack)
    updates = Updates([OptimizerPart(adamw, {"weight_decay": 0.1, "eps": 1e-30})], store, infer_roles(stack))
    x, y = torch.randn(30, 9, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    for _ in range(20):
        loss = (stack(x.unsqueeze(0)) - y).square().mean()
        updates.step(torch.autograd.grad(loss, list(store.parameters.values())), torch.tensor([rate]).double(), [])
        loop.zero_grad()
        (theirs(x) - y).square().mean().backward()
        loop.step()
    torch.testing.assert_close(stack(x.unsqueeze(0))[0], theirs(x), rtol=0, atol=1e-6)


def test_features_biases_and_units_have_rates_of_their_own() -> None:
    network = realmlp(64, 1, nn.SiLU, depth=1, width=8, scale_rate=3, bias_rate=0.5, alpha_rate=0.25)
    stack = stack_modules([network])
    roles = infer_roles(stack)
    rates = {name: (role.kind, role.rate, role.decay) for name, role in roles.items()}
    assert rates == {
        "0.weight": ("scale", 3 * LEVEL, 0.0),
        "1.weight": ("matrix", LEVEL / 8, 8 / LEVEL),
        "1.bias": ("bias", 0.5 * LEVEL, 0.0),
        "2.alpha": ("scale", 0.25 * LEVEL, 0.0),
        "4.weight": ("output", LEVEL / math.sqrt(8), math.sqrt(8) / LEVEL),
        "4.bias": ("bias", 0.5 * LEVEL, 0.0),
    }
    store = FlatParameters(stack)
    before = {name: parameter.detach().clone() for name, parameter in store.parameters.items()}
    updates = Updates([OptimizerPart(adam)], store, roles)
    updates.step([torch.ones_like(p) for p in store.parameters.values()], torch.tensor([1e-3]), [])
    for name, parameter in store.parameters.items():
        # Adam's first step is its learning rate
        torch.testing.assert_close(before[name] - parameter, torch.full_like(parameter, 1e-3 * rates[name][1]))


def test_a_residual_layer_adds_to_what_it_gets() -> None:
    network = realmlp(4, 2, nn.SiLU, depth=3, width=8, residual=True)
    skipped = [part for part in network if isinstance(part, Residual)]  # type: ignore[union-attr]
    assert len(skipped) == 2
    with torch.no_grad():
        for part in skipped:
            part.layers[-1].weight.zero_()  # type: ignore[union-attr, operator]
            part.layers[-1].bias.zero_()  # type: ignore[union-attr, operator]
    shallow = nn.Sequential(*[part for part in network if part not in skipped])  # type: ignore[union-attr]
    x = torch.randn(5, 4)
    assert network(x).equal(shallow(x))


def test_a_scale_starts_as_nothing_and_multiplies_each_feature() -> None:
    layer, x = Scale(3), torch.randn(5, 3)
    assert layer(x).equal(x)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 0.0, -2.0]))
    assert layer(x).equal(x * torch.tensor([1.0, 0.0, -2.0]))


def test_a_parametric_unit_lies_between_its_input_and_its_activation() -> None:
    x, layer = torch.randn(5, 3), Parametric(nn.Tanh(), 3)
    assert layer(x).equal(x.tanh())
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.0, 0.5, 1.0]))
    y = layer(x)
    torch.testing.assert_close(y[:, 0], x[:, 0])
    torch.testing.assert_close(y[:, 1], (x[:, 1] + x[:, 1].tanh()) / 2)


def test_the_gain_of_what_says_nothing_is_bounded() -> None:
    assert gain_of(partial(nn.Threshold, 1e9, 0.0)) == 10.0
    assert gain_of(lambda: nn.Threshold(-1e9, 0.0)) == pytest.approx(1.0)
    with torch.device("meta"):
        assert gain_of(ACTIVATIONS["prelu"]) == 1.0


# tabm


def test_one_view_with_factors_of_one_is_a_perceptron() -> None:
    torch.manual_seed(0)
    network = tabm(4, 2, nn.SiLU, depth=2, width=8, views=1)
    plain = mlp(4, 2, nn.SiLU, depth=2, width=8)
    with torch.no_grad():
        network[0].factors.fill_(1.0)  # type: ignore[union-attr, operator]
        for i in (0, 3):
            plain[i].load_state_dict(network[i + 1].state_dict())  # type: ignore[index]
        plain[6].weight.copy_(network[-1].weight[0])  # type: ignore[index]
        plain[6].bias.copy_(network[-1].bias[0])  # type: ignore[index]
    x = torch.randn(7, 4)
    torch.testing.assert_close(network(x)[:, 0], plain(x))


def test_each_view_is_a_network_of_its_own() -> None:
    torch.manual_seed(0)
    network = tabm(4, 2, nn.SiLU, depth=1, width=8, views=3)
    x = torch.randn(7, 4)
    y = network(x)
    assert y.shape == (7, 3, 2)
    for v in range(3):
        hidden = network[2](network[1](x * network[0].factors[v]))  # type: ignore[index, union-attr]
        own = nn.functional.linear(hidden, network[-1].weight[v], network[-1].bias[v])  # type: ignore[index, arg-type]
        torch.testing.assert_close(y[:, v], own)


def test_views_begin_as_normal_numbers_or_as_signs() -> None:
    torch.manual_seed(0)
    assert set(Views(50, 40, signs=True).factors.flatten().tolist()) == {-1.0, 1.0}
    assert abs(size(Views(50, 40).factors) - 1) < 0.1


def seeded(network: nn.Module, seed: int) -> nn.Module:
    for i, layer in enumerate(part for part in network.modules() if isinstance(part, Dropout)):
        layer.seed.fill_(100 * seed + i)
    return network.double()


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_a_stack_of_views_is_its_members(dropout: float, n_outputs: int) -> None:
    torch.manual_seed(0)
    members = [seeded(tabm(5, n_outputs, nn.SiLU, depth=2, width=8, views=4, dropout=dropout), m) for m in range(3)]
    x = torch.randn(3, 20, 5, dtype=torch.float64)
    stack = stack_modules(members)
    y = stack(x)
    assert y.shape == (3, 20, 4, n_outputs)
    gradients = torch.autograd.grad(y.sin().sum(), list(stack.parameters()))
    for m, member in enumerate(members):
        alone = member(x[m])
        torch.testing.assert_close(y[m], alone, rtol=0, atol=1e-12)
        own = torch.autograd.grad(alone.sin().sum(), list(member.parameters()))
        for one, other in zip(gradients, own, strict=True):
            torch.testing.assert_close(one[m], other, rtol=0, atol=1e-10)
        # rows behind, as a longer batch of another member adds them, change nothing
        torch.testing.assert_close(member(x[m][:9]), alone[:9], rtol=0, atol=1e-12)


def test_what_is_predicted_is_the_mean_of_the_views() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 3).numpy()
    model = NeuralRegressor(network="tabm", network_options={"views": 4, "width": 8}, max_epochs=3, random_state=0)
    model.fit(x, 5 + 2 * x[:, 0])
    module = model.to_torch()
    heads = next(part for part in module.modules() if isinstance(part, Heads))
    seen: list[Tensor] = []
    heads.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    scaled = (model.predict(x[:10]) - 5) / 2
    assert scaled.shape == (10,)
    with torch.no_grad():
        torch.testing.assert_close(
            module(torch.from_numpy(x[:10])).flatten().numpy(), model.predict(x[:10]), rtol=1e-5, atol=1e-5
        )
    assert seen[0].shape[-2:] == (4, 1)


def test_memory_and_work_of_a_stack_grow_with_the_views() -> None:
    x = torch.randn(60, 3).numpy()
    schema = infer_schema(pd.DataFrame(x, columns=["a", "b", "c"]))
    coded = schema.encode(pd.DataFrame(x, columns=["a", "b", "c"]))
    fold = Fold(np.arange(40), np.arange(40, 60))
    problem = Problem(coded.numbers, coded.codes, schema.layout, x[:, :1], None, [fold], as_metric(None))

    def built(views: int) -> Built:
        return build(0, Candidate({"network": "tabm", "network__views": views, "max_epochs": 1}), problem)

    two, eight = built(2), built(8)
    assert two.members[0].module.n_views == 2
    assert 2 < eight.bytes / two.bytes < 4
    assert 4 <= eight.work / two.work < 5


# options


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (realmlp, {"depth": 0}, "depth=0: give a whole number of at least 1"),
        (realmlp, {"scale_rate": -1.0}, "scale_rate=-1.0: give a finite number of at least 0"),
        (realmlp, {"bias_rate": math.inf}, "bias_rate=inf"),
        (realmlp, {"alpha_rate": math.nan}, "alpha_rate=nan"),
        (tabm, {"views": 0}, "views=0: give a whole number of at least 1"),
        (tabm, {"factors": "norml"}, "no factors 'norml'; did you mean 'normal'"),
    ],
)
def test_impossible_options_are_said(make: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make(3, 1, nn.ReLU, **options)  # type: ignore[operator]
