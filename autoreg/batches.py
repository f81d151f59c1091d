"""Which rows each member sees in each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoreg.stacking import mix


@dataclass(frozen=True)
class Order:
    """What decides a member's row order; members with equal orders share it.

    Attributes
    ----------
    seed : int
    rows : array of int, (n,)
        The member's training rows.
    batch_size : int
        Nominal; an epoch is cut into near-equal batches of about this size.
    subsample : float
        Share of the rows that an epoch takes.
    """

    seed: int
    rows: NDArray[np.int64]
    batch_size: int
    subsample: float = 1.0

    @property
    def n_rows(self) -> int:
        """Rows in an epoch.

        >>> Order(0, np.arange(1000), 256, subsample=0.1).n_rows
        100
        """
        return max(1, round(self.subsample * len(self.rows)))

    @property
    def n_steps(self) -> int:
        """Steps in an epoch.

        >>> Order(0, np.arange(1000), 256).n_steps
        4
        """
        return max(1, round(self.n_rows / self.batch_size))

    @property
    def key(self) -> tuple[int, int, int, float]:
        return self.seed, id(self.rows), self.batch_size, self.subsample

    def epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of every step, (S, B), and which of them are real; a batch that is one row short repeats a row."""
        n, steps = self.n_rows, self.n_steps
        order = np.random.default_rng(mix(self.seed, epoch)).permutation(len(self.rows))
        bounds = np.arange(steps + 1) * n // steps
        place = bounds[:-1, None] + np.arange(-(-n // steps))
        real = place < bounds[1:, None]
        return self.rows[order[np.minimum(place, n - 1)]], real


class Batches:
    """The row orders of a stack's members.

    Parameters
    ----------
    orders : sequence of Order, M
    sample_weight : array, (N,), or None
    device : torch.device
        Where the rows' numbers are wanted.
    """

    def __init__(
        self,
        orders: Sequence[Order],
        sample_weight: NDArray[np.float64] | None,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self.orders = list(orders)
        self.sample_weight = sample_weight
        self.device = device

    @property
    def n_steps(self) -> list[int]:
        """Steps of each member's epoch."""
        return [order.n_steps for order in self.orders]

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members only."""
        self.orders = [self.orders[m] for m in members]

    def epoch(self, epoch: int, dtype: torch.dtype) -> EpochBatches:
        """Draw an epoch's batches."""
        distinct = {order.key: order for order in self.orders}
        position = {key: place for place, key in enumerate(distinct)}
        drawn = [order.epoch(epoch) for order in distinct.values()]
        steps = max(rows.shape[0] for rows, _ in drawn)
        width = max(rows.shape[1] for rows, _ in drawn)
        rows = np.zeros((len(drawn), steps, width), dtype=np.int32)
        weight = np.zeros((len(drawn), steps, width), dtype=np.float64)
        counts = np.zeros((len(drawn), steps), dtype=np.int64)
        for u, (order, (own_rows, real)) in enumerate(zip(distinct.values(), drawn, strict=True)):
            s, b = own_rows.shape
            rows[u, :s, :b] = own_rows
            rows[u, :s, b:] = own_rows[:, :1]
            rows[u, s:, :] = order.rows[0]
            counts[u, :s] = real.sum(1)
            weight[u, :s, :b] = self._weights(order, own_rows, real)
        return EpochBatches(
            torch.from_numpy(rows).to(self.device),
            torch.from_numpy(weight).to(self.device, dtype),
            counts,
            [position[o.key] for o in self.orders],
        )

    def _weights(self, order: Order, rows: NDArray[np.int64], real: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Weight over its training mean over the batch's rows: what a row's loss is multiplied by."""
        weight = real / real.sum(1, keepdims=True)
        if self.sample_weight is not None:
            weight = weight * self.sample_weight[rows] / self.sample_weight[order.rows].mean()
        return weight


@dataclass(frozen=True)
class EpochBatches:
    """An epoch's rows of U distinct orders.

    Attributes
    ----------
    rows : Tensor, (U, S, B), int32
    weight : Tensor, (U, S, B)
        Zero for padding; a step's losses times this, summed, are the batch's weighted mean.
    counts : array, (U, S)
        Real rows; zero where a member has no batch in the step.
    order_of : list of int, M
        Which order each member follows.
    """

    rows: Tensor
    weight: Tensor
    counts: NDArray[np.int64]
    order_of: list[int]

    @property
    def n_steps(self) -> int:
        return self.rows.shape[1]

    def steps(self, start: int, stop: int) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
        """Rows (S, M, B), weights (S, M, B) and counts (S, M) of some steps."""
        index = torch.as_tensor(self.order_of, device=self.rows.device)
        rows, weight = self.rows[:, start:stop].transpose(0, 1), self.weight[:, start:stop].transpose(0, 1)
        return rows[:, index].long(), weight[:, index], self.counts[self.order_of, start:stop].T
