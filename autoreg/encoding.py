"""What a fold's training rows say about a coded table: the numbers that encodings are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

N_QUANTILES = 129
"""Quantiles that a fold's statistics hold, at 0, 1/128, ..., 1."""

QUANTILE_ROWS = 100_000
"""Above this many rows the quantiles come from a fixed sample of them; all other statistics from every row."""


@dataclass(frozen=True)
class TableLayout:
    """The shape of a coded table, the same in all folds.

    Attributes
    ----------
    n_numbers : int
        Number columns, Dn.
    may_miss : tuple of bool, (Dn,)
        Whether a number column has a missing value in any row of the table.
    n_codes : tuple of int, (Dc,)
        Codes of each category column: 0 is missing, 1 unseen, 2 and above the levels.
    """

    n_numbers: int
    may_miss: tuple[bool, ...]
    n_codes: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "n_numbers": self.n_numbers,
            "may_miss": [int(flag) for flag in self.may_miss],
            "n_codes": list(self.n_codes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableLayout:
        return cls(
            int(data["n_numbers"]),
            tuple(bool(flag) for flag in data["may_miss"]),
            tuple(int(count) for count in data["n_codes"]),
        )


@dataclass(frozen=True)
class FoldStatistics:
    """Statistics of one fold's training rows, missing values left out, sample weights counted.

    Attributes
    ----------
    layout : TableLayout
    n_rows : int
        Training rows; with sample weights, those of a weight above zero.
    mean, std, median, minimum, maximum, missing : array, (Dn,)
        `missing` is the share of missing values. A column without a value in the fold has mean 0 and std 0.
    quantiles : array, (N_QUANTILES, Dn)
    counts : tuple of arrays, each (n_codes,)
        Weighted number of rows with each code, per category column.
    """

    layout: TableLayout
    n_rows: int
    mean: Floats
    std: Floats
    median: Floats
    minimum: Floats
    maximum: Floats
    missing: Floats
    quantiles: Floats
    counts: tuple[Floats, ...]

    @classmethod
    def blank(cls, layout: TableLayout) -> FoldStatistics:
        """Statistics of the right shapes and no content, for a module whose state is about to be loaded."""
        zeros = np.zeros(layout.n_numbers)
        return cls(
            layout, 0, zeros, zeros, zeros, zeros, zeros, zeros,
            np.zeros((N_QUANTILES, layout.n_numbers)), tuple(np.zeros(n) for n in layout.n_codes),
        )  # fmt: skip


def fold_statistics(
    numbers: NDArray[np.float32],
    codes: NDArray[np.int32],
    layout: TableLayout,
    rows: NDArray[np.int64],
    sample_weight: Floats | None = None,
) -> FoldStatistics:
    """Compute the statistics of the given rows.

    Parameters
    ----------
    numbers : array, (N, Dn)
        NaN where missing.
    codes : array, (N, Dc)
    layout : TableLayout
    rows : array of int
        The fold's training rows.
    sample_weight : array, (N,), optional
        A row of weight two counts as two rows.

    Examples
    --------
    >>> layout = TableLayout(1, (True,), (4,))
    >>> table = np.array([[1.0], [3.0], [np.nan], [9.0]], dtype=np.float32), np.array([[2], [3], [2], [0]])
    >>> s = fold_statistics(*table, layout, np.array([0, 1, 2]))
    >>> s.mean, s.missing.round(2), s.counts
    (array([2.]), array([0.33]), (array([0., 0., 2., 1.]),))
    """
    if sample_weight is None:
        weight = None
    else:
        weight = np.asarray(sample_weight, dtype=np.float64)[rows]
        rows, weight = rows[weight > 0], weight[weight > 0]
    if not len(rows):
        return FoldStatistics.blank(layout)
    # one contiguous row per column: every step below then reads memory in order
    columns = np.ascontiguousarray(numbers[rows].T)
    sample = _sample(len(rows))
    described = [_describe(column, weight, sample) for column in columns]
    table = np.array(described, dtype=np.float64).reshape(layout.n_numbers, 5 + N_QUANTILES)
    counts = tuple(
        np.bincount(codes[rows, c], weights=weight, minlength=n).astype(np.float64)
        for c, n in enumerate(layout.n_codes)
    )
    quantiles = np.ascontiguousarray(table[:, 5:].T)
    mean, std, minimum, maximum, missing = np.ascontiguousarray(table[:, :5].T)
    return FoldStatistics(
        layout, len(rows), mean, std, quantiles[N_QUANTILES // 2], minimum, maximum, missing, quantiles, counts
    )


def _sample(n: int) -> NDArray[np.int64] | None:
    """Which of n rows the quantiles come from; the same for the same n. None for all."""
    if n <= QUANTILE_ROWS:
        return None
    # drawn rather than every k-th: rows in time order have periods
    return np.sort(np.random.default_rng(0).choice(n, QUANTILE_ROWS, replace=False, shuffle=False))


def _describe(column: NDArray[np.float32], weight: Floats | None, sample: NDArray[np.int64] | None) -> Floats:
    """Mean, std, minimum, maximum, share missing and the quantiles of a column."""
    out = np.zeros(5 + N_QUANTILES)
    present = ~np.isnan(column)
    whole = bool(present.all())
    values = column if whole else column[present]
    kept = weight if whole or weight is None else weight[present]
    if not whole:
        out[4] = 1 - (len(values) / len(column) if weight is None or kept is None else kept.sum() / weight.sum())
    if not len(values):
        return out
    low, high = float(values.min()), float(values.max())
    if low == high:  # rounding would give a constant column a spread
        out[0], out[1], out[2:4], out[5:] = low, 0.0, low, low
        return out
    wide = values.astype(np.float64)
    mean = np.average(wide, weights=kept)
    wide -= mean
    std = np.sqrt(np.average(np.square(wide, out=wide), weights=kept))
    out[:4] = mean, std, low, high
    if sample is not None:
        chosen = sample if whole else sample[present[sample]]
        values, kept = column[chosen], None if weight is None else weight[chosen]
    if len(values):
        out[5:] = _quantiles(values, kept)
    out[5], out[-1] = low, high
    return out


def _quantiles(values: NDArray[np.float32], weight: Floats | None) -> Floats:
    """Quantiles as `numpy.quantile` has them, of the rows repeated as often as their weight says."""
    levels = np.linspace(0, 1, N_QUANTILES)
    n = len(values)
    if weight is None:
        ordered = np.sort(values).astype(np.float64)
        place = levels * (n - 1)
        below = np.floor(place).astype(np.int64)
        lower, upper = ordered[below], ordered[np.minimum(below + 1, n - 1)]
        return lower + (place - below) * (upper - lower)
    order = np.argsort(values, kind="stable")
    ordered = values[order].astype(np.float64)
    # weights below one on average only say how rows compare: no row counts as less than one row
    upto = np.cumsum(weight[order]) * max(1.0, n / weight.sum())
    place = levels * (upto[-1] - 1)
    below = np.floor(place)
    # row number k of the repeated rows spans k..k+1 of the cumulated weight
    lower = ordered[np.minimum(np.searchsorted(upto, below + 0.5), n - 1)]
    upper = ordered[np.minimum(np.searchsorted(upto, below + 1.5), n - 1)]
    return lower + (place - below) * (upper - lower)
