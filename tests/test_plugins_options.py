"""The options of a plugin's parts are searchable, by whatever way a search is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import Tensor, nn

import autoreg
from autoreg import AutoRegressor, NeuralRegressor
from autoreg.builtins.portfolio import portfolio
from autoreg.cli import autoreg as command
from autoreg.errors import OptionError
from autoreg.gradients import GradientTransform, over_members
from autoreg.persistence import read_manifest
from autoreg.plugins import load_plugins, registry
from autoreg.space import Space

X = np.linspace(-1, 1, 40).reshape(-1, 1)
Y = np.sin(3 * X[:, 0])
SMALL: dict[str, Any] = {"max_epochs": 2, "random_state": 0, "learning_rate": 0.01}


def bent(x: Tensor, amount: float = 1.0) -> Tensor:
    return x + torch.sin(amount * x)


class Bent(nn.Module):
    def __init__(self, amount: float = 1.0) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(float(amount)))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.amount * x)


def powered(prediction: Tensor, target: Tensor, amount: float = 2.0) -> Tensor:
    return (prediction - target).abs().pow(amount + 1).mean(-1)


def scaled(amount: float = 1.0) -> GradientTransform:
    def update(gradients: Any, state: Any, params: Any, learning_rate: Any, roles: Any) -> Any:
        return {name: -amount * over_members(learning_rate, g) * g for name, g in gradients.items()}, state

    return GradientTransform(lambda params: (), update)


def wide(n_features: int, n_outputs: int, activation: Any, amount: float = 2) -> nn.Module:
    width = int(2 * amount)
    return nn.Sequential(nn.Linear(n_features, width), activation(), nn.Linear(width, n_outputs))


def shifted(statistics: Any, amount: float = 0.0) -> nn.Module:
    class Shifted(nn.Module):
        n_features = statistics.layout.n_numbers

        def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
            return numbers + amount

    return Shifted()


THINGS = {"activation": bent, "loss": powered, "optimizer": scaled, "network": wide, "encoding": shifted}
KINDS = [*THINGS, "class"]
"""An activation is a function or a class."""


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """A kind of part, of which ``mine`` is registered with one option."""
    load_plugins.cache_clear()
    name = "activation" if request.param == "class" else request.param
    autoreg.register(name, "mine", Bent if request.param == "class" else THINGS[name], space={"amount": [1.0, 3.0]})
    yield name
    load_plugins.cache_clear()


every_kind = pytest.mark.parametrize("kind", KINDS, indirect=True)


def alone(kind: str, **options: float) -> NeuralRegressor:
    return NeuralRegressor(**{kind: "mine", f"{kind}_options": options, **SMALL}).fit(X, Y)


@every_kind
def test_an_option_changes_the_model(kind: str) -> None:
    predictions = [alone(kind, amount=amount).predict(X) for amount in (1.0, 3.0)]
    assert not np.array_equal(*predictions)


@every_kind
def test_scikit_learn_reaches_it(kind: str, tmp_path: Path) -> None:
    base = NeuralRegressor(**{kind: "mine", **SMALL})
    search = GridSearchCV(base, {f"{kind}__amount": [1.0, 3.0]}, cv=2).fit(X, Y)
    chosen = search.best_params_[f"{kind}__amount"]
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    wanted = alone(kind, amount=chosen).predict(X)
    assert np.array_equal(search.predict(X), wanted)
    assert clone(search.best_estimator_).get_params()[f"{kind}__amount"] == chosen
    search.best_estimator_.save(tmp_path / "m.safetensors")
    assert np.array_equal(autoreg.load(tmp_path / "m.safetensors").predict(X), wanted)


@every_kind
def test_a_grid_of_ours_gives_the_scores_of_scikit_learns(kind: str) -> None:
    space = {f"{kind}__amount": [1.0, 3.0], kind: ["mine"]}
    ours = AutoRegressor(
        strategy="grid", space={**space, **{name: [SMALL[name]] for name in ("max_epochs", "learning_rate")}}, cv=2,
        random_state=0, companions=None, verbose=0, ensemble=False,
    ).fit(X, Y)  # fmt: skip
    theirs = GridSearchCV(NeuralRegressor(**SMALL), space, cv=2, scoring="neg_root_mean_squared_error").fit(X, Y)
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-5)


@every_kind
def test_the_command_line_reaches_it(kind: str, tmp_path: Path) -> None:
    pd.DataFrame({"x": X[:, 0], "y": Y}).to_csv(tmp_path / "t.csv", index=False)
    done = CliRunner().invoke(
        command,
        ["fit", str(tmp_path / "t.csv"), "--target", "y", "-o", str(tmp_path / "m.safetensors"), f"--{kind}", "mine",
         "--space", f"{kind}__amount=1.5..2.5", "--strategy", "random", "--candidates", "2", "--space", "max_epochs=2",
         "--folds", "2", "--quiet", "--companions", "none"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = read_manifest(tmp_path / "m.safetensors")["leaderboard"]
    amounts = {row["parameters"][f"{kind}__amount"] for row in rows if not row["is_ensemble"]}
    assert len(amounts) == 2
    assert all(1.5 < amount < 2.5 for amount in amounts)


@every_kind
def test_what_is_declared_is_searched_by_default(kind: str) -> None:
    search = AutoRegressor(
        effort="quick", n_candidates=6, cv=2, random_state=0, companions=None, verbose=0, space={"max_epochs": [1]},
        **{{"loss": "losses"}.get(kind, kind.replace("y", "ie") + "s"): ["mine"]},
    ).fit(X, Y)  # fmt: skip
    drawn = [row.candidate.options(kind).get("amount") for row in search.results_.candidates if row.candidate]
    assert drawn[0] is None
    assert set(drawn[1:]) == {1.0, 3.0}


@every_kind
def test_a_misspelt_option_is_told(kind: str) -> None:
    with pytest.raises(OptionError, match=f"no option of {kind} mine 'amuont'; did you mean 'amount'?"):
        NeuralRegressor(**{kind: "mine", f"{kind}_options": {"amuont": 1.0}, **SMALL}).fit(X, Y)


# ---------------------------------------------------------------- activations, whose options are few in other libraries


def test_options_of_our_own_activations() -> None:
    for slope in (0.01, 0.5):
        named = NeuralRegressor(activation="leaky_relu", activation_options={"negative_slope": slope}, **SMALL)
        given = NeuralRegressor(activation=nn.LeakyReLU(slope), **SMALL)
        assert np.array_equal(named.fit(X, Y).predict(X), given.fit(X, Y).predict(X))
    with pytest.raises(OptionError, match="activation relu takes no options: remove 'negative_slope'"):
        NeuralRegressor(activation_options={"negative_slope": 0.1}, **SMALL).fit(X, Y)


def test_an_instance_has_its_options_already() -> None:
    with pytest.raises(OptionError, match=r"activation options \['amount'\] need an activation by name"):
        NeuralRegressor(activation=Bent(), activation_options={"amount": 2.0}, **SMALL).fit(X, Y)


def test_a_function_and_a_class_of_ones_own_take_options_too() -> None:
    for own in (bent, Bent):
        one, other = (
            NeuralRegressor(activation=own, activation_options={"amount": amount}, **SMALL).fit(X, Y).predict(X)
            for amount in (1.0, 3.0)
        )
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["activation"], indirect=True)
def test_equal_options_are_of_one_program(kind: str) -> None:
    from autoreg.parts import activation_factory
    from autoreg.stacking import signature

    made = [signature(activation_factory("mine", {"amount": amount})()) for amount in (1.0, 1.0, 2.0)]
    assert made[0] == made[1] != made[2]


# ---------------------------------------------------------------- what a strategy is told


SIZE = {"n_rows": 100, "n_numbers": 2, "n_features": 2, "n_folds": 2}
DECLARED = {"activation": {"snake": {"frequency": loguniform(0.1, 10)}}, "loss": {"huber": {"delta": [1.0, 2.0]}}}


def test_draws_of_declared_options_leave_all_else_as_it_is() -> None:
    space = ({"activation": ["snake", "relu"]},)
    without = portfolio(Space(space, SIZE, "thorough"), [], None, 0)
    drawn = portfolio(Space(space, SIZE, "thorough", declared=DECLARED), [], None, 0)
    assert [{k: v for k, v in c.parameters.items() if k != "activation__frequency"} for c in drawn] == [
        dict(c.parameters) for c in without
    ]
    frequencies = [c.parameters.get("activation__frequency") for c in drawn if c["activation"] == "snake"]
    assert frequencies[0] is None
    assert len(set(frequencies)) == len(frequencies) > 3
    assert portfolio(Space(space, SIZE, "thorough", declared=DECLARED), [], None, 0) == drawn
    assert not any("activation__frequency" in c.parameters for c in drawn if c["activation"] == "relu")


def test_what_the_user_gives_wins() -> None:
    given = {"activation": ["snake"], "activation__frequency": [7.0]}
    chosen = portfolio(Space((given,), SIZE, "balanced", declared=DECLARED), [], None, 0)
    assert {c.options("activation")["frequency"] for c in chosen} == {7.0}
    (full,) = Space((given,), SIZE, declared=DECLARED).full(8)
    assert full == given


def test_a_full_space_has_an_alternative_for_each_part_that_declares_options() -> None:
    space = Space(({"activation": ["relu", "snake", "tanh"], "loss": ["huber"]},), SIZE, declared=DECLARED)
    one, other = space.full(8)
    assert one == {"activation": ["relu", "tanh"], "loss": ["huber"], "loss__delta": [1.0, 2.0]}
    assert other["activation"] == ["snake"]
    assert other["activation__frequency"] is DECLARED["activation"]["snake"]["frequency"]
    assert other["loss__delta"] == [1.0, 2.0]


def test_every_declared_space_of_ours_is_of_options_that_there_are() -> None:
    entries = [entry for entry in registry() if entry.space]
    assert entries
    for entry in entries:
        assert entry.options is None or set(entry.space) <= set(entry.options)
