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
    raise NotImplementedError


