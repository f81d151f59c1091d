"""What always holds: the same seed gives the same bits, saving keeps them, and rows do not meddle with each other."""

import hashlib
import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from autoreg import AutoRegressor, NeuralRegressor, grouping, load, search
from autoreg.folds import make_folds
from autoreg.persistence import read_model
from autoreg.plugins import registry
from autoreg.problem import Problem
from autoreg.scoring import as_metric
from autoreg.space import Candidate
from autoreg.tables import infer_schema

FEATURES = ["area", "rooms", "built", "town", "garden", "sold"]
TINY = {"max_epochs": 2, "network_options": {"width": 8, "depth": 1}, "random_state": 0}


def names(kind):
    return registry().names(kind)


def several():
    """An ensemble of different networks; the activations are three programs."""
    space = {"max_epochs": [6], "learning_rate": [0.01], "activation": ["relu", "tanh", "silu"], "network__width": [8]}
    return AutoRegressor("grid", space=space, cv=3, companions=None, random_state=0, verbose=0)


def planned(**options):
    """The portfolio, with its own seeds and its own choice of epochs."""
    space = {"max_epochs": [4], "network__width": [16]}
    settings = {"effort": "quick", "space": space, "cv": 3, "companions": None, "random_state": 0, "verbose": 0}
    return AutoRegressor(**{**settings, **options})


def single():
    return NeuralRegressor(**{**TINY, "max_epochs": 10}, early_stopping=True, n_iter_no_change=3)


def with_dropout():
    return NeuralRegressor(network_options={"dropout": 0.3, "width": 16}, max_epochs=5, random_state=0)


MODELS = [single, with_dropout, several, planned]


def as_arrays(tensors):
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def tensors_of(model):
    return as_arrays(model.model_.tensors())


def assert_same_tensors(one, other):
    assert set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert one[name].tobytes() == other[name].tobytes(), name


# Seeds


@pytest.mark.parametrize("make", MODELS)
def test_the_same_seed_gives_the_same_bits(houses, make, tmp_path, monkeypatch):
    """The saved file too, byte for byte, but for what the clock says."""
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    X, y = houses[FEATURES], houses["price"]
    one, other = make().fit(X, y), make().fit(X, y)
    assert_same_tensors(tensors_of(one), tensors_of(other))
    assert np.array_equal(one.predict(X), other.predict(X))
    one.save(tmp_path / "one")
    other.save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_another_seed_gives_other_bits(houses):
    X, y = houses[FEATURES], houses["price"]
    seeds = (0, 1, np.random.RandomState(0), None, None)
    predictions = [NeuralRegressor(**{**TINY, "random_state": seed}).fit(X, y).predict(X)[0] for seed in seeds]
    assert len(set(predictions)) == len(seeds)


FIT = """
import hashlib, json, sys
import pandas as pd
from autoreg import AutoRegressor, NeuralRegressor

table = pd.read_parquet(sys.argv[1])
out = []
for kind, options in json.loads(sys.argv[2]):
    model = {"AutoRegressor": AutoRegressor, "NeuralRegressor": NeuralRegressor}[kind](**options)
    model.fit(table.drop(columns="price"), table["price"])
    digest = hashlib.sha256(model.predict(table).tobytes())
    for name, tensor in sorted(model.model_.tensors().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    out.append(digest.hexdigest())
print(json.dumps(out))
"""


def test_another_process_gives_the_same_bits(houses, tmp_path):
    """Whatever its hash seed and its threads."""
    models = [several(), planned(), with_dropout()]
    table = houses[[*FEATURES, "price"]]
    table.to_parquet(tmp_path / "table")
    described = json.dumps([[type(model).__name__, model.get_params(deep=False)] for model in models])
    answers = [
        subprocess.run(
            [sys.executable, "-c", FIT, str(tmp_path / "table"), described],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    ]  # fmt: skip
    digests = []
    for model in models:
        model.fit(table[FEATURES], table["price"])
        digest = hashlib.sha256(model.predict(table).tobytes())
        for name, tensor in sorted(tensors_of(model).items()):
            digest.update(name.encode() + tensor.tobytes())
        digests.append(digest.hexdigest())
    assert [json.loads(answer) for answer in answers] == [digests, digests]


def test_the_number_of_jobs_changes_no_bit(houses):
    X, y = houses[FEATURES], houses["price"]
    alone, beside = (planned(n_jobs=n).fit(X, y) for n in (1, 3))
    assert_same_tensors(tensors_of(alone), tensors_of(beside))
    assert np.array_equal(alone.cv_results_["mean_test_score"], beside.cv_results_["mean_test_score"])


def test_fits_in_threads_give_the_same_bits(houses):
    """torch's generator is one for all of a user's threads."""
    X, y = houses[FEATURES], houses["price"]
    grid = {"network__depth": [1, 2], "network__dropout": [0.0, 0.2], "activation": ["relu", "tanh"], "max_epochs": [2]}

    def found(n_jobs):
        with parallel_config("threading", n_jobs=n_jobs):
            searched = GridSearchCV(NeuralRegressor(random_state=0), grid, cv=3, refit=False).fit(X, y)
        return searched.cv_results_["mean_test_score"]

    expected = found(1)
    for _ in range(2):
        assert np.array_equal(found(4), expected)


def test_fitting_leaves_the_generators_of_the_user_alone(houses):
    X, y = houses[FEATURES], houses["price"]
    torch.manual_seed(3)
    np.random.seed(3)
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    planned().fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, default)
    assert torch.is_grad_enabled()


def test_what_is_given_stays_as_it_is(houses):
    X, y, weight = houses[FEATURES], houses["price"], np.ones(len(houses))
    before = X.copy(), y.copy()
    several().fit(X, y, weight).predict(X)
    pd.testing.assert_frame_equal(X, before[0])
    pd.testing.assert_series_equal(y, before[1])
    assert (weight == 1).all()


# Folds


@pytest.mark.parametrize("encoding", [name for name in names("encoding") if name != "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_rows_change_nothing_in_their_fold(houses, encoding, weighted):
    """Neither its statistics nor the weights that are trained in it."""
    schema = infer_schema(houses[FEATURES])
    coded = schema.encode(houses[FEATURES])
    y = houses[["price"]].to_numpy()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y)) if weighted else None
    folds = make_folds(3, len(y))
    candidate = Candidate({"encoding": encoding, "max_epochs": 2, "network__width": 8})

    def train(numbers, codes, y, weight):
        problem = Problem(
            numbers, codes, schema.layout, y, weight, folds, as_metric("rmse"), seed=1, choose_epoch=False
        )  # fmt: skip
        return problem, search.evaluate([candidate], problem)[0]

    draw, rows = np.random.default_rng(1), folds[0].valid
    numbers, codes = coded.numbers.copy(), coded.codes.copy()
    numbers[rows] = draw.normal(0, 1e4, (len(rows), numbers.shape[1]))
    numbers[rows[:5], np.flatnonzero(schema.layout.may_miss)[0]] = np.nan
    codes[rows] = draw.integers(0, schema.layout.n_codes, (len(rows), codes.shape[1]))
    other_y = y.copy()
    other_y[rows] *= -100
    other_weight = None if weight is None else weight.copy()
    if other_weight is not None:
        other_weight[rows] = 50
    before, after = train(coded.numbers, coded.codes, y, weight), train(numbers, codes, other_y, other_weight)
    for name in ("n_rows", "mean", "std", "median", "minimum", "maximum", "missing", "quantiles"):
        assert np.array_equal(getattr(before[0].statistics(0), name), getattr(after[0].statistics(0), name)), name
        same = np.array_equal(getattr(before[0].statistics(1), name), getattr(after[0].statistics(1), name))
        assert same == (name == "n_rows"), name
    for one, other in zip(before[0].statistics(0).counts, after[0].statistics(0).counts, strict=True):
        assert np.array_equal(one, other)
    assert_same_tensors(*(as_arrays(done.states[0]) for _, done in (before, after)))
    assert before[1].result.scores[0] != after[1].result.scores[0]


# Files


def assert_same_after_loading(model, X, path, **code):
    model.save(path)
    again = load(path, **code)
    assert type(again) is type(model)
    assert np.array_equal(again.predict(X), model.predict(X))
    assert again.predict(X).dtype == model.predict(X).dtype
    assert again.schema_ == model.schema_
    again.save(path.with_suffix(".again"))
    assert_same_tensors(
        *({k: v.numpy() for k, v in read_model(p)[1].items()} for p in (path, path.with_suffix(".again")))
    )
    return again


@pytest.mark.parametrize("encoding", [*names("encoding"), None])
def test_every_encoding_comes_back(houses, encoding, tmp_path):
    X = houses[FEATURES] if encoding not in ("none", None) else houses[["area", "rooms"]]
    model = NeuralRegressor(encoding=encoding, target_scaling=None if encoding is None else "standard", **TINY)
    assert_same_after_loading(model.fit(X, houses["price"]), X, tmp_path / "model")


@pytest.mark.parametrize("network", names("network"))
def test_every_network_comes_back(houses, network, tmp_path):
    options = {"network": network, "network_options": None if network == "linear" else TINY["network_options"]}
    model = NeuralRegressor(**{**TINY, **options}).fit(houses[FEATURES], houses["price"])
    assert_same_after_loading(model, houses[FEATURES], tmp_path / "model")


@pytest.mark.parametrize("loss", names("loss"))
def test_every_loss_comes_back(houses, loss, tmp_path):
    model = NeuralRegressor(loss=loss, **TINY).fit(houses[FEATURES], houses["price"])
    assert (model.predict(houses[FEATURES]) > 0).all() or loss not in ("poisson", "gamma", "tweedie")
    assert_same_after_loading(model, houses[FEATURES], tmp_path / "model")


@pytest.mark.parametrize("activation", names("activation"))
def test_every_activation_comes_back(houses, activation, tmp_path):
    model = NeuralRegressor(activation=activation, **TINY).fit(houses[FEATURES], houses["price"])
    assert_same_after_loading(model, houses[FEATURES], tmp_path / "model")


@pytest.mark.parametrize("optimizer", names("optimizer"))
def test_every_optimizer_comes_back(houses, optimizer, tmp_path):
    model = NeuralRegressor(optimizer=optimizer, **TINY).fit(houses[FEATURES], houses["price"])
    assert_same_after_loading(model, houses[FEATURES], tmp_path / "model")


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_several_targets_come_back(houses, make, dtype, tmp_path):
    X = houses[FEATURES]
    Y = pd.DataFrame({"price": houses["price"], "logarithm": np.log(houses["price"])}).astype(dtype)
    again = assert_same_after_loading(make().fit(X, Y), X, tmp_path / "model")
    assert again.predict(X).shape == (len(X), 2)


def test_a_search_comes_back_with_its_results(houses, tmp_path):
    X, y = houses[FEATURES], houses["price"]
    model = several().set_params(companions="compare").fit(X, y)
    assert model.results_.ensemble is not None
    again = assert_same_after_loading(model, X, tmp_path / "model")
    pd.testing.assert_frame_equal(again.leaderboard(), model.leaderboard())
    assert set(again.cv_results_) == set(model.cv_results_)
    for name, column in model.cv_results_.items():
        assert np.array_equal(again.cv_results_[name], column), name
    for name in ("best_params_", "best_score_", "best_index_", "ensemble_score_", "n_splits_", "n_features_in_"):
        assert getattr(again, name) == getattr(model, name), name
    assert again.feature_names_in_.tolist() == FEATURES
    assert again.results_.verdict == model.results_.verdict
    assert again.get_params()["random_state"] == 0
    assert np.array_equal(again.set_params(verbose=0).fit(X, y).predict(X), model.predict(X))


# Rows to predict


@pytest.fixture(scope="module", params=[*(name for name in names("encoding") if name != "none"), "search"])
def fitted(request):
    """A fitted model, and rows to predict that fill more than one chunk."""
    draw = np.random.default_rng(0)
    n = 700
    X = pd.DataFrame(
        {
            "a": draw.normal(size=n), "b": draw.lognormal(size=n), "few": draw.choice(list("xyz"), n),
            "many": draw.choice([f"level {i}" for i in range(30)], n), "flag": draw.random(n) < 0.5,
        }
    )  # fmt: skip
    X.loc[draw.choice(n, 50, replace=False), "a"] = np.nan
    y = 1000 + 50 * X["b"].to_numpy() * (X["few"] == "x") + 20 * X["flag"].to_numpy() + draw.normal(size=n)
    options = {"max_epochs": 3, "random_state": 0}
    if request.param == "search":
        space = {"max_epochs": [2], "encoding": ["plain", "ple"], "activation": ["relu", "tanh"]}
        model = AutoRegressor("grid", space=space, cv=2, companions=None, random_state=0, verbose=0)
    else:
        model = NeuralRegressor(encoding=request.param, **options)
    return model.fit(X[:200], y[:200]), X, 1e-7 * y.std()


def test_the_order_of_rows_and_their_company_do_not_matter(fitted):
    model, X, tolerance = fitted
    expected = model.predict(X)
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_allclose(model.predict(X.iloc[order]), expected[order], rtol=0, atol=tolerance)
    for rows in ([3], [511, 512], range(100, 613)):
        np.testing.assert_allclose(model.predict(X.iloc[list(rows)]), expected[list(rows)], rtol=0, atol=tolerance)


def test_tables_predicted_together_are_predicted_as_alone(fitted):
    model, X, _ = fitted
    alone = [X[:1], X[1:40], X[40:700], X[3:4]]
    together = model.predict_coded([model.schema_.encode(table) for table in alone])
    assert all(np.array_equal(one, model.predict(table)) for one, table in zip(together, alone, strict=True))
    assert model.predict_coded([]) == []


def test_odd_rows_do_not_touch_the_others(fitted):
    model, X, tolerance = fitted
    expected = model.predict(X)
    odd = X.iloc[:4].copy()
    odd[["a", "b"]] = [[np.nan, np.nan], [1e30, -1e30], [0, np.nan], [-1e300, 1e300]]
    odd["few"] = ["unheard of", None, "x", ""]
    odd["many"] = [None, "level 31", "LEVEL 1", "level 2"]
    odd["flag"] = [True, None, False, None]
    for both in (pd.concat([odd, X]), pd.concat([X, odd])):
        prediction = model.predict(both)
        assert np.isfinite(prediction).all()
        kept = prediction[4:] if both.iloc[0]["few"] == "unheard of" else prediction[:-4]
        np.testing.assert_allclose(kept, expected, rtol=0, atol=tolerance)


def test_the_order_of_columns_and_further_ones_do_not_matter(fitted):
    model, X, _ = fitted
    expected = model.predict(X)
    assert np.array_equal(model.predict(X[X.columns[::-1]]), expected)
    further = X.assign(more=1.5, few_more="text", again=pd.Timestamp("2020-01-01"))
    assert np.array_equal(model.predict(further[sorted(further.columns)]), expected)


# Candidates


def scores(table, space, **options):
    settings = {"strategy": "grid", "cv": 2, "companions": None, "random_state": 0, "verbose": 0, "ensemble": False}
    found = AutoRegressor(**{**settings, **options}, space=space).fit(*table)
    keys = [json.dumps(params, sort_keys=True) for params in found.cv_results_["params"]]
    return dict(zip(keys, found.cv_results_["mean_test_score"], strict=True))


ALONE = [
    {"learning_rate": [0.01], "max_epochs": [5]},
    {"learning_rate": [0.03], "max_epochs": [5]},
    {"learning_rate": [0.02], "max_epochs": [5], "loss": ["absolute_error"]},
    {"learning_rate": [0.02], "max_epochs": [5], "optimizer": ["sgd"]},
    {"learning_rate": [0.02], "max_epochs": [5], "optimizer__weight_decay": [0.5]},
    {"learning_rate": [0.02], "max_epochs": [5], "network__dropout": [0.3]},
    {"learning_rate": [0.02], "max_epochs": [5], "activation": ["tanh"]},
    {"learning_rate": [0.02], "max_epochs": [7]},
    {"learning_rate": [0.02], "max_epochs": [5], "batch_size": [7]},
    {"learning_rate": [1e9], "max_epochs": [5], "optimizer": ["sgd"]},
]


def in_this_order(space, results, n, seed):
    """A strategy under which every member has a seed of its own and the best epoch counts."""
    proposed = [Candidate({name: values[0] for name, values in one.items()}) for one in space.dimensions]
    return [] if results else proposed


@pytest.mark.parametrize("strategy", ["grid", in_this_order])
def test_a_score_depends_neither_on_the_order_of_candidates_nor_on_their_company(houses, strategy, monkeypatch):
    table = houses[FEATURES], houses["price"]
    together = scores(table, ALONE, strategy=strategy)
    assert len(set(together.values())) == len(ALONE)
    assert np.isnan(together[json.dumps({"learning_rate": 1e9, "max_epochs": 5, "optimizer": "sgd"}, sort_keys=True)])
    backwards = scores(table, ALONE[::-1], strategy=strategy)
    alone = {}
    for space in ALONE[:-1]:
        alone.update(scores(table, space, strategy=strategy))
    monkeypatch.setattr(grouping, "STACK_BYTES", 1)
    apart = scores(table, ALONE, strategy=strategy)
    for other in (backwards, alone, apart):
        for key, score in other.items():
            assert score == pytest.approx(together[key], rel=1e-5, nan_ok=True), key
