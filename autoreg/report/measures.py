"""Errors of predictions on rows that took no part in the fit, beside those of the companions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autoreg.errors import named_line
from autoreg.pace import seconds_of
from autoreg.report.leaderboard import aligned
from autoreg.report.units import NAMES, decimals, label, number, plain

if TYPE_CHECKING:
    from autoreg.estimators import AutoRegressor
    from autoreg.tasks import Task

Floats = NDArray[np.float64]

GRACE = 0.05
"""Of a time limit, what the errors on held-out rows may take beyond it."""


def measures(y: Floats, prediction: Floats, weight: Floats | None = None) -> dict[str, float]:
    """Root mean squared error, mean absolute error and R2 of one target; R2 is NaN where the target is constant.

    Examples
    --------
    >>> measures(np.array([0.0, 2.0]), np.array([1.0, 1.0]))
    {'rmse': 1.0, 'mae': 1.0, 'r2': 0.0}
    """
    error = prediction - y
    # scaled, so that squares of targets near 1e200 do not overflow
    size = float(max(np.abs(y).max(), np.abs(error).max())) or 1.0
    squares = float(np.average((error / size) ** 2, weights=weight))
    spread = float(np.average((y / size - np.average(y / size, weights=weight)) ** 2, weights=weight))
    return {
        "rmse": size * squares**0.5,
        "mae": size * float(np.average(np.abs(error / size), weights=weight)),
        "r2": 1 - squares / spread if spread > 0 else float("nan"),
    }


def by_target(
    names: Sequence[str], y: Floats, prediction: Floats, weight: Floats | None = None
) -> list[dict[str, Any]]:
    """The measures of every target.

    Parameters
    ----------
    names : sequence of str
    y, prediction : array, (N,) or (N, O)
    weight : array, (N,), optional
    """
    columns = zip(names, _columns(y), _columns(prediction), strict=True)
    return [{"target": name, **measures(truth, guess, weight)} for name, truth, guess in columns]


def held_out(estimator: AutoRegressor, train: Task, test: Task, seed: int = 0) -> list[dict[str, Any]]:
    """Score the fitted model, and its companions refitted on all training rows, on rows that were kept out.

    A companion that failed, or whose fit a time limit has no room for, is a row that says so.

    Parameters
    ----------
    estimator : AutoRegressor
        Fitted on `train`.
    train, test : Task
    seed : int
        For the companions.

    Returns
    -------
    list of dict
        Best first: model, the search's metric, `NAMES` (the mean over targets), and failure.
    """
    from autoreg.companions import fit_companion
    from autoreg.libraries import on_cores
    from autoreg.plugins import registry
    from autoreg.scoring import as_metric
    from autoreg.targets import read_target

    begin, schema, metric = time.perf_counter(), estimator.schema_, as_metric(estimator.scoring)
    y_train, y = _matrix(read_target(train.y)), _matrix(read_target(test.y))
    train_table, table = schema.encode(train.X), schema.encode(test.X)
    found = [_row("autoreg", metric, y, _matrix(estimator.predict(test.X)), test.weight)]
    for companion in estimator.results_.companions:
        entry = registry().get("companion", companion.name)
        so_far = estimator.results_.seconds + time.perf_counter() - begin
        failure = companion.failure
        if not failure and not _fits(estimator, companion.seconds, so_far):
            failure = "no time was left for it"
        if failure:
            found.append({"model": companion.name, "failure": failure})
            continue
        try:
            with on_cores(estimator.n_jobs):
                fitted = fit_companion(
                    entry, train_table.numbers, train_table.codes, schema.layout, y_train, train.weight,
                    np.arange(len(y_train)), seed, metric.objective,
                )  # fmt: skip
            found.append(_row(companion.name, metric, y, fitted.predict(table.numbers, table.codes), test.weight))
        except (Exception, SystemExit) as error:  # a companion is a stranger's code and may raise anything
            found.append({"model": companion.name, "failure": named_line(error)})
    best = {row["model"]: row["score"] for row in found if not row["failure"]}
    found.sort(key=lambda row: -best.get(row["model"], -np.inf))
    return found


def _fits(estimator: AutoRegressor, seconds: float, so_far: float) -> bool:
    """Whether there is time to fit what took so long on all folds once more, on all rows."""
    if estimator.time_limit is None:
        return True
    again = seconds / max(1, estimator.n_splits_ - 1)
    return so_far + again < (1 + GRACE) * seconds_of(estimator.time_limit)


def _row(model: str, metric: Any, y: Floats, prediction: Floats, weight: Floats | None) -> dict[str, Any]:
    each = by_target([str(i) for i in range(y.shape[1])], y, prediction, weight)
    mean = {name: float(np.mean([target[name] for target in each])) for name in NAMES}
    try:
        score = metric.score(y, prediction, weight)
    except ValueError as error:  # such as a logarithm of negative predictions
        return {"model": model, **mean, "failure": f"{metric.label}: {(str(error).splitlines() or [''])[0]}"}
    return {"model": model, metric.label: plain(score, metric.name), **mean, "score": score, "failure": ""}


def held_out_text(rows: Sequence[Mapping[str, Any]], scoring: str) -> str:
    """The scores on held-out rows for the terminal.

    Examples
    --------
    >>> print(held_out_text([{"model": "autoreg", "rmse": 2.5, "mae": 2.0, "r2": 0.75, "failure": ""}], "r2"))
    model       r2   rmse    mae
    autoreg  0.750  2.500  2.000
    """
    usable = [row for row in rows if not row["failure"]]
    names = list(dict.fromkeys([label(scoring), *NAMES]))
    places = {name: 3 if name == "r2" else decimals([row[name] for row in usable]) for name in names}
    cells = [(row["model"], *(number(row[name], places[name]) for name in names)) for row in usable]
    lines = aligned([("model", *names), *cells], left={0})
    return "\n".join([*lines, *(f"failed: {row['model']}: {row['failure']}" for row in rows if row["failure"])])


def by_target_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The measures of every target for the terminal.

    >>> print(by_target_text([{"target": "rent", "rmse": 250.0, "mae": 200.0, "r2": 0.75}]))
    target   rmse    mae     r2
    rent    250.0  200.0  0.750
    """
    cells = []
    for row in rows:
        places = decimals([row["rmse"], row["mae"]])
        cells.append((row["target"], number(row["rmse"], places), number(row["mae"], places), number(row["r2"], 3)))
    return "\n".join(aligned([("target", *NAMES), *cells], left={0}))


def _columns(values: Floats) -> list[Floats]:
    return list(_matrix(values).T)


def _matrix(values: Any) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array
