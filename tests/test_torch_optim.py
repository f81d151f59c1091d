"""Optimizer classes of torch.optim's kind: every member gets what the class gives alone, in a plain loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from descent import assert_same, first_params, flat, run, run_torch, slopes
from torch import Tensor, nn

from autoreg import from_torch_optim
from autoreg.errors import ContractError, OptionError
from autoreg.gradients import Role, map_state
from autoreg.updates import _restore


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """torch keeps NAdam's product of momenta in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


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


def test_weights_decay_as_in_a_plain_loop() -> None:
    """On every parameter, whatever its role: only learning-rate factors become groups."""
    roles = {"weight": Role("matrix", rate=2.0), "bias": Role("bias", decay=0.0)}
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.003])
    for cls in (torch.optim.AdamW, torch.optim.Rprop, torch.optim.Adafactor):
        options = {} if cls is torch.optim.Rprop else {"weight_decay": 0.1}
        got = run(from_torch_optim(cls, **options)(), params, rates, roles)
        for m, rate in enumerate(rates.tolist()):
            for name, factor in (("weight", 2.0), ("bias", 1.0)):
                assert_same(got, m, run_torch(cls, {name: params[name]}, m, rate * factor, **options))


def test_one_flat_tensor_is_all_parameters() -> None:
    """What the engine hands to elementwise optimizers, with a factor of the learning rate for each element."""
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.003])
    factors = torch.cat([torch.full((12,), 0.5), torch.ones(4)])
    transform = from_torch_optim(torch.optim.NAdam)()
    assert transform.elementwise
    got = run(transform, flat(params), rates, {"flat": Role("mixed", factors)})
    roles = {"weight": Role(rate=0.5)}
    apart = run(from_torch_optim(torch.optim.NAdam)(), params, rates, roles)
    torch.testing.assert_close(got["flat"], flat(apart)["flat"], rtol=0, atol=1e-12)


class Counted(torch.optim.SGD):
    """Says how often it stepped."""

    steps = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        type(self).steps += 1
        super().step(closure)


class Clipped(Counted):
    """Looks at all gradients together."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1e8)
        super().step(closure)


class Careful(Counted):
    """Leaves a step out when a gradient is not finite."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if all(p.grad.isfinite().all() for group in self.param_groups for p in group["params"]):
            super().step(closure)


class Bounded(Counted):
    """Learns at no more than a rate of its own."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["lr"] = min(group["lr"], 0.05)
        super().step(closure)


class Biased(Counted):
    """Treats a vector otherwise than a matrix."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.mul_(1 + (p.ndim < 2))
        super().step(closure)


class Distant(Counted):
    """Remembers where it was, so that its memory depends on the learning rate."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.grad.add_(self.state[p].get("last", p), alpha=0.1)
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["last"] = p.clone()


@pytest.mark.parametrize(
    ("cls", "steps"),
    [(Counted, 1), (Bounded, 3), (Distant, 3), (Clipped, 5), (Careful, 5), (Biased, 5)],
)
def test_members_share_a_step_where_that_gives_the_same(cls: type[Counted], steps: int) -> None:
    """One for all; one for each learning rate; one for each member."""
    params, rates = first_params(5), torch.tensor([0.01, 0.1, 0.01, 0.003, 0.01])
    transform = from_torch_optim(cls, momentum=0.5)()
    cls.steps = 0
    state = transform.init(params)
    for step in range(4):
        _, state = transform.update(slopes(params, step), state, params, rates, {})
    assert cls.steps == 4 * steps
    got = run(transform, params, rates)
    for m, rate in enumerate(rates.tolist()):
        assert_same(got, m, run_torch(cls, params, m, rate, momentum=0.5), 1e-9)


def test_most_classes_of_torch_change_all_members_in_one_step() -> None:
    for name in ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"):
        assert from_torch_optim(getattr(torch.optim, name))().elementwise, name
    for name in ("ASGD", "Adafactor", "Rprop"):
        assert not from_torch_optim(getattr(torch.optim, name))().elementwise, name


@pytest.mark.parametrize("cls", [torch.optim.AdamW, torch.optim.Rprop, torch.optim.Adafactor, torch.optim.SGD])
def test_a_member_that_diverges_leaves_the_others_alone(cls: type) -> None:
    params, rates = first_params(3), torch.tensor([0.01, 1e300, 0.003])
    params["weight"][1, 0, 0] = torch.inf
    got = run(from_torch_optim(cls)(), params, rates)
    assert not got["weight"][1].isfinite().all()
    for m in (0, 2):
        assert_same(got, m, run_torch(cls, params, m, rates[m].item()), 1e-9)


def test_fused_and_foreach_are_the_users() -> None:
    params, rates = first_params(3), torch.tensor([0.01, 0.1, 0.003])
    for options in ({"fused": True}, {"fused": False}, {"foreach": True}, {"foreach": False}, {"fused": None}):
        got = run(from_torch_optim(torch.optim.AdamW, **options)(), params, rates)
        for m, rate in enumerate(rates.tolist()):
            assert_same(got, m, run_torch(torch.optim.AdamW, params, m, rate, **options))
    with pytest.raises((OptionError, ContractError), match="optimizer AdamW"):
        from_torch_optim(torch.optim.AdamW, fused=True, foreach=True)()
    with pytest.raises((OptionError, ContractError), match="optimizer AdamW"):
        from_torch_optim(torch.optim.AdamW, capturable=True)()


class Averaged(torch.optim.SGD):
    """Trains one set of weights and scores their mean, as schedule-free methods do: `eval` swaps them in."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group.update(training=False, count=0)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for group in self.param_groups:
            assert group["training"]
            group["count"] += 1
            for p in group["params"]:
                self.state[p].setdefault("mean", torch.zeros_like(p)).lerp_(p, 1 / group["count"])

    def train(self) -> None:
        self._swap(True)

    def eval(self) -> None:
        self._swap(False)

    @torch.no_grad()
    def _swap(self, training: bool) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                for p in group["params"]:
                    if "mean" in self.state[p]:
                        mean = self.state[p]["mean"].clone()
                        self.state[p]["mean"].copy_(p)
                        p.copy_(mean)
            group["training"] = training


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_weights_to_score_are_those_that_eval_sets(factor: float) -> None:
    params, rates = first_params(4), torch.tensor([0.01, 0.1, 0.01, 0.03])
    transform = from_torch_optim(Averaged)()
    assert transform.evaluation is not None
    state = transform.init(params)
    assert_same(transform.evaluation(params, state), 1, {name: p[1] for name, p in params.items()})
    own = [{name: nn.Parameter(p[m].clone()) for name, p in params.items()} for m in range(4)]
    roles = {"weight": Role("matrix"), "bias": Role("bias", rate=factor)}
    optimizers = [
        Averaged([{"params": [p], "lr": rates[m].item() * roles[name].rate} for name, p in own[m].items()])
        for m in range(4)
    ]
    for step in range(5):
        changes, state = transform.update(slopes(params, step), state, params, rates, roles)
        params = {name: p + changes[name] for name, p in params.items()}
        scored = transform.evaluation(params, state)
        for m, optimizer in enumerate(optimizers):
            optimizer.train()
            for name, gradient in slopes({name: p.detach() for name, p in own[m].items()}, step).items():
                own[m][name].grad = gradient
            optimizer.step()
            assert_same(params, m, {name: p.detach() for name, p in own[m].items()})
            optimizer.eval()
            assert_same(scored, m, {name: p.detach() for name, p in own[m].items()})


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


def test_state_that_appears_while_some_rest_is_theirs_later() -> None:
    """A class may add to its state in a step in which members with fewer rows have no batch."""
    state = {"steps": torch.ones(3), "new": {"deep": torch.ones(3)}}
    found = _restore(state, {"steps": torch.zeros(1)}, torch.tensor([1]))
    assert found["steps"].tolist() == [1, 0, 1]
    assert found["new"]["deep"].tolist() == [1, 0, 1]
