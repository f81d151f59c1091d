"""What the estimators do when they fit: read the table, train or search, note the results."""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length

import autoreg
from autoreg.arguments import TrainingTable, Validation, as_seed, read_for_fit
from autoreg.arithmetic import has_bfloat16, usable_device
from autoreg.companions import EvaluatedCompanion, evaluate_companions
from autoreg.errors import (
    AutoregError,
    DataError,
    DataWarning,
    DuplicateNameError,
    OptionError,
    PluginLoadWarning,
    SearchError,
    one_line,
    unknown,
)
from autoreg.folds import Fold, go_forward, make_folds
from autoreg.identity import identity_of
from autoreg.journal import Journal, Unkept
from autoreg.libraries import on_cores
from autoreg.model import FittedModel
from autoreg.observers import Watch, watched
from autoreg.plans import RanPlan
from autoreg.plugins import load_plugins, registry
from autoreg.problem import AllRows, Problem
from autoreg.processes import Stopped
from autoreg.recording import note_results, results_to_json
from autoreg.report.progress import show_progress
from autoreg.report.verdict import verdict
from autoreg.results import OnProgress, Progress, SearchPlan, SearchResults
from autoreg.rounds import Limit, Rounds, strategy_of
from autoreg.scoring import Metric, as_metric
from autoreg.search import Evaluated, evaluate
from autoreg.selection import Selection, compared, measure, select
from autoreg.space import DEFAULTS, EFFORTS, NAME_LISTS, PRECISIONS, SEED, short
from autoreg.stopping import Stop, early_end
from autoreg.tables import Schema, infer_schema


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
        table,
        schema,
        [fold],
        as_metric(None),
        seed=seed,
        own_seeds=False,
        choose_epoch=bool(estimator.early_stopping),
        device=usable_device(estimator.device),
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
    load_plugins()
    _check_options(estimator)
    journal = Unkept() if estimator.run_dir is None else Journal(estimator.run_dir)
    if estimator._begin is not None:
        journal.count_from(estimator._begin)
    with closing(journal), early_end(signal.SIGINT) as asked, watched() as watch:
        _search_and_keep(estimator, X, y, sample_weight, validation, groups, watch, journal, asked)


def _search_and_keep(
    estimator: Any, X: Any, y: Any, sample_weight: Any, validation: Validation, groups: Any, watch: Watch,
    journal: Unkept, asked: Stop,
) -> None:  # fmt: skip
    again: RanPlan | None = estimator._again
    strategy, facts = strategy_of(estimator, again)
    table = read_for_fit(estimator, X, y, sample_weight, validation)
    schema = infer_schema(table.frame.iloc[: table.n_train], **estimator._column_kinds)
    seed = _seed(estimator, again.seed if again else journal.seed)
    metric = _metric(estimator, table)
    if groups is not None:
        check_consistent_length(table.given_y, groups)
    folds = _folds(estimator, table, X, groups, seed)
    problem = _problem(table, schema, folds, metric, seed=seed, **_settings(estimator, facts, again, len(table.y)))
    on_all_rows, limit = estimator.refit or estimator._over_time or go_forward(folds), None
    if estimator.time_limit is not None and again is None:
        limit = Limit.of(estimator.time_limit, time.perf_counter() - journal.elapsed, len(table.y), on_all_rows)
    search = _Search(estimator, table, schema, problem, limit, again, journal, asked, on_all_rows)
    rounds = Rounds(strategy, facts.get("stop"), problem, estimator, limit, again, journal, asked)
    evaluated, companions = search.train(rounds, watch)
    selection, refitted = search.choose(evaluated, companions)
    plan = rounds.ran([companion.result.name for companion in companions])
    plan.keeps_folds = on_all_rows and not refitted
    results = replace(search.results(selection, evaluated, companions), plan=watch.plan)
    manifest = {**_manifest(table, seed, results.seconds), **results_to_json(results), "plan": plan.to_json()}
    if refitted:
        manifest["on_all_rows"] = True
    if plan.ended_early:
        manifest["stopped_early"] = True
    _note_results(estimator, results, selection.best, FittedModel(schema, selection.parts, manifest), table)
    estimator._again = None
    watch.finish(results, estimator)


@dataclass(frozen=True)
class _Search:
    """What a call of `AutoRegressor.fit` works on, once its data and its options are read."""

    estimator: Any
    table: TrainingTable
    schema: Schema
    problem: Problem
    limit: Limit | None
    again: RanPlan | None
    journal: Unkept
    asked: Stop
    on_all_rows: bool

    def train(self, rounds: Rounds, watch: Watch) -> tuple[list[Evaluated], list[EvaluatedCompanion]]:
        """Networks and companions on the folds, with a journal of them where one is wanted."""
        estimator, problem = self.estimator, self.problem
        if estimator.run_dir is not None:
            asked_for = estimator.get_params(deep=False) | ({"repeating": self.again.to_json()} if self.again else {})
            self.journal.begin(identity_of(asked_for, problem, self.schema.to_json()))
        plan = SearchPlan(
            (), tuple(column.name for column in self.schema.used), tuple(self.table.targets), self.table.n_train,
            len(problem.folds), problem.metric.name, short(estimator.strategy), estimator.effort,
            "bfloat16" if problem.half else "float32", problem.seed,
        )  # fmt: skip
        with show_progress(estimator.verbose) as on_progress:
            done, planned = self.journal.stacks()
            if planned and on_progress is not None:
                on_progress(Progress("resume", done / planned, done, planned - done))
            rounds.check_first(watch, plan)
            companions = self._companions(on_progress)
            evaluated = rounds.run(on_progress, watch, plan)
            self.journal.tell()
        for i, companion in enumerate(companions):
            companion.result = replace(companion.result, index=len(evaluated) + i)
        if all(item.result.failure for item in evaluated):
            self.asked.pass_on()
        return evaluated, companions

    def _companions(self, on_progress: OnProgress | None) -> list[EvaluatedCompanion]:
        if self.estimator.companions is None:
            return []
        entries, problem = [], self.problem
        for name in self.again.companions if self.again else registry().in_order("companion"):
            try:
                entries.append(registry().get("companion", name))
            except DuplicateNameError as error:  # nobody asked for it by name
                warnings.warn(f"{error}; it is left out", PluginLoadWarning, stacklevel=6)

        def enough() -> bool:
            return self.asked() or (self.limit is not None and time.perf_counter() >= self.limit.companions_until)

        with on_cores(self.estimator.n_jobs):
            return evaluate_companions(
                entries, problem.numbers, problem.codes, problem.layout, problem.y, problem.sample_weight,
                problem.folds, problem.metric.score, problem.seed, on_progress, problem.metric.objective,
                self.journal, enough,
            )  # fmt: skip

    def choose(self, evaluated: list[Evaluated], companions: list[EvaluatedCompanion]) -> tuple[Selection, bool]:
        """What predicts, and whether it was fitted once more, on all rows."""
        alone = self.estimator.refit
        selection = select(
            evaluated, companions, self.problem, ensemble=self.estimator.ensemble and not alone,
            include=self.estimator.companions == "include" and not alone,
        )  # fmt: skip
        refitted = None
        if self.on_all_rows and not (self.again and self.again.keeps_folds):
            refitted = self._fitted_again(selection)
        return refitted or selection, refitted is not None

    def _fitted_again(self, selection: Selection) -> Selection | None:
        """What is chosen, fitted on all rows; None, with a warning that says why, where the folds' members stay."""

        def enough() -> bool:
            return self.asked() or (self.limit is not None and time.perf_counter() >= self.limit.fitting_until)

        reason = "there was no time left"
        try:
            if not enough():
                rows = AllRows.of(self.problem, self.table.n_train, enough)
                return selection.on_all_rows(rows, self.problem.at_once(self.estimator.n_jobs))
        except Stopped:
            pass
        except (Exception, SystemExit) as error:  # a part of a plugin's or a user's may raise anything
            reason = one_line(error)
        if not self.asked():
            text = f"the model keeps its folds' members, since they could not be fitted on all rows: {reason}"
            warnings.warn(text, DataWarning, stacklevel=6)
        return None

    def results(
        self, selection: Selection, evaluated: list[Evaluated], companions: list[EvaluatedCompanion]
    ) -> SearchResults:
        """All results, with what to think of them."""
        folds = self.problem.folds
        results = replace(measure(selection, evaluated, companions, self.problem), seconds=self.journal.elapsed)
        if not companions:
            return replace(results, verdict="")
        ratio = float(np.mean([len(fold.valid) / len(fold.train) for fold in folds])) if folds else None
        return replace(results, verdict=verdict(compared(results, evaluated, companions, self.problem), ratio))


def _seed(estimator: Any, earlier: int | None) -> int:
    """The search's seed: the one given, else that of the search that goes on or is repeated, else a new one."""
    given = isinstance(estimator.random_state, (int, np.integer))
    return as_seed(estimator.random_state) if given or earlier is None else earlier


def _metric(estimator: Any, table: TrainingTable) -> Metric:
    metric = as_metric(estimator.scoring)
    metric.check(table.y)
    if table.sample_weight is not None and not metric.takes_weights:
        text = f"scoring {metric.name} takes no row weights: in it all rows count alike"
        warnings.warn(text, DataWarning, stacklevel=5)
    return metric


def _settings(estimator: Any, facts: Mapping[str, Any], again: RanPlan | None, n_rows: int) -> dict[str, Any]:
    """How the strategy and the estimator want networks to be trained, as `Problem` takes it."""
    device = usable_device(estimator.device)
    half = again.precision == "bfloat16" if again else half_pays(estimator.precision, facts, n_rows, device)
    # a user's epochs are not made more
    fixed = any("max_epochs" in one for one in _spaces(estimator))
    return {
        "own_seeds": facts.get("own_seeds", True),
        "choose_epoch": facts.get("choose_epoch", True),
        "rungs": facts.get("rungs", ()),
        "most_epochs": 0 if fixed else facts.get("most_epochs", 0),
        "device": device,
        "half": half,
    }


def _check_options(estimator: Any) -> None:
    if estimator.effort not in EFFORTS:
        raise OptionError(unknown("effort", estimator.effort, EFFORTS))
    if estimator.companions not in ("compare", "include", None):
        raise OptionError(unknown("value of companions", estimator.companions, ["compare", "include", "None"]))
    for option, parameter in NAME_LISTS.items():
        names = getattr(estimator, option)
        if names is not None and (not isinstance(names, (list, tuple)) or not names):
            raise OptionError(f"{option}={names!r}: give a list of names or objects, such as {[DEFAULTS[parameter]]}")
    spaces = _spaces(estimator)
    if not spaces or not all(isinstance(space, Mapping) for space in spaces):
        raise OptionError(f"space={estimator.space!r}: give a dict of lists or distributions, or a list of such dicts")
    n = estimator.n_candidates
    if n is not None and (not isinstance(n, (int, np.integer)) or n < 1):
        raise OptionError(f"n_candidates={n!r}: give a whole number of at least 1, or None")


def _spaces(estimator: Any) -> Sequence[Any]:
    """The alternatives of the user's space."""
    return estimator.space if isinstance(estimator.space, (list, tuple)) else [estimator.space or {}]


def half_pays(precision: str, facts: Mapping[str, Any], n_rows: int, device: str = "cpu") -> bool:
    """Whether to train in bfloat16: when asked to, or where strategy and processor are made for it."""
    if precision not in PRECISIONS:
        raise OptionError(unknown("precision", precision, PRECISIONS))
    if precision == "auto":
        # in the small batches of a small table the casts take longer than the products, and on a GPU in all
        return bool(facts.get("half", False)) and n_rows >= 100 and device == "cpu" and has_bfloat16()
    return precision == "bfloat16"


def _folds(estimator: Any, table: TrainingTable, X: Any, groups: Any, seed: int) -> list[Fold]:
    rows = np.arange(len(table.y))
    if len(rows) > table.n_train:
        return [Fold(rows[: table.n_train], rows[table.n_train :])]
    y = table.given_y[:, 0] if table.given_y.shape[1] == 1 else table.given_y
    if estimator.cv is None:
        own_groups = None if groups is None else np.asarray(groups)[table.kept]
        return make_folds(None, table.n_train, y[table.kept], groups=own_groups, random_state=seed)
    # what a splitter is asked about, or row numbers mean, are the rows as given, those of weight zero among them
    folds = make_folds(estimator.cv, len(y), y, groups=groups, random_state=seed, X=X)
    place = np.full(len(y), -1)
    place[table.kept] = np.arange(table.n_train)
    mapped = [Fold(*(own[own >= 0] for own in (place[fold.train], place[fold.valid]))) for fold in folds]
    for k, fold in enumerate(mapped):
        if not len(fold.train) or not len(fold.valid):
            raise DataError(f"cv: fold {k} has no row of a weight above 0 to train or to validate on")
    return mapped


def _note_results(
    estimator: Any, results: SearchResults, best: Evaluated | None, model: FittedModel, table: TrainingTable
) -> None:
    from autoreg.neural import NeuralRegressor

    estimator.model_ = model
    estimator.n_outputs_ = table.y.shape[1]
    note_results(estimator, results, best.result if best else None)
    vars(estimator).pop("best_estimator_", None)
    if best is None:
        return
    single = NeuralRegressor._from_candidate(best.result.candidate)  # type: ignore[arg-type]
    if SEED not in best.result.candidate.parameters:  # type: ignore[union-attr]
        single.set_params(random_state=model.manifest["seed"])
    single.set_params(device=estimator.device)
    single.model_ = FittedModel(model.schema, [best.part()], _manifest(table, model.manifest["seed"], results.seconds))
    for name in ("n_features_in_", "feature_names_in_", "n_outputs_", "_y_ndim", "_y_dtype"):
        if hasattr(estimator, name):
            setattr(single, name, getattr(estimator, name))
    single.loss_curve_ = list(best.result.train_curve)
    single.validation_scores_ = list(best.result.curve)
    single.n_iter_ = len(single.loss_curve_)
    estimator.best_estimator_ = single
