"""Finding out what a column is: number, boolean, category or date, or of no use."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autoreg import dates
from autoreg.columns import LIMIT, Column, infinite_text
from autoreg.errors import DataError
from autoreg.quantities import find_quantity, grouped_or_hexadecimal, number_share
from autoreg.values import Values, as_text, read_values, shown

MAX_LEVELS = 100_000
"""Levels that a schema keeps of one column; beyond, only texts seen more than once, the most frequent first."""

MAX_LEVEL_BYTES = 4 << 20
"""What a column's levels may take in a model's file, in which most letters that are no ASCII take seven bytes."""

IDENTIFIER_SHARE = 0.95
IDENTIFIER_ROWS = 20
"""From this many rows on, a text column with more distinct texts than the share of its cells is an identifier."""

REASONS = {
    "empty": "without a value",
    "constant": "with one value only",
    "identifier": "naming or counting the rows (list it as categorical to use it)",
}
"""Why a column is ignored that nobody asked to ignore, and how that is told."""

_NAMES_A_ROW = {"id", "ids", "uid", "uuid", "guid", "rowid", "identifier"}
_COUNTS_ROWS = {
    "index", "idx", "key", "row", "rows", "rownum", "rownames", "no", "nr", "num", "number", "serial", "record", "obs",
    "observation", "unnamed", "s", "sr", "name", "names", "#",
}  # fmt: skip
_SAMPLE = 20_000


@dataclass(frozen=True)
class Remark:
    """Something worth telling about a column; a guess or a mend is worth a warning."""

    text: str
    warns: bool = True


def infer_column(
    series: pd.Series, name: str, *, categorical: bool = False, date: bool = False, keep_identifiers: bool = False
) -> tuple[Column, list[Remark]]:
    """Find out what a column is.

    Parameters
    ----------
    series : Series
    name : str
    categorical, date : bool
        What the user says that it is.
    keep_identifiers : bool
        Whether a column that names or counts the rows is used all the same.

    Returns
    -------
    column : Column
    remarks : list of Remark

    Raises
    ------
    DataError
        When nothing in the column is a date although the user says so.

    Examples
    --------
    >>> column, remarks = infer_column(pd.Series(["12 kg", "3.5 kg", "8 kg"]), "weight")
    >>> column.kind, column.maximum, remarks[0].text
    ('number', 12.0, "column 'weight': texts such as '12 kg' are read as numbers")
    """
    dtype = str(series.dtype)
    values = as_text(series) if categorical else read_values(series)
    if values.kind == "empty":
        return _ignored(name, dtype, "empty"), []
    if categorical:
        return _category(name, dtype, values), []
    if date:
        return _forced_date(series, name, values)
    if values.kind == "date":
        return _date(name, dtype, values.data), []
    if values.kind == "boolean":
        return _boolean(name, dtype, values.data), []
    if values.kind == "number":
        column, remarks = infer_number(values.data, name, dtype)
    else:
        column, remarks = _text(name, dtype, values)
    if column.reason == "identifier" and keep_identifiers:
        if values.kind == "number":
            return infer_number(values.data, name, dtype, keep_identifiers=True)
        return _category(name, dtype, values), remarks
    return column, remarks


def infer_number(
    data: NDArray[np.float64], name: str, dtype: str, *, keep_identifiers: bool = False
) -> tuple[Column, list[Remark]]:
    """`infer_column` for numbers, (N,) with NaN where missing."""
    remarks = []
    low, high = np.nanmin(data), np.nanmax(data)  # not all are missing
    if not np.isfinite(low) or not np.isfinite(high):
        infinite = np.isinf(data)
        remarks.append(Remark(infinite_text(name, infinite), warns=False))  # coding the table warns
        data = np.where(infinite, np.nan, data)
        if np.isnan(data).all():
            return _ignored(name, dtype, "empty"), remarks
        low, high = np.nanmin(data), np.nanmax(data)
    may_miss = bool(np.isnan(data).any())
    if low == high and not may_miss:
        return _ignored(name, dtype, "constant"), remarks
    is_identifier, remark = _row_number(data, name, may_miss, low, high)
    if is_identifier and not keep_identifiers:
        return _ignored(name, dtype, "identifier"), remarks
    if remark:
        remarks.append(Remark(remark, warns=False))
    shift, scale = float32_constants(data)
    column = Column(
        name, "number", shift=shift, scale=scale, minimum=float(low), maximum=float(high), may_miss=may_miss,
        dtype=dtype,
    )  # fmt: skip
    return column, remarks


def float32_constants(data: NDArray[np.float64]) -> tuple[float, float]:
    """Shift and scale with which float32 holds a column to 1e-6 of the spread of its middle nine tenths.

    Examples
    --------
    >>> float32_constants(np.array([1.0, 2.0, 3.0]))
    (0.0, 1.0)
    >>> float32_constants(np.array([1.7e9, 1.7e9 + 1, 1.7e9 + 2]))
    (1700000001.0, 1.0)
    """
    present = data[np.isfinite(data)]
    largest = float(np.abs(present).max()) if len(present) else 0.0
    scale = 1.0
    if largest > LIMIT or 0 < largest < 1 / LIMIT:
        scale = float(2.0 ** np.clip(np.round(np.log2(largest)), -1000, 1000))
        present = present / scale
    sample = np.sort(present[:: max(1, len(present) // _SAMPLE)])
    bulk = sample[len(sample) // 20 : len(sample) - len(sample) // 20]
    if not len(bulk) or bulk[0] == bulk[-1]:
        bulk = np.sort(present)
    if not len(bulk):
        return 0.0, 1.0
    spread = float(bulk[-1] - bulk[0])
    if spread == 0 or np.abs(bulk - bulk.astype(np.float32)).max() <= 1e-6 * spread:
        return 0.0, scale
    shift = float(bulk[len(bulk) // 2])
    return shift * scale, scale if scale == 1.0 and spread > 1e-6 else scale * spread


def _row_number(
    data: NDArray[np.float64], name: str, may_miss: bool, low: float, high: float
) -> tuple[bool, str]:  # fmt: skip
    """Whether a column of integers only names or counts rows, and what to say if it may but is used.

    The name has to say so too: a trend over time or a swept setting counts the rows as well, and is worth learning.
    """
    n = len(data)
    if may_miss or n < 3 or max(high, -low) > 2**53 or not np.array_equal(data, np.floor(data)):
        return False, ""
    words = re.findall(r"[a-z]+|#", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    names_rows = bool(words) and words[-1] in _NAMES_A_ROW
    counts_rows = bool(words) and all(word in _COUNTS_ROWS for word in words)
    consecutive = high - low == n - 1
    if not (names_rows or (consecutive and (counts_rows or data[0] == low))):
        return False, ""
    unique = len(np.unique(data)) == n
    if unique and (names_rows or (consecutive and counts_rows)):
        return True, ""
    if names_rows and high - low > 20:
        what = "looks like an identifier and is used as a number: ignore it, or list it as categorical"
        return False, f"column '{name}' {what}"
    if consecutive and n >= IDENTIFIER_ROWS and np.all(np.diff(data) == 1):
        return False, f"column '{name}' counts the rows and is used as a number: ignore it if it is a mere row number"
    return False, ""


def _ignored(name: str, dtype: str, reason: str) -> Column:
    return Column(name, "ignored", dtype=dtype, reason=reason)


def _boolean(name: str, dtype: str, data: NDArray[np.float64]) -> Column:
    may_miss = bool(np.isnan(data).any())
    low, high = float(np.nanmin(data)), float(np.nanmax(data))
    if low == high and not may_miss:
        return _ignored(name, dtype, "constant")
    return Column(name, "boolean", minimum=low, maximum=high, may_miss=may_miss, dtype=dtype)


def _category(name: str, dtype: str, values: Values) -> Column:
    may_miss = bool(values.missing.any())
    if len(values.levels) == 1 and not may_miss:
        return _ignored(name, dtype, "constant")
    levels = list(values.levels)
    if len(levels) > MAX_LEVELS or sum(map(_bytes_of, levels)) > MAX_LEVEL_BYTES:
        counts = np.bincount(values.data[~values.missing], minlength=len(levels))
        order = sorted(range(len(levels)), key=lambda i: (-counts[i], levels[i]))[:MAX_LEVELS]
        bytes_so_far = accumulate(_bytes_of(levels[i]) for i in order)
        fitting = zip(order, bytes_so_far, strict=True)
        levels = [levels[i] for i, n_bytes in fitting if counts[i] > 1 and n_bytes <= MAX_LEVEL_BYTES]
        if not levels:
            return _ignored(name, dtype, "identifier")
    return Column(name, "category", levels=tuple(sorted(levels)), may_miss=may_miss, dtype=dtype)


def _bytes_of(level: str) -> int:
    """In a model's file, where the schema is JSON within JSON."""
    return len(json.dumps(json.dumps(level))) - 1


def _date(name: str, dtype: str, data: dates.Instants, formats: tuple[str, ...] = ()) -> Column:
    seconds = dates.seconds(data)
    low, high = float(np.nanmin(seconds)), float(np.nanmax(seconds))
    may_miss = bool(np.isnan(seconds).any())
    if low == high and not may_miss:
        return _ignored(name, dtype, "constant")
    return Column(
        name, "date", parts=dates.varying_parts(data), shift=float(np.floor(low)), minimum=low, maximum=high,
        may_miss=may_miss, dtype=dtype, formats=formats,
    )  # fmt: skip


def _forced_date(series: pd.Series, name: str, values: Values) -> tuple[Column, list[Remark]]:
    dtype = str(series.dtype)
    if values.kind == "date":
        return _date(name, dtype, values.data), []
    formats: tuple[str, ...] = ()
    if values.kind == "number":
        formats = (dates.epoch_format(values.data),)
        if formats[0].startswith("epoch"):
            return _date(name, dtype, dates.from_epoch(values.data, formats[0]), formats), []
    values = as_text(series)
    counts = np.bincount(values.data[~values.missing], minlength=len(values.levels))
    formats = formats or dates.find_formats(values.levels, counts, forced=True)
    read = dates.parse(values.levels, formats)
    if np.isnat(read).all():
        raise DataError(
            f"column '{name}': nothing in it is a date, such as {shown(values.levels[0])} in row "
            f"{first_row(values, 0)}. Write dates as 2026-01-31, or do not list the column as a date"
        )
    remarks = _unread(name, values, counts, np.isnat(read), "date")
    return _date(name, dtype, np.append(read, np.datetime64("NaT"))[values.data], formats), remarks


def _text(name: str, dtype: str, values: Values) -> tuple[Column, list[Remark]]:
    levels, may_miss = values.levels, bool(values.missing.any())
    if len(levels) == 1 and not may_miss:
        return _ignored(name, dtype, "constant"), []
    if values.declared:
        return _category(name, dtype, values), []
    if {level.strip().lower() for level in levels} <= {"true", "false"}:
        truth = np.array([float(level.strip().lower() == "true") for level in levels])
        return _boolean(name, dtype, np.append(truth, np.nan)[values.data]), []
    counts = np.bincount(values.data[~values.missing], minlength=len(levels))
    formats = dates.find_formats(levels, counts)
    if formats:
        return _date_text(name, dtype, values, counts, formats)
    quantity = find_quantity(levels, counts)
    if quantity is not None:
        read, _ = quantity.read(levels)
        column, remarks = infer_number(np.append(read, np.nan)[values.data], name, dtype)
        if column.kind == "ignored":
            return column, remarks
        units = tuple(sorted(quantity.units)) if len(quantity.units) > 1 else ()
        example = levels[int(np.argmax(~np.isnan(read)))]
        told = [Remark(f"column '{name}': texts such as {shown(example)} are read as numbers"), *remarks]
        told += _unread(name, values, counts, np.isnan(read), "number")
        return replace(column, quantity=quantity, levels=units), told
    remarks = _looks_like_more(name, values, counts)
    n_present = int(counts.sum())
    if n_present >= IDENTIFIER_ROWS and len(levels) > IDENTIFIER_SHARE * n_present:
        return _ignored(name, dtype, "identifier"), remarks
    return _category(name, dtype, values), remarks


def _date_text(
    name: str, dtype: str, values: Values, counts: NDArray[np.int64], formats: tuple[str, ...]
) -> tuple[Column, list[Remark]]:
    read = dates.parse(values.levels, formats)
    remarks = _unread(name, values, counts, np.isnat(read), "date")
    if dates.day_and_month_may_swap(formats, values.levels):
        order = "day first" if formats[0].startswith("%d") else "month first"
        remarks.append(Remark(f"column '{name}': dates such as {shown(values.levels[0])} are read {order}"))
    return _date(name, dtype, np.append(read, np.datetime64("NaT"))[values.data], formats), remarks


def _unread(
    name: str, values: Values, counts: NDArray[np.int64], bad: NDArray[np.bool_], what: str
) -> list[Remark]:  # fmt: skip
    if not bad.any():
        return []
    level = int(np.argmax(bad))
    text = f"{shown(values.levels[level])} in row {first_row(values, level)}"
    count = counts[bad].sum()
    number = "1 text is" if count == 1 else f"{count} texts are"
    verb = "counts" if count == 1 else "count"
    return [Remark(f"column '{name}': {number} no {what}, such as {text}, and {verb} as missing")]


def _looks_like_more(name: str, values: Values, counts: NDArray[np.int64]) -> list[Remark]:
    """Say that texts taken as categories look like numbers or dates."""
    levels = values.levels
    column = f"column '{name}'"
    form = grouped_or_hexadecimal(levels, counts)
    if form == "comma":
        example = shown(next(level for level in levels if "," in level))
        options = "if the comma groups thousands give --thousands ',', if it is the decimal sign --decimal ','"
        return [Remark(f"{column} looks numeric, such as {example}, and is taken as text: {options}")]
    if form == "hexadecimal":
        return [Remark(f"{column} looks like hexadecimal numbers, such as {shown(levels[0])}, and is taken as text")]
    share, first_bad = number_share(levels, counts)
    if share >= 0.5 and share < 1:
        example, row = shown(levels[first_bad]), first_row(values, first_bad)
        what = f"the first text is {example} in row {row}. If it means missing, give --na-values {example}"
        return [Remark(f"{column} mixes numbers and texts and is taken as text: {what}")]
    if dates.share_of_dates(levels, counts) >= 0.5:
        what = f"looks like dates that cannot all be read one way, such as {shown(levels[0])}, and is taken as text"
        return [Remark(f"{column} {what}: give --date '{name}' to read those that can be")]
    return []


def first_row(values: Values, level: int) -> int:
    """The first row, counted from 1, that holds a text."""
    return int(np.argmax(values.data == level)) + 1
