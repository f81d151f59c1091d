"""One network on all rows in place of one a fold: when it is asked for, and where folds go forward in time."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from sklearn.model_selection import GridSearchCV, KFold, TimeSeriesSplit

from autoreg import AutoRegressor, NeuralRegressor, load
from autoreg.cli import autoreg
from autoreg.errors import DataWarning
from autoreg.folds import make_folds
from autoreg.grouping import build, spec_of
from autoreg.modelparts import CompanionPart
from autoreg.persistence import read_manifest
from autoreg.problem import AllRows, Problem
from autoreg.scoring import as_metric
from autoreg.search import Evaluated, evaluate
from autoreg.space import Candidate
from autoreg.tables import infer_schema
from autoreg.training import train_stack

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = np.exp(X @ [0.5, 0.2, 0.1] + 0.1 * RNG.normal(size=120))
GRID = {"max_epochs": [4, 6], "learning_rate": [0.01], "network__width": [8]}
SMALL = {"network__width": [8], "network__depth": [1]}


def search(**settings: Any) -> AutoRegressor:
    return AutoRegressor(**{"random_state": 0, "verbose": 0, "companions": None, **settings})


def test_refit_is_that_of_scikit_learns_search() -> None:
    cv = KFold(3, shuffle=True, random_state=0)
    ours = search(strategy="grid", space=GRID, cv=cv, refit=True).fit(X, Y)
    theirs = GridSearchCV(
        NeuralRegressor(random_state=0), GRID, cv=cv, scoring="neg_root_mean_squared_error", refit=True
    ).fit(X, Y)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours.best_estimator_.predict(X), ours.predict(X))


def test_the_model_is_one_network_and_the_scores_are_those_of_the_folds() -> None:
    plan: dict[str, Any] = {"space": {**SMALL, "max_epochs": [15]}, "n_candidates": 4, "cv": 3, "companions": "include"}
    folds, whole = (search(**plan, refit=refit).fit(X, Y) for refit in (False, True))
    (part,) = whole.model_.parts
    assert (part.n_members, whole.n_splits_) == (1, 3)
    assert whole.best_params_ == folds.best_params_
    assert whole.best_score_ == folds.best_score_ == whole.ensemble_score_
    best = whole.results_.best
    assert best.megabytes == pytest.approx(folds.results_.best.megabytes / 3, rel=0.01)
    assert whole.score(X, Y) > 0.5


def test_it_trains_to_the_chosen_epoch_along_the_candidates_own_schedule() -> None:
    """A plan of 15 epochs that is best after 3 is not one of 3 epochs: its rate has not come down."""
    schema = infer_schema(pd.DataFrame(X, columns=list("abc")))
    coded = schema.encode(pd.DataFrame(X, columns=list("abc")))
    folds = make_folds(3, len(X))
    noise = RNG.normal(size=(len(X), 1))
    problem = Problem(coded.numbers, coded.codes, schema.layout, noise, None, folds, as_metric(None))
    candidate = Candidate({"network__width": 8, "max_epochs": 15, "learning_rate": 0.05, "early_stopping": True})
    (found,) = evaluate([candidate], problem)
    rows = AllRows.of(problem, len(X))
    again, last = found.on_all_rows(rows), found.result.epoch
    assert 0 < last < 15
    spec = replace(spec_of([build(0, candidate, rows.whole)], rows.whole), choose_epoch=False, patience=None)
    (by_hand,) = train_stack(spec, rows.data, lambda epoch, _: last if epoch == last else None)
    for name, tensor in again.states[0].items():
        assert torch.equal(tensor, by_hand.states[0][name]), name


def test_a_split_with_one_validation_set_is_not_over_time() -> None:
    rows = np.arange(len(X))
    model = search(strategy="grid", space=GRID, cv=[(rows[40:], rows[:40]), (rows[60:], rows[:40])]).fit(X, Y)
    assert {part.n_members for part in model.model_.parts} == {2}


def test_what_cannot_be_fitted_on_all_rows_keeps_its_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Evaluated, rows: AllRows) -> Evaluated:
        raise ValueError("not on all of them")

    monkeypatch.setattr(Evaluated, "on_all_rows", refuse)
    with pytest.warns(DataWarning, match="could not be fitted on all rows: ValueError: not on all of them"):
        model = search(strategy="grid", space=GRID, cv=TimeSeriesSplit(3)).fit(X, Y)
    assert {part.n_members for part in model.model_.parts} == {3}
    assert np.isfinite(model.predict(X)).all()
    monkeypatch.undo()
    again = search(strategy="grid", space=GRID, cv=TimeSeriesSplit(3)).repeating(model).fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_a_warning_says_that_there_was_no_time_to_fit_on_all_rows() -> None:
    with pytest.warns(DataWarning, match="could not be fitted on all rows: there was no time left"):
        model = search(cv=3, refit=True, time_limit=0.01).fit(X, Y)
    assert {part.n_members for part in model.model_.parts} == {3}


def test_ctrl_c_while_it_fits_on_all_rows_keeps_the_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Evaluated.on_all_rows

    def interrupted(self: Evaluated, rows: AllRows) -> Evaluated:
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, rows)

    monkeypatch.setattr(Evaluated, "on_all_rows", interrupted)
    model = search(strategy="grid", space=GRID, cv=3, refit=True, n_jobs=1)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert [part.n_members for part in model.model_.parts] == [3]


def test_rows_given_to_validate_on_are_not_trained_on() -> None:
    plan: dict[str, Any] = {"strategy": "grid", "space": {**GRID, "max_epochs": [4]}, "refit": True}
    one, other = (search(**plan).fit(X, Y, X_val=X + 100, y_val=y) for y in (Y, 2 * Y))
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


def test_folds_that_go_forward_are_fitted_again_on_all_rows() -> None:
    plan: dict[str, Any] = {"strategy": "grid", "space": GRID, "companions": "include"}
    model = search(**plan, cv=TimeSeriesSplit(3)).fit(X, Y)
    assert {part.n_members for part in model.model_.parts} == {1}
    assert len(model.best_estimator_.model_.parts[0].states["center"]) == 1
    kinds = {type(part) for part in model.model_.parts}
    shuffled = search(**plan, cv=KFold(3)).fit(X, Y)
    assert {part.n_members for part in shuffled.model_.parts} == {3}
    if CompanionPart in kinds:
        assert model.results_.has_companions


def test_a_fit_on_all_rows_is_saved_and_repeated_to_the_bit(tmp_path: Path) -> None:
    limited = search(space=SMALL, time_limit=3, refit=True).fit(X, Y)
    limited.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors").predict(X), limited.predict(X))
    again = search(space=SMALL, refit=True).repeating(load(tmp_path / "m.safetensors")).fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), limited.predict(X))


def test_the_logarithms_refit_is_that_of_scikit_learns_search() -> None:
    grid = {**GRID, "target_scaling": ["log"]}
    cv = KFold(3, shuffle=True, random_state=0)
    ours = search(strategy="grid", space=grid, cv=cv, refit=True).fit(X, Y)
    theirs = GridSearchCV(NeuralRegressor(random_state=0), grid, cv=cv, scoring="neg_root_mean_squared_error").fit(X, Y)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-4, atol=1e-5)


def test_the_logarithm_keeps_what_the_folds_know_of_the_mean() -> None:
    plan: dict[str, Any] = {"space": {**SMALL, "target_scaling": ["log"], "max_epochs": [15]}, "n_candidates": 1}
    noisy = Y * np.exp(RNG.normal(size=len(Y)))
    model = search(**plan, refit=True).fit(X, noisy)
    assert model.predict(X).mean() == pytest.approx(noisy.mean(), rel=0.25)


def test_the_command_line_refits_too(tmp_path: Path) -> None:
    table = pd.DataFrame(X, columns=list("abc")).assign(y=Y)
    table.to_csv(tmp_path / "t.csv", index=False)
    fit = [
        "fit", str(tmp_path / "t.csv"), "--target", "y", "--refit", "--candidates", "2", "--space", "max_epochs=3",
        "--space", "network__width=8", "--quiet",
    ]  # fmt: skip
    done = CliRunner().invoke(autoreg, [*fit, "-o", str(tmp_path / "m.safetensors")])
    assert done.exit_code == 0, done.output
    manifest = read_manifest(tmp_path / "m.safetensors")
    assert [part["n_members"] for part in manifest["members"]] == [1]
    assert manifest["on_all_rows"] is True


def test_one_fold_over_time_is_fitted_on_all_rows_too(tmp_path: Path) -> None:
    """Of two years the second is held out: it would never be learned from."""
    table = pd.DataFrame(X, columns=list("abc")).assign(y=Y, year=np.arange(len(Y)) % 2 + 2024)
    table.to_csv(tmp_path / "t.csv", index=False)
    fit = [
        "fit", str(tmp_path / "t.csv"), "--target", "y", "--time", "year", "--candidates", "2", "--space",
        "max_epochs=3", "--space", "network__width=8", "--companions", "none", "--quiet",
    ]  # fmt: skip
    done = CliRunner().invoke(autoreg, [*fit, "-o", str(tmp_path / "m.safetensors")])
    assert done.exit_code == 0, done.output
    manifest = read_manifest(tmp_path / "m.safetensors")
    assert manifest["n_folds"] == 1
    assert manifest["on_all_rows"]
