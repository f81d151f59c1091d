"""Encodings: what stands before a network. Numbers are scaled by the fold's statistics, categories become numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.builtins.embeddings import Periodic, PiecewiseLinear
from autoreg.builtins.features import (
    Embedded,
    MissingFlags,
    OneHot,
    Scaling,
)
from autoreg.encoding import FoldStatistics
from autoreg.errors import DataError, check_option
from autoreg.hookspecs import hookimpl

Floats = NDArray[np.float64]


class Encoded(nn.Module):
    """Scaled numbers or their embeddings, then flags of missing values, then categories.

    Parameters
    ----------
    statistics : FoldStatistics
    scaling : Scaling
    embedding : nn.Module or None
        Of the scaled numbers, with an attribute ``n_features``.
    max_one_hot : int
        Columns with up to this many levels are one-hot, the others learn a vector per level.
    embedding_size : int
        Length of that vector.
    min_count : float
        Levels with fewer rows in the fold count as unseen.
    max_slots : int
        Vectors per column: the levels with the most rows, missing and unseen.
    embedding_rate : float
        Factor of the learning rate for the vectors.

    Attributes
    ----------
    n_features : int
    """

    leading_axes = True

    def __init__(
        self,
        statistics: FoldStatistics,
        scaling: Scaling,
        embedding: nn.Module | None = None,
        max_one_hot: int = 8,
        embedding_size: int = 8,
        min_count: float = 3,
        max_slots: int = 1024,
        embedding_rate: float = 1.0,
    ) -> None:
        super().__init__()
        layout = statistics.layout
        check_option(max_one_hot >= 0, "encoding", "max_one_hot", max_one_hot, "at least 0")
        check_option(embedding_size >= 1, "encoding", "embedding_size", embedding_size, "at least 1")
        check_option(max_slots >= 3, "encoding", "max_slots", max_slots, "at least 3")
        self.scaling = scaling
        self.n_numbers = layout.n_numbers
        self.embedding = embedding if layout.n_numbers else None
        self.flags = MissingFlags(statistics) if any(layout.may_miss) else None
        self.one_hot = nn.ModuleList()
        few = [c for c, n in enumerate(layout.n_codes) if 0 < n - 2 <= max_one_hot]
        for n in sorted({layout.n_codes[c] for c in few}):
            columns = [c for c in few if layout.n_codes[c] == n]
            self.one_hot.append(OneHot(statistics, columns, min_count))
        many = [c for c, n in enumerate(layout.n_codes) if n - 2 > max_one_hot]
        self.embedded = (
            Embedded(statistics, many, embedding_size, min_count, max_slots, embedding_rate) if many else None
        )
        parts: list[Any] = [self.embedding, self.flags, *self.one_hot, self.embedded]
        n_plain = layout.n_numbers if self.embedding is None else 0
        self.n_features = n_plain + sum(part.n_features for part in parts if part is not None)

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """(..., B, Dn) with NaN and (..., B, Dc) -> (..., B, D)."""
        return self.learned(*self.fixed(numbers, codes))

    def fixed(self, numbers: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """What does not change in training, (..., B, Dn + Df): scaled numbers, flags, one-hot columns; and codes."""
        parts = [self.scaling(numbers)]
        if self.flags is not None:
            parts.append(self.flags(numbers))
        parts += [part(codes) for part in self.one_hot]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1), codes

    def learned(self, features: Tensor, codes: Tensor) -> Tensor:
        """The rest, from what `fixed` gave."""
        if self.embedding is None and self.embedded is None:
            return features
        parts = [features]
        if self.embedding is not None:
            numbers, others = features.split([self.n_numbers, features.shape[-1] - self.n_numbers], dim=-1)
            parts = [self.embedding(numbers), others] if others.shape[-1] else [self.embedding(numbers)]
        if self.embedded is not None:
            parts.append(self.embedded(codes))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class Untouched(nn.Module):
    """Numbers as they are, missing values too.

    Raises
    ------
    DataError
        When the table has category columns.
    """

    leading_axes = True

    def __init__(self, statistics: FoldStatistics) -> None:
        super().__init__()
        n = len(statistics.layout.n_codes)
        if n:
            raise DataError(
                f"encoding None takes numbers only, the table has {n} category column{'s' if n > 1 else ''}: "
                f"choose another encoding, such as 'plain', or leave them out"
            )
        self.n_features = statistics.layout.n_numbers

    def forward(self, numbers: Tensor, codes: Tensor) -> Tensor:
        """(..., B, Dn) -> the same."""
        return numbers


def plain(statistics: FoldStatistics, **categories: Any) -> nn.Module:
    """Robustly scaled and smoothly clipped numbers, flags of missing values, categories.

    Parameters
    ----------
    statistics : FoldStatistics
    **categories : options
        Of `Encoded`: ``max_one_hot``, ``embedding_size``, ``min_count``, ``max_slots``, ``embedding_rate``.

    Examples
    --------
    >>> from autoreg.encoding import TableLayout, fold_statistics
    >>> numbers = np.array([[1.0], [2.0], [3.0], [np.nan]], dtype=np.float32)
    >>> codes = np.array([[2], [3], [2], [3]], dtype=np.int32)
    >>> statistics = fold_statistics(numbers, codes, TableLayout(1, (True,), (4,)), np.arange(4))
    >>> plain(statistics, min_count=1)(torch.from_numpy(numbers), torch.from_numpy(codes))
    tensor([[-0.9487,  0.0000, -1.0000],
            [ 0.0000,  0.0000,  1.0000],
            [ 0.9487,  0.0000, -1.0000],
            [ 0.0000,  1.0000,  1.0000]])
    """
    return Encoded(statistics, _robust_scaling(statistics), **categories)


def standard(statistics: FoldStatistics, **categories: Any) -> nn.Module:
    """Numbers with mean 0 and standard deviation 1, not clipped; flags and categories as `plain` has them."""
    factor = _over(1.0, statistics.std)
    return Encoded(statistics, Scaling(statistics.mean, factor, smooth=False), **categories)


def ple(statistics: FoldStatistics, n_bins: int = 16, size: int = 8, rate: float = 1.0, **categories: Any) -> nn.Module:
    """Piecewise linear embeddings of the numbers, see `PiecewiseLinear`; the rest as `plain` has it.

    Parameters
    ----------
    statistics : FoldStatistics
    n_bins : int
        Pieces, between quantiles of the fold.
    size : int
        Features for each number.
    rate : float
        Factor of the learning rate for the embeddings.
    **categories : options
        See `plain`.
    """
    check_option(n_bins >= 1, "encoding", "n_bins", n_bins, "at least 1")
    check_option(size >= 1, "encoding", "size", size, "at least 1")
    scaling = _robust_scaling(statistics)
    center, factor = _center_and_factor(statistics)
    z = (statistics.quantiles - center) * factor
    knots = z / np.sqrt(1 + (z / 3) ** 2)
    return Encoded(statistics, scaling, PiecewiseLinear(knots, int(n_bins), int(size), rate), **categories)


def pbld(
    statistics: FoldStatistics,
    sigma: float = 0.1,
    n_frequencies: int = 16,
    size: int = 4,
    rate: float = 1.0,
    **categories: Any,
) -> nn.Module:
    """Periodic embeddings of the numbers, see `Periodic`; the rest as `plain` has it.

    Parameters
    ----------
    statistics : FoldStatistics
    sigma : float
        Spread of the frequencies at the start; greater suits targets that jump.
    n_frequencies : int
    size : int
        Features for each number: itself and ``size - 1`` learned ones.
    rate : float
        Factor of the learning rate for the embeddings.
    **categories : options
        See `plain`.
    """
    check_option(sigma > 0, "encoding", "sigma", sigma, "above 0")
    check_option(n_frequencies >= 1, "encoding", "n_frequencies", n_frequencies, "at least 1")
    check_option(size >= 2, "encoding", "size", size, "at least 2")
    embedding = Periodic(statistics.layout.n_numbers, int(n_frequencies), int(size), sigma, rate)
    return Encoded(statistics, _robust_scaling(statistics), embedding, **categories)


def _robust_scaling(statistics: FoldStatistics) -> Scaling:
    return Scaling(*_center_and_factor(statistics), smooth=True)


def _center_and_factor(statistics: FoldStatistics) -> tuple[Floats, Floats]:
    """The median, and one over the distance of the quartiles; RealMLP's ways out where that is zero."""
    steps = len(statistics.quantiles) - 1
    between = statistics.quantiles[3 * steps // 4] - statistics.quantiles[steps // 4]
    whole = _over(2.0, statistics.maximum - statistics.minimum)
    return statistics.median, np.where(between > 0, _over(1.0, between), whole)


def _over(numerator: float, denominator: Floats) -> Floats:
    """A quotient that is zero where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


@hookimpl
def register_encodings(register: Callable[..., None]) -> None:
    register("none", Untouched)
    register("plain", plain)
    register("standard", standard)
    register("ple", ple, space={"n_bins": [8, 16, 32], "size": [4, 8, 12]})
    register("pbld", pbld, space={"sigma": [0.05, 0.1, 0.3, 1.0, 3.0]})
