"""Objects wherever names go: parts of torch's or of the user's own, trained alone and in a search."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_parts import (
    SMALL,
    Plain,
    Scaled,
    Sized,
    Squeezed,
    Swish,
    Table,
    averaging,
    careful,
    fitted,
    make_table,
    search,
    small_steps,
    square,
    two_layers,
)  # fmt: skip
from pages import run_page
from sklearn.model_selection import KFold
from torch import Tensor, nn

from autoreg import AutoRegressor, NeuralRegressor, from_torch_optim
from autoreg.encoding import FoldStatistics, TableLayout
from autoreg.errors import AutoregError, ContractError, OptionError, SearchError
from autoreg.frames import as_frame
from autoreg.lossparts import RowLoss
from autoreg.parts import activation_factory, resolve
from autoreg.space import Candidate
from autoreg.stacking import signature


@pytest.fixture(scope="module")
def table() -> Table:
    return make_table()


def test_the_page_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page("how-to/use-your-own-network.md") >= 10


# networks


@pytest.mark.parametrize(
    "network",
    [
        "linear", Plain, Plain(), Sized, Sized(3, 1), partial(Sized, width=5), two_layers, two_layers(3, 1),
        lambda: Plain(), lambda n_features: nn.Linear(n_features, 1), lambda n_outputs, d: nn.Linear(d, n_outputs),
    ],
    ids=lambda network: type(network).__name__,
)  # fmt: skip
def test_a_network_in_every_form_is_trained(table: Table, network: Any) -> None:
    if getattr(network, "__code__", None) is not None and network.__code__.co_varnames[:2] == ("n_outputs", "d"):
        with pytest.raises(ContractError, match="needs a value for 'd': give it one with network_options="):
            fitted(table, network=network)
        return
    model = fitted(table, network=network, max_epochs=40, learning_rate=0.05)
    assert model.score(*table) > 0.9


def test_one_network_in_all_forms_gives_one_result(table: Table) -> None:
    forms = [two_layers, two_layers(3, 1), lambda n_features, n_outputs: two_layers(n_features, n_outputs)]
    first, *others = [fitted(table, network=form).predict(table[0]) for form in forms]
    assert all(np.array_equal(first, other) for other in others)


def test_sizes_and_activation_reach_a_class_that_names_them(table: Table) -> None:
    model = fitted(table, network=Sized, network_options={"width": 5}, activation="tanh")
    module = model.to_torch().members[0].network
    assert module.first.weight.shape == (5, 3)
    assert type(module.activation) is nn.Tanh


def test_an_instance_is_a_template(table: Table) -> None:
    mine = Plain()
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.fill_(3.0)
    before = copy.deepcopy(mine.state_dict())
    first, again, other = (fitted(table, network=mine, random_state=seed).predict(table[0]) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, fitted(table, network=Plain, random_state=0).predict(table[0]))
    assert all(torch.equal(before[name], tensor) for name, tensor in mine.state_dict().items())
    assert mine.training
    assert all(parameter.grad is None for parameter in mine.parameters())


def test_what_nothing_resets_keeps_its_values() -> None:
    mine = Scaled()
    with torch.no_grad():
        mine.line.weight.fill_(5.0)
    copies = [resolve(Candidate({"network": mine})).make_network(3, 1, nn.ReLU) for _ in range(2)]
    for made in copies:
        assert isinstance(made, Scaled)
        assert made is not mine
        assert made.offset.item() == 7.0
        assert torch.equal(made.table, torch.arange(3.0))
        assert not torch.equal(made.line.weight, mine.line.weight)
    assert not torch.equal(copies[0].line.weight, copies[1].line.weight)


def test_a_module_that_resets_its_own_layers_has_the_last_word() -> None:
    class Zeros(Plain):
        def reset_parameters(self) -> None:
            nn.init.zeros_(self.last.weight)

    made = resolve(Candidate({"network": Zeros()})).make_network(3, 1, nn.ReLU)
    assert not made.last.weight.any()  # type: ignore[union-attr]
    assert made.first.weight.any()  # type: ignore[union-attr]


def test_a_lazy_layer_finds_out_how_many_features_there_are(houses: Any) -> None:
    lazy = nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(1))
    model = NeuralRegressor(network=lazy, **SMALL).fit(houses.drop(columns="price"), houses["price"])
    made = model.to_torch().members[0].network
    assert [type(layer) for layer in made] == [nn.Linear, nn.ReLU, nn.Linear]
    assert isinstance(lazy[0], nn.LazyLinear)


@pytest.mark.parametrize("network", [nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)), nn.Linear(2, 1)])
def test_a_wrong_number_of_features_is_one_line_with_the_way_out(table: Table, network: nn.Module) -> None:
    with pytest.raises(ContractError) as caught:
        fitted(table, network=network)
    text = str(caught.value)
    assert "the encoding gives 3" in text
    assert "nn.Linear(3, ...)" in text
    assert text.isprintable()


class Pair(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


class Broken(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x * self.nothing


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Squeezed, r"network Squeezed gave shape \(2,\) for 2 rows, the shape must be \(2, 1\)"),
        (Squeezed(), r"network Squeezed gave shape \(2,\)"),
        (nn.Linear(3, 2), r"network .* gave shape \(2, 2\) for 2 rows, the shape must be \(2, 1\)"),
        (nn.Flatten(0), r"network .* gave shape \(6,\)"),
        (Pair, "network Pair gave a tuple"),
        (Broken, "network Broken fails on a table of 3 features: AttributeError"),
        (lambda: 3, "network <lambda> is int: a class or function must give an nn.Module"),
        (lambda n_features, n_outputs, depth: Plain(), "needs a value for 'depth': give it one with network_options="),
        (lambda a, b, depth: Plain(), "needs a value for 'depth'"),
    ],
)
def test_a_network_that_breaks_the_contract_is_one_line(table: Table, network: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        fitted(table, network=network)
    assert str(caught.value).isprintable()


def test_two_targets_need_two_outputs(table: Table) -> None:
    x, y = table
    with pytest.raises(ContractError, match=r"gave shape \(3, 1\) for 3 rows, the shape must be \(3, 2\)"):
        fitted((x, np.stack([y, y], axis=1)), network=Plain)
    assert fitted((x, np.stack([y, y], axis=1)), network=Sized).predict(x).shape == (90, 2)


def test_views_are_averaged(table: Table) -> None:
    class Views(Plain):
        def forward(self, x: Tensor) -> Tensor:
            one = super().forward(x)
            return torch.stack([one, one + 1], dim=1)

    assert fitted(table, network=Views, loss=square).predict(table[0]).shape == (90,)


@pytest.mark.parametrize("value", [3, 1.5, ["mlp"], {"a": 1}])
@pytest.mark.parametrize("part", ["network", "activation", "loss", "optimizer", "schedule"])
def test_what_cannot_be_a_part_is_one_line(table: Table, part: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"^{part} .*: give ") as caught:
        fitted(table, **{part: value})
    assert str(caught.value).isprintable()


def test_an_instance_takes_no_options(table: Table) -> None:
    with pytest.raises(OptionError, match=r"network options \['width'\] need a network by name, class or factory"):
        fitted(table, network=Plain(), network_options={"width": 3})


def test_trying_a_network_leaves_its_running_statistics_alone() -> None:
    recipe = resolve(Candidate({"network": nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)), "encoding": None}))
    statistics = FoldStatistics.blank(TableLayout(3, (False,) * 3, ()))
    member = recipe.make_member(statistics, torch.zeros(1), torch.ones(1), 0)
    assert member.network[0].num_batches_tracked == 0  # type: ignore[index]
    assert member.network.training


# stacks of objects


class Holding(nn.Module):
    """Computes with something that is neither a parameter nor a plain public attribute."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        self._held = held

    def forward(self, x: Tensor) -> Tensor:
        held = self._held() if callable(self._held) else self._held
        return self.line(x) * (held if isinstance(held, float) else float(held[0]))


@pytest.mark.parametrize(
    "hold",
    [
        float, lambda factor: [factor], lambda factor: (factor, "a"), lambda factor: {0: factor, 1: [2]},
        lambda factor: torch.tensor([factor]), lambda factor: np.array([factor]), lambda factor: partial(float, factor),
    ],
    ids=["private", "list", "tuple", "dict", "tensor", "array", "function"],
)  # fmt: skip
def test_networks_that_differ_in_an_attribute_do_not_share_a_stack(table: Table, hold: Any) -> None:
    one, other = Holding(hold(1.0)), Holding(hold(50.0))
    assert signature(one) != signature(other)
    together = search(networks=[one, other], ensemble=False).fit(*table).results_.candidates
    alone = [search(networks=[net], ensemble=False).fit(*table).results_.candidates[0] for net in (one, other)]
    assert [row.score for row in together] == pytest.approx([row.score for row in alone], rel=1e-5)
    assert together[0].score != together[1].score


def test_networks_that_differ_in_hooks_or_in_what_is_trained_do_not_share_a_stack() -> None:
    hooked, frozen = Plain(), Plain()
    hooked.first.register_forward_hook(lambda module, inputs, output: 2 * output)
    frozen.first.weight.requires_grad_(False)
    assert len({signature(Plain()), signature(hooked), signature(frozen)}) == 3


def test_equal_objects_share_a_stack() -> None:
    assert signature(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1))) == signature(
        nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1))
    )
    assert signature(Scaled(2.0)) == signature(Scaled(2.0))
    assert signature(Scaled(2.0)) != signature(Scaled(3.0))


# activations


@pytest.mark.parametrize(
    "activation",
    ["silu", nn.SiLU, nn.LeakyReLU(0.2), partial(nn.LeakyReLU, 0.2), torch.sin, torch.nn.functional.silu, Swish,
     Swish(), nn.PReLU, nn.PReLU(init=0.1), lambda x: x.clamp(min=0)],
    ids=str,
)  # fmt: skip
def test_an_activation_in_every_form(table: Table, activation: Any) -> None:
    model = fitted(table, activation=activation, max_epochs=25)
    assert model.score(*table) > 0.9


def test_forms_of_one_activation_give_one_result(table: Table) -> None:
    for forms in (
        ["silu", nn.SiLU, nn.SiLU(), torch.nn.functional.silu],
        [nn.LeakyReLU(0.2), partial(nn.LeakyReLU, 0.2), lambda x: nn.functional.leaky_relu(x, 0.2)],
    ):
        first, *others = [fitted(table, activation=form).predict(table[0]) for form in forms]
        assert all(np.allclose(first, other, atol=1e-6) for other in others)


def test_each_layer_learns_its_own_activation(table: Table) -> None:
    for given in (Swish, Swish()):
        model = fitted(table, activation=given, network_options={"depth": 2}, learning_rate=0.1)
        slopes = [m.slope.item() for m in model.to_torch().modules() if isinstance(m, Swish)]
        assert len(slopes) == 2
        assert len({*slopes, 1.0}) == 3
    assert given.slope.item() == 1.0  # type: ignore[union-attr]


def test_an_activation_class_that_needs_arguments_fails_in_one_line(table: Table) -> None:
    with pytest.raises(AutoregError, match="Threshold") as caught:
        fitted(table, activation=nn.Threshold)
    assert str(caught.value).isprintable()
    assert callable(activation_factory(partial(nn.Threshold, 0.1, 0.0)))


def noisy(x: Tensor) -> Tensor:
    return torch.relu(x) + 0.1 * torch.randn_like(x)


def test_a_function_that_draws_random_numbers_draws_each_members_own(table: Table) -> None:
    state = torch.get_rng_state()
    alone = [fitted(table, activation=noisy, random_state=seed).loss_curve_ for seed in (0, 0, 1)]
    assert alone[0] == alone[1] != alone[2]
    assert torch.equal(torch.get_rng_state(), state)
    together = search(activations=[noisy], losses=["mse", "mae"]).fit(*table).results_.candidates
    one = search(activations=[noisy], losses=["mae"]).fit(*table).results_.candidates
    assert together[1].score == pytest.approx(one[0].score, rel=1e-5)


def test_layers_draw_apart(table: Table) -> None:
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        noise = torch.randn_like(x)
        seen.append(noise)
        return torch.relu(x) + 0.1 * noise

    fitted(table, activation=watched, network_options={"depth": 2}, max_epochs=1)
    first, second = [noise for noise in seen if noise.ndim == 2 and noise.shape == seen[-1].shape][-2:]
    assert not torch.equal(first, second)


# losses


@pytest.mark.parametrize(
    ("loss", "options", "name", "its_options"),
    [
        ("mse", {}, "squared_error", {}),
        (nn.MSELoss, {}, "mse", {}),
        (nn.MSELoss(), {}, "mse", {}),
        (nn.MSELoss(reduction="sum"), {}, "mse", {}),
        (nn.functional.mse_loss, {}, "mse", {}),
        (square, {}, "mse", {}),
        (careful, {}, "mse", {}),
        (lambda p, t: (p - t) ** 2, {}, "mse", {}),
        (nn.L1Loss, {}, "mae", {}),
        (nn.SmoothL1Loss, {}, "smooth_l1", {}),
        (nn.SmoothL1Loss, {"beta": 0.5}, "smooth_l1", {"beta": 0.5}),
        (nn.HuberLoss(delta=2.0), {}, "huber", {"delta": 2.0}),
        (nn.functional.huber_loss, {"delta": 2.0}, "huber", {"delta": 2.0}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_loss_in_every_form_is_the_loss_of_that_name(
    table: Table, loss: Any, options: Any, name: str, its_options: Any
) -> None:
    weight = np.linspace(0.1, 2, 90)
    for y in (table[1], np.stack([table[1], table[0][:, 2]], axis=1)):
        if y.ndim == 2 and loss in (square,):
            continue  # the sum over two outputs is twice their mean
        found, wanted = (
            NeuralRegressor(loss=given, loss_options=given_options, **SMALL).fit(table[0], y, weight).loss_curve_
            for given, given_options in ((loss, options), (name, its_options))
        )
        assert found == pytest.approx(wanted, rel=1e-4)


class Averaging(nn.Module):
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().mean()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (averaging, r"loss averaging gave shape \(\) for a target of shape \(\d+, 1\): return one value per row"),
        (Averaging, "loss Averaging gave shape"),
        (Averaging(), "loss Averaging gave shape"),
        (lambda p, t: (p - t).sum(0), "gave shape"),
        (lambda p, t: 0.0, "gave a float"),
    ],
)
def test_a_loss_that_averages_is_one_line(table: Table, loss: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        fitted(table, loss=loss)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("function", [square, careful])
def test_a_loss_of_ones_own_sees_one_members_table(function: Any) -> None:
    seen = []

    def watching(prediction: Tensor, target: Tensor) -> Tensor:
        seen.append(tuple(target.shape))
        return function(prediction, target)

    loss = RowLoss(watching, "watching", of_torch=False)
    prediction, target = torch.randn(4, 5, 2), torch.randn(4, 5, 2)
    expected = torch.stack([function(p, t) for p, t in zip(prediction, target, strict=True)])
    assert torch.allclose(loss(prediction, target), expected)
    views = torch.randn(4, 5, 3, 2)
    assert torch.allclose(loss(views, views + 1)[:, :, 1], loss(views[:, :, 1], views[:, :, 1] + 1))
    assert set(seen) == {(5, 2)}


# optimizers and schedules


@pytest.mark.parametrize(
    ("optimizer", "options", "name", "its_options"),
    [
        (torch.optim.SGD, {}, "sgd", {}),
        (torch.optim.SGD, {"momentum": 0.9}, "momentum", {}),
        (torch.optim.SGD([torch.zeros(1)], lr=0.01, momentum=0.9), {}, "momentum", {}),
        (torch.optim.SGD([torch.zeros(1)], momentum=0.5), {"momentum": 0.9}, "momentum", {}),
        (torch.optim.Adam, {}, "adam", {}),
        (torch.optim.Adam([torch.zeros(1)], betas=(0.8, 0.99)), {}, "adam", {"beta1": 0.8, "beta2": 0.99}),
        (from_torch_optim(torch.optim.RMSprop, alpha=0.9), {}, "rmsprop", {"alpha": 0.9}),
        (small_steps, {}, "sgd", {}),
        (partial(small_steps, scale=1.0), {}, "sgd", {}),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_an_optimizer_in_every_form_is_the_optimizer_of_that_name(
    table: Table, optimizer: Any, options: Any, name: str, its_options: Any
) -> None:
    found = fitted(table, network="linear", optimizer=optimizer, optimizer_options=options)
    wanted = fitted(table, network="linear", optimizer=name, optimizer_options=its_options)
    assert found.loss_curve_ == pytest.approx(wanted.loss_curve_, rel=1e-4)


def test_an_option_of_ones_own_optimizer(table: Table) -> None:
    still = fitted(
        table, network="linear", optimizer=small_steps, optimizer_options={"scale": 0.0}, schedule="constant"
    )
    assert still.loss_curve_ == pytest.approx([still.loss_curve_[0]] * 4, rel=1e-3)


def test_an_optimizers_own_learning_rate_is_not_lost_in_silence(table: Table) -> None:
    mine = torch.optim.SGD(Plain().parameters(), lr=0.1)
    with pytest.raises(OptionError, match=r"made with lr=0.1, but learning_rate is 0.01: give learning_rate=0.1, or"):
        fitted(table, optimizer=mine)
    assert len(fitted(table, optimizer=mine, learning_rate=0.1).loss_curve_) == 4
    net = Plain()
    groups = torch.optim.SGD([{"params": net.first.parameters()}, {"params": net.last.parameters(), "lr": 1.0}])
    with pytest.raises(OptionError, match="has 2 groups of parameters: give one group"):
        fitted(table, optimizer=groups)


def test_a_schedule_of_ones_own(table: Table) -> None:
    seen: list[float] = []

    def half_way(t: float) -> float:
        seen.append(t)
        return 1.0 if t < 0.5 else 0.0

    model = fitted(table, network="linear", optimizer="sgd", schedule=half_way, max_epochs=8)
    assert 0 == min(seen) < max(seen) < 1
    assert model.loss_curve_[3] > model.loss_curve_[4]
    assert model.loss_curve_[5:] == pytest.approx([model.loss_curve_[5]] * 3, rel=1e-3)
    assert fitted(table, schedule=lambda t: 1.0).loss_curve_ == fitted(table, schedule="constant").loss_curve_


# in a search


def test_objects_in_the_lists_of_a_search(table: Table) -> None:
    found = search(
        networks=["linear", Sized, Plain()], activations=["relu", Swish], losses=["mse", nn.HuberLoss(delta=2.0)],
        optimizers=[torch.optim.Adam, small_steps],
    ).fit(*table)  # fmt: skip
    rows = found.results_.candidates
    assert len(rows) == 3 * 2 * 2 * 2
    assert not any(row.failure for row in rows)
    assert found.best_params_["optimizer"] in (torch.optim.Adam, small_steps)
    assert {row.name.split()[0] for row in rows} == {"linear", "Sized", "Plain"}
    single = NeuralRegressor._from_candidate(rows[5].candidate)  # type: ignore[arg-type]
    assert single.set_params(random_state=0).fit(*table).predict(table[0]).shape == (90,)


def test_an_object_in_a_space_of_options(table: Table) -> None:
    found = AutoRegressor(
        strategy="grid", companions=None, cv=2, random_state=0, verbose=0,
        space={"network": [Sized], "network__width": [2, 8], "activation": [torch.sin, nn.Tanh()], "max_epochs": [3]},
    ).fit(*table)  # fmt: skip
    assert sorted({row.name.rpartition(" lr")[0] for row in found.results_.candidates}) == [
        "Sized(width=2) Tanh", "Sized(width=2) sin", "Sized(width=8) Tanh", "Sized(width=8) sin",
    ]  # fmt: skip


def test_objects_that_do_not_fit_come_last_and_the_others_go_on(table: Table) -> None:
    found = search(networks=[nn.Linear(4, 1), "linear", Squeezed], losses=["mse"]).fit(*table)
    board = found.leaderboard()
    assert board["model"].iloc[0].startswith("linear")
    assert "the encoding gives 3" in found.results_.candidates[0].failure
    assert "gave shape (2,)" in found.results_.candidates[2].failure
    found = search(networks=["linear"], losses=[averaging, "mse", square]).fit(*table)
    assert ["ContractError" in row.failure for row in found.results_.candidates] == [True, False, False]
    with pytest.raises(
        SearchError, match=r"none of 2 candidates could be trained: .* return one value per row"
    ) as caught:
        search(networks=["linear"], losses=[averaging, Averaging]).fit(*table)
    assert str(caught.value).isprintable()


class Drawn(nn.Module):
    """An encoding that draws its buffers, and learns nothing."""

    leading_axes = True
    n_features = 4

    def __init__(self, statistics: FoldStatistics) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(statistics.layout.n_numbers, 4))

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        return torch.sin(numbers @ self.directions)


def test_an_encoding_that_draws_its_buffers_is_each_members_own(table: Table) -> None:
    def two_rates(space: object, results: list[object], n: int | None, seed: int) -> list[Candidate]:
        common = {"encoding": Drawn, "network": "linear", "max_epochs": 20}
        return [] if results else [Candidate({**common, "learning_rate": rate}) for rate in (1e-6, 0.05, 1e-6, 1e-6)]

    X, y = table
    folds = list(KFold(3).split(X))
    found = AutoRegressor(two_rates, cv=folds, ensemble=False, companions=None, random_state=0, verbose=0).fit(X, y)
    assert found.best_index_ == 1
    coded = found.schema_.encode(as_frame(X))
    members = [*found.to_torch().members]  # type: ignore[misc]
    for member, (k, (_, valid)) in zip(members, enumerate(folds), strict=True):
        with torch.no_grad():
            prediction = member(torch.from_numpy(coded.numbers[valid]), torch.from_numpy(coded.codes[valid]).long())
        error = float(np.sqrt(np.mean((prediction[:, 0].numpy() - y[valid]) ** 2)))
        assert error == pytest.approx(found.results_.best.rmse[k], rel=1e-4)
