"""What encodings are made of: scaled numbers, flags of missing values, categories.

Written once over leading axes: buffers and parameters may have a leading M axis, the inputs too, or they are shared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.encoding import FoldStatistics
from autoreg.gradients import Role

Floats = NDArray[np.float64]

LARGEST = 1e6
"""Scaled numbers beyond it are cut, so that no square of one overflows."""


def as_buffer(values: Floats) -> Tensor:
    """A NumPy array in torch's default precision; too large becomes largest."""
    dtype = torch.get_default_dtype()
    return torch.from_numpy(np.clip(values, torch.finfo(dtype).min, torch.finfo(dtype).max)).to(dtype)


class Scaling(nn.Module):
    """``(x - center) * factor``, missing values 0; with `smooth` then ``z / sqrt(1 + (z / 3)**2)``, within (-3, 3).

    Examples
    --------
    >>> scaling = Scaling(np.array([1.0]), np.array([0.5]), smooth=True)
    >>> scaling(torch.tensor([[1.0], [7.0], [1e9], [float("nan")]])).T
    tensor([[0.0000, 2.1213, 3.0000, 0.0000]])
    """

    leading_axes = True

    def __init__(self, center: Floats, factor: Floats, smooth: bool) -> None:
        super().__init__()
        self.smooth = smooth
        self.register_buffer("center", as_buffer(center))
        self.register_buffer("factor", as_buffer(factor))

    center: Tensor
    factor: Tensor

    def forward(self, numbers: Tensor) -> Tensor:
        z = (numbers - self.center.unsqueeze(-2)) * self.factor.unsqueeze(-2)
        z = z.clamp(-LARGEST, LARGEST).nan_to_num(nan=0.0)
        return smooth_clip(z) if self.smooth else z


def smooth_clip(z: Tensor) -> Tensor:
    """``z / sqrt(1 + (z / 3)**2)``: nearly z near 0, within (-3, 3). From RealMLP, arXiv 2407.04491.

    >>> smooth_clip(torch.tensor([0.1, 3.0, 100.0]))
    tensor([0.0999, 2.1213, 2.9987])
    """
    return z * torch.addcmul(z.new_ones(()), z, z, value=1 / 9).rsqrt()


class MissingFlags(nn.Module):
    """One column for each number column that may miss values: 1 where it does.

    A column without missing values in the fold's training rows stays 0, for nothing could learn what it means.
    """

    leading_axes = True

    def __init__(self, statistics: FoldStatistics) -> None:
        super().__init__()
        columns = [j for j, may in enumerate(statistics.layout.may_miss) if may]
        self.columns = torch.tensor(columns, dtype=torch.long)
        self.n_features = len(columns)
        self.register_buffer("known", as_buffer((statistics.missing > 0).astype(float)[columns]))

    known: Tensor

    def forward(self, numbers: Tensor) -> Tensor:
        flags = numbers[..., self.columns.to(numbers.device)].isnan()
        return flags * self.known.unsqueeze(-2)


def level_slots(counts: Floats, total_rows: int, min_count: float, n_slots: int) -> NDArray[np.int32]:
    """Which slot of a table each code uses: 0 missing, 1 unseen, rare and what finds no place, 2 and above the levels.

    Parameters
    ----------
    counts : array, (n_codes,)
        Weighted rows of each code in the fold.
    total_rows : int
        Weights below one on average are scaled up to this many rows.
    min_count : float
        Codes with fewer rows are rare.
    n_slots : int
        Where there are more levels, the most frequent ones have a slot.

    Examples
    --------
    >>> level_slots(np.array([5.0, 0, 9, 1, 4, 7]), 26, 3, 4)
    array([0, 1, 2, 1, 1, 3], dtype=int32)
    """
    counts = counts * max(1.0, total_rows / max(counts.sum(), 1e-300))
    slots = np.ones(len(counts), dtype=np.int32)
    if counts[0] >= min_count:
        slots[0] = 0
    frequent = np.flatnonzero(counts[2:] >= min_count) + 2
    if len(frequent) <= n_slots - 2 and len(counts) <= n_slots:
        slots[frequent] = frequent
        return slots
    kept = np.sort(frequent[np.argsort(-counts[frequent], kind="stable")[: n_slots - 2]])
    slots[kept] = np.arange(2, 2 + len(kept))
    return slots


class OneHot(nn.Module):
    """Category columns with equally many levels, each as one column per level; two levels as one column of -1 and 1.

    Missing values, levels that are rare in the fold and unseen ones are zeros.
    """

    leading_axes = True

    def __init__(self, statistics: FoldStatistics, columns: Sequence[int], min_count: float) -> None:
        super().__init__()
        n_codes = statistics.layout.n_codes[columns[0]]
        self.columns = torch.tensor(columns)
        self.offset = torch.arange(len(columns)) * n_codes
        width = 1 if n_codes == 4 else n_codes - 2
        # room first: what builds a model from a file stops here when that asks for too much
        self.register_buffer("table", torch.zeros(len(columns) * n_codes, width))
        rows = np.eye(n_codes)[:, 2:]
        if n_codes == 4:
            rows = rows[:, 1:] - rows[:, :1]
        tables = []
        for c in columns:
            slots = level_slots(statistics.counts[c], statistics.n_rows, min_count, n_codes)
            tables.append(rows * (slots == np.arange(n_codes))[:, None])
        self.n_features = len(columns) * width
        self.table = as_buffer(np.concatenate(tables))

    table: Tensor

    def forward(self, codes: Tensor) -> Tensor:
        index = codes[..., self.columns.to(codes.device)].long() + self.offset.to(codes.device)
        if self.table.ndim == 2:
            return F.embedding(index, self.table).flatten(-2)
        members, length, width = self.table.shape
        shift = torch.arange(members, device=codes.device).view(-1, 1, 1) * length
        return F.embedding(index + shift, self.table.reshape(-1, width)).flatten(-2)


class Embedded(nn.Module):
    """Category columns with many levels, each level as a learned vector of `size` numbers.

    Unseen levels and those rare in the fold share one vector per column, which starts at zero.
    """

    leading_axes = True

    def __init__(
        self,
        statistics: FoldStatistics,
        columns: Sequence[int],
        size: int,
        min_count: float,
        max_slots: int,
        rate: float,
    ) -> None:
        super().__init__()
        self.rate = float(rate)
        self.columns = torch.tensor(columns)
        slots, shared, offset = [], [], []
        n_codes = n_slots = 0
        for c in columns:
            counts = statistics.counts[c]
            room = min(len(counts), max_slots)
            slots.append(level_slots(counts, statistics.n_rows, min_count, room) + np.int32(n_slots))
            shared.append(n_slots + 1)
            offset.append(n_codes)
            n_codes, n_slots = n_codes + len(counts), n_slots + room
        self.offset = torch.tensor(offset)
        self.n_features = len(columns) * size
        self.register_buffer("slots", torch.from_numpy(np.concatenate(slots)))
        # a category's vector is about as long as its one-hot vector would be
        self.weight = nn.Parameter(torch.randn(n_slots, size) / math.sqrt(size))
        with torch.no_grad():
            self.weight[shared] = 0
        self.parameter_roles = {"weight": Role("embedding", self.rate)}

    slots: Tensor

    def forward(self, codes: Tensor) -> Tensor:
        index = codes[..., self.columns.to(codes.device)].long() + self.offset.to(codes.device)
        lead = self.slots.shape[:-1]
        index = index.expand(*lead, *index.shape[-2:])
        slots = self.slots.gather(-1, index.reshape(*lead, -1)).long()
        size = self.weight.shape[-1]
        # gather reads a weight that lies scattered in memory, and its gradient is the quickest
        vectors = self.weight.gather(-2, slots.unsqueeze(-1).expand(*slots.shape, size))
        return vectors.reshape(*index.shape[:-1], -1)
