"""Results and estimators as plain values: for `cv_results_` and for the manifest of a saved model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from autoreg.model import FittedModel, as_json
from autoreg.results import CandidateResult, SearchResults
from autoreg.space import Candidate


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
    names = sorted({name for row in rows for name in row.candidate.parameters})  # type: ignore[union-attr]
    for name in names:
        values = [row.candidate.parameters.get(name, np.ma.masked) for row in rows]  # type: ignore[union-attr]
        column = np.ma.masked_all(len(rows), dtype=object)
        for i, value in enumerate(values):
            if value is not np.ma.masked:
                column[i] = value
        table[f"param_{name}"] = column
    table["params"] = [dict(row.candidate.parameters) for row in rows]  # type: ignore[union-attr]
    for k in range(results.n_folds):
        table[f"split{k}_test_score"] = scores[:, k]
    table["mean_test_score"] = mean
    table["std_test_score"] = scores.std(axis=1)
    table["rank_test_score"] = np.array([1 + int((order > value).sum()) for value in order], dtype=np.int32)
    return table


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
    """The search's results as a manifest tells them."""
    rows = []
    for data in manifest["leaderboard"]:
        parameters = data["parameters"]
        rows.append(
            CandidateResult(
                data["index"], None if parameters is None else Candidate(parameters), data["name"],
                _floats(data["scores"]), _floats(data["rmse"]), data["epoch"], data["seconds"], failure=data["failure"],
                is_ensemble=data["is_ensemble"], facts=data["facts"],
            )
        )  # fmt: skip
    rows.sort(key=lambda result: result.index)
    return SearchResults(
        tuple(r for r in rows if r.candidate is not None), tuple(r for r in rows if r.is_companion),
        manifest["scoring"], manifest["n_folds"], manifest["seconds"], manifest["verdict"],
        next((r for r in rows if r.is_ensemble), None),
    )  # fmt: skip


def _floats(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(float("nan") if value is None else float(value) for value in values)


def estimator_to_json(estimator: Any) -> dict[str, Any]:
    """What a file keeps of an estimator besides its model; arguments that are objects keep their label."""
    names = getattr(estimator, "feature_names_in_", None)
    return {
        "class": type(estimator).__name__,
        "parameters": as_json(estimator.get_params(deep=False)),
        "n_features_in": int(estimator.n_features_in_),
        "named_features": names is not None,
        "y_ndim": int(estimator._y_ndim),
        "y_dtype": str(estimator._y_dtype),
    }


def estimator_from_json(estimator: Any, data: Mapping[str, Any], model: FittedModel) -> None:
    """Give a new estimator what a file kept of a fitted one."""
    known = estimator.get_params(deep=False)
    plain = {k: v for k, v in data["parameters"].items() if k in known and not _has_label(v)}
    estimator.set_params(**plain)
    estimator.model_ = model
    estimator.n_features_in_ = data["n_features_in"]
    if data["named_features"]:
        estimator.feature_names_in_ = np.asarray([c.name for c in model.schema.columns], dtype=object)
    estimator._y_ndim = data["y_ndim"]
    estimator._y_dtype = np.dtype("float32" if data["y_dtype"] == "float32" else "float64")
    estimator.n_outputs_ = len(model.manifest["targets"])
    if "leaderboard" in model.manifest:
        estimator.results_ = results_from_json(model.manifest)
        best = estimator.results_.best
        estimator.n_splits_ = estimator.results_.n_folds
        estimator.cv_results_ = cv_results(estimator.results_)
        estimator.best_index_, estimator.best_score_ = best.index, best.score
        estimator.ensemble_score_ = estimator.results_.chosen.score
        estimator.best_params_ = dict(best.candidate.parameters if best.candidate else {})


def _has_label(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "label" in value or any(_has_label(item) for item in value.values())
    return isinstance(value, list) and any(_has_label(item) for item in value)
