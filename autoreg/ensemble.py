"""Greedy ensemble selection on out-of-fold predictions.

Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models" (2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS = 40
"""Selections with replacement; a member's weight is a multiple of one over this."""


MOST_BY_ROWS = 30
"""Candidates, the best by themselves, that are selected from where a score has to look at all rows."""


class ScoreFunction(Protocol):
    """``score(y, prediction, sample_weight)``, greater is better."""

    def __call__(self, y: Floats, prediction: Floats, sample_weight: Floats | None = None) -> float: ...


OfSquares = Callable[[Floats], Floats]
"""Scores (C,) from mean squared errors (C, O), for a metric that follows from them."""


def greedy_weights(
    predictions: Floats,
    y: Floats,
    sample_weight: Floats | None,
    score: ScoreFunction,
    steps: int = STEPS,
    of_squares: OfSquares | None = None,
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
    of_squares : function, optional
        Where `score` follows from mean squared errors; no row is then looked at more than once.

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
    if of_squares is None:
        # every step scores every candidate anew
        own = np.array([score(y, prediction, sample_weight) for prediction in predictions])
        likely = np.sort(np.argsort(-np.nan_to_num(own, nan=-np.inf), kind="stable")[:MOST_BY_ROWS])
        weights = np.zeros(len(predictions))
        weights[likely] = _select(_by_rows(predictions[likely], y, sample_weight, score), len(likely), steps)
        return weights
    return _select(_by_products(_products(predictions, y, sample_weight), of_squares), len(predictions), steps)


Ask = Callable[[Floats], Floats]
"""``ask(counts)``: the scores (C,) of the mean that was selected so far with each candidate added."""


def _select(ask: Ask, n: int, steps: int) -> Floats:
    counts = np.zeros(n)
    best_score, best_counts = -np.inf, counts
    for step in range(1, steps + 1):
        # a metric may be undefined on few rows; then the first stands for all
        scores = ask(counts)
        choice = int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))
        counts = counts.copy()
        counts[choice] += 1
        # a tie keeps the smaller ensemble
        if step == 1 or scores[choice] > best_score + 1e-12 * abs(best_score if np.isfinite(best_score) else 0.0):
            best_score, best_counts = scores[choice], counts
    return best_counts / best_counts.sum()


def _by_rows(predictions: Floats, y: Floats, sample_weight: Floats | None, score: ScoreFunction) -> Ask:
    def ask(counts: Floats) -> Floats:
        total = np.tensordot(counts, predictions, axes=1)
        return np.array([score(y, (total + p) / (counts.sum() + 1), sample_weight) for p in predictions])

    return ask


def _products(predictions: Floats, y: Floats, sample_weight: Floats | None) -> Floats:
    """Weighted means of the products of the candidates' errors, (O, C, C)."""
    errors = np.moveaxis(predictions - y, 2, 0)
    weight = np.full(len(y), 1.0 / len(y)) if sample_weight is None else sample_weight / sample_weight.sum()
    return (errors * weight) @ errors.swapaxes(1, 2)


def _by_products(products: Floats, of_squares: OfSquares) -> Ask:
    """The mean squared error of a mean is a quadratic form of its weights."""
    diagonal = np.diagonal(products, axis1=1, axis2=2)

    def ask(counts: Floats) -> Floats:
        crossed = products @ counts
        squares = (crossed @ counts)[:, None] + 2 * crossed + diagonal
        return of_squares(np.clip(squares.T, 0, None) / (counts.sum() + 1) ** 2)

    return ask


def cross_fitted(
    predictions: Floats,
    y: Floats,
    sample_weight: Floats | None,
    score: ScoreFunction,
    parts: Sequence[NDArray[np.int64]],
    steps: int = STEPS,
    of_squares: OfSquares | None = None,
) -> tuple[list[Floats], list[float], Floats]:
    """Predictions and scores of the ensemble itself, free of selection optimism.

    For each part of the rows the weights are selected on the other rows; where a part leaves few or none, every second
    row's on the part's rows between. The mean of these weights is what a model should take: it follows single rows less
    than weights that are selected on all rows at once (bagged selection, as in Caruana et al.).

    Parameters
    ----------
    predictions, y, sample_weight, score
        As for `greedy_weights`.
    parts : sequence of array of int
        Such as the folds' validation rows; at least two rows in all.
    steps, of_squares
        As for `greedy_weights`.

    Returns
    -------
    predictions : list of array
        Of each part's rows.
    scores : list of float
        One a part.
    weights : array, (C,)
        The mean over the parts.
    """
    everything = np.unique(np.concatenate(list(parts)))

    def weight(rows: NDArray[np.int64]) -> Floats | None:
        return None if sample_weight is None else sample_weight[rows]

    selected, found = [], []
    for part in parts:
        others = np.setdiff1d(everything, part)
        apart = 2 * len(others) >= len(part)
        own = np.empty((len(part), y.shape[1]))
        for piece in [slice(None)] if apart else [slice(0, None, 2), slice(1, None, 2)]:
            rows = others if apart else np.setdiff1d(part, part[piece])
            selected.append(greedy_weights(predictions[:, rows], y[rows], weight(rows), score, steps, of_squares))
            own[piece] = np.tensordot(selected[-1], predictions[:, part[piece]], axes=1)
        found.append(own)
    scores = [score(y[part], own, weight(part)) for part, own in zip(parts, found, strict=True)]
    return found, scores, np.mean(selected, axis=0)
