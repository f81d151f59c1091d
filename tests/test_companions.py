"""Companions on the folds."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import joblib
import numpy as np
import pytest
import torch
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from autoreg import AutoRegressor, fitting, libraries
from autoreg.companions import evaluate_companions, fit_companion
from autoreg.encoding import TableLayout
from autoreg.folds import Fold, make_folds
from autoreg.libraries import on_cores
from autoreg.registry import Entry, Owner, Registry
from autoreg.results import Progress
from autoreg.scoring import Objective
from autoreg.threads import cores

NAMES = ("mean", "ridge", "hist_gradient_boosting", "extra_trees")


def negative_rmse(y: Any, prediction: Any, weight: Any) -> float:
    return -float(np.sqrt(np.average((y - prediction) ** 2, axis=0, weights=weight)).mean())


def table(n: int = 120, n_numbers: int = 3, n_codes: tuple[int, ...] = (6, 300), n_outputs: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(n, n_numbers)).astype(np.float32)
    codes = np.stack([rng.integers(0, k, n) for k in n_codes] or [np.zeros(n)], axis=1).astype(np.int32)
    codes = codes[:, : len(n_codes)]
    signal = numbers[:, :1].astype(float) if n_numbers else codes[:, :1].astype(float)
    y = 3 * signal + 0.1 * rng.normal(size=(n, n_outputs))
    numbers[rng.random(numbers.shape) < 0.1] = np.nan
    return {"numbers": numbers, "codes": codes, "layout": TableLayout(n_numbers, (True,) * n_numbers, n_codes), "y": y}


def evaluate(entries: Any, **given: Any) -> tuple[list[Any], dict[str, Any]]:
    """The results, and out-of-fold predictions by name."""
    found = evaluate_companions(entries, **given)
    return [item.result for item in found], {i.entry.name: i.oof for i in found if i.oof is not None}


def entry(name: str, make: Any) -> Entry:
    return Entry("companion", name, make, Owner("mine"))


def built_in(registry: Registry) -> list[Entry]:
    return [registry.get("companion", name) for name in NAMES]


def test_the_built_in_ones_are_found(registry: Registry) -> None:
    assert set(NAMES) <= set(registry.names("companion"))


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_all_run_on_numbers_and_codes(registry: Registry, n_outputs: int, weighted: bool) -> None:
    data = table(n_outputs=n_outputs)
    weight = np.random.default_rng(1).uniform(0.1, 2, 120) if weighted else None
    folds = make_folds(None, 120, random_state=0)
    told: list[Progress] = []
    results, oof = evaluate(
        built_in(registry), **data, sample_weight=weight, folds=folds, score=negative_rmse, on_progress=told.append
    )
    assert [result.name for result in results] == list(NAMES)
    assert [result.failure for result in results] == [""] * len(NAMES)
    mean, ridge, *_ = results
    assert ridge.score > mean.score
    for result in results:
        assert result.is_companion
        assert result.epoch == 0
        assert len(result.scores) == 5
        assert oof[result.name].shape == (120, n_outputs)
        assert np.isfinite(oof[result.name]).all()
        assert result.rmse == pytest.approx([-score for score in result.scores])
    assert told[-1].fraction == 1.0
    assert [p.fraction for p in told] == sorted(p.fraction for p in told)


def test_the_mean_knows_the_training_rows_only(registry: Registry) -> None:
    data, folds = table(), make_folds(3, 120)
    weight = np.random.default_rng(1).uniform(0.1, 2, 120)
    _, oof = evaluate(built_in(registry)[:1], **data, sample_weight=weight, folds=folds, score=negative_rmse)
    for fold in folds:
        expected = np.average(data["y"][fold.train, 0], weights=weight[fold.train])
        assert oof["mean"][fold.valid] == pytest.approx(expected)


def test_boosted_trees_are_scikit_learn_s(registry: Registry) -> None:
    data, rows = table(), np.arange(100)
    predict = fit_companion(registry.get("companion", NAMES[2]), **data, sample_weight=None, rows=rows, seed=5).predict
    X = np.hstack([data["numbers"], data["codes"]]).astype(float)
    # 300 codes are more than the trees take as categories
    trees = HistGradientBoostingRegressor(categorical_features=[3], random_state=5).fit(X[:100], data["y"][:100, 0])
    assert np.array_equal(predict(data["numbers"], data["codes"])[:, 0], trees.predict(X))


OBJECTIVES = [Objective(), Objective("absolute_error"), Objective("quantile", 0.9)]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.loss)
@pytest.mark.parametrize("n_codes", [(), (6, 300), (6, 255)], ids=str)
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_modules_give_the_librarys_numbers(
    registry: Registry, name: str, n_outputs: int, n_codes: tuple[int, ...], objective: Objective
) -> None:
    data = table(n_codes=n_codes, n_outputs=n_outputs)
    weight = np.random.default_rng(1).uniform(0.1, 2, 120)
    fitted = fit_companion(
        registry.get("companion", name), **data, sample_weight=weight, rows=np.arange(100), objective=objective
    )
    numbers, codes = data["numbers"].copy(), data["codes"].copy()
    numbers[-15:] = np.nan
    codes[-10:] = 0
    codes[-5:] = 1
    expected, module = fitted.predict(numbers, codes), fitted.modules()
    found = module(torch.from_numpy(numbers), torch.from_numpy(codes.astype(np.int64))).numpy()
    assert np.abs(found - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())
    # trees are added up in the library's order
    assert np.array_equal(found, expected) or name == "ridge"
    for own in module:
        getattr(own, "check", lambda layout: None)(data["layout"])


def test_companions_follow_what_is_scored(registry: Registry) -> None:
    draw = np.random.default_rng(0)
    data = table(2000, 2, ())
    data["y"] = draw.lognormal(sigma=1.5, size=(2000, 1))
    for name in NAMES:
        if name == "ridge":  # has one objective only
            continue
        middle = {}
        for objective in OBJECTIVES:
            fitted = fit_companion(
                registry.get("companion", name), **data, sample_weight=None, rows=np.arange(2000), objective=objective
            )
            middle[objective.loss] = fitted.predict(data["numbers"], data["codes"]).mean()
        assert middle["absolute_error"] < middle["squared_error"] < middle["quantile"]


def test_ridge_is_scikit_learn_s(registry: Registry) -> None:
    data, rows = table(n_codes=()), np.arange(100)
    data["numbers"] = np.nan_to_num(data["numbers"])
    predict = fit_companion(registry.get("companion", "ridge"), **data, sample_weight=None, rows=rows).predict
    X = data["numbers"].astype(float)
    X = StandardScaler().fit(X[:100]).transform(X)
    expected = RidgeCV(alphas=np.logspace(-2, 4, 7)).fit(X[:100], data["y"][:100, 0]).predict(X)
    assert predict(data["numbers"], data["codes"])[:, 0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n", "n_numbers", "n_codes"), [(30, 2000, ()), (40, 0, (5,)), (40, 1, ()), (60, 2, (50_000, 50_000)), (2, 1, (4,))]
)
def test_tables_of_any_shape(registry: Registry, n: int, n_numbers: int, n_codes: tuple[int, ...]) -> None:
    data, folds = table(n, n_numbers, n_codes), make_folds(2, n)
    entries = built_in(registry)[:2] if n_numbers > 100 else built_in(registry)
    results, _ = evaluate(entries, **data, sample_weight=None, folds=folds, score=negative_rmse)
    assert [result.failure for result in results] == [""] * len(entries)
    assert np.isfinite([result.score for result in results]).all()


def test_many_rows_take_a_fixed_penalty(registry: Registry) -> None:
    data = table(30_000, 2, (3,))
    rows = np.arange(25_000)
    predict = fit_companion(registry.get("companion", "ridge"), **data, sample_weight=None, rows=rows).predict
    assert negative_rmse(data["y"], predict(data["numbers"], data["codes"]), None) > -1.0


def test_missing_and_unseen_values_are_predicted(registry: Registry) -> None:
    data = table()
    for item in built_in(registry):
        predict = fit_companion(item, **data, sample_weight=None, rows=np.arange(100)).predict
        numbers = np.full((2, 3), np.nan, dtype=np.float32)
        assert np.isfinite(predict(numbers, np.array([[0, 0], [1, 1]], dtype=np.int32))).all()


def test_a_failing_companion_is_a_failed_row(registry: Registry) -> None:
    class Raises(DummyRegressor):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            raise RuntimeError("no licence\nsecond line")

    class Nan(DummyRegressor):
        def predict(self, X: Any, return_std: bool = False) -> Any:
            return np.full(len(X), np.nan)

    class Wide(DummyRegressor):
        def predict(self, X: Any, return_std: bool = False) -> Any:
            return np.zeros((len(X), 3))

    def broken(layout: TableLayout, random_state: int) -> Any:
        raise ImportError("lightgbm is missing")

    makers = {"raises": Raises, "nan": Nan, "wide": Wide}
    entries = [entry(name, lambda layout, random_state, make=make: make()) for name, make in makers.items()]
    entries += [entry("broken", broken), registry.get("companion", "mean")]
    results, oof = evaluate(entries, **table(), sample_weight=None, folds=make_folds(2, 120), score=negative_rmse)
    reasons = {result.name: result.failure for result in results}
    assert reasons["raises"] == "RuntimeError: no licence (companion 'raises' is from mine)"
    assert "NaN" in reasons["nan"]
    assert "reshape" in reasons["wide"]
    assert reasons["broken"] == "ImportError: lightgbm is missing (companion 'broken' is from mine)"
    assert reasons["mean"] == ""
    assert set(oof) == {"mean"}
    assert all(np.isnan(result.scores).all() for result in results[:4])


def test_a_scorer_that_cannot_score_is_a_failed_row(registry: Registry) -> None:
    def scorer(y: Any, prediction: Any, weight: Any) -> float:
        raise ValueError("negative values")

    results, _ = evaluate(built_in(registry)[:1], **table(), sample_weight=None, folds=make_folds(2, 120), score=scorer)
    assert results[0].failure == "ValueError: negative values"


def test_a_companion_without_weights_is_fitted_without() -> None:
    class Plain(LinearRegression):
        def fit(self, X: Any, y: Any) -> Any:
            return super().fit(X, y)

    results, _ = evaluate(
        [entry("plain", lambda layout, random_state: Plain())],
        **table(n_numbers=0, n_codes=(4,)), sample_weight=np.ones(120), folds=make_folds(2, 120),
        score=negative_rmse,
    )  # fmt: skip
    assert results[0].failure == ""


def test_rows_held_out_twice_are_averaged_and_never_are_nan(registry: Registry) -> None:
    data = table(20)
    rows = np.arange(20)
    folds = [Fold(rows[:10], rows[10:15]), Fold(rows[:5], rows[10:12])]
    _, oof = evaluate(built_in(registry)[:1], **data, sample_weight=None, folds=folds, score=negative_rmse)
    first, second = data["y"][:10].mean(), data["y"][:5].mean()
    assert oof["mean"][10:15, 0] == pytest.approx([(first + second) / 2] * 2 + [first] * 3)
    assert np.isnan(oof["mean"][15:]).all()


def test_the_table_is_not_changed(registry: Registry) -> None:
    data = table()
    for name in ("numbers", "codes", "y"):
        data[name].setflags(write=False)
    results, _ = evaluate(built_in(registry), **data, sample_weight=None, folds=make_folds(2, 120), score=negative_rmse)
    assert [result.failure for result in results] == [""] * len(NAMES)


def test_targets_far_from_zero_keep_their_digits(registry: Registry) -> None:
    data, rows = table(n_codes=()), np.arange(100)
    forest = registry.get("companion", NAMES[3])
    errors = []
    for offset in (0.0, 1e9):
        moved = {**data, "y": data["y"] + offset}
        found = fit_companion(forest, **moved, sample_weight=None, rows=rows).predict(data["numbers"], data["codes"])
        errors.append(float(np.sqrt(np.mean((found - moved["y"]) ** 2))))
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


def test_trees_walked_a_few_at_a_time_are_added_up_alike(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = table(n_codes=()), np.arange(100)
    fitted = fit_companion(registry.get("companion", NAMES[3]), **data, sample_weight=None, rows=rows)
    numbers, codes = torch.from_numpy(data["numbers"]), torch.from_numpy(data["codes"].astype(np.int64))
    whole = fitted.modules()(numbers, codes)
    monkeypatch.setattr("autoreg.trees.MANY_STEPS", 3 * len(numbers))
    assert torch.equal(fitted.modules()(numbers, codes), whole)


class Curious(DummyRegressor):
    """Notes what it may take while it is fitted."""

    seen: ClassVar[list[tuple[int, set[int], set[int]]]] = []

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        processes = joblib.Parallel(n_jobs=None)(joblib.delayed(os.getpid)() for _ in range(4))
        threads = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp"}
        self.seen.append((joblib.effective_n_jobs(None), threads, set(processes)))
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("n_jobs", [1, None])
def test_as_many_cores_as_the_user_allows(monkeypatch: pytest.MonkeyPatch, n_jobs: int | None) -> None:
    monkeypatch.setattr(libraries, "MANY_VALUES", 0)
    monkeypatch.setattr(Curious, "seen", [])
    before = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp"}
    data, folds = table(), make_folds(2, 120)
    with on_cores(n_jobs):
        evaluate([entry("curious", lambda layout, seed: Curious())], **data, sample_weight=None, folds=folds,
                 score=negative_rmse)  # fmt: skip
    threads = before if n_jobs is None or n_jobs >= cores() else {n_jobs}
    assert Curious.seen == [(n_jobs or cores(), threads, {os.getpid()})] * 2
    assert joblib.effective_n_jobs(None) == 1


def test_the_search_hands_its_cores_to_companions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(fitting, "evaluate_companions", lambda *given: seen.append(joblib.effective_n_jobs(None)) or [])
    X = np.arange(20.0).reshape(10, 2)
    AutoRegressor(effort="quick", n_candidates=1, space={"max_epochs": [1]}, n_jobs=3, verbose=0).fit(X, X[:, 0])
    assert seen == [3]
