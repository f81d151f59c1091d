"""Companions as parts of a model: chosen, saved, loaded and told of like networks."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import TimeSeriesSplit

from autoreg import AutoRegressor, load
from autoreg.errors import ModelFileError, OptionError, SearchError
from autoreg.modelparts import CompanionPart, Part
from autoreg.persistence import read_manifest
from autoreg.report import card, leaderboard

SMALL: dict[str, Any] = {
    "strategy": "grid", "space": {"max_epochs": [3], "learning_rate": [0.01, 0.02]}, "random_state": 0, "verbose": 0,
    "companions": "include", "cv": 3,
}  # fmt: skip


def make_table(n: int = 240, n_targets: int = 1) -> tuple[pd.DataFrame, np.ndarray]:
    draw = np.random.default_rng(0)
    X = pd.DataFrame({"a": draw.normal(size=n), "b": draw.normal(size=n), "c": draw.choice(list("xyz"), n)})
    X.loc[::7, "a"] = np.nan
    y = np.where(X["b"] > 0, 3.0, 0.0) + (X["c"] == "x") + 0.1 * draw.normal(size=n)
    return X, y.to_numpy() if n_targets == 1 else np.stack([y, -2 * y + 1], axis=1)


@pytest.fixture(scope="module")
def model() -> AutoRegressor:
    return AutoRegressor(**SMALL).fit(*make_table())


@pytest.fixture
def path(model: AutoRegressor, tmp_path: Path) -> Path:
    model.save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def names(model: AutoRegressor) -> set[str]:
    return {part.name for part in model.model_.parts if isinstance(part, CompanionPart)}


def test_the_ensemble_takes_companions(model: AutoRegressor) -> None:
    assert names(model)
    assert model.ensemble_score_ > model.results_.networks.score
    assert model.results_.has_companions
    # best still means the best network
    assert model.best_params_["learning_rate"] in (0.01, 0.02)
    assert isinstance(model.best_estimator_.model_.parts[0], Part)


def test_comparing_changes_nothing() -> None:
    X, y = make_table()
    alone = AutoRegressor(**{**SMALL, "companions": None}).fit(X, y)
    compared = AutoRegressor(**{**SMALL, "companions": "compare"}).fit(X, y)
    assert np.array_equal(alone.predict(X), compared.predict(X))
    assert not compared.results_.has_companions


def test_files_pickles_and_joblib_keep_the_bits(model: AutoRegressor, path: Path, tmp_path: Path) -> None:
    X, _ = make_table()
    expected = model.predict(X)
    joblib.dump(model, tmp_path / "m.joblib")
    for again in (load(path), pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "m.joblib")):
        assert np.array_equal(again.predict(X), expected)
    loaded = load(path)
    loaded.save(tmp_path / "again.safetensors")
    assert np.array_equal(load(tmp_path / "again.safetensors").predict(X), expected)
    assert loaded.ensemble_score_ == model.ensemble_score_
    assert loaded.results_.verdict == model.results_.verdict
    assert loaded.results_.networks.scores == model.results_.networks.scores
    assert loaded.results_.has_companions


def test_equal_fits_give_equal_models_whatever_n_jobs(model: AutoRegressor) -> None:
    again = AutoRegressor(**SMALL, n_jobs=1).fit(*make_table())
    X, _ = make_table()
    assert np.array_equal(again.predict(X), model.predict(X))
    assert again.results_.ensemble == model.results_.ensemble


def test_out_of_fold_predictions_are_the_modules_own(model: AutoRegressor) -> None:
    """What is scored is what the file holds: scikit-learn's prediction of a fold is the module's."""
    X, y = make_table()
    part = next(part for part in model.model_.parts if isinstance(part, CompanionPart))
    table = model.schema_.encode(X)
    numbers, codes = torch.from_numpy(table.numbers), torch.from_numpy(table.codes.astype(np.int64))
    row = next(row for row in model.results_.companions if row.name == part.name)
    from autoreg.folds import make_folds

    for k, fold in enumerate(make_folds(3, len(y), y, random_state=0)):
        found = part.members[k](numbers[fold.valid], codes[fold.valid]).numpy()[:, 0]
        assert row.rmse[k] == pytest.approx(np.sqrt(np.mean((found - y[fold.valid]) ** 2)), rel=1e-9)


def test_trees_predict_a_row_alike_in_any_company(model: AutoRegressor) -> None:
    X, _ = make_table()
    table = model.schema_.encode(pd.concat([X] * 5, ignore_index=True))
    few = model.schema_.encode(X.iloc[100:103])
    for part in model.model_.parts:
        if isinstance(part, CompanionPart) and part.name != "ridge":
            whole, alone = (
                member(torch.from_numpy(t.numbers), torch.from_numpy(t.codes.astype(np.int64)))
                for t in (table, few)
                for member in part.members[:1]
            )
            assert torch.equal(whole[100:103], alone)
    odd = pd.DataFrame({"c": ["never seen", None], "more": [1, 2], "b": [np.nan, 0.0], "a": [np.nan, 1.0]})
    together = model.predict(pd.concat([X, odd], ignore_index=True))
    assert np.isfinite(together).all()
    assert together[: len(X)] == pytest.approx(model.predict(X), abs=1e-7)


def test_a_model_loads_without_the_trees_library(model: AutoRegressor, path: Path, tmp_path: Path) -> None:
    X, _ = make_table()
    X.to_csv(tmp_path / "t.csv", index=False)
    script = (
        "import sys, json, pandas as pd\n"
        "from autoreg import load\n"
        f"found = load({str(path)!r}).predict(pd.read_csv({str(tmp_path / 't.csv')!r}))\n"
        "print(json.dumps([found.tolist(), [m for m in sys.modules if m.split('.')[:2] in "
        "(['sklearn', 'ensemble'], ['sklearn', 'tree'])]]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found, modules = json.loads(done.stdout)
    assert modules == []
    assert found == model.predict(pd.read_csv(tmp_path / "t.csv")).tolist()


def test_to_torch_has_all_parts(model: AutoRegressor) -> None:
    X, _ = make_table()
    table = model.schema_.encode(X)
    module = model.to_torch()
    with torch.no_grad():
        found = module(torch.from_numpy(table.numbers), torch.from_numpy(table.codes.astype(np.int64)))
    assert found.numpy()[:, 0] == pytest.approx(model.predict(X), abs=1e-4)
    assert len(module.members) == sum(part.n_members for part in model.model_.parts)


def test_outputs_are_those_of_networks(model: AutoRegressor) -> None:
    X, _ = make_table()
    assert model.predict_outputs(X)[:, 0, 0] == pytest.approx(model.predict(X))
    with pytest.raises(OptionError, match="which has no outputs of a network to link: fit with companions='compare'"):
        model.predict_outputs(X, link=torch.exp)


def test_the_leaderboard_tells_all(model: AutoRegressor, path: Path) -> None:
    board = model.leaderboard()
    assert set(board["kind"]) == {"network", "ensemble", "companion"}
    assert (board["ms_per_row"] > 0).all()
    assert (board["megabytes"] > 0).all()
    rows = model.results_.ranked
    weights = model.results_.ensemble.facts["weights"]
    assert model.results_.ensemble.megabytes == pytest.approx(sum(r.megabytes for r in rows if r.index in weights))
    assert all(name in model.results_.ensemble.name for name in names(model))
    assert all(name in card.card(read_manifest(path)) for name in names(model))
    assert "ms/row" in leaderboard.text(model.results_)


def test_the_verdict_judges_networks_and_tells_the_model(model: AutoRegressor) -> None:
    first, second = model.results_.verdict.split("). ")
    assert "worse than the best baseline" in first or "no clear difference" in first
    assert second.startswith(f"The model is the {model.results_.ensemble.name}: rmse ")


@pytest.mark.parametrize("ensemble", [True, False])
def test_without_a_network_a_companion_predicts(ensemble: bool, tmp_path: Path) -> None:
    def broken(n_features: int, n_outputs: int, activation: Any) -> Any:
        raise RuntimeError("no luck")

    X, y = make_table()
    search = AutoRegressor(**SMALL, networks=[broken], ensemble=ensemble).fit(X, y)
    assert search.score(X, y) > 0.8
    assert search.best_params_ == {}
    assert np.isnan(search.best_score_)
    assert not hasattr(search, "best_estimator_")
    assert search.results_.verdict.startswith("No network could be scored; the best baseline is ")
    search.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict(X), search.predict(X))
    assert again.best_params_ == {}
    with pytest.raises(SearchError, match="none of 2 candidates could be trained"):
        AutoRegressor(**{**SMALL, "companions": "compare"}, networks=[broken]).fit(X, y)


def test_one_model_alone_may_be_a_companion() -> None:
    X, y = make_table()
    search = AutoRegressor(**SMALL, ensemble=False).fit(X, y)
    assert len(search.model_.parts) == 1
    assert search.results_.ensemble.name == f"ensemble of {next(iter(names(search)))}"


def test_several_targets() -> None:
    X, y = make_table(n_targets=2)
    search = AutoRegressor(**SMALL).fit(X, y)
    assert names(search)
    assert search.predict(X).shape == y.shape
    assert search.score(X, y) > 0.8


def test_folds_in_time_leave_the_first_rows_out() -> None:
    X, y = make_table()
    search = AutoRegressor(**{**SMALL, "cv": TimeSeriesSplit(3)}).fit(X, y, sample_weight=np.linspace(0.1, 1, len(y)))
    assert names(search)
    assert np.isfinite(search.predict(X)).all()


def test_a_companion_without_a_module_is_only_compared(registered: Any) -> None:
    from sklearn.dummy import DummyRegressor

    registered("companion", "plain", lambda layout, random_state: DummyRegressor())
    search = AutoRegressor(**SMALL).fit(*make_table())
    assert "plain" in [row.name for row in search.results_.companions]
    assert "plain" not in names(search)


def test_a_companion_whose_module_no_file_can_hold_is_only_compared(registered: Any) -> None:
    from sklearn.dummy import DummyRegressor
    from torch import nn

    class Bare(nn.Module):
        def forward(self, numbers: Any, codes: Any) -> Any:
            return torch.zeros(len(numbers), 1)

    class Odd(Bare):
        options = MappingProxyType({"made": object()})

    for name, cls in (("bare", Bare), ("odd", Odd)):
        registered(
            "companion", name, lambda layout, random_state: DummyRegressor(), module=cls,
            to_module=lambda fitted, layout, cls=cls: cls(),
        )  # fmt: skip
    search = AutoRegressor(**SMALL).fit(*make_table())
    assert {"bare", "odd"} <= {row.name for row in search.results_.companions if not row.failure}
    assert not {"bare", "odd"} & set(names(search))


@pytest.fixture
def registered() -> Any:
    """Register things by hand, and take them back afterwards."""
    from autoreg.plugins import SESSION, load_plugins, register, registry

    load_plugins()
    yield register
    registry().remove(SESSION)


def test_hostile_files_are_refused(model: AutoRegressor) -> None:
    manifest, tensors = model.model_.to_manifest(), model.model_.tensors()
    place = next(i for i, member in enumerate(manifest["members"]) if member.get("companion") != "ridge" and
                 "companion" in member and member["companion"] != "mean")  # fmt: skip
    own = f"{place}.0.0."
    from autoreg.model import FittedModel

    assert FittedModel.from_file(manifest, tensors).parts
    n_splits, n_leaves = len(tensors[own + "feature"]), len(tensors[own + "values"])
    changes: dict[str, tuple[str, Any]] = {
        "a cycle": ("branches", torch.zeros_like(tensors[own + "branches"])),
        "a split of its own": ("branches", torch.arange(n_splits, dtype=torch.int32)[:, None].repeat(1, 2)),
        "two parents": ("branches", tensors[own + "branches"].flip(0)),
        "far below": ("branches", torch.full_like(tensors[own + "branches"], n_splits)),
        "far above": ("branches", torch.full_like(tensors[own + "branches"], -n_leaves - 1)),
        "wild": ("branches", torch.full_like(tensors[own + "branches"], 2**31 - 1)),
        "roots": ("roots", torch.full_like(tensors[own + "roots"], n_splits)),
        "leaf roots": ("roots", torch.full_like(tensors[own + "roots"], -n_leaves - 1)),
        "column": ("feature", torch.full_like(tensors[own + "feature"], 3)),
        "column below": ("feature", torch.full_like(tensors[own + "feature"], -1)),
        "wide": ("feature", torch.zeros(n_splits, 2, dtype=torch.int32)),
        "floats": ("feature", torch.zeros(n_splits)),
        "short": ("threshold", tensors[own + "threshold"][:-1]),
        "no leaf": ("values", tensors[own + "values"][:0]),
        "another target": ("values", tensors[own + "values"].repeat(1, 2)),
    }
    for name, (tensor, value) in changes.items():
        with pytest.raises(ModelFileError) as caught:
            FittedModel.from_file(manifest, {**tensors, own + tensor: value})
        assert "\n" not in str(caught.value), name
    options = {
        "n_trees": (0, -1, 10**9, 2**62, 10**30, 1.5, "9", None, True), "n_splits": (0, -1, 10**9, 1.0),
        "n_leaves": (0, 10**9), "n_features": (0, 2, 4, 10**12), "n_outputs": (0, 2, 10**9),
        "n_subsets": (1, 10**6, -1), "average": ("yes", {}), "more": (1,),
    }  # fmt: skip
    for option, values in options.items():
        for value in values:
            changed = json.loads(json.dumps(manifest))
            module = changed["members"][place]["modules"][0][0]
            before = dict(module)
            module[option] = value
            if before.get(option) == value or option == "average":  # it means the same, or no harm
                found = FittedModel.from_file(changed, tensors)
                assert np.isfinite(found.predict(make_table()[0])).all()
                continue
            with pytest.raises(ModelFileError) as caught:
                FittedModel.from_file(changed, tensors)
            assert "\n" not in str(caught.value), (option, value)
    fields: dict[str, Any] = {
        "companion": ("nobody", "", 3, None, "mean"), "modules": ([], [[]], [[{}]] * 3, {}, "x", [[3]] * 3),
        "n_members": (0, 1, 4, "3"), "weight": (0, -1, "1"), "owners": ({}, {"companion": {}}, None),
    }  # fmt: skip
    for field, values in fields.items():
        for value in values:
            changed = json.loads(json.dumps(manifest))
            changed["members"][place][field] = value
            with pytest.raises(ModelFileError) as caught:
                FittedModel.from_file(changed, tensors)
            assert "\n" not in str(caught.value), (field, value)


def test_a_chain_of_splits_without_end_is_refused() -> None:
    from autoreg.encoding import TableLayout
    from autoreg.trees import MAX_DEPTH, Tree, TreeEnsemble

    n = MAX_DEPTH + 1
    left = np.concatenate([np.arange(1, n + 1), [-1], np.full(n, -1)])
    right = np.concatenate([np.arange(n + 1, 2 * n + 1), [-1], np.full(n, -1)])
    zeros = np.zeros(2 * n + 1)
    with pytest.raises(ValueError, match=f"deeper than {MAX_DEPTH} splits"):
        TreeEnsemble.from_trees([Tree(left, right, zeros, zeros, zeros[:, None], zeros)], 1)
    trees = TreeEnsemble(1, 1, 3, 4)
    trees.branches.copy_(torch.tensor([[1, -1], [2, -2], [0, -4]]))
    with pytest.raises(ValueError, match="before the one that leads to it"):
        trees.check(TableLayout(1, (False,), ()))
