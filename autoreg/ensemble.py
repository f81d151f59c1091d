"""Greedy ensemble selection on out-of-fold predictions.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models" (2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS = 40
"""Selections with replacement; a member's weight is a multiple of one over this."""


class ScoreFunction(Protocol):
    """``score(y, prediction, sample_weight)``, greater is better."""

    def __call__(self, y: Floats, prediction: Floats, sample_weight: Floats | None = None) -> float: ...


def greedy_weights(
    predictions: Floats, y: Floats, sample_weight: Floats | None, score: ScoreFunction, steps: int = STEPS
) -> Floats:
    """Weights of the mean that greedy selection with replacement ends at.

    Parameters
    ----------
    predictions : array, (C, N, O)
        Of each candidate.
    y : array, (N, O)
    sample_weight : array, (N,), or None
    score : function
    steps : int

    Returns
    -------
    array, (C,)
        Non-negative, sum one. Of all the means on the way, the one with the best score.

    Examples
    --------
    >>> y = np.zeros((4, 1))
    >>> two = np.stack([y + 1, y - 1])
    >>> greedy_weights(two, y, None, lambda y, p, w=None: -float(((p - y) ** 2).mean()))
    array([0.5, 0.5])
    """
    total = np.zeros_like(y)
    counts = np.zeros(len(predictions))
    best_score, best_counts = -np.inf, counts
    for step in range(1, steps + 1):
        scores = [score(y, (total + p) / step, sample_weight) for p in predictions]
        # a metric may be undefined on few rows; then the first stands for all
        choice = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
        total += predictions[choice]
        counts = counts.copy()
        counts[choice] += 1
        # a tie keeps the smaller ensemble
        if step == 1 or scores[choice] > best_score + 1e-12 * abs(best_score if np.isfinite(best_score) else 0.0):
            best_score, best_counts = scores[choice], counts
    return best_counts / best_counts.sum()


def cross_fitted(
    predictions: Floats,
    y: Floats,
    sample_weight: Floats | None,
    score: ScoreFunction,
    parts: Sequence[NDArray[np.int64]],
    steps: int = STEPS,
) -> tuple[Floats, list[float]]:
    """Out-of-fold predictions and scores of the ensemble itself, free of selection optimism.

    For each part of the rows the weights are selected on the other parts; of a single part, every second row's on the
    rows between.

    Parameters
    ----------
    parts : sequence of array of int
        Disjoint rows, such as the folds' validation rows; at least two rows in all.
    steps : int

    Returns
    -------
    prediction : array, (N, O)
        NaN outside the parts.
    scores : list of float
        One a part.
    """
    everything = np.concatenate(list(parts))
    ensemble = np.full_like(y, np.nan)

    def weight(rows: NDArray[np.int64]) -> Floats | None:
        return None if sample_weight is None else sample_weight[rows]

    for part in parts if len(parts) > 1 else [everything[::2], everything[1::2]]:
        rows = np.setdiff1d(everything, part)
        weights = greedy_weights(predictions[:, rows], y[rows], weight(rows), score, steps)
        ensemble[part] = np.tensordot(weights, predictions[:, part], axes=1)
    return ensemble, [score(y[part], ensemble[part], weight(part)) for part in parts]
