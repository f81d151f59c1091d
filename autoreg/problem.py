"""What a search is about: a table in numbers, its folds, and what counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoreg.encoding import FoldStatistics, TableLayout, fold_statistics
from autoreg.errors import OptionError
from autoreg.folds import Fold
from autoreg.inputs import Data
from autoreg.scoring import Metric

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A table in numbers, with its folds.

    Attributes
    ----------
    numbers, codes : array, (N, Dn) float32 and (N, Dc) int32
    layout : TableLayout
    y : array, (N, O)
    sample_weight : array, (N,), or None
    folds : list of Fold
    metric : Metric
    seed : int
    own_seeds : bool
        Whether every member draws a seed of its own, or all take `seed` itself.
    choose_epoch : bool
        Whether the best epoch is kept; otherwise all epochs run and the last one counts.
    rungs : sequence of (float, float)
        Points of progress, each with the share of a stack's candidates that stay from there on.
    most_epochs : int
        Where a stack may train on when time is left; 0 for the candidates' own.
    half : bool
        Whether matrix products are in bfloat16 while training; what is reported and saved is computed in `dtype`.
    device : str
        Where stacks train. All else is computed on the CPU.
    """

    numbers: NDArray[np.float32]
    codes: NDArray[np.int32]
    layout: TableLayout
    y: Floats
    sample_weight: Floats | None
    folds: Sequence[Fold]
    metric: Metric
    seed: int = 0
    own_seeds: bool = True
    choose_epoch: bool = True
    dtype: torch.dtype = torch.float32
    half: bool = False
    rungs: Sequence[tuple[float, float]] = ()
    most_epochs: int = 0
    device: str = "cpu"
    _statistics: dict[int, FoldStatistics] = field(default_factory=dict)

    def statistics(self, fold: int) -> FoldStatistics:
        """The fold's statistics, computed once."""
        if fold not in self._statistics:
            self._statistics[fold] = fold_statistics(
                self.numbers, self.codes, self.layout, self.folds[fold].train, self.sample_weight
            )
        return self._statistics[fold]

    def weight_of(self, rows: NDArray[np.int64]) -> Floats | None:
        """Weights of some rows; None where all count alike."""
        return None if self.sample_weight is None else self.sample_weight[rows]

    def target_scale(self, fold: int, log: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the fold's training targets, (O,) each; spread 1 for a constant target.

        Parameters
        ----------
        fold : int
        log : bool
            Those of their logarithms.

        Raises
        ------
        OptionError
            Where a target without a logarithm is asked for one.
        """
        if log and not (self.y > 0).all():
            raise OptionError(f"target_scaling='log' needs targets above 0, and the least is {self.y.min():g}")
        rows = self.folds[fold].train
        weight = self.weight_of(rows)
        # scaled first: the squares of targets near 1e200 would overflow
        own = np.log(self.y[rows]) if log else self.y[rows]
        size = np.abs(own).max(axis=0)
        size = np.where((size > 0) & np.isfinite(size), size, 1.0)
        y = own / size
        mean = np.average(y, axis=0, weights=weight)
        spread = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weight)) * size
        return torch.from_numpy(mean * size), torch.from_numpy(np.where(spread > 0, spread, 1.0))

    def at_once(self, n_jobs: int | None) -> int | None:
        """How many stacks train at once, where a user asks for so many: a GPU does one after the other anyway."""
        return n_jobs if self.device == "cpu" else 1

    def data(self) -> Data:
        return Data(
            torch.tensor(self.numbers, dtype=self.dtype).to(self.device),
            torch.from_numpy(self.codes.astype(np.int64)).to(self.device),
            torch.tensor(self.y).to(self.device),
            self.sample_weight,
        )


@dataclass(frozen=True)
class AllRows:
    """What it takes to fit once more, on all rows.

    Attributes
    ----------
    folds : Problem
        With the folds that chose.
    whole : Problem
        With one fold, which holds nothing out.
    data : Data
    enough : function
        Whether to give it up now.
    """

    folds: Problem
    whole: Problem
    data: Data
    enough: Callable[[], bool]

    @classmethod
    def of(cls, problem: Problem, n_rows: int, enough: Callable[[], bool] = lambda: False) -> AllRows:
        """The first `n_rows` of a problem; what may follow was given to validate on."""
        rows = np.arange(n_rows)
        whole = replace(problem, folds=[Fold(rows, rows[:0])], rungs=(), _statistics={})
        return cls(problem, whole, whole.data(), enough)
