"""What `fit` and `predict` are given, checked and brought to one form."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length

from autoreg.errors import DataError, OptionError
from autoreg.frames import as_frame
from autoreg.targets import read_target

Floats = NDArray[np.float64]
Validation = tuple[Any, Any, Any]


@dataclass(frozen=True)
class TrainingTable:
    """A table ready for the search: rows of weight zero are gone, validation rows stand at the end.

    Attributes
    ----------
    given_y : array, (N', O)
        The target of all rows as they were given.
    kept : array of int, (n_train,)
        Which of those rows are training rows of `frame`.
    """

    frame: pd.DataFrame
    y: Floats
    sample_weight: Floats | None
    targets: list[str]
    n_train: int
    given_y: Floats
    kept: NDArray[np.int64]


def read_for_fit(
    estimator: Any, X: Any, y: Any, sample_weight: Any, validation: Validation = (None, None, None)
) -> TrainingTable:
    """Check `fit`'s arguments, note the features' names on the estimator, and bring all to one table."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    frame = as_frame(X)
    check_consistent_length(X, y)
    target = as_target(y)
    _note_features(estimator, X, frame)
    estimator._y_ndim = np.asarray(y).ndim
    estimator._y_dtype = np.dtype(np.float32 if _is_single(y) else np.float64)
    weight = check_weight(sample_weight, len(frame))
    X_val, y_val, weight_val = validation
    if (X_val is None) != (y_val is None):
        raise OptionError("X_val and y_val go together: give both or neither")
    kept = np.arange(len(frame)) if weight is None else np.flatnonzero(weight > 0)
    given_y = target
    frame, target = frame.iloc[kept].reset_index(drop=True), target[kept]
    weight = None if weight is None else weight[kept]
    n_train = len(frame)
    if X_val is not None:
        frame_val = as_frame(X_val, feature_names=list(frame.columns))
        check_consistent_length(X_val, y_val)
        frame = pd.concat([frame, frame_val[list(frame.columns)]], ignore_index=True)
        target = np.concatenate([target, as_target(y_val)])
        extra = check_weight(weight_val, len(frame_val))
        if weight is not None or extra is not None:
            weight = np.concatenate(
                [np.ones(n_train) if weight is None else weight, np.ones(len(frame_val)) if extra is None else extra]
            )
    return TrainingTable(frame, target, weight, target_names(y), n_train, given_y, kept)


def as_target(y: Any) -> Floats:
    """The target as (N, O) float64."""
    values = read_target(y)
    return values[:, None] if values.ndim == 1 else values


def _is_single(y: Any) -> bool:
    """Whether a target is float32 in whatever library."""
    dtypes = list(y.dtypes) if hasattr(y, "columns") else [getattr(y, "dtype", None)]
    return {str(dtype).lower() for dtype in dtypes} <= {"float32", "torch.float32", "float[pyarrow]"}


def target_names(y: Any) -> list[str]:
    """The targets' names where `y` has them."""
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    if getattr(y, "name", None) is not None:
        return [str(y.name)]
    shape = np.asarray(y).shape
    width = shape[1] if len(shape) == 2 else 1
    return ["target"] if width == 1 else [f"target_{i}" for i in range(width)]


def check_weight(sample_weight: Any, n_rows: int) -> Floats | None:
    """Sample weights as (N,) float64, or None when there are none."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.ndim == 0:
        weight = np.full(n_rows, float(weight))
    if weight.ndim != 1:
        raise DataError("Sample weights must be 1D array or scalar")
    if weight.shape != (n_rows,):
        raise DataError(f"sample_weight.shape == {weight.shape}, expected {(n_rows,)}!")
    if not np.isfinite(weight).all():
        raise DataError("sample_weight contains NaN or infinity: give finite numbers")
    if (weight < 0).any():
        raise DataError("Negative values in data passed to `sample_weight`")
    if not (weight > 0).any():
        raise DataError("Sample weights must contain at least one non-zero number.")
    return weight


def _note_features(estimator: Any, X: Any, frame: pd.DataFrame) -> None:
    names = list(X.columns) if hasattr(X, "columns") else []
    estimator.n_features_in_ = frame.shape[1]
    if hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    if names and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.asarray(names, dtype=object)


def read_for_predict(estimator: Any, X: Any) -> pd.DataFrame:
    """The table to predict, with the columns' names of `fit`; arrays are taken by position."""
    if hasattr(X, "columns") and hasattr(estimator, "feature_names_in_"):
        return as_frame(X)
    names = [column.name for column in estimator.model_.schema.columns]
    if hasattr(X, "columns"):
        warnings.warn(
            f"X has feature names, but {type(estimator).__name__} was fitted without feature names", stacklevel=3
        )
        X = X.to_numpy()
    elif hasattr(estimator, "feature_names_in_"):
        warnings.warn(
            f"X does not have valid feature names, but {type(estimator).__name__} was fitted with feature names",
            stacklevel=3,
        )
    frame = as_frame(X)
    if frame.shape[1] != estimator.n_features_in_:
        raise DataError(
            f"X has {frame.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input"
        )
    frame.columns = pd.Index(names)
    return frame


def as_seed(random_state: Any) -> int:
    """One integer from whatever scikit-learn takes as `random_state`."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(random_state.randint(2**31))
