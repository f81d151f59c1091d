"""The target: what a regression learns has to be finite numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import skew

from autoreg import dates
from autoreg.errors import DataError, DataTypeError, DataWarning
from autoreg.quantities import PLAIN, grouped_or_hexadecimal
from autoreg.values import read_values, shown

Floats = NDArray[np.float64]


def read_target(y: Any, name: str = "target") -> Floats:
    """Read the target as float64.

    Parameters
    ----------
    y : array-like, Series or DataFrame, (N,) or (N, O)
    name : str
        What messages call it; names that `y` has itself come first.

    Returns
    -------
    array, (N,) or (N, O)
        As many dimensions as `y`.

    Raises
    ------
    DataError
        For missing and infinite values, with their rows, for texts and for dates.

    Warns
    -----
    DataWarning
        For true and false, which become 1 and 0, and where all values are equal.

    Examples
    --------
    >>> read_target(["1.5", "2"])
    array([1.5, 2. ])
    """
    if sparse.issparse(y):
        raise DataTypeError(f"Sparse data was passed for {name}, but dense data is required: use y.toarray()")
    if type(y).__module__.split(".")[0] in ("polars", "pyarrow") and hasattr(y, "to_pandas"):
        y = y.to_pandas()
    if isinstance(y, pd.Series):
        return _read(y, _name_of(y.name, name))
    if not isinstance(y, pd.DataFrame):
        if isinstance(y, np.ma.MaskedArray):
            y = np.ma.filled(y.astype(np.float64), np.nan)
        y = np.asarray(_without_texts_of_numbers(y))
        if y.ndim == 1:
            return _read(pd.Series(y), name)
        if y.ndim != 2:
            raise DataError(
                f"y should be a 1d array, or 2d with one column a target, got an array of shape {y.shape} instead."
            )
        y = pd.DataFrame(y, columns=[name] if y.shape[1] == 1 else [f"{name}_{i}" for i in range(y.shape[1])])
    if y.shape[1] == 0:
        raise DataError(f"Found array with 0 feature(s) (shape={y.shape}) while a minimum of 1 is required: no target.")
    columns = [_read(y.iloc[:, place], _name_of(column, name)) for place, column in enumerate(y.columns)]
    return np.stack(columns, axis=1)


def is_skewed(y: Floats) -> bool:
    """Whether a target, (N,), is positive, has a long upper end, and its logarithm is more even.

    >>> is_skewed(np.exp(np.linspace(0, 5, 50))), is_skewed(np.linspace(1, 5, 50)), is_skewed(np.zeros(50))
    (True, False, False)
    """
    if not (y > 0).all() or y.min() == y.max():
        return False
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what all but equal values have no digits for
        own, log = skew(y / y.max()), skew(np.log(y))
    return bool(own > MOST_SKEW and abs(log) < own)


MOST_SKEW = 0.9
"""A target's skewness from which on its logarithm is tried as well."""


def _name_of(own: Any, name: str) -> str:
    return name if own is None else str(own)


def _without_texts_of_numbers(y: Any) -> Any:
    """A list with texts in it as objects: numpy would turn its numbers into texts."""
    array = np.asarray(y)
    return np.array(y, dtype=object) if array.dtype.kind in "US" else array


def _read(series: pd.Series, name: str) -> Floats:
    if len(series) == 0:
        raise DataError(
            f"Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required: '{name}' is empty."
        )
    if getattr(series.dtype, "kind", "O") in "mM":
        raise DataError(f"target '{name}' holds dates or durations: turn them into numbers, such as days since a date")
    values = read_values(series.rename(name))
    if values.kind == "empty":
        raise DataError(f"Input y contains NaN: target '{name}' has no value in any of {len(series)} rows.")
    if values.kind == "date":
        raise DataError(f"target '{name}' holds dates: turn them into numbers, such as days since a date")
    numbers = values.data
    if values.kind == "text":
        read, _ = PLAIN.read(values.levels)
        if np.isnan(read).any():
            level = int(np.argmax(np.isnan(read)))
            raise DataError(_text_message(name, values.levels, level, int(np.argmax(values.data == level)) + 1))
        numbers = np.append(read, np.nan)[values.data]
    if np.isnan(numbers).any():
        raise DataError(
            f"Input y contains NaN. Target '{name}' is missing in {_rows(np.isnan(numbers))}: "
            "fill them in, or leave those rows out (--drop-missing-target)"
        )
    if np.isinf(numbers).any():
        raise DataError(
            f"Input y contains infinity or a value too large for dtype('float64'). "
            f"Target '{name}': {_rows(np.isinf(numbers))}. Correct or leave out those rows"
        )
    if values.kind == "boolean":
        warnings.warn(f"target '{name}' is true or false: taken as 1 and 0", DataWarning, stacklevel=4)
    if len(numbers) > 1 and (numbers == numbers[0]).all():
        warnings.warn(
            f"target '{name}' has one value only, {numbers[0]:g}: there is nothing to learn", DataWarning, stacklevel=4
        )
    return np.ascontiguousarray(numbers, dtype=np.float64)


def _text_message(name: str, levels: tuple[str, ...], level: int, row: int) -> str:
    if dates.share_of_dates(levels, np.ones(len(levels), dtype=np.int64)) > 0.5:
        return (
            f"target '{name}' holds dates, such as '{levels[level]}' in row {row}: "
            "turn them into numbers, such as days since a date"
        )
    text = f"target '{name}' is text, such as {shown(levels[level])} in row {row}: regression needs numbers"
    if grouped_or_hexadecimal(levels, np.ones(len(levels))) == "comma":
        return f"{text}. If the comma groups thousands give --thousands ',', if it is the decimal sign --decimal ','"
    return f"{text}. If that text means missing, give --na-values {shown(levels[level])}"


def _rows(flags: NDArray[np.bool_]) -> str:
    """Name the first rows, counted from 1."""
    rows = np.flatnonzero(flags) + 1
    listed = ", ".join(str(row) for row in rows[:5])
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {listed}{more} of {len(flags)}"
