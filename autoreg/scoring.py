"""Scores: scikit-learn's scorers, applied to predictions that are at hand."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import get_scorer, get_scorer_names
from torch import Tensor

from autoreg.errors import OptionError, unknown
from autoreg.specs import Score

DEFAULT = "neg_root_mean_squared_error"

SHORT = {
    "rmse": DEFAULT,
    "mse": "neg_mean_squared_error",
    "mae": "neg_mean_absolute_error",
    "medae": "neg_median_absolute_error",
    "mape": "neg_mean_absolute_percentage_error",
    "msle": "neg_mean_squared_log_error",
    "rmsle": "neg_root_mean_squared_log_error",
    "max_error": "neg_max_error",
}
"""Short names that the command line takes besides scikit-learn's own."""

Floats = NDArray[np.float64]


class _Predicted(RegressorMixin, BaseEstimator):
    """An estimator whose predictions are known, so that a scorer can be asked about them."""

    def __init__(self, prediction: Floats) -> None:
        self.prediction = prediction

    def fit(self, X: Any, y: Any) -> _Predicted:
        return self

    def predict(self, X: Any) -> Floats:
        return self.prediction

    def __sklearn_is_fitted__(self) -> bool:
        return True


@dataclass(frozen=True)
class Objective:
    """What a model is asked to be good at, in the words of scikit-learn's `loss` arguments.

    Attributes
    ----------
    loss : {"squared_error", "absolute_error", "quantile"}
        The error whose mean the best prediction has least: that of the mean, the median, or a quantile.
    quantile : float or None
        Which one; None for the others.
    """

    loss: str = "squared_error"
    quantile: float | None = None


@dataclass(frozen=True)
class Metric:
    """What a search maximises.

    Attributes
    ----------
    name : str
        scikit-learn's name, or that of the user's scorer.
    scorer : callable
        ``scorer(estimator, X, y)``, greater is better.
    """

    name: str
    scorer: Callable[..., float]

    @property
    def label(self) -> str:
        """What a person reads: ``rmse`` for ``neg_root_mean_squared_error``."""
        for short, name in SHORT.items():
            if name == self.name:
                return short
        return self.name.removeprefix("neg_")

    @property
    def sign(self) -> int:
        """-1 where the plain figure is an error, less of which is better."""
        return -1 if self.name.startswith("neg_") else 1

    @cached_property
    def takes_weights(self) -> bool:
        """Whether the scorer has an argument for row weights; without one all rows count alike.

        >>> as_metric("r2").takes_weights, as_metric("max_error").takes_weights
        (True, False)
        """
        # a scorer of scikit-learn takes any argument and hands it to its function
        function = getattr(self.scorer, "_score_func", self.scorer)
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:  # some built-in functions have none
            return False
        return "sample_weight" in parameters

    @property
    def of_squares(self) -> Callable[[Floats], Floats] | None:
        """Scores (C,) from mean squared errors (C, O), where the metric follows from them; otherwise None.

        >>> as_metric("rmse").of_squares(np.array([[4.0], [9.0]])), as_metric("mae").of_squares
        (array([-2., -3.]), None)
        """
        return {DEFAULT: _negative_root, "neg_mean_squared_error": _negative}.get(self.name)

    @property
    def objective(self) -> Objective:
        """What a model that cannot be fitted to any score is best fitted to instead.

        >>> as_metric("mae").objective.loss
        'absolute_error'
        >>> from sklearn.metrics import make_scorer, mean_pinball_loss
        >>> as_metric(make_scorer(mean_pinball_loss, alpha=0.9, greater_is_better=False)).objective
        Objective(loss='quantile', quantile=0.9)
        """
        function = getattr(getattr(self.scorer, "_score_func", self.scorer), "__name__", "")
        if function in ("mean_pinball_loss", "d2_pinball_score"):
            return Objective("quantile", float(getattr(self.scorer, "_kwargs", {}).get("alpha", 0.5)))
        return Objective("absolute_error") if "absolute" in function else Objective()

    def score(self, y: Floats, prediction: Floats, sample_weight: Floats | None = None) -> float:
        """Score predictions (N, O) of targets (N, O).

        Examples
        --------
        >>> as_metric("mae").score(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        -1.0
        """
        if not np.isfinite(prediction).all():
            return float("nan")
        if self.name == DEFAULT:
            # the search asks this thousands of times; scikit-learn's checks would take longer than the sum
            return -root_mean_squared_error(y, prediction, sample_weight)
        one = y.shape[1] == 1
        truth, guess = (y[:, 0], prediction[:, 0]) if one else (y, prediction)
        weights = {"sample_weight": sample_weight} if self.takes_weights and sample_weight is not None else {}
        return float(self.scorer(_Predicted(guess), np.zeros((len(truth), 1)), truth, **weights))

    def check(self, y: Floats) -> None:
        """Raise what the scorer has against the targets (N, O).

        Raises
        ------
        OptionError

        Examples
        --------
        >>> as_metric("rmsle").check(np.array([[1.0], [-2.0]]))
        Traceback (most recent call last):
        autoreg.errors.OptionError: scoring='neg_root_mean_squared_log_error' does not take these targets: ...
        """
        if not hasattr(self.scorer, "_score_func"):
            return  # a user's own may do anything
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of equal predictions
                self.score(y, np.broadcast_to(y.mean(0), y.shape))
        except Exception as error:  # a scorer of classifiers asks for what is not there
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise OptionError(f"scoring={self.name!r} does not take these targets: {reason}") from error

    def over_members(self) -> Score:
        """The same for a stack: (M, V, O) targets and predictions, (M, V) weights, to (M,).

        Minus infinity for predictions that a scorer of scikit-learn has no value for.
        """
        if self.name == DEFAULT:
            return negative_rmse

        def score(target: Tensor, prediction: Tensor, weight: Tensor) -> Tensor:
            values = []
            for y, p, w in zip(*(tensor.cpu().numpy() for tensor in (target, prediction, weight)), strict=True):
                real = w > 0
                equal = np.all(w[real] == w[real][0]) if real.any() else True
                values.append(attempt(y[real], p[real], None if equal else w[real]))
            return torch.tensor(values, dtype=torch.float64)

        def attempt(y: Floats, p: Floats, w: Floats | None) -> float:
            try:
                return self.score(y, p, w)
            except ValueError:
                if not hasattr(self.scorer, "_score_func"):
                    raise
                # it has no value for such predictions, as a logarithm has none for negative ones
                return -math.inf

        return score


def negative_rmse(target: Tensor, prediction: Tensor, weight: Tensor) -> Tensor:
    """Each member's root mean squared error, averaged over targets, negated.

    Parameters
    ----------
    target, prediction : Tensor, (M, V, O)
    weight : Tensor, (M, V)

    Examples
    --------
    >>> y = torch.zeros(1, 4, 1)
    >>> negative_rmse(y, y + 2, torch.ones(1, 4))
    tensor([-2.])
    """
    squared = (prediction - target).square() * weight.unsqueeze(-1)
    return -(squared.sum(1) / weight.sum(1, keepdim=True)).sqrt().mean(-1)


def _negative_root(squares: Floats) -> Floats:
    return -np.sqrt(squares).mean(axis=-1)


def _negative(squares: Floats) -> Floats:
    return -squares.mean(axis=-1)


def root_mean_squared_error(y: Floats, prediction: Floats, sample_weight: Floats | None = None) -> float:
    """The mean over the targets, the second axis.

    Examples
    --------
    >>> root_mean_squared_error(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]), np.array([3.0, 1.0]))
    1.0
    """
    return float(np.sqrt(np.average((y - prediction) ** 2, axis=0, weights=sample_weight)).mean())


def as_metric(scoring: str | Callable[..., float] | None) -> Metric:
    """Look a scorer up by scikit-learn's name or a short one, or take the user's.

    Raises
    ------
    OptionError
        When there is no such regression scorer.

    Examples
    --------
    >>> as_metric("rmse").name, as_metric("r2").label
    ('neg_root_mean_squared_error', 'r2')
    """
    if scoring is None:
        scoring = DEFAULT
    if callable(scoring):
        return Metric(getattr(scoring, "__name__", type(scoring).__name__), scoring)
    name = SHORT.get(scoring, scoring)
    if name not in get_scorer_names() and f"neg_{name}" in get_scorer_names():
        name = f"neg_{name}"
    if name not in get_scorer_names():
        known = [*SHORT, "r2", "explained_variance", "d2_absolute_error_score", "mean_poisson_deviance"]
        raise OptionError(unknown("metric", scoring, known))
    return Metric(name, get_scorer(name))
