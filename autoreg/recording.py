"""Results and estimators as plain values: for `cv_results_` and for the manifest of a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from autoreg.manifest import (
    as_json,
    damaged,
    has_label,
    is_count,
    is_number,
    is_object,
    is_text,
    read_field,
)  # fmt: skip
from autoreg.results import CandidateResult, SearchResults
from autoreg.space import Candidate

if TYPE_CHECKING:
    from autoreg.model import FittedModel

MAX_PARAMETERS = 500
"""Different parameters of the candidates that a file may tell of: `cv_results_` has a column for each."""


def cv_results(results: SearchResults) -> dict[str, Any]:
    """A search's candidates in the form of `GridSearchCV.cv_results_`."""
    rows = results.candidates
    scores = np.array([row.scores or (np.nan,) * results.n_folds for row in rows], dtype=float)
    mean = scores.mean(axis=1)
    order = np.where(np.isnan(mean), -np.inf, mean)
    table: dict[str, Any] = {
        "mean_fit_time": np.array([row.seconds / results.n_folds for row in rows]),
        "std_fit_time": np.zeros(len(rows)),
        "mean_score_time": np.zeros(len(rows)),
        "std_score_time": np.zeros(len(rows)),
    }
    # in the order of their first appearance, as scikit-learn has them
    names = dict.fromkeys(name for row in rows for name in row.candidate.parameters)  # type: ignore[union-attr]
    for name in names:
        table[f"param_{name}"] = _column([row.candidate.parameters for row in rows], name)  # type: ignore[union-attr]
    table["params"] = [dict(row.candidate.parameters) for row in rows]  # type: ignore[union-attr]
    for k in range(results.n_folds):
        table[f"split{k}_test_score"] = scores[:, k]
    table["mean_test_score"] = mean
    table["std_test_score"] = scores.std(axis=1)
    table["rank_test_score"] = np.array([1 + int((order > value).sum()) for value in order], dtype=np.int32)
    return table


def _column(parameters: Sequence[Mapping[str, Any]], name: str) -> np.ma.MaskedArray:
    """One parameter of all candidates, masked where a candidate has none; of objects unless all are numbers."""
    given = {i: own[name] for i, own in enumerate(parameters) if name in own}
    numbers = all(isinstance(value, (bool, int, float, np.bool_, np.number)) for value in given.values())
    column = np.ma.masked_all(len(parameters), dtype=np.array(list(given.values())).dtype if numbers else object)
    for i, value in given.items():
        column[i] = value
    return column


def results_to_json(results: SearchResults) -> dict[str, Any]:
    """What a model's manifest says about its search."""

    def row(result: CandidateResult) -> dict[str, Any]:
        data = asdict(replace(result, candidate=None))
        del data["candidate"], data["train_curve"], data["curve"]
        data["facts"] = as_json(dict(result.facts))
        parameters = None if result.candidate is None else as_json(dict(result.candidate.parameters))
        return {**data, "parameters": parameters, "score": result.score}

    return {
        "scoring": results.scoring,
        "n_folds": results.n_folds,
        "verdict": results.verdict,
        "leaderboard": [row(result) for result in results.ranked],
    }


def results_from_json(manifest: Mapping[str, Any]) -> SearchResults:
    """The search's results as a manifest tells them.

    Raises
    ------
    ModelFileError
        When they are not of the form that `results_to_json` writes.
    """
    n_folds = read_field(manifest, "n_folds", lambda value: is_count(value) and value > 0, "a number of folds")
    leaderboard = read_field(manifest, "leaderboard", lambda value: isinstance(value, list), "a list")
    rows = sorted((_result(data, n_folds) for data in leaderboard), key=lambda result: result.index)
    candidates = tuple(row for row in rows if row.candidate is not None)
    ensembles = [row for row in rows if row.is_ensemble]
    if [row.index for row in candidates] != list(range(len(candidates))):
        raise damaged("its candidates are not numbered one by one")
    if (all(row.failure for row in candidates) and not ensembles) or not candidates or len(ensembles) > 2:
        raise damaged("it has no candidate that was trained, or more than two ensembles")
    if len({name for row in candidates for name in row.candidate.parameters}) > MAX_PARAMETERS:  # type: ignore[union-attr]
        raise damaged(f"its candidates have more than {MAX_PARAMETERS} parameters")
    return SearchResults(
        candidates, tuple(row for row in rows if row.is_companion),
        read_field(manifest, "scoring", is_text, "a text"), n_folds,
        read_field(manifest, "seconds", is_number, "a number"), read_field(manifest, "verdict", is_text, "a text"),
        ensembles[-1] if ensembles else None, ensembles[0] if len(ensembles) > 1 else None,
    )  # fmt: skip


def _result(data: Any, n_folds: int) -> CandidateResult:
    def is_scores(value: Any) -> bool:
        return isinstance(value, list) and len(value) == n_folds and all(v is None or is_number(v) for v in value)

    index = read_field(data, "index", is_count, "a number")
    parameters = read_field(data, "parameters", lambda value: value is None or is_object(value), "an object")
    is_ensemble = read_field(data, "is_ensemble", lambda value: isinstance(value, bool), "true or false")
    if is_ensemble and parameters is not None:
        raise damaged(f"row {index} of its leaderboard is a candidate and an ensemble")
    return CandidateResult(
        index,
        None if parameters is None else Candidate(parameters),
        read_field(data, "name", is_text, "a text"),
        _floats(read_field(data, "scores", is_scores, f"{n_folds} numbers")),
        _floats(read_field(data, "rmse", is_scores, f"{n_folds} numbers")),
        read_field(data, "epoch", is_count, "a number"),
        read_field(data, "seconds", is_number, "a number"),
        failure=read_field(data, "failure", is_text, "a text"),
        is_ensemble=is_ensemble,
        ms_per_row=_float(data.get("ms_per_row")),
        megabytes=_float(data.get("megabytes")),
        facts=read_field(data, "facts", is_object, "an object"),
    )


def _floats(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(_float(value) for value in values)


def _float(value: Any) -> float:
    return float(value) if is_number(value) else float("nan")


def estimator_to_json(estimator: Any) -> dict[str, Any]:
    """What a file keeps of an estimator besides its model; arguments that are objects keep their label."""
    names = getattr(estimator, "feature_names_in_", None)
    # where a run was kept is no part of the model
    parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name != "run_dir"}
    if isinstance(parameters.get("cv"), (list, tuple)):  # rows of the table that was fitted on
        parameters["cv"] = {"label": "splits"}
    return {
        "class": type(estimator).__name__,
        "parameters": as_json(parameters),
        "n_features_in": int(estimator.n_features_in_),
        "named_features": names is not None,
        "y_ndim": int(estimator._y_ndim),
        "y_dtype": str(estimator._y_dtype),
    }


def estimator_from_json(estimator: Any, data: Any, model: FittedModel) -> None:
    """Give a new estimator what a file kept of a fitted one.

    Raises
    ------
    ModelFileError
        When it is not of the form that `estimator_to_json` writes, or does not go with the model.
    """
    name = type(estimator).__name__
    read_field(data, "class", lambda value: value == name, "a kind of regressor")
    known = estimator.get_params(deep=False)
    given = read_field(data, "parameters", is_object, "an object")
    n_columns, n_targets = len(model.schema.columns), len(model.manifest["targets"])
    n_features = read_field(data, "n_features_in", lambda value: value == n_columns and is_count(value), "its columns")
    named = read_field(data, "named_features", lambda value: isinstance(value, bool), "true or false")
    allowed = (1, 2) if n_targets == 1 else (2,)
    y_ndim = read_field(data, "y_ndim", lambda value: is_count(value) and value in allowed, "that of its targets")
    y_dtype = read_field(data, "y_dtype", lambda value: value in ("float32", "float64"), "float32 or float64")
    estimator.set_params(**{k: v for k, v in given.items() if k in known and k != "run_dir" and not has_label(v)})
    estimator.model_ = model
    estimator.n_features_in_ = n_features
    if named:
        estimator.feature_names_in_ = np.asarray([c.name for c in model.schema.columns], dtype=object)
    estimator._y_ndim, estimator._y_dtype = y_ndim, np.dtype(y_dtype)
    estimator.n_outputs_ = n_targets
    if name == "AutoRegressor":
        results = results_from_json(model.manifest)
        note_results(estimator, results, None if results.best.failure else results.best)


def note_results(estimator: Any, results: SearchResults, best: CandidateResult | None) -> None:
    """Give an estimator what its search found; `best` is None where no network could be trained."""
    estimator.results_, estimator.n_splits_ = results, results.n_folds
    estimator.cv_results_, estimator.ensemble_score_ = cv_results(results), results.chosen.score
    estimator.best_index_ = best.index if best else 0
    estimator.best_score_ = best.score if best else float("nan")
    estimator.best_params_ = dict(best.candidate.parameters) if best and best.candidate else {}
