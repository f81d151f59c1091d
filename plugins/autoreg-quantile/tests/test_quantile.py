"""The losses, and what `predict_quantiles` gives: checked against definitions, and by coverage on rows held out."""

import autoreg_quantile
import numpy as np
import pandas as pd
import pytest
import torch
from autoreg_quantile import command, expectile, pinball, predict_quantiles, quantiles
from click.testing import CliRunner

from autoreg import AutoRegressor, NeuralRegressor, load
from autoreg.errors import OptionError
from autoreg.testing import check_loss

SMALL = {"network_options": {"width": 32, "depth": 2}, "learning_rate": 0.01, "random_state": 0}


def draw(n, seed):
    """Rows whose spread depends on the second column."""
    rng = np.random.default_rng(seed)
    x = pd.DataFrame(rng.uniform(-2, 2, size=(n, 2)), columns=["place", "noise"])
    y = np.sin(2 * x["place"]) + (0.2 + 0.4 * x["noise"].abs()) * rng.normal(size=n)
    return x, y.rename("y")


@pytest.fixture(scope="module")
def model():
    return NeuralRegressor(loss="quantiles", max_epochs=30, **SMALL).fit(*draw(2000, 0))


@pytest.mark.parametrize("name", ["pinball", "expectile", "quantiles"])
def test_the_loss_does_what_autoreg_asks_of_a_loss(name):
    offered = {}
    autoreg_quantile.register_losses(lambda name, loss, **facts: offered.update({name: (loss, facts)}))
    loss, facts = offered[name]
    check_loss(loss, name=f"{name}-checked", **facts)


def best_constant(loss, target, level):
    values = torch.linspace(-3, 3, 1201)
    losses = [loss(value.expand(len(target), 1), target[:, None], level=level).mean() for value in values]
    return float(values[int(torch.stack(losses).argmin())])


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8])
def test_the_best_constant_is_the_quantile_or_the_expectile(level):
    target = torch.from_numpy(np.random.default_rng(0).exponential(size=500) - 1).float()
    below = float((target < best_constant(pinball, target, level)).float().mean())
    assert below == pytest.approx(level, abs=0.01)
    found = best_constant(expectile, target, level)
    above, under = float((target - found).clamp(min=0).sum()), float((found - target).clamp(min=0).sum())
    assert level * above == pytest.approx((1 - level) * under, rel=0.02)


def test_quantiles_is_the_mean_of_pinball_losses():
    output, target = torch.randn(6, 2 * 3, generator=torch.Generator().manual_seed(0)), torch.randn(6, 2)
    parts = [pinball(output[:, q::3], target, level=level) for q, level in enumerate((0.1, 0.5, 0.7))]
    assert torch.allclose(quantiles(output, target, levels=[0.1, 0.5, 0.7]), torch.stack(parts).mean(0))


def test_as_many_rows_lie_below_as_the_level_says(model):
    x, y = draw(4000, 1)
    found = predict_quantiles(model, x)
    shares = pd.Series({level: (y < found[level]).mean() for level in found})
    assert (shares - shares.index).abs().max() < 0.03
    # narrow rows and wide rows each for themselves: the networks found out what the spread depends on
    calm, noisy = x["noise"].abs() < 0.5, x["noise"].abs() > 1.5
    for rows in (calm, noisy):
        inside = (y[rows] >= found.loc[rows, 0.05]) & (y[rows] <= found.loc[rows, 0.95])
        assert 0.86 < inside.mean() < 0.94
    width = found[0.95] - found[0.05]
    assert width[noisy].mean() > 2 * width[calm].mean()


def test_quantiles_never_cross_and_the_median_is_what_predict_gives():
    x, y = draw(200, 0)
    early = NeuralRegressor(loss="quantiles", loss_options={"levels": 99}, max_epochs=1, **SMALL).fit(x, y)
    raw, found = early.predict_outputs(x)[:, 0], predict_quantiles(early, x)
    assert (np.diff(raw) < 0).any()
    assert (np.diff(found) >= 0).all()
    assert np.allclose(found[0.5], early.predict(x), rtol=1e-12)


def test_other_levels_lie_between_those_of_the_loss(model):
    x, _ = draw(50, 1)
    known, asked = predict_quantiles(model, x), predict_quantiles(model, x, [0.1, 0.125, 0.95])
    assert list(asked) == [0.1, 0.125, 0.95]
    assert np.allclose(asked[0.125], (known[0.1] + known[0.15]) / 2)
    assert np.allclose(asked[[0.1, 0.95]], known[[0.1, 0.95]])
    with pytest.raises(OptionError, match=r"level 0.99: the model knows levels from 0.05 to 0.95"):
        predict_quantiles(model, x, [0.99])


def test_rows_and_targets_keep_their_names():
    x, y = draw(300, 0)
    targets = pd.DataFrame({"one": y, "ten": 10 * y - 50})
    model = NeuralRegressor(loss="quantiles", loss_options={"levels": [0.1, 0.5, 0.9]}, max_epochs=40, **SMALL)
    found = predict_quantiles(model.fit(x, targets), x[::-1])
    assert found.index.equals(x.index[::-1])
    assert list(found) == [(target, level) for target in ("one", "ten") for level in (0.1, 0.5, 0.9)]
    for target in targets:
        inside = targets[target].loc[found.index].between(found[target, 0.1], found[target, 0.9])
        assert 0.7 < inside.mean() < 0.9


def test_a_search_averages_the_quantiles_of_its_networks_and_a_file_keeps_them(tmp_path):
    x, y = draw(300, 0)
    space = {"learning_rate": [0.005, 0.01], "max_epochs": [15], "loss__levels": [9], "network__width": [16]}
    search = AutoRegressor("grid", losses=["quantiles"], space=space, cv=2, scoring="mae", companions=None,
                           random_state=0, verbose=0).fit(x, y)  # fmt: skip
    found = predict_quantiles(search, x)
    assert list(found) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert np.allclose(found[0.5], search.predict(x), rtol=1e-12)
    search.save(tmp_path / "m.safetensors")
    pd.testing.assert_frame_equal(predict_quantiles(load(tmp_path / "m.safetensors"), x), found, check_exact=True)


def test_the_command_writes_a_column_for_each_level(model, tmp_path):
    x, _ = draw(5, 1)
    x.to_csv(tmp_path / "t.csv", index=False)
    model.save(tmp_path / "m.safetensors")
    words = [str(tmp_path / "m.safetensors"), str(tmp_path / "t.csv"), "-o", str(tmp_path / "q.csv")]
    assert CliRunner().invoke(command, [*words, "--level", "0.05", "--level", "0.5"]).exit_code == 0
    found = pd.read_csv(tmp_path / "q.csv")
    assert list(found) == ["y_q0.05", "y_q0.5"]
    assert np.allclose(found, predict_quantiles(model, x, [0.05, 0.5]))
    shown = CliRunner().invoke(command, words[:2])
    assert shown.stdout.splitlines()[0].split(",")[-1] == "y_q0.95"


def test_a_model_of_another_loss_is_refused():
    x, y = draw(50, 0)
    other = NeuralRegressor(max_epochs=1, **SMALL).fit(x, y)
    with pytest.raises(OptionError, match="trained with the loss squared_error: train it with quantiles alone"):
        predict_quantiles(other, x)


def test_a_model_with_companions_is_refused():
    x, y = draw(60, 0)
    model = AutoRegressor(strategy="grid", space={"max_epochs": [1]}, companions="include", cv=2, verbose=0).fit(x, y)
    model.model_.parts = [part for part in model.model_.parts if not hasattr(part, "candidate")]
    assert model.model_.parts
    with pytest.raises(OptionError, match="predicts with companions, which have no quantiles"):
        predict_quantiles(model, x)


@pytest.mark.parametrize("levels", [0, 4, 1001, 0.5, True, "9", [], [0.1, 0.9], [0.5, 0.5], [0.5, 1.0], [0.0, 0.5]])
def test_levels_that_no_loss_can_have(levels):
    with pytest.raises(OptionError, match="loss option levels="):
        quantiles(torch.zeros(1, 1), torch.zeros(1, 1), levels=levels)


@pytest.mark.parametrize("loss", [pinball, expectile])
@pytest.mark.parametrize("level", [0, 1, -0.5, float("nan")])
def test_levels_are_between_0_and_1(loss, level):
    with pytest.raises(OptionError, match="level="):
        loss(torch.zeros(1, 1), torch.zeros(1, 1), level=level)


def test_a_table_is_read_as_the_models_was(model, tmp_path):
    x, _ = draw(5, 1)
    x.to_csv(tmp_path / "t.csv", index=False, sep=";", decimal=",")
    told = model.model_.manifest
    model.model_.manifest = {**told, "reading": {"decimal": ","}}
    try:
        model.save(tmp_path / "m.safetensors")
    finally:
        model.model_.manifest = told
    words = [str(tmp_path / "m.safetensors"), str(tmp_path / "t.csv"), "-o", str(tmp_path / "q.csv")]
    done = CliRunner().invoke(command, [*words, "--level", "0.5"])
    assert done.exit_code == 0, done.output
    assert np.allclose(pd.read_csv(tmp_path / "q.csv"), predict_quantiles(model, x, [0.5]))


def test_levels_in_an_array_can_be_saved(tmp_path):
    x, y = draw(60, 0)
    options = {"levels": np.linspace(0.1, 0.9, 3)}
    model = NeuralRegressor(loss="quantiles", loss_options=options, max_epochs=1, **SMALL).fit(x, y)
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(load(tmp_path / "m.safetensors").predict(x), model.predict(x))
