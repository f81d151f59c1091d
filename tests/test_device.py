"""Where networks train.

The meta device stands for a GPU that is not at hand: it has no numbers to give back. Where there is one, what holds on
the processor is tried there too.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from autoreg import AutoRegressor, NeuralRegressor, load
from autoreg.cli import autoreg
from autoreg.errors import OptionError
from autoreg.folds import make_folds
from autoreg.grouping import build, spec_of
from autoreg.plugins import load_plugins
from autoreg.problem import Problem
from autoreg.scoring import as_metric
from autoreg.space import Candidate
from autoreg.tables import infer_schema
from autoreg.training import StackRun, train_stack

AT_HAND = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
OPTIONS = {
    "plain": {"encoding": "plain", "network": "mlp", "optimizer": "adam"},
    "portfolio": {"encoding": "pbld", "network": "realmlp", "network__dropout": 0.2, "network__residual": True},
    "pieces": {"encoding": "ple", "network": "resnet", "activation": "mish", "optimizer": "muon"},
}


def _problem(device, half=False, weight=None, dtype=torch.float32):
    load_plugins()
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    frame["c"] = rng.choice(list("abcdefghijkl"), 60)
    frame.loc[::7, "a"] = np.nan
    y = rng.normal(size=60)
    schema = infer_schema(frame)
    coded = schema.encode(frame)
    folds = make_folds(None, len(y), y, random_state=0)
    return Problem(
        coded.numbers, coded.codes, schema.layout, y[:, None], weight, folds, as_metric(None),
        dtype=dtype, half=half, device=device,
    )  # fmt: skip


def _spec(options, problem, rates=(0.01, 0.001)):
    candidates = [Candidate({**options, "learning_rate": rate, "batch_size": 16, "max_epochs": 4}) for rate in rates]
    return spec_of([build(i, candidate, problem) for i, candidate in enumerate(candidates)], problem)


def _run(options, device, half=False, weight=None):
    problem = _problem(device, half, weight)
    return StackRun(_spec(options, problem), problem.data())


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", OPTIONS)
def test_no_step_asks_the_device_for_a_number_or_mixes_devices(name, half):
    weight = np.linspace(0.5, 2, 60)
    run = _run(OPTIONS[name], "meta", half, weight)
    loss = run.train_epoch(1)
    assert loss.device.type == "meta"
    assert loss.shape == (10,)
    assert {p.device.type for p in run.stack.parameters()} == {"meta"}
    with pytest.raises((RuntimeError, NotImplementedError)):
        loss.tolist()


def test_members_stay_on_the_cpu():
    run = _run(OPTIONS["portfolio"], "meta")
    for member in run.members:
        assert {t.device.type for t in member.module.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("device", AT_HAND)
@pytest.mark.parametrize("name", OPTIONS)
def test_a_stack_trains_its_members_as_the_processor_does_alone(name, device):
    weight = np.linspace(0.5, 2, 60)
    problem = _problem(device, weight=weight, dtype=torch.float64)
    together = train_stack(_spec(OPTIONS[name], problem), problem.data())
    for rate, outcome in zip((0.01, 0.001), together, strict=True):
        alone_on_cpu = _problem("cpu", weight=weight, dtype=torch.float64)
        (alone,) = train_stack(_spec(OPTIONS[name], alone_on_cpu, [rate]), alone_on_cpu.data())
        assert outcome.epoch == alone.epoch
        np.testing.assert_allclose(outcome.curve, alone.curve, rtol=1e-8)
        for one, other in zip(outcome.predictions, alone.predictions, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
        assert {tensor.device.type for state in outcome.states for tensor in state.values()} == {"cpu"}


@pytest.mark.parametrize("device", AT_HAND)
def test_a_model_predicts_what_its_file_predicts_wherever_it_was_trained(device, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 3)), columns=list("abc"))
    X["d"] = rng.choice(list("xyz"), 200)
    y = X["a"] * X["b"] + (X["d"] == "x")
    model = AutoRegressor(effort="quick", n_candidates=2, device=device, random_state=0, verbose=0).fit(X, y)
    model.save(tmp_path / "model.autoreg")
    np.testing.assert_array_equal(load(tmp_path / "model.autoreg").predict(X), model.predict(X))
    assert model.cv_results_["rank_test_score"].min() == 1
    assert model.score(X, y) > 0.5


@pytest.mark.parametrize("make", [AutoRegressor, NeuralRegressor])
def test_a_device_that_is_not_there_is_refused(make):
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20.0)
    with pytest.raises(OptionError, match=r"no device 'gpu'; .*known: auto, cpu, cuda"):
        make(device="gpu").fit(X, y)
    missing = f"cuda:{torch.cuda.device_count() if torch.cuda.is_available() else 0}"
    with pytest.raises(OptionError, match=rf"device='{missing}': torch .* sees \d GPUs here; device='cpu' works"):
        make(device=missing).fit(X, y)


def test_the_command_says_so_too(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a,y\n" + "\n".join(f"{i},{i}" for i in range(30)))
    done = CliRunner().invoke(autoreg, ["fit", str(table), "--target", "y", "--device", "tpu", "--quiet"])
    assert done.exit_code == 2
    assert "no device 'tpu'" in done.output


def test_cpu_gives_the_bits_of_auto():
    X, y = np.random.default_rng(0).normal(size=(50, 3)), np.arange(50.0)
    one, two = (NeuralRegressor(max_epochs=3, random_state=0, device=d).fit(X, y).predict(X) for d in ("auto", "cpu"))
    np.testing.assert_array_equal(one, two)
