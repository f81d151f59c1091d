"""The cells of one column, brought to plain numpy arrays whatever their dtype."""

from __future__ import annotations

import datetime
import decimal
import numbers
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoreg.errors import DataError, DataTypeError

_DATES = (datetime.date, np.datetime64, pd.Period)
_SPANS = (datetime.timedelta, np.timedelta64)
_TEXTS = (str, bytes, uuid.UUID, pd.Interval)
_NUMBERS = (numbers.Real, decimal.Decimal, np.bool_)
_COMPLEX = "Complex data not supported: column '{}'. Give its real and imaginary part as two columns"


@dataclass(frozen=True, eq=False)
class Values:
    """The cells of a column.

    Attributes
    ----------
    kind : str
        ``number``, ``boolean``, ``date``, ``text`` or ``empty`` (no value at all).
    data : array, (N,)
        float64 with NaN for numbers and booleans, datetime64[us] in UTC with NaT for dates, for texts the int64 index
        of the cell's text in `levels`, -1 where missing.
    levels : tuple of str
        The distinct texts, each one present.
    declared : bool
        Whether the dtype says that these are categories.
    """

    kind: str
    data: NDArray[Any]
    levels: tuple[str, ...] = ()
    declared: bool = False

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value, (N,)."""
        if self.kind in ("number", "boolean"):
            return np.isnan(self.data)
        return np.isnat(self.data) if self.kind == "date" else self.data < 0


def read_values(series: pd.Series) -> Values:
    """Read a column by its dtype, and where that says nothing, by the types of its cells.

    Durations become seconds, times of day seconds since midnight, dates with a time zone UTC. A blank text is missing.

    Raises
    ------
    DataTypeError
        For cells that are neither numbers, texts nor dates.
    DataError
        For complex numbers.

    Examples
    --------
    >>> read_values(pd.Series(["b", None, "a", "b"])).data
    array([ 0, -1,  1,  0])
    >>> read_values(pd.Series([True, None])).kind
    'boolean'
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories(series)
    if isinstance(dtype, pd.ArrowDtype):
        return _arrow(series)
    if isinstance(dtype, pd.PeriodDtype):
        return _dates(series.dt.to_timestamp())
    if isinstance(dtype, pd.StringDtype):
        return _factorized(series)
    if isinstance(dtype, pd.SparseDtype):
        return read_values(pd.Series(np.asarray(series), name=series.name))
    kind = getattr(dtype, "kind", "O")
    if kind == "c":
        raise DataError(_COMPLEX.format(series.name))
    if kind in "biuf":
        return _numbers(series, "boolean" if kind == "b" else "number")
    if kind == "M":
        return _dates(series)
    if kind == "m":
        return _checked("number", _seconds(series))
    return _objects(series)


def as_text(series: pd.Series) -> Values:
    """Read a column as texts, so that 1, 1.0 and "1" are one category and large integers keep all their digits.

    Examples
    --------
    >>> as_text(pd.Series([1.0, 2.5, None])).levels
    ('1', '2.5')
    """
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iu":
        codes, distinct = pd.factorize(series, use_na_sentinel=True)
        return _merged(codes, [str(value) for value in distinct])
    values = read_values(series)
    if values.kind in ("text", "empty"):
        return values
    codes, found = pd.factorize(values.data, use_na_sentinel=True)
    if values.kind == "boolean":
        texts = [str(bool(value)) for value in found]
    elif values.kind == "number":
        texts = [number_text(value) for value in found]
    else:
        texts = [date_text(value) for value in found]
    return _merged(codes, texts)


def number_text(value: float) -> str:
    """Write a number without a needless ``.0``.

    >>> number_text(3.0), number_text(0.5)
    ('3', '0.5')
    """
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def date_text(value: np.datetime64) -> str:
    """Write a date in ISO form, without a time that is midnight.

    >>> date_text(np.datetime64("2020-01-02T00:00:00.000000"))
    '2020-01-02'
    """
    text = str(value)
    return text.removesuffix(".000000").removesuffix("T00:00:00")


def shown(text: object) -> str:
    """A text in quotes, on one line and not long.

    >>> shown("two\\nlines")
    "'two lines'"
    """
    line = " ".join(str(text).split()) if "\n" in str(text) else str(text)
    return f"'{line}'" if len(line) <= 40 else f"'{line[:37]}...'"


def cell_text(cell: Any) -> str:
    """Write a cell of any accepted type as text."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, (bool, np.bool_)):
        return str(bool(cell))
    if isinstance(cell, numbers.Integral):
        return str(int(cell))
    if isinstance(cell, (numbers.Real, decimal.Decimal)):
        return number_text(float(cell))
    if isinstance(cell, _DATES):
        return date_text(_instant(cell))
    return str(cell)


def _checked(kind: str, data: NDArray[Any]) -> Values:
    """The values, or none at all."""
    values = Values(kind, data)
    return empty(len(data)) if len(data) and values.missing.all() else values


def empty(n_rows: int) -> Values:
    """A column without a value."""
    return Values("empty", np.full(n_rows, -1, dtype=np.int64))


def _numbers(series: pd.Series, kind: str) -> Values:
    if isinstance(series.dtype, np.dtype):
        return _checked(kind, series.to_numpy(dtype=np.float64))
    return _checked(kind, series.to_numpy(dtype=np.float64, na_value=np.nan))


def _seconds(series: pd.Series) -> NDArray[np.float64]:
    return series.dt.total_seconds().to_numpy(dtype=np.float64, na_value=np.nan)


def _dates(series: pd.Series) -> Values:
    if getattr(series.dtype, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return _checked("date", series.to_numpy().astype("datetime64[us]"))


def _factorized(series: Any) -> Values:
    codes, distinct = pd.factorize(series, use_na_sentinel=True)
    texts = np.asarray(distinct, dtype=object).tolist()
    return _merged(codes, texts if set(map(type, texts)) <= {str} else [cell_text(text) for text in texts])


def _categories(series: pd.Series) -> Values:
    inner = as_text(pd.Series(series.cat.categories, name=series.name))
    codes = np.append(inner.data, -1)[series.cat.codes.to_numpy()]
    used = np.bincount(codes + 1, minlength=len(inner.levels) + 1)[1:] > 0
    places = np.where(used, np.cumsum(used) - 1, -1)
    levels = tuple(level for level, seen in zip(inner.levels, used, strict=True) if seen)
    return Values("text" if levels else "empty", np.append(places, -1)[codes], levels, declared=True)


def _merged(codes: NDArray[Any], texts: list[str]) -> Values:
    """Let equal texts share one level; blank texts are missing."""
    places: dict[str, int] = {}
    table = [places.setdefault(text, len(places)) if text.strip() else -1 for text in texts]
    if table != list(range(len(table))):
        codes = np.array([*table, -1], dtype=np.int64)[codes]
    return Values("text" if places else "empty", codes.astype(np.int64, copy=False), tuple(places))


def _arrow(series: Any) -> Values:
    dtype = series.dtype
    kind = dtype.kind
    if kind == "U":
        return _factorized(series)
    if kind in "biuf":
        return _numbers(series, "boolean" if kind == "b" else "number")
    if kind == "m":
        return _checked("number", _seconds(series))
    if kind == "M" and dtype.type is datetime.datetime:
        return _dates(pd.Series(pd.DatetimeIndex(series), name=series.name))
    return _objects(series.astype(object))


def _objects(series: Any) -> Values:
    """Read a column of Python objects by their types."""
    cells = series.to_numpy(dtype=object)
    missing = pd.isna(cells)
    present = cells[~missing]
    types = set(map(type, present))
    if not types:
        return empty(len(cells))
    if any(issubclass(kind, numbers.Complex) and not issubclass(kind, numbers.Real) for kind in types):
        raise DataError(_COMPLEX.format(series.name))
    if all(issubclass(kind, (bool, np.bool_)) for kind in types):
        return Values("boolean", _spread(present, missing))
    if all(issubclass(kind, _SPANS) for kind in types):
        return Values("number", _spread([pd.Timedelta(cell).total_seconds() for cell in present], missing))
    if all(issubclass(kind, datetime.time) for kind in types):
        return Values("number", _spread([_clock(cell) for cell in present], missing))
    if all(issubclass(kind, _NUMBERS) for kind in types):
        return _checked("number", _spread([_float(cell) for cell in present], missing))
    if all(issubclass(kind, _DATES) for kind in types):
        data = np.full(len(cells), "NaT", dtype="datetime64[us]")
        data[~missing] = [_instant(cell) for cell in present]
        return _checked("date", data)
    if types == {str}:
        return _factorized(cells)
    known = (*_TEXTS, *_NUMBERS, *_DATES)
    for row, cell in enumerate(cells):
        if not missing[row] and not isinstance(cell, known):
            raise DataTypeError(
                f"argument must be a string or a number, not '{type(cell).__name__}': "
                f"column '{series.name}', row {row + 1}. Turn it into columns of numbers or texts"
            )
    codes = np.full(len(cells), -1, dtype=np.int64)
    codes[~missing] = np.arange(len(present))
    return _merged(codes, [cell_text(cell) for cell in present])


def _spread(present: Any, missing: NDArray[np.bool_]) -> NDArray[np.float64]:
    data = np.full(len(missing), np.nan)
    data[~missing] = np.asarray(present, dtype=np.float64)
    return data


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except OverflowError:  # an integer of more than 308 digits
        return np.inf if cell > 0 else -np.inf


def _clock(cell: datetime.time) -> float:
    return cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6


def _instant(cell: Any) -> np.datetime64:
    """A date of any accepted type in UTC."""
    if isinstance(cell, pd.Period):
        cell = cell.to_timestamp()
    if isinstance(cell, datetime.datetime):
        if cell.tzinfo is not None:
            cell = cell.astimezone(datetime.UTC).replace(tzinfo=None)
        if isinstance(cell, pd.Timestamp):
            cell = cell.to_datetime64()
    return np.datetime64(cell, "us")
