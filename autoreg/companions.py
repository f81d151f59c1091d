"""Companions: models that are no networks, fitted on the same folds and scored alike."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import ThreadpoolController

from autoreg.encoding import TableLayout
from autoreg.errors import one_line
from autoreg.folds import Fold
from autoreg.guards import blame
from autoreg.journal import Unkept
from autoreg.recall import as_kept
from autoreg.registry import Entry
from autoreg.results import CandidateResult, Progress

Floats = NDArray[np.float64]
Scorer = Callable[[Floats, Floats, Floats | None], float]
"""``scorer(y, prediction, sample_weight)`` of (V, O) arrays; greater is better."""

MANY_VALUES = 200_000
"""Values of a table that are worth several threads."""


def evaluate_companions(
    entries: Sequence[Entry],
    numbers: NDArray[np.float32],
    codes: NDArray[np.int32],
    layout: TableLayout,
    y: Floats,
    sample_weight: Floats | None,
    folds: Sequence[Fold],
    scorer_fn: Scorer,
    seed: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
    journal: Unkept | None = None,
    enough: Callable[[], bool] | None = None,
) -> tuple[list[CandidateResult], dict[str, Floats]]:
    """Fit every companion on every fold.

    One that raises, or predicts NaN, is a failed result with the reason; the others go on.

    Parameters
    ----------
    entries : sequence of Entry
        From the registry; each thing is ``make(layout, random_state)`` -> scikit-learn regressor.
    numbers, codes : array, (N, Dn) and (N, Dc)
    layout : TableLayout
    y : array, (N, O)
    sample_weight : array, (N,), or None
        Handed to companions that take weights, and to the scorer.
    folds : sequence of Fold
    scorer_fn : function
    seed : int
    on_progress : function, optional
    journal : Unkept or None
        Where finished companions are kept, and recalled from instead of being fitted.
    enough : function or None
        Asked before each fit: whether to leave out what is not finished.

    Returns
    -------
    results : list of CandidateResult
        In the order of `entries`, `index` counting from 0.
    oof : dict of array, (N, O)
        Out-of-fold predictions by name: the mean where a row was held out several times, NaN where never. Failed
        companions are left out.
    """
    results, oof = [], {}
    journal, enough = journal or Unkept(), enough or (lambda: False)
    for index, entry in enumerate(entries):
        kept = journal.recall(f"companion {entry.name}")
        if kept is not None:
            results.append(CandidateResult(candidate=None, **{**kept["result"], "index": index}))
            oof.update(kept["oof"])
            continue
        begin = time.perf_counter()
        total, count = np.zeros_like(y, dtype=np.float64), np.zeros(len(y))
        scores: list[float] = []
        rmse: list[float] = []
        failure = ""
        for k, fold in enumerate(folds):
            if on_progress is not None:
                done = (index + k / len(folds)) / len(entries)
                on_progress(Progress("companions", done, index, len(entries) - index))
            if enough():
                break
            try:
                predict = fit_companion(entry, numbers, codes, layout, y, sample_weight, fold.train, seed)
                prediction = predict(numbers[fold.valid], codes[fold.valid])
                weight = None if sample_weight is None else sample_weight[fold.valid]
                scores.append(scorer_fn(y[fold.valid], prediction, weight))
            except (Exception, SystemExit) as error:  # a companion is a stranger's code and may raise anything
                failure = f"{one_line(error)}{blame([entry])}"
                break
            rmse.append(_rmse(y[fold.valid], prediction, weight))
            np.add.at(total, fold.valid, prediction)
            np.add.at(count, fold.valid, 1)
        if len(scores) < len(folds) and not failure:
            break
        if failure:
            scores = rmse = [float("nan")] * len(folds)
        else:
            with np.errstate(invalid="ignore"):
                oof[entry.name] = total / count[:, None]
        seconds = time.perf_counter() - begin
        results.append(
            CandidateResult(index, None, entry.name, tuple(scores), tuple(rmse), seconds=seconds, failure=failure)
        )
        own = {entry.name: oof[entry.name]} if entry.name in oof else {}
        journal.note(f"companion {entry.name}", {"result": as_kept(results[-1]), "oof": own})
    if on_progress is not None:
        on_progress(Progress("companions", 1.0, len(entries)))
    return results, oof


def fit_companion(
    entry: Entry,
    numbers: NDArray[np.float32],
    codes: NDArray[np.int32],
    layout: TableLayout,
    y: Floats,
    sample_weight: Floats | None,
    rows: NDArray[np.int64],
    seed: int = 0,
) -> Callable[[NDArray[np.float32], NDArray[np.int32]], Floats]:
    """Fit one companion on the given rows.

    Parameters
    ----------
    entry : Entry
    numbers, codes, layout, y, sample_weight, seed
        As for `evaluate_companions`.
    rows : array of int

    Returns
    -------
    function
        ``predict(numbers, codes) -> (N, O)``.

    Raises
    ------
    ValueError
        When it predicts NaN or infinity, or another shape than the target's. Whatever the companion itself raises
        comes through.
    """
    n_outputs = y.shape[1]
    estimator = entry.thing(layout, seed)
    if n_outputs > 1 and not get_tags(estimator).target_tags.multi_output:
        estimator = MultiOutputRegressor(estimator)
    target = y[rows, 0] if n_outputs == 1 else y[rows]
    weights = {} if sample_weight is None else _weight_argument(estimator, sample_weight[rows])
    with _quietly(len(rows) * (numbers.shape[1] + codes.shape[1])):
        estimator.fit(_matrix(numbers[rows], codes[rows]), target, **weights)

    def predict(numbers: NDArray[np.float32], codes: NDArray[np.int32]) -> Floats:
        with _quietly(numbers.size + codes.size):
            prediction = np.asarray(estimator.predict(_matrix(numbers, codes)), dtype=np.float64)
        prediction = prediction.reshape(len(numbers), n_outputs)
        if not np.isfinite(prediction).all():
            raise ValueError("it predicts NaN or infinite values")
        return prediction

    return predict


@contextmanager
def _quietly(n_values: int) -> Iterator[None]:
    """Without warnings, and on a small table with one thread: starting and joining more takes longer than they save."""
    limit = 1 if n_values < MANY_VALUES else None
    with warnings.catch_warnings(), _libraries(len(sys.modules)).limit(limits=limit, user_api="openmp"):
        # a user can do nothing about how well conditioned a baseline is
        warnings.simplefilter("ignore")
        yield


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """The loaded libraries that have threads; looked for again after an import, for that takes as long as a fit."""
    return ThreadpoolController()


def _matrix(numbers: NDArray[np.float32], codes: NDArray[np.int32]) -> Floats:
    """One float matrix, numbers first."""
    matrix = np.empty((len(numbers), numbers.shape[1] + codes.shape[1]))
    matrix[:, : numbers.shape[1]] = numbers
    matrix[:, numbers.shape[1] :] = codes
    return matrix


def _weight_argument(estimator: Any, weight: Floats) -> Mapping[str, Floats]:
    """How this estimator's `fit` takes weights; empty when it cannot."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        return {f"{name}__sample_weight": weight} if has_fit_parameter(last, "sample_weight") else {}
    inner = estimator.estimator if isinstance(estimator, MultiOutputRegressor) else estimator
    return {"sample_weight": weight} if has_fit_parameter(inner, "sample_weight") else {}


def _rmse(y: Floats, prediction: Floats, weight: Floats | None) -> float:
    return float(np.sqrt(np.average((y - prediction) ** 2, axis=0, weights=weight)).mean())
