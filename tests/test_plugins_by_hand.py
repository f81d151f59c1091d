"""Registering without a package: `autoreg.register` in a notebook, and in a file for ``--plugin``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression
from torch import nn

import autoreg
from autoreg import AutoRegressor, NeuralRegressor
from autoreg.cli import autoreg as command
from autoreg.errors import ContractError, DuplicateNameError, ModelFileError, PluginError, UnknownNameError
from autoreg.gradients import GradientTransform, over_members
from autoreg.plugins import Plugins, load_plugins, registry
from autoreg.space import Candidate

X = np.linspace(-1, 1, 40).reshape(-1, 1)
Y = X[:, 0] ** 2
SMALL: dict[str, Any] = {"max_epochs": 2, "random_state": 0, "network_options": {"width": 4}}


@pytest.fixture(autouse=True)
def notebook() -> Iterator[None]:
    """What is registered here is forgotten."""
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


def signs() -> GradientTransform:
    def update(gradients: Any, state: Any, params: Any, learning_rate: Any, roles: Any) -> Any:
        return {name: -over_members(learning_rate, g) * g.sign() for name, g in gradients.items()}, state

    return GradientTransform(lambda params: (), update)


THINGS: dict[str, Any] = {
    "activation": torch.sin,
    "loss": lambda prediction, target: (prediction - target).abs().sum(-1),
    "optimizer": signs,
    "network": lambda n_features, n_outputs, activation: nn.Linear(n_features, n_outputs),
    "encoding": lambda statistics: autoreg.plugins.registry().get("encoding", "standard").thing(statistics),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("kind", THINGS)
def test_a_part_is_used_under_its_name(kind: str) -> None:
    assert autoreg.register(kind, "mine", THINGS[kind]) is THINGS[kind]
    options = {**SMALL, "network_options": None} if kind == "network" else SMALL
    assert NeuralRegressor(**{kind: "mine"}, **options).fit(X, Y).predict(X).shape == (40,)
    assert str(registry().get(kind, "mine").owner) == "session"


def test_strategies_and_companions_too() -> None:
    def one(space: Any, results: Any, n: Any, seed: int) -> list[Candidate]:
        return [] if results else [Candidate({"max_epochs": 1, "network": "linear"})]

    autoreg.register("strategy", "one", one, choose_epoch=False)
    autoreg.register("companion", "line", lambda layout, random_state: LinearRegression())
    found = AutoRegressor(strategy="one", cv=2, random_state=0, verbose=0).fit(X, Y).results_
    assert len(found.candidates) == 1
    assert "line" in [row.name for row in found.companions]


def test_again_replaces() -> None:
    autoreg.register("activation", "mine", torch.sin)
    first = NeuralRegressor(activation="mine", **SMALL).fit(X, Y).predict(X)
    autoreg.register("activation", "mine", torch.cos)
    assert not np.array_equal(NeuralRegressor(activation="mine", **SMALL).fit(X, Y).predict(X), first)
    autoreg.register("activation", "mine", torch.sin)
    assert np.array_equal(NeuralRegressor(activation="mine", **SMALL).fit(X, Y).predict(X), first)
    assert len([owner for owner in load_plugins().owners if not owner.distribution]) == 1


def test_as_a_decorator_with_a_space_and_facts() -> None:
    @autoreg.register("loss", "mine", space={"power": [2, 4]}, target_scaling=None)
    def powered(prediction: torch.Tensor, target: torch.Tensor, power: float = 2) -> torch.Tensor:
        return (prediction - target).abs().pow(power).mean(-1)

    entry = registry().get("loss", "mine")
    assert entry.thing is powered
    assert dict(entry.space) == {"power": [2, 4]}
    assert entry.facts == {"target_scaling": None}


@pytest.mark.parametrize(
    ("arguments", "error", "part"),
    [
        (("activation", "relu", torch.sin), DuplicateNameError, "activation 'relu' belongs to autoreg-core"),
        (("activations", "mine", torch.sin), ContractError, "no kind of part 'activations'; did you mean 'activation'"),
        (("activation", "My One", torch.sin), ContractError, "use lower-case letters"),
        (("activation", "mine", 3), ContractError, "3 is not callable"),
    ],
)
def test_what_cannot_be_registered(arguments: tuple[Any, ...], error: type[Exception], part: str) -> None:
    with pytest.raises(error, match=part):
        autoreg.register(*arguments)
    with pytest.raises(UnknownNameError):
        registry().get("activation", "mine")
    assert [str(owner) for owner in load_plugins().owners if not owner.distribution] == []


def test_a_saved_model_wants_the_name_registered(tmp_path: Path) -> None:
    autoreg.register("activation", "mine", torch.sin)
    model = NeuralRegressor(activation="mine", **SMALL).fit(X, Y)
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(autoreg.load(tmp_path / "m.safetensors").predict(X), model.predict(X))
    load_plugins.cache_clear()
    with pytest.raises(ModelFileError) as caught:
        autoreg.load(tmp_path / "m.safetensors")
    assert str(caught.value) == (
        "activation 'mine' came from session, where it was registered by hand: do so again (autoreg.register), or give "
        "its file with --plugin FILE.py"
    )
    autoreg.register("activation", "mine", torch.sin)
    assert np.array_equal(autoreg.load(tmp_path / "m.safetensors").predict(X), model.predict(X))


FILE = """
import autoreg, torch

@autoreg.register("activation", "mine")
def mine(x):
    return torch.sin(x)
"""


def test_a_cell_moves_to_a_file_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "cell.py"
    file.write_text(FILE)
    load_plugins().add_file(str(file))
    load_plugins().add_file(str(file))
    assert str(registry().get("activation", "mine").owner) == "cell.py"
    shown = CliRunner().invoke(command, ["plugins", "list", "--plugin", str(file)]).stdout
    assert shown.endswith("\ncell.py\n  activation: mine\n")
    file.write_text(FILE + "1 / 0")
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        load_plugins().add_file(str(file))
    with pytest.raises(UnknownNameError):
        registry().get("activation", "mine")
    # whose turn it is does not outlast the file
    autoreg.register("activation", "mine", torch.sin)
    assert str(registry().get("activation", "mine").owner) == "session"


def test_a_file_that_offers_nothing_is_told_how(tmp_path: Path) -> None:
    file = tmp_path / "empty.py"
    file.write_text("x = 1")
    with pytest.raises(PluginError, match=r"it has no hook: mark a function with @autoreg\.hookimpl"):
        Plugins().add_file(str(file))
