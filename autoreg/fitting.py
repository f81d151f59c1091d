"""What the estimators do when they fit: read the table, train or search, note the results."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length

import autoreg
from autoreg.companions import evaluate_companions
from autoreg.ensemble import cross_fitted, greedy_weights
from autoreg.errors import DataError, OptionError, PluginLoadWarning, SearchError, unknown
from autoreg.folds import Fold, make_folds
from autoreg.frames import as_frame
from autoreg.model import FittedModel, Part
from autoreg.plugins import load_plugins, registry
from autoreg.recording import cv_results, results_to_json
from autoreg.report.progress import show_progress
from autoreg.report.verdict import verdict
from autoreg.results import CandidateResult, Progress, SearchResults
from autoreg.scoring import as_metric
from autoreg.search import Evaluated, Problem, best_of, evaluate
from autoreg.space import Candidate, Space, as_dimensions
from autoreg.tables import Schema, infer_schema
from autoreg.targets import read_target

Floats = NDArray[np.float64]
Validation = tuple[Any, Any, Any]

NAME_LISTS = {
    "encodings": "encoding", "networks": "network", "activations": "activation",
    "optimizers": "optimizer", "losses": "loss",
}  # fmt: skip


@dataclass(frozen=True)
class TrainingTable:
    """A table ready for the search: rows of weight zero are gone, validation rows stand at the end."""

    frame: pd.DataFrame
    y: Floats
    sample_weight: Floats | None
    targets: list[str]
    n_train: int
    kept: NDArray[np.int64]


def read_for_fit(
    estimator: Any, X: Any, y: Any, sample_weight: Any, validation: Validation = (None, None, None)
) -> TrainingTable:
    """Check `fit`'s arguments, note the features' names on the estimator, and bring all to one table."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    frame = as_frame(X)
    check_consistent_length(X, y)
    target = as_target(y)
    _note_features(estimator, X, frame)
    estimator._y_ndim = np.ndim(y)
    estimator._y_dtype = np.dtype(np.float32) if getattr(y, "dtype", None) == np.float32 else np.dtype(np.float64)
    weight = check_weight(sample_weight, len(frame))
    X_val, y_val, weight_val = validation
    if (X_val is None) != (y_val is None):
        raise OptionError("X_val and y_val go together: give both or neither")
    kept = np.arange(len(frame)) if weight is None else np.flatnonzero(weight > 0)
    frame, target = frame.iloc[kept].reset_index(drop=True), target[kept]
    weight = None if weight is None else weight[kept]
    n_train = len(frame)
    if X_val is not None:
        frame_val = as_frame(X_val, feature_names=list(frame.columns))
        check_consistent_length(X_val, y_val)
        frame = pd.concat([frame, frame_val[list(frame.columns)]], ignore_index=True)
        target = np.concatenate([target, as_target(y_val)])
        extra = check_weight(weight_val, len(frame_val))
        if weight is not None or extra is not None:
            weight = np.concatenate(
                [np.ones(n_train) if weight is None else weight, np.ones(len(frame_val)) if extra is None else extra]
            )
    return TrainingTable(frame, target, weight, target_names(y), n_train, kept)


def as_target(y: Any) -> Floats:
    """The target as (N, O) float64."""
    values = read_target(y)
    return values[:, None] if values.ndim == 1 else values


def target_names(y: Any) -> list[str]:
    """The targets' names where `y` has them."""
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    if getattr(y, "name", None) is not None:
        return [str(y.name)]
    width = np.shape(y)[1] if np.ndim(y) == 2 else 1
    return ["target"] if width == 1 else [f"target_{i}" for i in range(width)]


def check_weight(sample_weight: Any, n_rows: int) -> Floats | None:
    """Sample weights as (N,) float64, or None when there are none."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.ndim == 0:
        weight = np.full(n_rows, float(weight))
    if weight.ndim != 1:
        raise DataError("Sample weights must be 1D array or scalar")
    if weight.shape != (n_rows,):
        raise DataError(f"sample_weight.shape == {weight.shape}, expected {(n_rows,)}!")
    if not np.isfinite(weight).all():
        raise DataError("sample_weight contains NaN or infinity: give finite numbers")
    if (weight < 0).any():
        raise DataError("Negative values in data passed to `sample_weight`")
    if not (weight > 0).any():
        raise DataError("Sample weights must contain at least one non-zero number.")
    return weight


def _note_features(estimator: Any, X: Any, frame: pd.DataFrame) -> None:
    names = list(X.columns) if hasattr(X, "columns") else []
    estimator.n_features_in_ = frame.shape[1]
    if hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    if names and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.asarray(names, dtype=object)


def read_for_predict(estimator: Any, X: Any) -> pd.DataFrame:
    """The table to predict, with the columns' names of `fit`; arrays are taken by position."""
    if hasattr(X, "columns") and hasattr(estimator, "feature_names_in_"):
        return as_frame(X)
    names = [column.name for column in estimator.model_.schema.columns]
    if hasattr(X, "columns"):
        warnings.warn(
            f"X has feature names, but {type(estimator).__name__} was fitted without feature names", stacklevel=3
        )
        X = X.to_numpy()
    elif hasattr(estimator, "feature_names_in_"):
        warnings.warn(
            f"X does not have valid feature names, but {type(estimator).__name__} was fitted with feature names",
            stacklevel=3,
        )
    frame = as_frame(X)
    if frame.shape[1] != estimator.n_features_in_:
        raise DataError(
            f"X has {frame.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    frame.columns = pd.Index(names)
    return frame


def as_seed(random_state: Any) -> int:
    """One integer from whatever scikit-learn takes as `random_state`."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(random_state.randint(2**31))


def _problem(table: TrainingTable, schema: Schema, folds: Sequence[Fold], metric: Any, **settings: Any) -> Problem:
    coded = schema.encode(table.frame)
    return Problem(
        coded.numbers, coded.codes, schema.layout, table.y, table.sample_weight, folds, metric, **settings
    )  # fmt: skip


def fit_one(estimator: Any, X: Any, y: Any, sample_weight: Any, validation: Validation) -> None:
    """`NeuralRegressor.fit`: one candidate, one fold, one seed."""
    table = read_for_fit(estimator, X, y, sample_weight, validation)
    schema = infer_schema(table.frame.iloc[: table.n_train])
    seed = as_seed(estimator.random_state)
    fold = _validation_fold(estimator, table, seed)
    problem = _problem(
        table, schema, [fold], as_metric(None), seed=seed, own_seeds=False, choose_epoch=bool(estimator.early_stopping)
    )
    candidate = estimator._candidate
    with show_progress(estimator.verbose) as on_progress:
        evaluated = evaluate([candidate], problem, on_progress=on_progress)[0]
    if evaluated.result.failure:
        raise SearchError(f"{candidate.label}: {evaluated.result.failure}") from evaluated.error
    result = evaluated.result
    estimator.model_ = FittedModel(schema, [as_part(evaluated)], _manifest(table, seed, result.seconds))
    estimator.n_iter_ = len(result.train_curve)
    estimator.loss_curve_ = list(result.train_curve)
    estimator.validation_scores_ = list(result.curve)
    estimator.n_outputs_ = table.y.shape[1]


def _validation_fold(estimator: Any, table: TrainingTable, seed: int) -> Fold:
    rows = np.arange(len(table.y))
    if len(rows) > table.n_train or not estimator.early_stopping:
        return Fold(rows[: table.n_train], rows[table.n_train :])
    fraction = estimator.validation_fraction
    if not 0 < fraction < 1:
        raise OptionError(f"validation_fraction={fraction!r}: give a number between 0 and 1")
    n_valid = max(1, round(fraction * len(rows)))
    if n_valid >= len(rows):
        raise DataError(f"early_stopping needs at least 2 rows, n_samples = {len(rows)}")
    order = np.random.default_rng(seed).permutation(len(rows))
    return Fold(np.sort(order[n_valid:]), np.sort(order[:n_valid]))


def as_part(evaluated: Evaluated, weight: float = 1.0) -> Part:
    """A trained candidate as part of a model."""
    assert evaluated.recipe is not None
    assert evaluated.template is not None
    return Part.from_members(evaluated.recipe, evaluated.template, evaluated.states, weight)


def _manifest(table: TrainingTable, seed: int, seconds: float) -> dict[str, Any]:
    return {
        "version": autoreg.__version__,
        "targets": table.targets,
        "n_rows": table.n_train,
        "seed": seed,
        "seconds": round(seconds, 3),
    }


def fit_search(estimator: Any, X: Any, y: Any, sample_weight: Any, validation: Validation, groups: Any) -> None:
    """`AutoRegressor.fit`: propose, evaluate, compare, keep the best."""
    begin = time.perf_counter()
    _check_options(estimator)
    strategy, facts = _strategy(estimator.strategy)
    table = read_for_fit(estimator, X, y, sample_weight, validation)
    schema = infer_schema(table.frame.iloc[: table.n_train])
    seed = as_seed(estimator.random_state)
    metric = as_metric(estimator.scoring)
    folds = _folds(estimator, table, groups, seed)
    problem = _problem(
        table, schema, folds, metric, seed=seed,
        own_seeds=facts.get("own_seeds", True), choose_epoch=facts.get("choose_epoch", True),
    )  # fmt: skip
    space = _space(estimator, problem)
    with show_progress(estimator.verbose) as on_progress:
        evaluated = _search(strategy, space, problem, estimator.n_candidates, on_progress)
        companions = _companions(estimator, problem, len(evaluated), on_progress)
    best = best_of(evaluated)
    results = SearchResults(
        tuple(item.result for item in evaluated),
        tuple(companions),
        metric.name,
        len(folds),
        time.perf_counter() - begin,
    )
    results = replace(results, verdict=verdict(results) if companions else "")
    model = FittedModel(
        schema, [as_part(best)], {**_manifest(table, seed, results.seconds), **results_to_json(results)}
    )
    _note_results(estimator, results, best, model, table)
    _tell_observers(results, model)


def _check_options(estimator: Any) -> None:
    if estimator.effort not in ("quick", "balanced", "thorough"):
        raise OptionError(unknown("effort", estimator.effort, ["quick", "balanced", "thorough"]))
    if estimator.companions not in ("compare", None):
        raise OptionError(unknown("value of companions", estimator.companions, ["compare", "None"]))


def _strategy(value: Any) -> tuple[Callable[..., list[Candidate]], Mapping[str, Any]]:
    if callable(value):
        return value, {}
    entry = registry().get("strategy", value)
    return entry.thing, entry.facts


def _folds(estimator: Any, table: TrainingTable, groups: Any, seed: int) -> list[Fold]:
    rows = np.arange(len(table.y))
    if len(rows) > table.n_train:
        return [Fold(rows[: table.n_train], rows[table.n_train :])]
    own_groups = None if groups is None else np.asarray(groups)[table.kept]
    y = table.y[:, 0] if table.y.shape[1] == 1 else table.y
    return make_folds(estimator.cv, table.n_train, y, groups=own_groups, random_state=seed)


def _space(estimator: Any, problem: Problem) -> Space:
    """The user's space with the name lists as further dimensions."""
    lists = {
        parameter: list(getattr(estimator, option))
        for option, parameter in NAME_LISTS.items()
        if getattr(estimator, option) is not None
    }
    dimensions = tuple({**lists, **alternative} for alternative in as_dimensions(estimator.space))
    layout = problem.layout
    size = {
        "n_rows": len(problem.folds[0].train),
        "n_numbers": layout.n_numbers,
        "n_categories": len(layout.n_codes),
        "n_features": layout.n_numbers + sum(min(n, 8) for n in layout.n_codes),
        "n_targets": problem.y.shape[1],
        "n_folds": len(problem.folds),
    }
    return Space(dimensions, size, estimator.effort)


def _search(
    strategy: Callable[..., list[Candidate]],
    space: Space,
    problem: Problem,
    n: int | None,
    on_progress: Callable[[Progress], None] | None,
) -> list[Evaluated]:
    done: list[Evaluated] = []
    while True:
        proposed = strategy(space, [item.result for item in done], n, problem.seed)
        if not proposed:
            break
        done += evaluate(proposed, problem, len(done), on_progress)
    if not done:
        raise SearchError("the strategy proposed no candidate: give a larger space")
    return done


def _ensemble(
    results: SearchResults, evaluated: Sequence[Evaluated], problem: Problem, best: list[Part]
) -> tuple[SearchResults, list[Part]]:
    """The greedy ensemble over all candidates; the best alone where that is as good."""
    usable = [item for item in evaluated if not item.result.failure and item.oof is not None]
    held_out = [fold.valid for fold in problem.folds]
    rows = np.unique(np.concatenate(held_out)) if held_out else np.zeros(0, dtype=np.int64)
    if len(usable) < 2 or len(rows) < 2:
        return results, best
    parts = held_out if len(rows) == sum(map(len, held_out)) else np.array_split(rows, len(held_out))
    predictions = np.stack([item.oof for item in usable if item.oof is not None])
    score, weight = problem.metric.score, problem.sample_weight
    weights = greedy_weights(predictions[:, rows], problem.y[rows], None if weight is None else weight[rows], score)
    if np.count_nonzero(weights) < 2:
        return results, best
    prediction, scores = cross_fitted(predictions, problem.y, weight, score, parts)
    rmse = as_metric(None).score
    chosen = {item.result.index: float(w) for item, w in zip(usable, weights, strict=True) if w > 0}
    row = CandidateResult(
        len(evaluated), None, f"ensemble of {len(chosen)}", tuple(scores),
        tuple(-rmse(problem.y[p], prediction[p], None if weight is None else weight[p]) for p in parts),
        is_ensemble=True, facts={"weights": chosen},
    )  # fmt: skip
    model_parts = [as_part(item, chosen[item.result.index]) for item in usable if item.result.index in chosen]
    return replace(results, ensemble=row), model_parts


def _companions(
    estimator: Any, problem: Problem, first_index: int, on_progress: Callable[[Progress], None] | None
) -> list[CandidateResult]:
    if estimator.companions is None:
        return []
    names = registry().names("companion")
    entries = [registry().get("companion", name) for name in names]
    results, _ = evaluate_companions(
        entries, problem.numbers, problem.codes, problem.layout, problem.y, problem.sample_weight,
        problem.folds, problem.metric.score, problem.seed, on_progress,
    )  # fmt: skip
    return [replace(result, index=first_index + i) for i, result in enumerate(results)]


def _note_results(
    estimator: Any, results: SearchResults, best: Evaluated, model: FittedModel, table: TrainingTable
) -> None:
    from autoreg.estimators import NeuralRegressor

    estimator.results_ = results
    estimator.model_ = model
    estimator.n_splits_ = results.n_folds
    estimator.n_outputs_ = table.y.shape[1]
    estimator.cv_results_ = cv_results(results)
    estimator.best_index_ = best.result.index
    estimator.best_params_ = dict(best.result.candidate.parameters)  # type: ignore[union-attr]
    estimator.best_score_ = best.result.score
    estimator.ensemble_score_ = results.chosen.score
    single = NeuralRegressor._from_candidate(best.result.candidate)  # type: ignore[arg-type]
    single.set_params(random_state=model.manifest["seed"])
    single.model_ = FittedModel(model.schema, [as_part(best)], model.manifest)
    for name in ("n_features_in_", "feature_names_in_", "n_outputs_", "_y_ndim", "_y_dtype"):
        if hasattr(estimator, name):
            setattr(single, name, getattr(estimator, name))
    single.loss_curve_ = list(best.result.train_curve)
    single.validation_scores_ = list(best.result.curve)
    single.n_iter_ = len(single.loss_curve_)
    estimator.best_estimator_ = single


def _tell_observers(results: SearchResults, model: FittedModel) -> None:
    plugins = load_plugins()
    for plugin in plugins.manager.get_plugins():
        others = plugins.manager.get_plugins() - {plugin}
        try:
            plugins.manager.subset_hook_caller("search_finished", others)(results=results, model=model)
        except Exception as error:  # an observer never loses the fit
            name = plugins.manager.get_name(plugin)
            warnings.warn(f"plugin '{name}' failed in search_finished: {error}", PluginLoadWarning, stacklevel=2)
