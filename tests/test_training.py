"""A stack of members trains to the same numbers as each member alone, whatever the network."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from autoreg import schedules
from autoreg.batches import Batches, Order
from autoreg.gradients import GradientTransform, over_members
from autoreg.inputs import Data
from autoreg.member import Member
from autoreg.parameters import FlatParameters, Snapshot
from autoreg.scoring import negative_rmse
from autoreg.specs import LossPart, MemberSpec, StackSpec
from autoreg.stacking import mapped_forwards, signature, stack_modules
from autoreg.training import train_stack
from autoreg.updates import OptimizerPart

N, D = 203, 4


class Centred(nn.Module):
    leading_axes = True
    n_features = D

    def __init__(self, mean):
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, numbers, codes):
        return numbers - self.mean.unsqueeze(-2)


class Taught(nn.Module):
    """A network as PyTorch's tutorial writes it."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(D, 8)
        self.output = nn.Linear(8, 1)

    def forward(self, x):
        return self.output(torch.relu(self.hidden(x)))


class Branching(Taught):
    def forward(self, x):
        hidden = self.hidden(x)
        return self.output(torch.relu(hidden) if x.mean() > 0 else torch.tanh(hidden))


class WithBatchNorm(Taught):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.output(torch.relu(self.norm(self.hidden(x))))


class WithDropout(Taught):
    def forward(self, x):
        return self.output(nn.functional.dropout(torch.relu(self.hidden(x)), 0.3, self.training))


class Tied(nn.Module):
    """Two layers with one weight, one of them used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.output = nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, 1)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.output(torch.tanh(self.second(torch.tanh(self.first(x)))))


def used_twice():
    layer = nn.Linear(D, D)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(D, 1))


class WithLogarithm(Branching):
    """One at a time, and never zero."""

    def forward(self, x):
        return super().forward(x).abs() + 0.1


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class WithOwnFunction(Taught):
    def forward(self, x):
        return self.output(Cube.apply(self.hidden(x)))


def plain():
    return nn.Sequential(nn.Linear(D, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))


def views():
    return nn.Sequential(nn.Linear(D, 6), nn.Unflatten(-1, (3, 2)), nn.Linear(2, 1))


def momentum(beta=0.9):
    def init(params):
        return {name: torch.zeros_like(p) for name, p in params.items()}

    def update(gradients, state, params, learning_rate, roles):
        changes = {}
        for name, gradient in gradients.items():
            state[name] = over_members(beta, gradient) * state[name] + gradient
            changes[name] = -over_members(learning_rate, gradient) * state[name]
        return changes, state

    return GradientTransform(init, update, elementwise=True)


def by_name(beta=0.9):
    whole = momentum(beta)
    return GradientTransform(whole.init, whole.update)


def squared(prediction, target):
    return (prediction - target).square().mean(-1)


def logarithmic(prediction, target):
    return (prediction.log() - target.abs().log1p()).square().mean(-1)


def absolute(prediction, target):
    return (prediction - target).abs().mean(-1)


def table(weighted=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    y = x[:, :1] * x[:, 1:2] + x[:, 2:3] + 5
    weight = np.random.default_rng(0).uniform(0.5, 2, N) if weighted else None
    return Data(x, torch.zeros(N, 0, dtype=torch.long), y, weight)


def members(network, data, make=momentum, candidates=3, losses=(squared,), member_options=True, folds=3):
    rows = np.arange(N)
    specs = []
    for c in range(candidates):
        for k in range(folds):
            train, valid = rows[rows % folds != k], rows[rows % folds == k]
            torch.manual_seed(10 * c + k)
            module = Member(
                Centred(data.numbers[train].mean(0)), network(), data.target[train].mean(0), data.target[train].std(0)
            ).double()
            loss = losses[c % len(losses)]
            specs.append(
                MemberSpec(
                    module, c, train, valid, 7 * c + k, LossPart(loss, key=loss),
                    OptimizerPart(make, {"beta": 0.8 + 0.05 * c}, member_options),
                    0.01 * (c + 1), schedules.cosine, 32 + c, encoding_key=k,
                )
            )  # fmt: skip
    return specs


def run(specs, data, epochs=4, **settings):
    return train_stack(StackSpec(specs, epochs, negative_rmse, dtype=torch.float64, **settings), data)


def largest_difference(together, alone):
    return max(
        np.abs(a - b).max()
        for one, other in zip(together, alone, strict=True)
        for a, b in zip(one.predictions, other.predictions, strict=True)
    )


@pytest.mark.parametrize(
    "network", [plain, views, Taught, Branching, WithBatchNorm, WithDropout, WithOwnFunction], ids=lambda n: n.__name__
)
def test_a_stack_equals_its_members_alone(network):
    data = table(weighted=True)
    specs = members(network, data)
    together = run(specs, data, choose_epoch=False)
    predictions = [p for outcome in together for p in outcome.predictions]
    for spec, prediction in zip(specs, predictions, strict=True):
        alone = run([spec], data, choose_epoch=False)[0].predictions[0]
        assert np.abs(prediction - alone).max() < 1e-9
    chosen = run(specs, data)
    assert largest_difference(chosen, [run(specs[3 * c : 3 * c + 3], data)[0] for c in range(3)]) < 1e-9


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("network", [Tied, used_twice])
def test_what_a_network_uses_twice_stays_one(network, half):
    data = table()
    specs = members(network, data, candidates=1)
    (outcome,) = run(specs, data, half=half)
    for spec, state, prediction in zip(specs, outcome.states, outcome.predictions, strict=True):
        assert set(state) == set(spec.module.state_dict())
        spec.module.load_state_dict(state)
        again = spec.module(data.numbers[spec.valid], data.codes[spec.valid])
        expected = spec.module.original_units(again, None, views=False).detach().numpy()
        assert np.abs(prediction - expected).max() < (0.1 if half else 1e-9)
    name, twin = ("first", "second") if network is Tied else ("0", "2")
    assert torch.equal(state[f"network.{name}.weight"], state[f"network.{twin}.weight"])


@pytest.mark.parametrize("make", [momentum, by_name])
@pytest.mark.parametrize("member_options", [True, False])
def test_optimizers_by_slice_flat_or_by_name(make, member_options):
    data = table()
    specs = members(plain, data, make, member_options=member_options)
    assert largest_difference(run(specs, data), run(members(plain, data), data)) < 1e-9


def test_losses_differ_by_slice():
    data = table()
    mixed = members(plain, data, losses=(squared, absolute))
    assert largest_difference(run(mixed, data), [run(mixed[3 * c : 3 * c + 3], data)[0] for c in range(3)]) < 1e-9


def test_order_of_candidates_does_not_matter():
    data = table()
    specs = members(plain, data)
    backwards = [*specs[6:], *specs[3:6], *specs[:3]]
    one = {o.candidate: o for o in run(specs, data)}
    other = {o.candidate: o for o in run(backwards, data)}
    assert largest_difference([one[c] for c in range(3)], [other[c] for c in range(3)]) < 1e-9


def test_a_candidate_that_leaves_does_not_change_the_others():
    data = table()
    specs = members(plain, data)
    specs[0:3] = [MemberSpec(**{**spec.__dict__, "learning_rate": 1e9}) for spec in specs[:3]]
    outcomes = run(specs, data, epochs=6)
    assert "not finite" in outcomes[0].failure
    assert not outcomes[1].failure
    assert largest_difference(outcomes[1:], [run(specs[3 * c : 3 * c + 3], data, epochs=6)[0] for c in (1, 2)]) < 1e-9


def test_patience_ends_a_candidate_at_its_best_epoch():
    data = table()
    specs = [MemberSpec(**{**spec.__dict__, "learning_rate": 0.0}) for spec in members(plain, data, candidates=1)]
    for patience, epochs in ((3, 4), (np.int64(3), 4), (3.0, 11)):
        (outcome,) = run(specs, data, epochs=50, patience=patience)
        assert (outcome.epoch, len(outcome.curve)) == (1, epochs)


def test_a_metric_that_cannot_be_computed_is_not_blamed_on_the_learning_rate_alone():
    data = table()
    undefined = StackSpec(members(plain, data, candidates=1), 2, lambda y, p, w: y.new_full((len(y),), torch.nan))
    assert train_stack(undefined, data)[0].failure.startswith("score not finite in epoch 1")


@pytest.mark.parametrize("network", [plain, WithBatchNorm, WithDropout, WithLogarithm], ids=lambda n: n.__name__)
def test_a_member_without_a_batch_does_not_change(network):
    """Uneven folds: the shorter member rests while the longer one goes on; momentum, running means and draws too."""
    data = table()
    rows = np.arange(N)
    loss = logarithmic if network is WithLogarithm else squared
    specs = members(network, data, candidates=1, folds=2, losses=(loss,))
    short = MemberSpec(**{**specs[0].__dict__, "train": rows[:40], "valid": rows[150:]})
    long = MemberSpec(**{**specs[1].__dict__, "train": rows[:150], "valid": rows[150:]})
    together = run([short, long], data, choose_epoch=False)[0]
    for m, spec in enumerate((short, long)):
        alone = run([spec], data, choose_epoch=False)[0]
        assert np.abs(together.predictions[m] - alone.predictions[0]).max() < 1e-9


def test_a_weight_of_two_is_a_row_given_twice_in_the_loss():
    order = Order(0, np.arange(10), 10)
    weight = np.ones(10)
    weight[3] = 2.0
    batch = Batches([order], weight).epoch(1, torch.float64)
    rows, weights, _ = (found[0] for found in batch.steps(0, 1))
    share = dict(zip(rows[0].tolist(), weights[0].tolist(), strict=True))
    assert share[3] == pytest.approx(2 * share[4])
    assert sum(share.values()) == pytest.approx(1.0)


def test_every_row_is_seen_once_an_epoch():
    batch = Batches([Order(0, np.arange(5, 108), 32), Order(1, np.arange(50), 32)], None).epoch(3, torch.float32)
    for member, expected in ((0, range(5, 108)), (1, range(50))):
        seen = []
        for s in range(batch.n_steps):
            rows, weights, counts = (found[0] for found in batch.steps(s, s + 1))
            seen += rows[member][weights[member] > 0].tolist()
            assert int((weights[member] > 0).sum()) == counts[member]
        assert sorted(seen) == list(expected)


def test_an_epoch_of_a_share_takes_other_rows_each_time():
    rows = np.arange(5, 108)
    order = Order(0, rows, 16, subsample=0.5)
    seen = []
    for epoch in range(1, 13):
        drawn, real = order.epoch(epoch)
        assert len(drawn) == order.n_steps == 3
        own = drawn[real].tolist()
        assert len(set(own)) == len(own) == order.n_rows == 52
        seen.append(set(own))
    assert set.union(*seen) == set(rows.tolist())
    assert len(set(map(frozenset, seen))) == 12
    whole, all_real = Order(0, rows, 16).epoch(1)
    assert sorted(whole[all_real].tolist()) == rows.tolist()


def test_members_that_take_shares_train_in_a_stack_as_alone():
    data = table(weighted=True)
    specs = [
        replace(spec, subsample=share) for spec, share in zip(members(plain, data), (1.0, 0.5, 0.2) * 3, strict=True)
    ]
    together = run(specs, data, choose_epoch=False)
    found = [p for outcome in together for p in outcome.predictions]
    for spec, prediction in zip(specs, found, strict=True):
        alone = run([spec], data, choose_epoch=False)[0].predictions[0]
        assert np.abs(prediction - alone).max() < 1e-9


def test_rows_that_depend_on_each_other_are_noticed_in_a_small_step():
    stack = stack_modules([WithBatchNorm() for _ in range(2)])
    stack(torch.randn(2, 4, D))
    assert [mapped.one_at_a_time for mapped in mapped_forwards(stack)] == [True]


def test_several_threads_may_ask_one_stack():
    stack = stack_modules([Taught() for _ in range(3)]).eval()
    inputs = [torch.randn(3, 200, D) for _ in range(4)]
    with torch.no_grad():
        expected = [stack(x) for x in inputs]
        with ThreadPoolExecutor(4) as pool:
            asked = [(place, pool.submit(stack, inputs[place])) for _ in range(100) for place in range(4)]
            assert all(torch.equal(future.result(), expected[place]) for place, future in asked)


@pytest.mark.parametrize(
    ("network", "alone"),
    [
        (plain, None),
        (Taught, False),
        (Branching, True),
        (WithBatchNorm, True),
        (WithDropout, True),
        (WithOwnFunction, True),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_which_way_a_module_runs(network, alone):
    stack = stack_modules([network() for _ in range(2)])
    stack(torch.randn(2, 16, D))
    ways = [mapped.one_at_a_time for mapped in mapped_forwards(stack)]
    assert ways == ([] if alone is None else [alone])


def test_flat_parameters_are_the_parameters():
    modules = [plain() for _ in range(3)]
    stack = stack_modules(modules)
    x = torch.randn(3, 5, D)
    before = stack(x)
    store = FlatParameters(stack)
    torch.testing.assert_close(stack(x), before)
    torch.testing.assert_close(Snapshot(stack, [2, 1], store).states(store)[1], dict(modules[1].state_dict()))
    store.flat.zero_()
    assert stack(x).abs().max() == 0


class WithLayerNorm(Taught):
    """Layers between ours that have numbers of their own, in float32."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(D, D)
        self.norm, self.slope = nn.LayerNorm(D), nn.PReLU()

    def forward(self, x):
        return super().forward(self.slope(self.norm(self.first(x))))


def between_our_layers():
    return nn.Sequential(nn.Linear(D, D), nn.LayerNorm(D), nn.PReLU(), WithLayerNorm())


@pytest.mark.parametrize("network", [between_our_layers, WithLayerNorm])
def test_layers_that_know_nothing_of_bfloat16_train_beside_those_that_do(network):
    data = table()
    half, full = (
        train_stack(StackSpec(members(network, data, candidates=1), 3, negative_rmse, half=half), data)
        for half in (True, False)
    )
    for one, other in zip(half[0].predictions, full[0].predictions, strict=True):
        assert np.abs(one - other).max() < 0.05 * data.target.std()


def tied(tie):
    network = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D), nn.Linear(D, 1))
    if tie:
        network[2].weight = network[0].weight
    return network


def test_what_shares_weights_is_no_stack_with_what_does_not():
    one, two = nn.Linear(D, D), nn.Linear(D, D)
    programs = [tied(True), tied(False), nn.Sequential(one, two, one), nn.Sequential(one, two, two)]
    assert len({signature(program) for program in programs}) == 4
    assert signature(tied(True)) == signature(tied(True))


def test_hooks_see_what_a_single_layer_sees():
    network = nn.Sequential(nn.Linear(D, 3), nn.Linear(3, 1))
    seen = []
    network[0].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].ndim) or 2 * output)
    twin = copy.deepcopy(network)
    x = torch.randn(2, 5, D)
    stacked = stack_modules([network, twin])(x)
    for m, one in enumerate((network, twin)):
        torch.testing.assert_close(stacked[m], one(x[m]))
    assert set(seen) == {2}
