"""What the estimators do when they fit: read the table, train or search, note the results."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length

import autoreg
from autoreg.arguments import TrainingTable, Validation, as_seed, read_for_fit
from autoreg.arithmetic import has_bfloat16
from autoreg.companions import EvaluatedCompanion, evaluate_companions
from autoreg.errors import (
    AutoregError,
    DataError,
    DataWarning,
    DuplicateNameError,
    OptionError,
    PluginLoadWarning,
    SearchError,
    unknown,
)
from autoreg.folds import Fold, make_folds
from autoreg.guards import Asked
from autoreg.model import FittedModel
from autoreg.observers import Watch, watched
from autoreg.plugins import load_plugins, registry
from autoreg.problem import Problem
from autoreg.recording import cv_results, results_to_json
from autoreg.registry import option_names
from autoreg.report.progress import show_progress
from autoreg.report.verdict import verdict
from autoreg.results import Progress, SearchPlan, SearchResults
from autoreg.scoring import as_metric
from autoreg.search import Evaluated, evaluate
from autoreg.selection import measure, select
from autoreg.space import DEFAULTS, PARTS, SEED, Candidate, Space, as_dimensions, short
from autoreg.tables import Schema, infer_schema

NAME_LISTS = {
    "encodings": "encoding", "networks": "network", "activations": "activation",
    "optimizers": "optimizer", "losses": "loss",
}  # fmt: skip


def _problem(table: TrainingTable, schema: Schema, folds: Sequence[Fold], metric: Any, **settings: Any) -> Problem:
    coded = schema.encode(table.frame)
    return Problem(
        coded.numbers, coded.codes, schema.layout, table.y, table.sample_weight, folds, metric, **settings
    )  # fmt: skip


def fit_one(estimator: Any, X: Any, y: Any, sample_weight: Any, validation: Validation) -> None:
    """`NeuralRegressor.fit`: one candidate, one fold, one seed."""
    load_plugins()
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
    if isinstance(evaluated.error, AutoregError):
        raise evaluated.error
    if evaluated.result.failure:
        raise SearchError(f"{candidate.label}: {evaluated.result.failure}") from evaluated.error
    result = evaluated.result
    estimator.model_ = FittedModel(schema, [evaluated.part()], _manifest(table, seed, result.seconds))
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
    with watched() as watch:
        _search_and_keep(estimator, X, y, sample_weight, validation, groups, watch)


def _search_and_keep(
    estimator: Any, X: Any, y: Any, sample_weight: Any, validation: Validation, groups: Any, watch: Watch
) -> None:
    begin = time.perf_counter()
    load_plugins()
    _check_options(estimator)
    strategy, facts = _strategy(estimator)
    table = read_for_fit(estimator, X, y, sample_weight, validation)
    schema = infer_schema(table.frame.iloc[: table.n_train], **getattr(estimator, "_column_kinds", {}))
    seed = as_seed(estimator.random_state)
    metric = as_metric(estimator.scoring)
    if table.sample_weight is not None and not metric.takes_weights:
        warnings.warn(
            f"scoring {metric.name} takes no row weights: in it all rows count alike", DataWarning, stacklevel=3
        )
    if groups is not None:
        check_consistent_length(X, groups)
    folds = _folds(estimator, table, groups, seed)
    settings = {name: facts.get(name, True) for name in ("own_seeds", "choose_epoch")}
    half = half_pays(estimator.precision, facts, len(table.y))
    problem = _problem(table, schema, folds, metric, seed=seed, half=half, **settings)
    space = _space(estimator, problem)
    stop = facts.get("stop")
    plan = SearchPlan(
        (), tuple(column.name for column in schema.used), tuple(table.targets), table.n_train, len(folds), metric.name,
        short(estimator.strategy), estimator.effort, "bfloat16" if half else "float32", seed,
    )  # fmt: skip
    with show_progress(estimator.verbose) as on_progress:
        evaluated = _search(strategy, stop, space, problem, estimator, on_progress, watch, plan)
        companions = _companions(estimator, problem, len(evaluated), on_progress)
    selection = select(
        evaluated, companions, problem, ensemble=estimator.ensemble, include=estimator.companions == "include"
    )
    results = replace(
        measure(selection, evaluated, companions, problem), seconds=time.perf_counter() - begin, plan=watch.plan
    )
    results = replace(results, verdict=verdict(results) if companions else "")
    model = FittedModel(
        schema, selection.parts, {**_manifest(table, seed, results.seconds), **results_to_json(results)}
    )
    _note_results(estimator, results, selection.best, model, table)
    watch.finish(results, estimator)


def _check_options(estimator: Any) -> None:
    if estimator.effort not in ("quick", "balanced", "thorough"):
        raise OptionError(unknown("effort", estimator.effort, ["quick", "balanced", "thorough"]))
    if estimator.companions not in ("compare", "include", None):
        raise OptionError(unknown("value of companions", estimator.companions, ["compare", "include", "None"]))
    for option, parameter in NAME_LISTS.items():
        names = getattr(estimator, option)
        if names is not None and (not isinstance(names, (list, tuple)) or not names):
            raise OptionError(f"{option}={names!r}: give a list of names or objects, such as {[DEFAULTS[parameter]]}")
    spaces = estimator.space if isinstance(estimator.space, (list, tuple)) else [estimator.space or {}]
    if not spaces or not all(isinstance(space, Mapping) for space in spaces):
        raise OptionError(f"space={estimator.space!r}: give a dict of lists or distributions, or a list of such dicts")
    n = estimator.n_candidates
    if n is not None and (not isinstance(n, (int, np.integer)) or n < 1):
        raise OptionError(f"n_candidates={n!r}: give a whole number of at least 1, or None")


def half_pays(precision: str, facts: Mapping[str, Any], n_rows: int) -> bool:
    """Whether to train in bfloat16: when asked to, or where strategy and processor are made for it."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise OptionError(unknown("precision", precision, ["auto", "float32", "bfloat16"]))
    if precision == "auto":
        # in the small batches of a small table the casts take longer than the products
        return bool(facts.get("half", False)) and n_rows >= 100 and has_bfloat16()
    return precision == "bfloat16"


def _strategy(estimator: Any) -> tuple[Callable[..., list[Candidate]], Mapping[str, Any]]:
    """The strategy's function with its options, and what it says of itself."""
    value, options = estimator.strategy, estimator.strategy_options or {}
    if not isinstance(options, Mapping):
        raise OptionError(f"strategy_options={options!r}: give a dict of options")
    entry = None if callable(value) else registry().get("strategy", value)
    propose, facts = (entry.thing, dict(entry.facts)) if entry else (value, {})
    known = option_names(propose, 4)
    for name in options:
        if known is not None and name not in known:
            raise OptionError(
                unknown(f"option of strategy {short(value)}", name, known)
                if known
                else f"strategy {short(value)} takes no options: remove '{name}'"
            )
    if options and "stop" in facts:
        facts["stop"] = partial(facts["stop"], **options)
    return Asked(partial(propose, **options), short(value), entry), facts


def _folds(estimator: Any, table: TrainingTable, groups: Any, seed: int) -> list[Fold]:
    rows = np.arange(len(table.y))
    if len(rows) > table.n_train:
        return [Fold(rows[: table.n_train], rows[table.n_train :])]
    y = table.given_y[:, 0] if table.given_y.shape[1] == 1 else table.given_y
    if estimator.cv is None:
        own_groups = None if groups is None else np.asarray(groups)[table.kept]
        return make_folds(None, table.n_train, y[table.kept], groups=own_groups, random_state=seed)
    # what a splitter is asked about, or row numbers mean, are the rows as given, those of weight zero among them
    folds = make_folds(estimator.cv, len(y), y, groups=groups, random_state=seed)
    place = np.full(len(y), -1)
    place[table.kept] = np.arange(table.n_train)
    mapped = [Fold(*(own[own >= 0] for own in (place[fold.train], place[fold.valid]))) for fold in folds]
    for k, fold in enumerate(mapped):
        if not len(fold.train) or not len(fold.valid):
            raise DataError(f"cv: fold {k} has no row of a weight above 0 to train or to validate on")
    return mapped


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
    # what stands around our own portfolio is offered to every strategy
    prior = registry().get("strategy", "portfolio").facts.get("prior")
    declared: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for entry in registry():
        if entry.kind in declared and entry.space:
            declared[entry.kind][entry.name] = entry.space
    return Space(dimensions, size, estimator.effort, problem.metric.name, prior, declared)


def _search(
    strategy: Callable[..., list[Candidate]],
    stop: Callable[..., bool] | None,
    space: Space,
    problem: Problem,
    estimator: Any,
    on_progress: Callable[[Progress], None] | None,
    watch: Watch,
    plan: SearchPlan,
) -> list[Evaluated]:
    done: list[Evaluated] = []
    while True:
        results = tuple(item.result for item in done)
        proposed = strategy(space, results, estimator.n_candidates, problem.seed)
        if not proposed:
            break
        if not done:
            watch.start(replace(plan, candidates=tuple(proposed)))
        leaves = stop and partial(stop, space, results)
        done += evaluate(
            proposed, problem, len(done), on_progress, estimator.n_jobs, leaves, partial(watch.rung, results)
        )
    if not done:
        raise SearchError("the strategy proposed no candidate: give a larger space")
    return done


def _companions(
    estimator: Any, problem: Problem, first_index: int, on_progress: Callable[[Progress], None] | None
) -> list[EvaluatedCompanion]:
    if estimator.companions is None:
        return []
    entries = []
    for name in registry().names("companion"):
        try:
            entries.append(registry().get("companion", name))
        except DuplicateNameError as error:  # nobody asked for it by name
            warnings.warn(f"{error}; it is left out", PluginLoadWarning, stacklevel=4)
    return evaluate_companions(
        entries, problem.numbers, problem.codes, problem.layout, problem.y, problem.sample_weight, problem.folds,
        problem.metric.score, problem.seed, on_progress, problem.metric.objective, first_index,
    )  # fmt: skip


def _note_results(
    estimator: Any, results: SearchResults, best: Evaluated | None, model: FittedModel, table: TrainingTable
) -> None:
    from autoreg.estimators import NeuralRegressor

    estimator.results_ = results
    estimator.model_ = model
    estimator.n_splits_ = results.n_folds
    estimator.n_outputs_ = table.y.shape[1]
    estimator.cv_results_ = cv_results(results)
    estimator.ensemble_score_ = results.chosen.score
    if best is None:
        # no network could be trained; a companion predicts
        estimator.best_index_, estimator.best_params_, estimator.best_score_ = 0, {}, float("nan")
        return
    estimator.best_index_ = best.result.index
    estimator.best_params_ = dict(best.result.candidate.parameters)  # type: ignore[union-attr]
    estimator.best_score_ = best.result.score
    single = NeuralRegressor._from_candidate(best.result.candidate)  # type: ignore[arg-type]
    if SEED not in best.result.candidate.parameters:  # type: ignore[union-attr]
        single.set_params(random_state=model.manifest["seed"])
    single.model_ = FittedModel(model.schema, [best.part()], model.manifest)
    for name in ("n_features_in_", "feature_names_in_", "n_outputs_", "_y_ndim", "_y_dtype"):
        if hasattr(estimator, name):
            setattr(single, name, getattr(estimator, name))
    single.loss_curve_ = list(best.result.train_curve)
    single.validation_scores_ = list(best.result.curve)
    single.n_iter_ = len(single.loss_curve_)
    estimator.best_estimator_ = single
