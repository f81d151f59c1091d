"""What an introductory PyTorch course teaches is here: each item by itself, and the tutorial's page as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import alike, run_page
from sklearn.metrics import mean_squared_error
from torch import nn

from autoreg import AutoRegressor, NeuralRegressor, load

PLAIN: dict[str, Any] = {
    "encoding": None, "target_scaling": None, "schedule": "constant", "batch_size": 50, "random_state": 0,
}  # fmt: skip
"""Nothing before or behind the network, a fixed learning rate, all rows in one step: a course's loop."""


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.linspace(-1, 1, 50).reshape(-1, 1)


@pytest.fixture(scope="module")
def wave(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[:, 0])


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))


def test_the_page_runs_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page("tutorials/from-pytorch.md") >= 15


def test_pages_are_compared_by_words_and_numbers() -> None:
    assert alike("loss 0.101 in 3 epochs", "loss 0.100 in 3  epochs")
    assert not alike("loss 0.101 in 4 epochs", "loss 0.101 in 3 epochs")
    assert not alike("loss 0.2", "loss 0.5")
    assert not alike("gain 0.5", "loss 0.5")
    assert not alike("0.5 0.5", "0.5")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("as_given", [torch.Tensor.numpy, torch.clone, torch.Tensor.tolist])
def test_tensors_from_numpy_with_a_dtype(x: np.ndarray, wave: np.ndarray, dtype: torch.dtype, as_given: Any) -> None:
    X, y = torch.tensor(x, dtype=dtype), torch.tensor(wave, dtype=dtype)
    model = NeuralRegressor(max_epochs=2, random_state=0).fit(as_given(X), as_given(y))
    prediction = model.predict(as_given(X))
    is_single = dtype == torch.float32 and as_given is not torch.Tensor.tolist
    assert prediction.dtype == (np.float32 if is_single else np.float64)
    assert prediction.shape == (50,)
    assert np.allclose(prediction, NeuralRegressor(max_epochs=2, random_state=0).fit(x, wave).predict(x), atol=1e-4)


def test_a_target_of_one_column_keeps_its_column(x: np.ndarray, wave: np.ndarray) -> None:
    model = NeuralRegressor(max_epochs=2).fit(torch.tensor(x), torch.tensor(wave).unsqueeze(1))
    assert model.predict(torch.tensor(x)).shape == (50, 1)


@pytest.mark.parametrize("slope_and_intercept", [(3.0, 1.0), (-0.5, -4.0)])
def test_a_perceptron_recovers_a_line(x: np.ndarray, slope_and_intercept: tuple[float, float]) -> None:
    slope, intercept = slope_and_intercept
    model = NeuralRegressor(
        network="linear", loss="mse", optimizer="sgd", learning_rate=0.3, max_epochs=150, **PLAIN
    ).fit(x, slope * x[:, 0] + intercept)
    neuron = model.to_torch()
    assert type(neuron) is nn.Linear
    assert neuron.weight.shape == (1, 1)
    assert neuron.weight.item() == pytest.approx(slope, abs=1e-3)
    assert neuron.bias.item() == pytest.approx(intercept, abs=1e-3)


def test_a_fit_is_the_loop_of_the_course(x: np.ndarray, wave: np.ndarray) -> None:
    torch.manual_seed(0)
    net, X, y = network(), torch.tensor(x, dtype=torch.float32), torch.tensor(wave, dtype=torch.float32)
    optimizer, loss_of, losses = torch.optim.SGD(net.parameters(), lr=0.1), nn.MSELoss(), []
    for _ in range(30):
        loss = loss_of(net(X)[:, 0], y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model = NeuralRegressor(
        network=network(), loss=nn.MSELoss(), optimizer=torch.optim.SGD, learning_rate=0.1, max_epochs=30, **PLAIN
    ).fit(x, wave)
    assert model.loss_curve_ == pytest.approx(losses, rel=1e-4)
    with torch.no_grad():
        assert np.allclose(model.predict(x), net(X)[:, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("relu", nn.ReLU), ("sigmoid", nn.Sigmoid)])
def test_activations_by_name(x: np.ndarray, wave: np.ndarray, name: str, layer: type[nn.Module]) -> None:
    model = NeuralRegressor(activation=name, encoding=None, target_scaling=None, max_epochs=2).fit(x, wave)
    assert any(type(module) is layer for module in model.to_torch().modules())


def test_a_sequential_as_the_user_gives_it(x: np.ndarray, wave: np.ndarray) -> None:
    mine = network()
    before = {name: tensor.clone() for name, tensor in mine.state_dict().items()}
    model = NeuralRegressor(network=mine, optimizer="adam", learning_rate=0.03, max_epochs=200, **PLAIN).fit(x, wave)
    assert model.score(x, wave) > 0.95
    assert [type(layer) for layer in model.to_torch()] == [nn.Linear, nn.ReLU, nn.Linear]
    assert all(torch.equal(before[name], tensor) for name, tensor in mine.state_dict().items())


def test_mean_squared_error_is_what_the_loss_curve_shows(x: np.ndarray, wave: np.ndarray) -> None:
    model = NeuralRegressor(
        network="linear", loss="mse", optimizer="sgd", learning_rate=1e-12, max_epochs=1, **PLAIN
    ).fit(x, wave)
    assert model.loss_curve_[0] == pytest.approx(mean_squared_error(wave, model.predict(x)), rel=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", torch.optim.SGD, "adam", torch.optim.Adam])
def test_the_learning_rate_is_the_users(x: np.ndarray, wave: np.ndarray, optimizer: Any) -> None:
    def curve(learning_rate: float) -> list[float]:
        model = NeuralRegressor(
            network="linear", optimizer=optimizer, learning_rate=learning_rate, max_epochs=10, **PLAIN
        )
        return model.fit(x, wave).loss_curve_

    slow, fast = curve(0.001), curve(0.1)
    assert slow[0] == pytest.approx(fast[0])
    assert slow[-1] > fast[-1]


@pytest.mark.parametrize(("name", "cls"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_a_class_of_torch_gives_the_numbers_of_the_name(
    x: np.ndarray, wave: np.ndarray, name: str, cls: type[torch.optim.Optimizer]
) -> None:
    one, other = (
        NeuralRegressor(network=network(), optimizer=optimizer, learning_rate=0.02, max_epochs=20, **PLAIN).fit(x, wave)
        for optimizer in (name, cls)
    )
    assert one.loss_curve_ == pytest.approx(other.loss_curve_, rel=1e-4)


def test_too_small_and_too_large_a_learning_rate(x: np.ndarray, wave: np.ndarray) -> None:
    rates = [1e-5, 0.3, 50.0]
    search = AutoRegressor(
        strategy="grid", networks=["linear"], optimizers=["sgd"], companions=None, random_state=0, verbose=0,
        space={"learning_rate": rates, "max_epochs": [30], "schedule": ["constant"]},
    ).fit(x, 3 * x[:, 0] + 1)  # fmt: skip
    small, good, large = search.results_.candidates
    assert [candidate.candidate["learning_rate"] for candidate in (small, good, large)] == rates
    assert small.train_curve[-1] > 0.9 * small.train_curve[0]
    assert good.train_curve[-1] < 0.01 * good.train_curve[0]
    assert large.train_curve[1] > large.train_curve[0]
    assert "a smaller learning rate may help" in large.failure
    assert good.curve[-1] > small.curve[-1]
    board = search.leaderboard()
    assert board["model"].iloc[0] == "linear relu sgd lr 0.3"
    assert board["model"].iloc[-1] == "linear relu sgd lr 50"
    assert board["failure"].iloc[-1] == large.failure


def test_epochs_and_the_loss_curve(x: np.ndarray, wave: np.ndarray) -> None:
    model = NeuralRegressor(network=network(), optimizer="adam", learning_rate=0.02, max_epochs=25, **PLAIN)
    model.fit(x[::2], wave[::2], X_val=x[1::2], y_val=wave[1::2])
    assert model.n_iter_ == len(model.loss_curve_) == 25
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    error = mean_squared_error(wave[1::2], model.predict(x[1::2])) ** 0.5
    assert model.validation_scores_[-1] == pytest.approx(-error, rel=1e-4)


def test_torch_save_and_load(x: np.ndarray, wave: np.ndarray, tmp_path: Path) -> None:
    model = NeuralRegressor(network=network(), max_epochs=5, **PLAIN).fit(x, wave)
    module, X = model.to_torch(), torch.tensor(x, dtype=torch.float32)
    torch.save(module, tmp_path / "module.pt")
    whole = torch.load(tmp_path / "module.pt", weights_only=False)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    fresh = network()
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(whole(X), module(X))
    assert torch.equal(fresh(X), module(X))


def test_the_whole_model_as_a_module_can_be_saved_by_torch(houses: Any, tmp_path: Path) -> None:
    X, y = houses.drop(columns="price"), houses["price"]
    search = AutoRegressor(
        strategy="grid", networks=["mlp", "linear"], space={"max_epochs": [5]}, random_state=0, verbose=0
    ).fit(X, y)
    torch.save(search.to_torch(), tmp_path / "module.pt")
    module = torch.load(tmp_path / "module.pt", weights_only=False)
    coded = search.schema_.encode(X)
    with torch.no_grad():
        output = module(torch.from_numpy(coded.numbers), torch.from_numpy(coded.codes))
    assert not module.training
    assert output.shape == (len(X), 1)
    assert np.allclose(output[:, 0], search.predict(X), rtol=1e-5)


def test_evaluation_mode_without_gradients_and_the_test_error(x: np.ndarray, wave: np.ndarray) -> None:
    net = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
    model = NeuralRegressor(network=net, max_epochs=10, **PLAIN).fit(x[::2], wave[::2])
    module = model.to_torch()
    assert not any(layer.training for layer in module.modules())
    with torch.no_grad():
        output = module(torch.tensor(x[1::2], dtype=torch.float32))
    assert not output.requires_grad
    by_hand = nn.MSELoss()(output[:, 0], torch.tensor(wave[1::2], dtype=torch.float32)).item()
    assert by_hand == pytest.approx(mean_squared_error(wave[1::2], model.predict(x[1::2])), rel=1e-5)
    assert np.array_equal(model.predict(x), model.predict(x))


class WithoutArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1, 8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


class WithSizes(nn.Module):
    def __init__(self, n_features: int, n_outputs: int, hidden: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(n_features, hidden), nn.Linear(hidden, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)))


@pytest.mark.parametrize(
    ("given", "options", "hidden"),
    [
        (WithoutArguments, None, 8), (WithoutArguments(), None, 8), (WithSizes, None, 8),
        (WithSizes, {"hidden": 3}, 3), (WithSizes(1, 1, 5), None, 5),
    ],
    ids=["class without arguments", "instance", "class", "class with a size", "instance with a size"],
)  # fmt: skip
def test_the_users_own_class(
    x: np.ndarray, wave: np.ndarray, tmp_path: Path, given: Any, options: dict[str, Any] | None, hidden: int
) -> None:
    model = NeuralRegressor(network=given, network_options=options, learning_rate=0.05, max_epochs=100, **PLAIN)
    assert model.fit(x, wave).score(x, wave) > 0.8
    module = model.to_torch()
    assert type(module) is (given if isinstance(given, type) else type(given))
    assert module.first.out_features == hidden
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(load(tmp_path / "m.safetensors", network=given).predict(x), model.predict(x))
