"""`NeuralRegressor`: a network as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from autoreg import fitting
from autoreg.base import TableRegressor
from autoreg.errors import OptionError
from autoreg.space import DEFAULTS, PARTS, Candidate


class NeuralRegressor(TableRegressor):
    """Train one neural network.

    Parameters
    ----------
    network : str, nn.Module instance or subclass, or factory
        A name (``mlp``, ``realmlp``, ``tabm``, a plugin's), or a network of your own. An instance is a template: it is
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
        Passes over the training rows, or over `subsample` of them.
    batch_size : int or "auto"
        Rows in a step; ``"auto"`` grows from 64 to 1024 with the table.
    encoding : str or None
        What stands before the network; None hands numbers through untouched.
    target_scaling : {"standard", "log", None}
        What the network learns: the standardised target; its standardised logarithm, for targets above zero; or the
        target as it is. With ``"log"`` and a loss that predicts the mean, predictions are brought back to the target's
        units by a factor that makes their mean that of the target (Duan, 1983): over the validation rows where these
        choose the epoch, otherwise over the training rows. With other losses they are the exponential of what was
        learned; losses with a log link, such as ``poisson``, take the target over its mean.
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
    device : {"auto", "cpu", "cuda"}
        Where networks train; ``"cuda:1"`` names a GPU. ``"auto"`` is the CPU. What is
        scored at the end, saved and predicted is always computed on the CPU.
    verbose : int
    subsample : float
        Share of the training rows that an epoch takes, drawn anew for each: epochs become shorter, and validation more
        frequent.

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
        device: str = "auto",
        verbose: int = 0,
        subsample: float = 1.0,
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
        self.device = device
        self.verbose = verbose
        self.subsample = subsample

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
