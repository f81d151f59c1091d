"""Built-in activations, losses and networks, and the layers they are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics
from torch import Tensor, nn

from autoreg.builtins import losses
from autoreg.builtins.activations import ACTIVATIONS
from autoreg.builtins.layers import Dropout, LayerNorm, Mish, PReLU, random_bytes
from autoreg.builtins.networks import linear, mlp, realmlp, resnet
from autoreg.builtins.residual import ResidualBlock
from autoreg.errors import OptionError
from autoreg.plugins import load_plugins
from autoreg.registry import Registry
from autoreg.stacking import stack_modules

OFFERED = {
    "activation": set(ACTIVATIONS),
    "loss": {
        "absolute_error", "gamma", "huber", "log_cosh", "mae", "mse", "poisson", "quantile", "smooth_l1",
        "squared_error", "tweedie",
    },
    "optimizer": {"adam", "adamw", "momentum", "muon", "nadam", "rmsprop", "sgd"},
    "network": {"linear", "mlp", "realmlp", "resnet", "tabm"},
    "encoding": {"none", "pbld", "plain", "ple", "standard"},
}  # fmt: skip


@pytest.fixture(scope="module")
def registry() -> Registry:
    plugins = load_plugins()
    assert plugins.problems == []
    return plugins.registry


@pytest.mark.parametrize("kind", OFFERED)
def test_all_are_offered(registry: Registry, kind: str) -> None:
    ours = {entry.name for entry in registry if entry.kind == kind and entry.owner.distribution == "autoreg-core"}
    assert ours >= OFFERED[kind]


@pytest.mark.parametrize("kind", ["loss", "optimizer", "network", "encoding"])
def test_a_space_names_options_that_there_are(registry: Registry, kind: str) -> None:
    import inspect

    for name in OFFERED[kind]:
        entry = registry.get(kind, name)
        assert set(entry.space) <= set(inspect.signature(entry.thing).parameters)
        for option, values in entry.space.items():
            assert list(values) == sorted(set(values)), option


# activations


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_activations_are_elementwise(name: str, dtype: torch.dtype) -> None:
    activation = ACTIVATIONS[name]()
    x = torch.linspace(-4, 4, 24, dtype=dtype)
    y = activation(x)
    assert y.shape == x.shape
    assert y.dtype == dtype
    torch.testing.assert_close(activation(x.view(2, 3, 4)), y.view(2, 3, 4))
    torch.testing.assert_close(activation(x[5:6]), y[5:6])


def test_every_elementwise_module_of_torch_is_an_activation() -> None:
    drawn_or_shaped = {
        "GLU", "MultiheadAttention", "RReLU", "Softmax", "Softmax2d", "Softmin", "LogSoftmax", "Threshold",
    }  # fmt: skip
    torchs = {name for name in nn.modules.activation.__all__ if name not in drawn_or_shaped}
    ours = {c.__name__ for c in ACTIVATIONS.values()}
    assert torchs <= ours


def test_members_learn_slopes_of_their_own() -> None:
    members = [PReLU().double() for _ in range(3)]
    with torch.no_grad():
        for m, member in enumerate(members):
            member.weight.fill_(0.1 * m)
    check_stack(members, torch.randn(3, 7, 5, dtype=torch.float64))
    check_stack(members, torch.randn(3, 7, 2, 5, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_mish_is_torchs(dtype: torch.dtype) -> None:
    edges = torch.tensor([0.0, 1e4, -1e4, 39.9, 40.1, -40.1])
    x = torch.cat([10 * torch.randn(300_000, generator=torch.Generator().manual_seed(0)), edges]).to(dtype)
    x = x.requires_grad_()
    eps = torch.finfo(dtype).eps
    for view in (x, x[::3].reshape(6, -1).mT):
        y = Mish()(view)
        assert y.dtype == dtype
        wanted = F.mish(view.double())
        torch.testing.assert_close(y.double(), wanted, rtol=8 * eps, atol=64 * eps)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        (wanted_gradient,) = torch.autograd.grad(wanted.sum(), x)
        torch.testing.assert_close(gradient, wanted_gradient, rtol=8 * eps, atol=64 * eps)
    with torch.no_grad():
        assert Mish()(x).equal(F.mish(x))


def test_mish_may_be_vmapped() -> None:
    x = torch.randn(3, 4, 5, requires_grad=True)
    together = torch.func.vmap(Mish(), in_dims=1, out_dims=1)(x)
    torch.testing.assert_close(together, F.mish(x))
    (gradient,) = torch.autograd.grad(together.sin().sum(), x)
    (wanted,) = torch.autograd.grad(F.mish(x).sin().sum(), x)
    torch.testing.assert_close(gradient, wanted)


# losses

Loss = Callable[[Tensor, Tensor], Tensor]


def deviance(function: Callable[..., float], **options: Any) -> Callable[..., float]:
    return lambda y, p: function(y, np.exp(p), **options) / 2


ALL_LOSSES: list[tuple[Loss, Callable[..., float] | None]] = [
    (losses.squared_error, metrics.mean_squared_error),
    (losses.absolute_error, metrics.mean_absolute_error),
    (partial(losses.huber, delta=0.7), None),
    (partial(losses.smooth_l1, beta=0.7), None),
    (losses.log_cosh, lambda y, p: float(np.mean(np.log(np.cosh(y - p))))),
    (losses.quantile, partial(metrics.mean_pinball_loss, alpha=0.5)),
    (partial(losses.quantile, quantile=0.9), partial(metrics.mean_pinball_loss, alpha=0.9)),
    (losses.poisson, deviance(metrics.mean_poisson_deviance)),
    (losses.gamma, deviance(metrics.mean_gamma_deviance)),
    (losses.tweedie, deviance(metrics.mean_tweedie_deviance, power=1.5)),
    (partial(losses.tweedie, power=0), deviance(metrics.mean_tweedie_deviance, power=0)),
    (partial(losses.tweedie, power=1), deviance(metrics.mean_tweedie_deviance, power=1)),
    (partial(losses.tweedie, power=1.1), deviance(metrics.mean_tweedie_deviance, power=1.1)),
    (partial(losses.tweedie, power=2), deviance(metrics.mean_tweedie_deviance, power=2)),
    (partial(losses.tweedie, power=3), deviance(metrics.mean_tweedie_deviance, power=3)),
]
LOG_LINK = ("poisson", "gamma", "tweedie")


def name_of(loss: Loss) -> str:
    return loss.func.__name__ if isinstance(loss, partial) else loss.__name__


def example(loss: Loss, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(3, 40, 2, generator=generator, dtype=dtype)
    target = torch.randn(3, 40, 2, generator=generator, dtype=dtype)
    return prediction, target.exp() if name_of(loss) in LOG_LINK else target


@pytest.mark.parametrize(("loss", "wanted"), ALL_LOSSES)
def test_losses_are_scikit_learns(loss: Loss, wanted: Callable[..., float] | None) -> None:
    prediction, target = example(loss)
    out = loss(prediction, target)
    assert out.shape == (3, 40)
    torch.testing.assert_close(out[1], loss(prediction[1], target[1]), rtol=0, atol=1e-14)
    per_target = torch.stack([loss(prediction[..., o : o + 1], target[..., o : o + 1]) for o in range(2)])
    torch.testing.assert_close(out, per_target.mean(0))
    if wanted is not None:
        got = out.mean().item()
        assert got == pytest.approx(wanted(target.flatten().numpy(), prediction.flatten().numpy()), rel=1e-10)


@pytest.mark.parametrize(("loss", "wanted"), ALL_LOSSES)
def test_losses_are_zero_at_the_target_and_never_below(loss: Loss, wanted: object) -> None:
    for dtype in (torch.float32, torch.float64):
        prediction, target = example(loss, dtype)
        assert (loss(prediction, target) >= 0).all()
        for scale in (1.0, 1e6):
            perfect = (target * scale).log() if name_of(loss) in LOG_LINK else target * scale
            got = loss(perfect, target * scale)
            assert got.dtype == dtype
            # with power 0, exp(log(target)) itself is rounded
            rounding = (1e3 * scale * torch.finfo(dtype).eps) ** 2 if "power=0" in str(loss) else 0.0
            assert got.max() <= rounding


@pytest.mark.parametrize(("loss", "wanted"), ALL_LOSSES)
def test_loss_gradients(loss: Loss, wanted: object) -> None:
    prediction, target = example(loss)
    x = prediction[0, :10].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, target[0, :10]), (x,))


@pytest.mark.parametrize(("loss", "wanted"), ALL_LOSSES)
def test_far_predictions_and_zero_targets_have_finite_gradients(loss: Loss, wanted: object) -> None:
    powers = getattr(loss, "keywords", {}).get("power", 1.5)
    zero_fits = name_of(loss) != "gamma" and powers < 2
    prediction = torch.tensor([[-30.0], [0.0], [30.0]], requires_grad=True)
    for value in (0.0, 2.0) if zero_fits else (2.0,):
        out = loss(prediction, torch.full((3, 1), value))
        assert out.isfinite().all()
        (gradient,) = torch.autograd.grad(out.sum(), prediction)
        assert gradient.isfinite().all()
    if name_of(loss) not in LOG_LINK:
        assert loss(torch.tensor([[1e4]]), torch.zeros(1, 1)).isfinite().all()


def test_a_poisson_target_of_zero_pulls_down() -> None:
    prediction = torch.tensor([[-200.0], [1.0]], requires_grad=True)
    for loss in (losses.poisson, losses.tweedie):
        (gradient,) = torch.autograd.grad(loss(prediction, torch.zeros(2, 1)).sum(), prediction)
        assert gradient.isfinite().all()
        assert gradient[1] > 0


def test_facts_of_losses_with_a_log_link(registry: Registry) -> None:
    for name in LOG_LINK:
        facts = registry.get("loss", name).facts
        assert facts["point"] is torch.exp
        assert facts["target_scaling"] == "mean"
        assert facts["target_range"] in ("at least 0", "above 0")
    assert registry.get("loss", "mse").thing is losses.squared_error
    assert registry.get("loss", "mae").thing is losses.absolute_error


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (losses.quantile, {"quantile": 1.0}, "quantile=1.0: give a number between 0 and 1"),
        (losses.huber, {"delta": 0}, "delta=0"),
        (losses.smooth_l1, {"beta": -1}, "beta=-1"),
        (losses.tweedie, {"power": 0.5}, "power=0.5"),
    ],
)
def test_impossible_loss_options_are_said(loss: Callable[..., Tensor], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        loss(torch.zeros(1, 1), torch.zeros(1, 1), **options)


# layers


def check_stack(members: list[nn.Module], x: Tensor, tolerance: float = 1e-12) -> None:
    """A stack's outputs and gradients are those of its members."""
    stack = stack_modules(members)
    out = stack(x)
    names = [name for name, _ in stack.named_parameters()]
    gradients = torch.autograd.grad(out.sin().sum(), list(stack.parameters()))
    for m, member in enumerate(members):
        alone = member(x[m])
        torch.testing.assert_close(out[m], alone, rtol=0, atol=tolerance)
        own = torch.autograd.grad(alone.sin().sum(), list(member.parameters()))
        for name, a, b in zip(names, gradients, own, strict=True):
            torch.testing.assert_close(a[m], b, rtol=0, atol=1e2 * tolerance, msg=name)


def jiggle(module: nn.Module) -> nn.Module:
    """Parameters away from the values that all fresh modules have."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def test_layer_norm_is_torchs() -> None:
    x = torch.randn(3, 7, 5, dtype=torch.float64)
    ours, torchs = LayerNorm(5).double(), nn.LayerNorm(5).double()
    torch.testing.assert_close(ours(x), torchs(x))
    members = [jiggle(LayerNorm(5).double()) for _ in range(3)]
    check_stack(members, x)
    for module, rows in ((members[0], x[0]), (stack_modules(members), x)):
        low = module(rows.bfloat16())
        assert low.dtype == torch.bfloat16
        torch.testing.assert_close(low.double(), module(rows), rtol=0.05, atol=0.05)


def seeded(rate: float, seed: int, step: int = 0) -> Dropout:
    layer = Dropout(rate)
    layer.seed.fill_(seed)
    layer.step.fill_(step)
    return layer


def test_a_mask_does_not_depend_on_its_stack() -> None:
    layers = [seeded(0.3, 5, 2), seeded(0.0, 6), seeded(0.5, 7, 1), seeded(0.3, 5, 3)]
    for shape in ((64, 31), (9, 1), (5, 2, 33)):
        x = torch.rand(4, *shape) + 1
        together = stack_modules(layers)(x)
        pair = stack_modules([layers[2], layers[0]])(x[[2, 0]])
        for m, layer in enumerate(layers):
            assert together[m].equal(layer(x[m]))
        assert pair.equal(together[[2, 0]])
        more_rows = layers[2](torch.cat([x[2], x[2]]))
        assert more_rows[: len(x[2])].equal(together[2])


def test_a_stack_of_dropouts_counts_its_steps() -> None:
    stack: Any = stack_modules([seeded(0.5, 1), seeded(0.5, 1)])
    stack.step += torch.tensor([True, False])
    x = torch.ones(2, 20, 20)
    assert stack(x)[0].equal(seeded(0.5, 1, 1)(x[0]))
    assert stack(x)[1].equal(seeded(0.5, 1, 0)(x[1]))
    assert not stack(x)[0].equal(stack(x)[1])


@pytest.mark.parametrize("rate", [0.004, 0.1, 0.5, 0.9, 0.999])
def test_dropout_keeps_the_expectation(rate: float) -> None:
    layer = seeded(rate, 11)
    x = torch.ones(1000, 300)
    y = layer(x)
    dropped = min(round(rate * 256), 255)
    assert sorted(y.unique().tolist()) == pytest.approx([0.0, 256 / (256 - dropped)])
    share = (y == 0).double().mean().item()
    deviation = (dropped / 256 * (1 - dropped / 256) / x.numel()) ** 0.5
    assert abs(share - dropped / 256) < 5 * deviation


def test_dropout_draws_are_independent() -> None:
    """Shares of joint drops over neighbours, rows, layers, steps and seeds are products."""
    n, width = 2000, 128

    def drops(seed: int, step: int) -> Tensor:
        return (seeded(0.5, seed, step)(torch.ones(n, width)) == 0).double() - 0.5

    first = drops(123456, 7)
    others = [
        first.roll(1, 1), first.roll(2, 1), first.roll(4, 1), first.roll(1, 0), first.roll(8, 0),
        drops(123456, 8), drops(123456, 9), drops(123456, 7 + 65536), drops(123457, 7), drops(123457, 6),
        drops(123456 + (1 << 20), 7), drops(7, 123456),
    ]  # fmt: skip
    for other in others:
        correlation = 4 * (first * other).mean().item()
        assert abs(correlation) < 5 / (n * width) ** 0.5
    for axis in (0, 1):
        sums = first.sum(axis)
        variance = sums.var().item() / (first.shape[axis] / 4)
        assert abs(variance - 1) < 5 * (2 / len(sums)) ** 0.5


def test_random_bytes_are_uniform() -> None:
    keys = torch.arange(64, dtype=torch.int32).unsqueeze(1)
    counts = torch.bincount(random_bytes(keys, 8192).flatten().long(), minlength=256).double()
    expected = counts.sum() / 256
    assert abs(((counts - expected) ** 2 / expected).sum() - 255) < 5 * (2 * 255) ** 0.5


def test_dropout_passes_its_mask_to_the_gradient() -> None:
    x = torch.rand(2, 30, 8, dtype=torch.float64).requires_grad_()
    stack = stack_modules([seeded(0.4, 1), seeded(0.2, 2)])
    y = stack(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)
    assert y.dtype == torch.float64
    assert stack(x.bfloat16()).dtype == torch.bfloat16


def test_dropout_does_nothing_when_told_so() -> None:
    x = torch.rand(4, 3)
    assert seeded(0.0, 1)(x) is x
    assert seeded(0.5, 1).eval()(x) is x
    assert stack_modules([seeded(0.0, 1), seeded(0.0, 2)])(x.expand(2, 4, 3)).shape == (2, 4, 3)


def test_dropout_outside_the_engine_is_torchs() -> None:
    layer, x = Dropout(0.5), torch.ones(5, 6)
    torch.manual_seed(1)
    got = layer(x)
    torch.manual_seed(1)
    assert got.equal(F.dropout(x, 0.5))
    assert not got.equal(layer(x))
    assert "seed" not in layer.state_dict()


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_impossible_rates_are_said(rate: float) -> None:
    with pytest.raises(OptionError, match="give a share of at least 0 and below 1"):
        Dropout(rate)


# networks

NETWORKS: list[Callable[..., nn.Module]] = [
    linear,
    mlp,
    partial(mlp, depth=3, width=16, dropout=0.25),
    partial(resnet, depth=2, width=16, dropout=0.25),
    partial(realmlp, depth=2, width=16, dropout=0.25),
    partial(realmlp, depth=3, width=16, dropout=0.25, residual=True),
    partial(realmlp, parametric=False),
]


@pytest.mark.parametrize("make", NETWORKS)
def test_networks_map_features_to_targets(make: Callable[..., nn.Module]) -> None:
    network = make(5, 2, nn.ReLU)
    assert network(torch.zeros(7, 5)).shape == (7, 2)
    rows = torch.randn(7, 5)
    torch.testing.assert_close(network.eval()(rows)[3:4], network(rows[3:4]))


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("activation", ["silu", "prelu"])
def test_a_stack_of_networks_is_its_members(make: Callable[..., nn.Module], activation: str) -> None:
    members = []
    for m in range(3):
        torch.manual_seed(m)
        member = jiggle(make(5, 2, ACTIVATIONS[activation]).double())
        for i, layer in enumerate(part for part in member.modules() if isinstance(part, Dropout)):
            layer.seed.fill_(10 * m + i)
        members.append(member)
    x = torch.randn(3, 20, 5, dtype=torch.float64)
    check_stack(members, x, 1e-11)
    for member in members:
        member.eval()
    check_stack(members, x, 1e-11)


def test_a_perceptron_is_one_layer() -> None:
    assert type(linear(3, 1, nn.ReLU)) is nn.Linear


def test_an_mlp_is_plain_torch() -> None:
    network = mlp(4, 1, nn.SiLU, depth=2, width=np.int64(8))  # type: ignore[arg-type]
    assert [type(part).__name__ for part in network] == ["Linear", "SiLU", "Dropout"] * 2 + ["Linear"]  # type: ignore[attr-defined]


def test_a_residual_block_adds_to_what_it_gets() -> None:
    block = ResidualBlock(4, 8, nn.ReLU)
    nn.init.zeros_(block.second.weight)
    nn.init.zeros_(block.second.bias)
    x = torch.randn(3, 4)
    assert block(x).equal(x)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (mlp, {"depth": 0}, "depth=0: give a whole number of at least 1"),
        (mlp, {"width": 2.5}, "width=2.5"),
        (mlp, {"dropout": 1}, "dropout=1"),
        (resnet, {"expansion": 0}, "expansion=0"),
    ],
)
def test_impossible_sizes_are_said(make: Callable[..., nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make(3, 1, nn.ReLU, **options)
