"""What becomes of the user's own parts in a saved model: layers as data, labels, and code given again."""

from __future__ import annotations

import copy
import math
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_parts import (
    Plain,
    Scaled,
    Sized,
    Squeezed,
    Swish,
    Table,
    fitted,
    make_table,
    search,
    small_steps,
    square,
    two_layers,
)  # fmt: skip
from torch import Tensor, nn

from autoreg import AutoRegressor, load
from autoreg.builtins.encodings import standard
from autoreg.errors import ModelFileError
from autoreg.model import FittedModel
from autoreg.persistence import read_manifest, read_model, write_model


@pytest.fixture(scope="module")
def table() -> Table:
    return make_table()


def saved(model: Any, folder: Path) -> Path:
    path = folder / "m.safetensors"
    model.save(path, force=True)
    return path


def test_a_network_of_torch_layers_loads_without_code(table: Table, tmp_path: Path) -> None:
    deep = nn.Sequential(nn.Linear(3, 6), nn.Sequential(nn.LayerNorm(6), nn.PReLU()), nn.Dropout(0.1), nn.Linear(6, 1))
    for network in (deep, two_layers, two_layers(3, 1), nn.Linear(3, 1), nn.Sequential(nn.LazyLinear(1))):
        model = fitted(table, network=network)
        again = load(saved(model, tmp_path))
        assert np.array_equal(again.predict(table[0]), model.predict(table[0]))
        described = read_manifest(tmp_path / "m.safetensors")["members"][0]["parameters"]["network"]
        assert set(described) == {"module"}


@pytest.mark.parametrize(
    ("network", "options", "given"),
    [(Plain, {}, Plain), (Plain(), {}, Plain), (Plain, {}, Plain()), (Sized, {"width": 5}, Sized),
     (partial(Sized, width=5), {}, partial(Sized, width=5)), (Scaled(2.0), {}, Scaled(2.0)),
     (nn.Sequential(nn.Linear(3, 4), Swish(), nn.Linear(4, 1)), {},
      nn.Sequential(nn.Linear(3, 4), Swish(), nn.Linear(4, 1)))],
    ids=["class", "instance", "instance by class", "with a size", "partial", "constants", "own layer in a Sequential"],
)  # fmt: skip
def test_any_other_network_needs_its_code(table: Table, tmp_path: Path, network: Any, options: Any, given: Any) -> None:
    model = fitted(table, network=network, network_options=options)
    path = saved(model, tmp_path)
    with pytest.raises(
        ModelFileError, match=r"the numbers of network '\w+' but not its code: load it with load\(path, "
    ) as caught:
        load(path)
    assert str(caught.value).isprintable()
    again = load(path, network=given)
    assert np.array_equal(again.predict(table[0]), model.predict(table[0]))
    # a loaded model can be saved as it was
    once_more = load(saved(again, tmp_path), network=given)
    assert np.array_equal(once_more.predict(table[0]), model.predict(table[0]))


def test_another_network_than_the_one_that_was_saved_is_refused(table: Table, tmp_path: Path) -> None:
    path = saved(fitted(table, network=Sized, network_options={"width": 5}), tmp_path)
    for network, message in (
        (partial(Sized, activation=Swish), "has no tensor 'network.activation.slope', which its network needs"),
        (lambda n_features, n_outputs, width: Plain(), r"tensor 'network.first.\w+' has shape .* its network needs"),
        (
            lambda n_features, n_outputs, width: Scaled(),
            r"has a tensor 'network.first.\w+' that its network has no use",
        ),
        (lambda width: Squeezed(), "shape"),
        (lambda width: 3, "a class or function must give an nn.Module"),
        (Scaled, "cannot be built as the model says: TypeError: .* argument 'width'"),
        ("linear", "cannot be built as the model says: .*width"),
    ):
        with pytest.raises(ModelFileError, match=message) as caught:
            load(path, network=network)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("activation", "described"),
    [("tanh", "tanh"), (nn.Tanh, {"module": {"type": "Tanh"}}), (torch.sin, {"label": "sin"}),
     (Swish, {"label": "Swish"}),
     (nn.LeakyReLU(0.2), {"module": {"type": "LeakyReLU", "negative_slope": 0.2, "inplace": False}}),
     (partial(nn.ELU, 0.5), {"module": {"type": "ELU", "alpha": 0.5, "inplace": False}}),
     (nn.PReLU, {"module": {"type": "PReLU", "num_parameters": 1}}), (Swish(), {"label": "Swish"})],
    ids=str,
)  # fmt: skip
def test_activations_in_the_file(table: Table, tmp_path: Path, activation: Any, described: Any) -> None:
    model = fitted(table, activation=activation)
    path = saved(model, tmp_path)
    assert read_manifest(path)["members"][0]["parameters"]["activation"] == described
    if "label" not in described:
        again = load(path)
    else:
        with pytest.raises(
            ModelFileError, match=rf"'{described['label']}' but not its code: .* load\(path, activation="
        ) as caught:
            load(path)
        assert str(caught.value).isprintable()
        again = load(path, activation=activation)
    assert np.array_equal(again.predict(table[0]), model.predict(table[0]))
    assert read_manifest(saved(again, tmp_path))["members"][0]["parameters"]["activation"] == described


def test_an_activation_that_the_network_does_not_use_is_not_missed(table: Table, tmp_path: Path) -> None:
    for network in ("linear", nn.Linear(3, 1)):
        for activation in (torch.sin, nn.Threshold):
            model = fitted(table, network=network, activation=activation)
            again = load(saved(model, tmp_path))
            assert np.array_equal(again.predict(table[0]), model.predict(table[0]))
            assert np.array_equal(load(saved(again, tmp_path)).predict(table[0]), model.predict(table[0]))
            assert np.array_equal(pickle.loads(pickle.dumps(again)).predict(table[0]), model.predict(table[0]))


def test_losses_and_optimizers_are_not_needed_to_load(table: Table, tmp_path: Path) -> None:
    model = fitted(
        table,
        loss=lambda p, t: (p - t).abs(),
        optimizer=small_steps,
        schedule=lambda t: 1.0,
        optimizer_options={"scale": 2.0},
    )
    again = load(saved(model, tmp_path))
    assert np.array_equal(again.predict(table[0]), model.predict(table[0]))
    assert again.get_params()["learning_rate"] == 0.01


def test_several_networks_of_ones_own_in_one_file(table: Table, tmp_path: Path) -> None:
    found = search(networks=[Plain, Scaled(2.0), Sized]).fit(*table)
    parts = [
        fitted(table, network=network, activation=activation).model_.parts[0]
        for network, activation in ((Plain, "relu"), (Scaled(2.0), "relu"), (Sized, torch.sin), ("mlp", torch.sin))
    ]
    model = found.model_ = FittedModel(found.model_.schema, parts, found.model_.manifest)
    path = saved(found, tmp_path)
    with pytest.raises(ModelFileError, match="tensor"):
        load(path, network=Plain, activation=torch.sin)
    again = load(path, network=[Sized, Scaled(2.0), Plain], activation=torch.sin)
    assert np.array_equal(again.predict(table[0]), found.predict(table[0]))
    assert len(again.model_.parts) == len(model.parts) == 4
    # two that fit: the label decides, and where that is the same nobody does
    assert np.array_equal(
        load(path, network=[Sized, Scaled(2.0), Plain, Squeezed], activation=torch.sin).predict(table[0]),
        found.predict(table[0]),
    )
    with pytest.raises(ModelFileError, match=r"2 of the networks or activations given fit '.*': give one"):
        load(path, network=[Sized, Scaled(2.0), Scaled(3.0), Plain], activation=torch.sin)


def test_an_object_among_a_networks_options(table: Table, tmp_path: Path) -> None:
    model = fitted(table, network=Sized, network_options={"activation": nn.Tanh, "width": 4})
    path = saved(model, tmp_path)
    again = load(path, network=partial(Sized, activation=nn.Tanh))
    assert np.array_equal(again.predict(table[0]), model.predict(table[0]))


def test_a_network_that_reads_values_while_it_is_built(table: Table, tmp_path: Path) -> None:
    class Curious(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.factor = math.exp(torch.zeros(1).item())
            self.register_buffer("constant", torch.ones(1), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * self.constant * super().forward(x)

    model = fitted(table, network=Curious)
    again = load(saved(model, tmp_path), network=Curious)
    assert np.array_equal(again.predict(table[0]), model.predict(table[0]))


def test_encoding_by_function(table: Table, tmp_path: Path) -> None:
    model = fitted(table, encoding=standard)
    assert np.array_equal(model.predict(table[0]), fitted(table, encoding="standard").predict(table[0]))
    with pytest.raises(ModelFileError, match="the name of encoding 'standard' but not its code: make it a plugin"):
        load(saved(model, tmp_path))


@pytest.mark.parametrize(
    "network", [Plain, Plain(), Sized, two_layers, two_layers(3, 1)], ids=lambda n: type(n).__name__
)
def test_a_fitted_model_with_a_module_of_ones_own_is_pickled(table: Table, network: Any) -> None:
    model = fitted(table, network=network, activation=Swish(), loss=square, optimizer=torch.optim.Adam)
    expected = model.predict(table[0])
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(table[0]), expected)
    assert np.array_equal(copy.deepcopy(model).predict(table[0]), expected)
    found = search(networks=[network], activations=[torch.sin]).fit(*table)
    assert np.array_equal(pickle.loads(pickle.dumps(found)).predict(table[0]), found.predict(table[0]))


def test_a_file_names_no_directory_to_work_in(tmp_path: Path) -> None:
    X = np.arange(20.0).reshape(10, 2)
    search = AutoRegressor(
        strategy="grid",
        space={"max_epochs": [1]},
        companions=None,
        cv=[(np.arange(5), np.arange(5, 10))],
        random_state=0,
        verbose=0,
    ).fit(X, X[:, 0])
    search.save(tmp_path / "m.safetensors")
    manifest, tensors = read_model(tmp_path / "m.safetensors")
    manifest["estimator"]["parameters"]["run_dir"] = str(tmp_path / "precious")
    write_model(tmp_path / "m.safetensors", manifest, tensors, force=True)
    assert load(tmp_path / "m.safetensors").run_dir is None
    assert load(tmp_path / "m.safetensors").cv is None
    for name, value in {"n_folds": 0, "not_features": 5}.items():
        damaged = {**manifest, name: value}
        if name == "n_folds":
            damaged["leaderboard"] = [{**row, "scores": [], "rmse": []} for row in manifest["leaderboard"]]
        write_model(tmp_path / "m.safetensors", damaged, tensors, force=True)
        with pytest.raises(ModelFileError, match=name):
            load(tmp_path / "m.safetensors")
