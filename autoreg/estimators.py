"""The scikit-learn estimators: `NeuralRegressor` trains one network, `AutoRegressor` searches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from autoreg import fitting, recording
from autoreg.base import TableRegressor
from autoreg.errors import OptionError
from autoreg.model import FittedModel
from autoreg.persistence import read_model
from autoreg.plans import RanPlan, plan_of
from autoreg.space import COMPANIONS, DEFAULTS, PARTS, Candidate


class NeuralRegressor(TableRegressor):
    """Train one neural network.

    Parameters
    ----------
    network : str, nn.Module instance or subclass, or factory
        A name (``linear``, ``mlp``, ``resnet``, a plugin's), or a network of your own. An instance is a template: it is
        copied and its layers' ``reset_parameters()`` called under `random_state`. A class or factory is called with
        ``n_features``, ``n_outputs`` and ``activation`` where its signature names them, otherwise with the number of
        features and of outputs if it takes arguments at all.
    activation : str, nn.Module class or instance, or elementwise function
    loss : str, torch loss class or instance, or function
        A function takes (B, O) prediction and target and returns one value per row.
    optimizer : str, torch.optim class, or function that makes an `autoreg.gradients.GradientTransform`
    learning_rate : float
    schedule : {"constant", "cosine", "flat_cosine", "warm_cosine", "coslog4"} or function
        Factor of the learning rate over training progress in [0, 1].
    max_epochs : int
        Passes over the training rows.
    batch_size : int or "auto"
        Rows in a step; ``"auto"`` grows from 64 to 1024 with the table.
    encoding : str or None
        What stands before the network; None hands numbers through untouched.
    target_scaling : {"standard", None}
        Whether the network learns the standardised target.
    early_stopping : bool
        Stop after `n_iter_no_change` epochs without a better score on validation rows and keep the best epoch.
    validation_fraction : float
        Share of the rows set aside when `early_stopping` and no `X_val` is given.
    n_iter_no_change : int or float
        A float is a multiple of the best epoch so far, and at least a fifth of all epochs: a schedule that returns to
        zero gets better in longer and longer cycles.
    encoding_options, network_options, activation_options, loss_options, optimizer_options : dict or None
        Options of the named parts; also reached as ``network__depth`` by `set_params` and `GridSearchCV`.
    random_state : int, RandomState or None
    verbose : int

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : array of str
        Only when `X` had string column names.
    n_iter_ : int
        Epochs trained.
    loss_curve_ : list of float
        Mean training loss of each epoch, in scaled units.
    validation_scores_ : list of float
        Score on the validation rows after each epoch (negative RMSE); empty without validation rows.
    model_ : FittedModel
    schema_ : Schema

    Examples
    --------
    >>> import numpy as np
    >>> from autoreg import NeuralRegressor
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> model = NeuralRegressor(network="linear", encoding=None, target_scaling=None, loss="mse",
    ...                         optimizer="sgd", learning_rate=0.1, random_state=0).fit(X, 3 * X[:, 0] + 1)
    >>> model.predict([[0.0], [1.0]]).round(2)
    array([1., 4.])
    """

    def __init__(
        self,
        network: Any = "mlp",
        activation: Any = "relu",
        loss: Any = "squared_error",
        optimizer: Any = "adamw",
        learning_rate: float = 1e-3,
        schedule: Any = "cosine",
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        encoding: Any = "plain",
        target_scaling: str | None = "standard",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        encoding_options: dict[str, Any] | None = None,
        network_options: dict[str, Any] | None = None,
        activation_options: dict[str, Any] | None = None,
        loss_options: dict[str, Any] | None = None,
        optimizer_options: dict[str, Any] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.network = network
        self.activation = activation
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.encoding = encoding
        self.target_scaling = target_scaling
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.encoding_options = encoding_options
        self.network_options = network_options
        self.activation_options = activation_options
        self.loss_options = loss_options
        self.optimizer_options = optimizer_options
        self.random_state = random_state
        self.verbose = verbose

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments; with `deep` also options of parts, as ``network__depth``."""
        params = super().get_params(deep=False)
        if deep:
            for part in PARTS:
                options = params[f"{part}_options"]
                if isinstance(options, Mapping):
                    params.update({f"{part}__{name}": value for name, value in options.items()})
        return params

    def set_params(self, **params: Any) -> NeuralRegressor:
        """Set constructor arguments; ``network__depth=2`` sets one option of the network."""
        own = {name: value for name, value in params.items() if "__" not in name}
        super().set_params(**own)
        for name, value in params.items():
            part, separator, option = name.partition("__")
            if not separator:
                continue
            if part not in PARTS:
                raise ValueError(f"Invalid parameter {name!r} for estimator {self}; options: {PARTS}")
            field = f"{part}_options"
            setattr(self, field, {**(getattr(self, field) or {}), option: value})
        return self

    @property
    def _candidate(self) -> Candidate:
        parameters = {name: getattr(self, name) for name in DEFAULTS}
        for part in PARTS:
            options = getattr(self, f"{part}_options") or {}
            if not isinstance(options, Mapping):
                raise OptionError(f"{part}_options={options!r}: give a dict of options, such as {{'depth': 2}}")
            parameters.update({f"{part}__{name}": value for name, value in options.items()})
        return Candidate(parameters)

    @classmethod
    def _from_candidate(cls, candidate: Candidate) -> NeuralRegressor:
        return cls().set_params(**candidate.parameters)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> NeuralRegressor:
        """Train the network.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Numbers, booleans, strings, categories, dates; missing values anywhere; scipy sparse matrices.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array-like of shape (n_samples,), optional
        X_val, y_val, sample_weight_val : array-like, optional
            Validation rows: with `early_stopping` they choose the epoch; otherwise they are only scored.

        Returns
        -------
        self
        """
        fitting.fit_one(self, X, y, sample_weight, (X_val, y_val, sample_weight_val))
        return self


class AutoRegressor(TableRegressor):
    """Search for the best network by cross-validation.

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
        Predict with the mean that greedy selection on out-of-fold predictions finds, instead of the best candidate.
    companions : {"compare", "include"} or None
        Whether models that are no networks run on the same folds: only to be compared, or so that the ensemble may take
        them too. `best_params_` and `best_estimator_` tell of networks either way; with ``"include"`` and no network
        that could be trained they are empty and missing.
    random_state : int, RandomState or None
    n_jobs : int or None
        Stacks of networks trained at once, each on one core; None is one per core. The numbers do not depend on it.
    precision : {"auto", "float32", "bfloat16"}
        Of the matrix products while training. ``"auto"`` takes bfloat16 for the portfolio where the processor has
        tiles for it; what is scored, saved and predicted is always computed in float32.
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
        Cross-fitted score of what `predict` uses.
    best_estimator_ : NeuralRegressor
        Fitted: the mean of the best candidate's fold members.
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
        random_state: Any = None,
        n_jobs: int | None = None,
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
        self.random_state = random_state
        self.n_jobs = n_jobs
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
        """Search, and keep the best candidate's fold members.

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
            When no candidate could be trained.
        KeyboardInterrupt
            After Ctrl-C; the estimator is fitted when at least one network had a score.
        """
        fitting.fit_search(self, X, y, sample_weight, (X_val, y_val, sample_weight_val), groups)
        return self

    def repeating(self, model: AutoRegressor) -> AutoRegressor:
        """Make the next `fit` repeat the search of a fitted or loaded model: its candidates, and when they ended.

        Neither the strategy nor a clock is asked. With the same data and arguments the result is the same to the bit,
        on the same machine.

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
            When its search used parts given as objects and the model was loaded from a file.
        """
        self._again = plan_of(model.model_.manifest)
        return self

    def leaderboard(self, X: ArrayLike | None = None, y: ArrayLike | None = None) -> pd.DataFrame:
        """All candidates and companions, best first.

        Parameters
        ----------
        X, y : array-like, optional
            Rows to score the chosen model on; its error goes into ``attrs["test_score"]``.

        Returns
        -------
        DataFrame
            One row each: rank, model, mean and standard deviation of the folds' scores in plain units, epoch, seconds.
        """
        from autoreg.report.leaderboard import frame

        check_is_fitted(self)
        table = frame(self.results_)
        if X is not None and y is not None:
            table.attrs["test_score"] = self.score(X, y)
        return table


def load(path: str | Path, *, network: Any = None, activation: Any = None) -> NeuralRegressor | AutoRegressor:
    """Read a saved model.

    Parameters
    ----------
    path : str or Path
    network : nn.Module class, instance or factory, or list of them, optional
        The code of a network of the user's own; the file holds only its numbers and its label. Where the model holds
        several such networks, a list; each finds its own by the shapes of its numbers.
    activation : nn.Module class, instance or function, or list of them, optional
        The code of an activation of the user's own, likewise.

    Returns
    -------
    NeuralRegressor or AutoRegressor
        Fitted. Nothing in the file is imported, unpickled or run.

    Raises
    ------
    ModelFileError
        When the file is not a model, is damaged, or needs a part that is not installed.
    """
    manifest, tensors = read_model(path)
    described = manifest.pop("estimator", None)
    model = FittedModel.from_file(manifest, tensors, network, activation)
    searched = isinstance(described, dict) and described.get("class") == "AutoRegressor"
    estimator = AutoRegressor() if searched else NeuralRegressor()
    recording.estimator_from_json(estimator, described, model)
    return estimator


__all__ = ["AutoRegressor", "NeuralRegressor", "load"]
