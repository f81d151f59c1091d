"""Losses with several outputs a target: facts that follow the options, all outputs in the target's units, files."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from autoreg import AutoRegressor, NeuralRegressor, estimators, hookimpl, load
from autoreg.errors import ModelFileError, OptionError
from autoreg.persistence import read_model
from autoreg.plugins import load_plugins
from autoreg.registry import Owner


def spread_out(prediction: Tensor, target: Tensor, n: int = 2) -> Tensor:
    """Output j of a target is drawn to the target plus j."""
    outputs = prediction.unflatten(-1, (-1, n))
    return (outputs - target.unsqueeze(-1) - torch.arange(n)).square().mean((-2, -1))


class First:
    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, output: Tensor) -> Tensor:
        return output[..., :: self.n]


def facts(n: int = 2) -> dict[str, Any]:
    if n > 9:
        raise OptionError(f"n={n}: give at most 9")
    return {"outputs_per_target": n, "point": First(n)}


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    """A plugin with the loss, in the registry of this process as long as the module's tests run."""
    module = ModuleType("spread_out")

    @hookimpl
    def register_losses(register: Any) -> None:
        register("spread_out", spread_out, facts=facts)

    module.register_losses = register_losses  # type: ignore[attr-defined]
    load_plugins.cache_clear()
    load_plugins().add(module, Owner("spread_out", "autoreg-spread", "1.0"))
    yield
    load_plugins.cache_clear()


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(90, 2))
    return x, np.stack([x[:, 0], 100 + 10 * x[:, 1]], axis=1)


class TwoViews(nn.Module):
    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.layers = nn.Linear(n_features, 2 * n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).unflatten(-1, (2, -1))


def fitted(table: Any, **options: Any) -> NeuralRegressor:
    settings = {
        "network": "linear",
        "loss": "spread_out",
        "encoding": None,
        "learning_rate": 0.05,
        "max_epochs": 200,
        "random_state": 0,
    }
    return NeuralRegressor(**{**settings, **options}).fit(*table)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("network", ["linear", TwoViews])
def test_the_options_say_how_many_outputs_there_are(table: Any, n: int, network: Any) -> None:
    model = fitted(table, network=network, loss_options={"n": n})
    x, y = table
    outputs = model.predict_outputs(x)
    assert outputs.shape == (len(x), 2, n)
    # one more in scaled units is one standard deviation more in the target's own
    wanted = y[:, :, None] + np.arange(n) * y.std(axis=0)[:, None]
    assert np.abs(outputs - wanted).max() < 0.05 * y.std(axis=0).max()
    assert np.allclose(outputs[..., 0], model.predict(x), rtol=1e-12)


def test_a_link_works_on_the_last_axis(table: Any) -> None:
    model = fitted(table, loss_options={"n": 3})
    ends = model.predict_outputs(table[0], lambda outputs: outputs[..., [0, 2]])
    assert np.array_equal(ends, model.predict_outputs(table[0])[..., [0, 2]])
    none = pd.DataFrame(table[0][:0], columns=["x0", "x1"])
    assert model.model_.predict_outputs(none, lambda outputs: outputs[..., :1]).shape == (0, 2, 1)


def test_any_other_loss_has_one_output(table: Any) -> None:
    model = fitted(table, loss="squared_error", max_epochs=2)
    assert np.allclose(model.predict_outputs(table[0])[..., 0], model.predict(table[0]), rtol=1e-12)


def test_the_ensemble_averages_outputs(table: Any) -> None:
    space = {"loss__n": [3], "learning_rate": [0.01, 0.05], "max_epochs": [20]}
    search = AutoRegressor("grid", losses=["spread_out"], networks=["linear"], space=space, cv=2, companions=None,
                           random_state=0, verbose=0).fit(*table)  # fmt: skip
    parts = search.model_.parts
    outputs = search.predict_outputs(table[0])
    assert outputs.shape == (90, 2, 3)
    assert np.allclose(outputs[..., 0], search.predict(table[0]), rtol=1e-12)
    again = pickle.loads(pickle.dumps(search))
    assert np.array_equal(again.predict_outputs(table[0]), outputs)
    parts[0].outputs_per_target = 1
    search.model_.parts = [parts[0], again.model_.parts[0]]
    with pytest.raises(OptionError, match="networks with 1 and 3 outputs a target"):
        search.predict_outputs(table[0])


def test_a_file_gives_the_same_outputs(table: Any, tmp_path: Path) -> None:
    model = fitted(table, loss_options={"n": 3}, max_epochs=2)
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict_outputs(table[0]), model.predict_outputs(table[0]))
    assert np.array_equal(again.predict(table[0]), model.predict(table[0]))
    with torch.no_grad():
        coded = again.schema_.encode(pd.DataFrame(table[0], columns=["x0", "x1"]))
        prediction = again.to_torch()(torch.from_numpy(coded.numbers))
    assert np.allclose(prediction, model.predict(table[0]), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss__n": 4}, "loss 'spread_out' reads 4 outputs a target, and the model's network has 3"),
        ({"loss__n": 10**9}, "does not take the options that the model says: n=1000000000: give at"),
        ({"loss__m": 1}, "does not take the options that the model says: TypeError"),
    ],
)
def test_a_file_that_lies_about_the_options_is_refused(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    fitted(table, loss_options={"n": 3}, max_epochs=1).save(tmp_path / "m.safetensors")
    manifest, tensors = read_model(tmp_path / "m.safetensors")
    manifest["members"][0]["parameters"].update(options)
    monkeypatch.setattr(estimators, "read_model", lambda path: (manifest, tensors))
    with pytest.raises(ModelFileError, match=message):
        load("a file")


def test_options_that_the_facts_refuse_end_the_fit_in_one_line(table: Any) -> None:
    with pytest.raises(OptionError, match="n=10: give at most 9"):
        fitted(table, loss_options={"n": 10})
