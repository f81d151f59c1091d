"""Tables of any type, brought to a pandas DataFrame with text names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils.validation import check_array

from autoreg.errors import DataError, DataTypeError
from autoreg.values import shown

MAX_SPARSE_CELLS = 100_000_000
"""A sparse matrix of up to so many cells is made dense; that takes 0.8 GB."""


def as_frame(X: Any, feature_names: Sequence[str] | None = None) -> pd.DataFrame:
    """Bring a table to a DataFrame, without a copy where that is possible.

    Parameters
    ----------
    X : DataFrame (pandas, polars, pyarrow), array, list of rows, or sparse matrix, (N, D)
        A sparse matrix is made dense up to `MAX_SPARSE_CELLS`.
    feature_names : sequence of str, optional
        Names for the columns of an array; ``x0``, ``x1``, ... otherwise. A DataFrame has its own.

    Returns
    -------
    DataFrame
        The cells are untouched. Names that are no texts become texts.

    Raises
    ------
    DataError
        For a table without rows or columns, infinity in an array, complex numbers, or a name that stands twice.
    DataTypeError
        For names of mixed types and for too large a sparse matrix.

    Examples
    --------
    >>> as_frame([[1, 2.5], [3, None]]).columns.tolist()
    ['x0', 'x1']
    """
    if isinstance(X, pd.DataFrame):
        return _named(X)
    if _comes_from(X, "polars", "pyarrow") and not isinstance(X, pd.Series):
        return _named(_to_pandas(X))
    if sparse.issparse(X):
        X = _dense(X)
    array = _as_array(X)
    names = [f"x{place}" for place in range(array.shape[1])] if feature_names is None else list(feature_names)
    if len(names) != array.shape[1]:
        raise DataError(f"X has {array.shape[1]} features, but autoreg is expecting {len(names)} features as input")
    return pd.DataFrame(array, columns=pd.Index(names, dtype=object), copy=False)


def check_names(names: Sequence[str]) -> None:
    """Raise `DataError` for names that stand twice.

    >>> check_names(["a", "b", "a"])
    Traceback (most recent call last):
    autoreg.errors.DataError: 1 column name stands twice or more: 'a'. Rename the columns so that each name is unique
    """
    counts = pd.Series(list(names), dtype=object).value_counts(sort=False)
    double = [str(name) for name in counts.index[counts.to_numpy() > 1]]
    if double:
        what = "1 column name stands" if len(double) == 1 else f"{len(double)} column names stand"
        listed = some(double)
        raise DataError(f"{what} twice or more: {listed}. Rename the columns so that each name is unique")


def some(names: Sequence[object], most: int = 8) -> str:
    """List names in quotes, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    listed = ", ".join(shown(name) for name in names[:most])
    return listed + (f" and {len(names) - most} more" if len(names) > most else "")


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    """Check the shape and the names."""
    _check_shape(frame.shape)
    if isinstance(frame.columns, pd.MultiIndex):
        raise DataTypeError(
            f"column names of {frame.columns.nlevels} levels, such as {frame.columns[0]}: "
            "join them to one text each, for instance with X.columns.map('_'.join)"
        )
    names = list(frame.columns)
    types = sorted({type(name).__name__ for name in names})
    if len(types) > 1 and "str" in types:
        raise DataTypeError(
            "Feature names are only supported if all input features have string names, but your input has "
            f"{types} as feature name / column name types. Convert them with X.columns = X.columns.astype(str)"
        )
    texts = [str(name) for name in names]
    check_names(texts)
    if "str" in types:
        return frame
    return frame.set_axis(pd.Index(texts, dtype=object), axis=1)


def _check_shape(shape: tuple[int, ...]) -> None:
    """Say in scikit-learn's words that there are no rows or no columns."""
    for count, what in zip(shape, ("sample(s)", "feature(s)"), strict=True):
        if count == 0:
            raise DataError(f"Found array with 0 {what} (shape={shape}) while a minimum of 1 is required.")


def _comes_from(thing: Any, *packages: str) -> bool:
    return type(thing).__module__.split(".")[0] in packages


def _to_pandas(table: Any) -> pd.DataFrame:
    if hasattr(table, "collect") and not hasattr(table, "to_pandas"):
        table = table.collect()  # a lazy polars frame
    if not hasattr(table, "to_pandas"):
        raise DataTypeError(f"X is a {type(table).__name__}: give a table with rows and columns")
    try:
        frame = table.to_pandas()
    except ImportError as error:
        raise DataError(
            f"a {type(table).__module__.split('.')[0]} table needs pyarrow: pip install 'autoreg-core[polars]'"
        ) from error
    if not isinstance(frame, pd.DataFrame):
        raise DataTypeError("Expected 2D array, got 1D array instead: give a table with rows and columns")
    return frame


def _dense(X: Any) -> Any:
    if len(X.shape) == 2 and X.shape[0] * X.shape[1] > MAX_SPARSE_CELLS:
        raise DataTypeError(
            f"Sparse data of shape {X.shape} was passed, but dense data is required beyond {MAX_SPARSE_CELLS:,} cells: "
            "reduce its columns, for instance with sklearn.decomposition.TruncatedSVD"
        )
    return _checked(X, accept_sparse=True).toarray()


def _as_array(X: Any) -> np.ndarray:
    """A 2-D array of numbers or objects; scikit-learn's own messages for what is neither."""
    if isinstance(X, np.ma.MaskedArray):
        X = np.ma.filled(X.astype(np.float64), np.nan)
    array = X if isinstance(X, np.ndarray) else _plain_array(X)
    if array.dtype.kind in "US":
        array = np.array(X, dtype=object)
    if array.dtype.kind == "O" and array.ndim == 2:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError, OverflowError):  # texts, dates or missing values among them
            _check_shape(array.shape)
            return array
    if array.dtype.kind in "mM" and array.ndim == 2:
        _check_shape(array.shape)
        return array
    if array.dtype.kind in "US":  # scikit-learn would complain of texts where the shape is at fault
        array = array.astype(object)
    return _checked(array, dtype=None)


def _checked(X: Any, **options: Any) -> Any:
    """scikit-learn's check of an array, its message on one line."""
    try:
        return check_array(X, ensure_all_finite="allow-nan", input_name="X", **options)
    except ValueError as error:
        raise DataError(" ".join(str(error).split())) from error
    except TypeError as error:
        raise DataTypeError(" ".join(str(error).split())) from error


def _plain_array(X: Any) -> np.ndarray:
    try:
        return np.asarray(X)
    except (ValueError, TypeError) as error:
        raise DataError(f"X cannot be read as rows and columns: {error}. Give rows of one length each") from error
