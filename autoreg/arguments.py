"""What `fit` and `predict` are given, checked and brought to one form."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length

from autoreg.errors import DataError, OptionError, SchemaError
from autoreg.frames import as_frame, some
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
    check_consistent_length(frame, y)
    target = as_target(y)
    _note_features(estimator, X, frame)
    estimator._y_ndim = np.asarray(y).ndim
    estimator._y_dtype = np.dtype(np.float32 if _is_single(y) else np.float64)
    weight = check_weight(sample_weight, len(frame))
    kept = np.arange(len(frame)) if weight is None else np.flatnonzero(weight > 0)
    given_y = target
    frame, target = frame.iloc[kept].reset_index(drop=True), target[kept]
    weight = None if weight is None else weight[kept]
    n_train = len(frame)
    if _has_validation(validation):
        frame_val, target_val, extra = _read_validation(validation, frame, target, _has_names(X))
        frame = pd.concat(_of_one_dtype(frame, frame_val), ignore_index=True)
        target = np.concatenate([target, target_val])
        if weight is not None or extra is not None:
            weight = np.concatenate(
                [np.ones(n_train) if weight is None else weight, np.ones(len(frame_val)) if extra is None else extra]
            )
    return TrainingTable(frame, target, weight, target_names(y), n_train, given_y, kept)


def _has_validation(validation: Validation) -> bool:
    X_val, y_val, weight_val = validation
    if (X_val is None) != (y_val is None):
        raise OptionError("X_val and y_val go together: give both or neither")
    if X_val is None and weight_val is not None:
        raise OptionError("sample_weight_val is of the rows of X_val: give those too")
    return X_val is not None


def _read_validation(
    validation: Validation, frame: pd.DataFrame, target: Floats, named: bool
) -> tuple[pd.DataFrame, Floats, Floats | None]:
    """Validation rows in the columns of the training rows: frame, target and weights."""
    X_val, y_val, weight_val = validation
    if named and _has_names(X_val):
        frame_val = as_frame(X_val)
        missing = [name for name in frame.columns if name not in frame_val.columns]
        if missing:
            raise SchemaError(f"X_val lacks columns of X: {some(missing)}. Add them, empty where unknown")
        frame_val = frame_val[list(frame.columns)]
    else:
        frame_val = _by_position(X_val, list(frame.columns), "X", "X_val")
    check_consistent_length(frame_val, y_val)
    target_val = as_target(y_val)
    if target_val.shape[1] != target.shape[1]:
        raise DataError(f"y_val has {target_val.shape[1]} targets, y {target.shape[1]}: give as many")
    weight = check_weight(weight_val, len(frame_val))
    if weight is None:
        return frame_val, target_val, None
    kept = np.flatnonzero(weight > 0)
    return frame_val.iloc[kept], target_val[kept], weight[kept]


def _of_one_dtype(frame: pd.DataFrame, other: pd.DataFrame) -> list[pd.DataFrame]:
    """Both, with the categories of both where a column of the first has some: otherwise they would be lost."""
    frame, other = frame.copy(deep=False), other.copy(deep=False)
    for name in frame.columns:
        dtype = frame[name].dtype
        if isinstance(dtype, pd.CategoricalDtype) and other[name].dtype != dtype:
            # as objects: 1 and True are one category to Python, and two to pandas
            found = pd.Series([*dtype.categories, *other[name].dropna()], dtype=object).unique()
            joint = pd.CategoricalDtype(pd.Index(found, dtype=object))
            frame[name], other[name] = (part[name].astype(object).astype(joint) for part in (frame, other))
    return [frame, other]


def as_target(y: Any) -> Floats:
    """The target as (N, O) float64."""
    values = read_target(y)
    return values[:, None] if values.ndim == 1 else values


def _is_single(y: Any) -> bool:
    """Whether a target is float32 in whatever library."""
    dtypes = getattr(y, "dtypes", None) if _names(y) is not None else [getattr(y, "dtype", None)]
    known = {"float32", "torch.float32", "float[pyarrow]"}
    return dtypes is not None and {str(dtype).lower() for dtype in dtypes} <= known


def target_names(y: Any) -> list[str]:
    """The targets' names where `y` has them."""
    names = _names(y)
    if names is not None:
        return [str(name) for name in names]
    if getattr(y, "name", None) is not None:
        return [str(y.name)]
    shape = np.asarray(y).shape
    width = shape[1] if len(shape) == 2 else 1
    return ["target"] if width == 1 else [f"target_{i}" for i in range(width)]


def check_weight(sample_weight: Any, n_rows: int) -> Floats | None:
    """Sample weights as (N,) float64, or None when there are none."""
    if sample_weight is None:
        return None
    masked = isinstance(sample_weight, np.ma.MaskedArray)
    weight = np.asarray(np.ma.filled(sample_weight.astype(float), np.nan) if masked else sample_weight, np.float64)
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
    estimator.n_features_in_ = frame.shape[1]
    if hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    if _has_names(X):
        estimator.feature_names_in_ = np.asarray(_names(X), dtype=object)


def read_for_predict(estimator: Any, X: Any) -> pd.DataFrame:
    """The table to predict, with the columns' names of `fit`; what has no names is taken by position."""
    fitted, named = hasattr(estimator, "feature_names_in_"), _has_names(X)
    if fitted and named:
        if isinstance(X, pd.DataFrame) and not X.columns.is_unique:
            # nobody minds two columns of one name where the model needs neither
            needed = [column.name for column in estimator.model_.schema.used]
            X = X.loc[:, ~X.columns.duplicated(keep=False) | X.columns.isin(needed)]
        return as_frame(X)
    name = type(estimator).__name__
    if named:
        warnings.warn(f"X has feature names, but {name} was fitted without feature names", stacklevel=3)
    if fitted:
        warnings.warn(
            f"X does not have valid feature names, but {name} was fitted with feature names", stacklevel=3
        )  # fmt: skip
    return _by_position(X, [column.name for column in estimator.model_.schema.columns], name)


def _names(table: Any) -> list[Any] | None:
    """The columns' names, if they have any; pyarrow calls the columns themselves ``columns``."""
    names = getattr(table, "column_names", None)
    names = getattr(table, "columns", None) if names is None else names
    return None if names is None else list(names)


def _has_names(table: Any) -> bool:
    """Whether the columns have names that are texts; scikit-learn minds no others."""
    names = _names(table)
    return names is not None and all(isinstance(name, str) for name in names)


def _by_position(X: Any, names: Sequence[str], reader: str, what: str = "X") -> pd.DataFrame:
    frame = as_frame(X)
    if frame.shape[1] != len(names):
        raise DataError(
            f"{what} has {frame.shape[1]} features, but {reader} is expecting {len(names)} features as input"
        )  # fmt: skip
    return frame.set_axis(pd.Index(names), axis=1)


def as_seed(random_state: Any) -> int:
    """One integer from whatever scikit-learn takes as `random_state`."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if not isinstance(random_state, (int, np.integer)) or not 0 <= random_state < 2**32:
        raise OptionError(f"random_state={random_state!r}: give a whole number from 0 to {2**32 - 1}, or None")
    return int(random_state)
