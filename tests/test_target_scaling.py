"""Candidates that learn the target's logarithm, beside those that learn it as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV, KFold

from autoreg import AutoRegressor, NeuralRegressor, load
from autoreg.builtins.portfolio import portfolio
from autoreg.errors import OptionError
from autoreg.folds import make_folds
from autoreg.grouping import build
from autoreg.problem import Problem
from autoreg.results import CandidateResult
from autoreg.scoring import as_metric
from autoreg.space import Candidate, Space
from autoreg.tables import infer_schema
from autoreg.targets import is_skewed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 2))
SIGNAL = np.exp(2 + X @ [0.6, -0.4])
NOISY = SIGNAL * np.exp(0.7 * RNG.normal(size=300))
TINY: dict[str, Any] = {
    "network_options": {"depth": 1, "width": 8}, "max_epochs": 30, "learning_rate": 0.02, "random_state": 0,
}  # fmt: skip


def search(**settings: Any) -> AutoRegressor:
    plan = {"network__depth": [1], "network__width": [8], "learning_rate": [0.02], "max_epochs": [20]}
    space = {**plan, **settings.pop("space", {})}
    given = {"strategy": "grid", "cv": 3, "companions": None, "random_state": 0, "verbose": 0, **settings}
    return AutoRegressor(space=space, **given)


def test_products_become_sums() -> None:
    log, plain = (
        NeuralRegressor(target_scaling=scaling, network="linear", max_epochs=60, learning_rate=0.05, random_state=0)
        for scaling in ("log", "standard")
    )
    errors = [np.abs(model.fit(X, SIGNAL).predict(X) - SIGNAL).mean() / SIGNAL.std() for model in (log, plain)]
    assert errors[0] < 0.1 < errors[1]


@pytest.mark.parametrize("weight", [None, RNG.uniform(0.5, 2, size=300)], ids=["plain", "weighted"])
def test_the_mean_is_undone_without_bias(weight: Any) -> None:
    """Its exponential alone would be a quarter too low here; the mean of all training rows is right."""
    model = NeuralRegressor(target_scaling="log", **TINY).fit(X, NOISY, weight)
    assert np.average(model.predict(X), weights=weight) == pytest.approx(np.average(NOISY, weights=weight), rel=1e-6)
    median = NeuralRegressor(target_scaling="log", loss="absolute_error", **TINY).fit(X, NOISY, weight)
    assert np.average(median.predict(X), weights=weight) < 0.9 * np.average(NOISY, weights=weight)


def test_held_out_rows_say_it_where_they_choose_the_epoch() -> None:
    model = search(strategy="portfolio", n_candidates=2, space={"target_scaling": ["log"]}).fit(X, NOISY)
    assert model.best_estimator_.predict(X).mean() == pytest.approx(NOISY.mean(), rel=0.1)


def test_it_shares_a_stack_and_changes_no_neighbour() -> None:
    frame = pd.DataFrame(X, columns=list("ab"))
    schema = infer_schema(frame)
    coded = schema.encode(frame)
    problem = Problem(
        coded.numbers, coded.codes, schema.layout, NOISY[:, None], None, make_folds(3, len(X)), as_metric(None)
    )
    keys = {build(0, Candidate({"target_scaling": scaling}), problem).key for scaling in ("standard", "log")}
    assert len(keys) == 1
    both = search(space={"target_scaling": ["standard", "log"]}, ensemble=False).fit(X, NOISY)
    alone = [
        search(space={"target_scaling": [scaling]}, ensemble=False).fit(X, NOISY) for scaling in ("standard", "log")
    ]
    for row, one in zip(both.results_.candidates, alone, strict=True):
        np.testing.assert_allclose(row.scores, one.results_.candidates[0].scores, rtol=1e-4)


def test_the_grid_is_scikit_learns() -> None:
    grid = {"target_scaling": ["log", "standard"], "max_epochs": [5]}
    cv = KFold(3, shuffle=True, random_state=0)
    ours = AutoRegressor(strategy="grid", space=grid, cv=cv, companions=None, random_state=0, verbose=0).fit(X, NOISY)
    theirs = GridSearchCV(
        NeuralRegressor(random_state=0), grid, cv=cv, scoring="neg_root_mean_squared_error", refit=False
    ).fit(X, NOISY)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"], rtol=1e-5
    )  # fmt: skip


def test_several_targets_and_a_file(tmp_path: Path) -> None:
    both = np.stack([NOISY, 3 * SIGNAL], axis=1)
    model = NeuralRegressor(target_scaling="log", **TINY).fit(X, both)
    np.testing.assert_allclose(model.predict(X).mean(axis=0), both.mean(axis=0), rtol=1e-6)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors").predict(X), model.predict(X))


@pytest.mark.parametrize("least", [0.0, -1.0])
def test_what_has_no_logarithm_is_refused_in_one_line(least: float) -> None:
    y = np.append(NOISY[1:], least)
    with pytest.raises(OptionError, match=rf"^target_scaling='log' needs targets above 0, and the least is {least:g}$"):
        NeuralRegressor(target_scaling="log", **TINY).fit(X, y)


def test_labels_tell_them_apart() -> None:
    assert Candidate({"target_scaling": "log"}).label == "mlp relu log target lr 0.001"
    assert Candidate({"target_scaling": None}).label == "mlp relu raw target lr 0.001"


def test_the_portfolio_draws_it_for_skewed_targets_only() -> None:
    size = {"n_rows": 1000, "n_numbers": 5, "n_features": 5, "n_folds": 5, "n_targets": 1}
    drawn = {}
    for skewed in (0, 1):
        space = Space(({},), {**size, "n_skewed_targets": skewed}, "thorough")
        results: list[CandidateResult] = []
        while proposed := portfolio(space, results, 24, 0):
            results += [
                CandidateResult(len(results) + i, one, "net", (-1.0 - i,), (1.0 + i,)) for i, one in enumerate(proposed)
            ]
        drawn[skewed] = {row.candidate["target_scaling"] for row in results if row.candidate}
    assert drawn == {0: {"standard"}, 1: {"standard", "log"}}


def test_what_is_skewed() -> None:
    assert is_skewed(SIGNAL)
    assert not is_skewed(X[:, 0])
    assert not is_skewed(-SIGNAL)
    assert not is_skewed(np.append(SIGNAL, 0.0))


@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie"])
def test_a_log_link_learns_targets_of_any_size(loss: str) -> None:
    """Dividing target and prediction by a number changes these losses by a factor only."""
    rates = np.exp(X[:, 0])
    settings = {**TINY, "loss": loss, "max_epochs": 30}
    small, large = (NeuralRegressor(**settings).fit(X, rates * size).predict(X) / size for size in (1.0, 1e6))
    assert small == pytest.approx(large, rel=1e-3)


def test_a_loss_says_which_targets_it_takes() -> None:
    for loss, y, message in (
        ("poisson", NOISY - 10 * NOISY.max(), "loss poisson needs targets at least 0"),
        ("gamma", np.maximum(0, NOISY - NOISY.mean()), "loss gamma needs targets above 0, and the least is 0"),
    ):
        with pytest.raises(OptionError, match=message):
            NeuralRegressor(**TINY, loss=loss).fit(X, y)
