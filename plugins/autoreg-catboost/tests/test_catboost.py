"""The companion is CatBoost, and its module gives CatBoost's numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autoreg_catboost import CodedCatBoost, SymmetricTrees, catboost, to_module
from catboost import CatBoostRegressor
from pages import run_page

from autoreg import AutoRegressor, load
from autoreg.encoding import TableLayout
from autoreg.errors import ModelFileError
from autoreg.model import FittedModel
from autoreg.scoring import Objective
from autoreg.testing import check_companion

LAYOUT = TableLayout(3, (True, False, False), (6, 300))


def make_matrix(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    X = np.hstack([draw.normal(size=(n, 3)), draw.integers(0, 6, (n, 1)), draw.integers(0, 300, (n, 1))])
    y = 2 * X[:, 0] + (X[:, 3] == 2) + X[:, 4] / 100 + 0.1 * draw.normal(size=n)
    X = X.astype(np.float32).astype(np.float64)
    X[::7, 0] = np.nan
    return X, y


def predicted(module: SymmetricTrees, X: np.ndarray) -> np.ndarray:
    numbers, codes = torch.from_numpy(X[:, :3].astype(np.float32)), torch.from_numpy(X[:, 3:].astype(np.int64))
    return module(numbers, codes).numpy()[:, 0]


@pytest.mark.parametrize("loss", ["RMSE", "MAE", "Quantile:alpha=0.9"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_module_gives_catboosts_numbers(loss: str, weighted: bool) -> None:
    X, y = make_matrix()
    weight = np.random.default_rng(1).uniform(0.1, 2, 250) if weighted else None
    fitted = CodedCatBoost(3, (6, 300), loss, iterations=200, random_state=3).fit(X[:250], y[:250], weight)
    module = to_module(fitted, LAYOUT)
    module.check(LAYOUT)
    X[-20:, :3] = np.nan  # also where no training row misses a value
    X[-10:, 3:] = 1
    expected = fitted.predict(X)
    assert np.abs(predicted(module, X) - expected).max() <= 1e-12 * np.abs(expected).max()


def test_numbers_are_fitted_by_catboosts_defaults() -> None:
    X, y = make_matrix()
    ours = catboost(TableLayout(3, (True, False, False), ()), 5, Objective()).fit(X[:, :3], y)
    theirs = CatBoostRegressor(random_seed=5, verbose=False, allow_writing_files=False).fit(X[:, :3], y)
    assert np.array_equal(ours.predict(X[:, :3]), theirs.predict(X[:, :3]))
    assert ours.model_.tree_count_ == 1000


def test_a_constant_target_is_its_prediction() -> None:
    X, _ = make_matrix(20)
    fitted = CodedCatBoost(3, (6, 300)).fit(X, np.full(20, 2.5))
    assert fitted.predict(X).tolist() == predicted(to_module(fitted, LAYOUT), X).tolist() == [2.5] * 20


def test_the_score_chooses_the_loss() -> None:
    assert catboost(LAYOUT, 0, Objective("absolute_error")).loss == "MAE"
    assert catboost(LAYOUT, 0, Objective("quantile", 0.9)).loss == "Quantile:alpha=0.9"


def test_keeps_what_a_companion_promises() -> None:
    check_companion(catboost, to_module=to_module, module=SymmetricTrees)


@pytest.fixture(scope="module")
def model() -> AutoRegressor:
    X, y = make_frame()
    settings: dict[str, Any] = {"space": {"max_epochs": [2]}, "cv": 2, "random_state": 0, "verbose": 0}
    return AutoRegressor(strategy="grid", companions="include", **settings).fit(X, y)


def make_frame() -> tuple[pd.DataFrame, np.ndarray]:
    draw = np.random.default_rng(0)
    X = pd.DataFrame({"a": draw.normal(size=200), "b": draw.normal(size=200), "c": draw.choice(list("xyz"), 200)})
    return X, (np.sin(3 * X["a"]) + X["a"] * X["b"] + (X["c"] == "x")).to_numpy()


def test_a_saved_model_predicts_alike_without_catboost(model: AutoRegressor, tmp_path: Path) -> None:
    X, _ = make_frame()
    assert "catboost" in [getattr(part, "name", "") for part in model.model_.parts]
    path, table = tmp_path / "m.safetensors", tmp_path / "t.csv"
    model.save(path)
    X.to_csv(table, index=False)
    X = pd.read_csv(table)
    assert np.array_equal(load(path).predict(X), model.predict(X))
    script = (
        f"import json, sys, pandas as pd\nfrom autoreg import load\n"
        f"found = load({str(path)!r}).predict(pd.read_csv({str(table)!r}))\n"
        f"print(json.dumps([found.tolist(), 'catboost' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [model.predict(X).tolist(), False]


def test_hostile_numbers_are_refused(model: AutoRegressor) -> None:
    manifest, tensors = model.model_.to_manifest(), model.model_.tensors()
    place = [member["label"] for member in manifest["members"]].index("catboost")
    own = f"{place}.0.0."
    for name, value in (("column", 10**6), ("column", -1), ("source", 3), ("source", -1)):
        with pytest.raises(ModelFileError, match="holds a number that is not from 0 to"):
            FittedModel.from_file(manifest, {**tensors, own + name: torch.full_like(tensors[own + name], value)})
    for depth in (0, 17, 64, 10**9, 5.0, "6"):
        changed = json.loads(json.dumps(manifest))
        changed["members"][place]["modules"][0][0]["depth"] = depth
        with pytest.raises(ModelFileError):
            FittedModel.from_file(changed, tensors)


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page("how-to/include-companions.md") == 2
