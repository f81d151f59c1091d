"""`AutoRegressor`: a search as a scikit-learn estimator."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from autoreg import fitting
from autoreg.base import TableRegressor
from autoreg.plans import RanPlan, plan_of
from autoreg.space import COMPANIONS


class AutoRegressor(TableRegressor):
    """Search for the best networks by cross-validation, and companions that help them.

    Parameters
    ----------
    strategy : str or function
        ``portfolio``, ``grid``, ``random``, or a plugin's; a function ``(space, results, n, seed) -> candidates``.
    effort : {"quick", "balanced", "thorough"}
        Size of the portfolio's plan.
    time_limit : float, str or None
        Seconds, or such as ``"5m"``, that `fit` may take. The plan is then sized by this machine's speed, and `effort`
        does not matter. What was done is kept, see `repeating`.
    cv : int, splitter, iterable or None
        None is 5 shuffled folds; anything else means what it means in scikit-learn.
    scoring : str or callable
        A scikit-learn scorer, or ``rmse``, ``mae``, ...
    encodings, networks, activations, optimizers, losses : list or None
        Restrict the search to these names or objects.
    space : dict, list of dict, or None
        `NeuralRegressor` parameter -> list of values or scipy distribution.
    n_candidates : int or None
        How many candidates the strategy proposes.
    strategy_options : dict or None
        Options of the strategy, such as a plugin's ``{"storage": "sqlite:///trials.db"}``.
    ensemble : bool
        Predict with the mean that greedy selection on out-of-fold predictions finds; otherwise with the best alone.
    companions : {"include", "compare"} or None
        Whether models that are no networks run on the same folds: so that the ensemble may take them too, unless a loss
        has networks give several numbers for a target, or only to be compared. `best_params_` and `best_estimator_`
        tell of networks either way; with ``"include"`` and no network that could be trained they are empty and missing.
    refit : bool
        Train the best candidate once more, on all rows and for as many epochs as the folds found best: the model is
        that one network, and the scores stay those of the folds. Where folds go forward in time, the ensemble and
        `best_estimator_` are fitted on all rows in any case but after Ctrl-C, since members of early folds have seen
        little.
    random_state : int, RandomState or None
    n_jobs : int or None
        Stacks of networks trained at once, each on one core, and the cores of companions; None is all. The numbers do
        not depend on it.
    device : {"auto", "cpu", "cuda"}
        Where networks train; ``"cuda:1"`` names a GPU. ``"auto"`` is the CPU. What is
        scored at the end, saved and predicted is always computed on the CPU.
    precision : {"auto", "float32", "bfloat16"}
        Of the matrix products while training. ``"auto"`` takes bfloat16 for the portfolio on a processor that is built
        for it, never on a GPU; what is scored, saved and predicted is always computed in float32.
    run_dir : path or None
        A directory for the search's journal. What is finished is kept there; the same fit with the same directory goes
        on where an earlier one ended, whatever ended it, to the same result. One process at a time may use it, for one
        search. It stays until you delete it.
    verbose : int
        1 shows progress on stderr.

    Attributes
    ----------
    best_params_ : dict
    best_score_ : float
        Mean cross-validated score, scikit-learn's sign.
    best_index_ : int
    ensemble_score_ : float
        Score of what `predict` uses; cross-fitted where that is an ensemble.
    best_estimator_ : NeuralRegressor
        Fitted: the mean of the best candidate's fold members, or one network on all rows, see `refit`.
    cv_results_ : dict of arrays
        As `GridSearchCV`'s.
    results_ : SearchResults
    n_splits_ : int
    model_ : FittedModel
    schema_ : Schema
    n_features_in_ : int
    feature_names_in_ : array of str

    Examples
    --------
    >>> import numpy as np
    >>> from autoreg import AutoRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = X[:, 0] * X[:, 1] + 0.1 * rng.normal(size=200)
    >>> search = AutoRegressor(strategy="grid", space={"learning_rate": [1e-4, 1e-2], "max_epochs": [20]},
    ...                        companions=None, random_state=0, verbose=0).fit(X, y)
    >>> search.best_params_["learning_rate"]
    0.01
    """

    _again: RanPlan | None = None
    _begin: float | None = None
    _column_kinds: Mapping[str, Sequence[str]] = MappingProxyType({})
    # whether folds are known to go forward, which one alone does not show
    _over_time: bool = False

    def __init__(
        self,
        strategy: Any = "portfolio",
        effort: str = "balanced",
        time_limit: float | str | None = None,
        cv: Any = None,
        scoring: Any = "neg_root_mean_squared_error",
        encodings: Sequence[Any] | None = None,
        networks: Sequence[Any] | None = None,
        activations: Sequence[Any] | None = None,
        optimizers: Sequence[Any] | None = None,
        losses: Sequence[Any] | None = None,
        space: Any = None,
        n_candidates: int | None = None,
        strategy_options: dict[str, Any] | None = None,
        ensemble: bool = True,
        companions: str | None = COMPANIONS,
        refit: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        run_dir: str | os.PathLike[str] | None = None,
        verbose: int = 1,
    ) -> None:
        self.strategy = strategy
        self.strategy_options = strategy_options
        self.effort = effort
        self.time_limit = time_limit
        self.cv = cv
        self.scoring = scoring
        self.encodings = encodings
        self.networks = networks
        self.activations = activations
        self.optimizers = optimizers
        self.losses = losses
        self.space = space
        self.n_candidates = n_candidates
        self.ensemble = ensemble
        self.companions = companions
        self.refit = refit
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device
        self.precision = precision
        self.run_dir = run_dir
        self.verbose = verbose

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> AutoRegressor:
        """Search, and keep what predicts best.

        Ctrl-C ends the search early: networks in training stop after their epoch, what is left of the plan is left out,
        the estimator is fitted with what there is, and KeyboardInterrupt is raised. A second Ctrl-C leaves at once.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
        X_val, y_val, sample_weight_val : array-like, optional
            Validation rows that take the place of the folds.
        groups : array-like of shape (n_samples,), optional
            Rows of one group stay in one fold.

        Returns
        -------
        self

        Raises
        ------
        SearchError
            When no candidate could be trained, and no companion may stand in.
        KeyboardInterrupt
            After Ctrl-C; the estimator is fitted when at least one network had a score.
        """
        fitting.fit_search(self, X, y, sample_weight, (X_val, y_val, sample_weight_val), groups)
        return self

    def repeating(self, model: AutoRegressor) -> AutoRegressor:
        """Make the next `fit` repeat the search of a fitted or loaded model: its candidates, and when they ended.

        It holds until a fit succeeds. Neither the strategy nor a clock is asked. With the same data and arguments the
        result is the same to the bit, on the same machine.

        Parameters
        ----------
        model : AutoRegressor

        Returns
        -------
        self

        Raises
        ------
        ModelFileError
            When the model holds no plan.
        OptionError
            When its search used parts given as objects: a plan holds their names only.
        """
        self._again = plan_of(model.model_.manifest)
        return self

    def leaderboard(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> pd.DataFrame:
        """All candidates, companions and ensembles, best first.

        Parameters
        ----------
        X, y : array-like, optional
            Rows to score the chosen model on; its R2, as `score` gives it, goes into ``attrs["test_score"]``.

        Returns
        -------
        DataFrame
            One row each: rank, model, kind, mean and standard deviation of the folds' scores in plain units, and more.
        """
        from autoreg.report.leaderboard import frame

        check_is_fitted(self)
        table = frame(self.results_)
        if X is not None and y is not None:
            table.attrs["test_score"] = self.score(X, y)
        return table
