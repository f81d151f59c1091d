"""What a stack's networks read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.member import Member
from autoreg.stacking import takes_any_layout

ENCODED_BYTES = 1 << 27
"""Encodings without parameters are computed once for all rows when they fit into this."""


@dataclass(frozen=True)
class Data:
    """A coded table and its target as tensors: (N, Dn), (N, Dc), (N, O) float64; sample weights (N,) or None.

    Where the tensors are is where stacks train.
    """

    numbers: Tensor
    codes: Tensor
    target: Tensor
    sample_weight: NDArray[np.float64] | None = None


class Inputs:
    """What the stack's networks read: rows of a table encoded once, or encoded step by step.

    What does not change in training is computed once for all rows and each distinct `encoding_key`: an encoding
    without parameters, or the part that an encoding offers as ``fixed``.
    """

    def __init__(
        self, encodings: Sequence[tuple[Hashable, nn.Module]], stack: Member, data: Data, dtype: torch.dtype
    ) -> None:
        self.stack = stack
        self.numbers, self.codes = data.numbers.to(dtype), data.codes
        self.n_rows = len(self.numbers)
        keys = list(dict.fromkeys(key for key, _ in encodings))
        self.device = self.numbers.device
        self.offset = torch.tensor([keys.index(key) * self.n_rows for key, _ in encodings], device=self.device)
        self.learned: Callable[[Tensor, Tensor], Tensor] | None = stack.encoding
        self.per_key = False
        self.any_layout = takes_any_layout(stack.network)
        if None not in keys:
            first = dict(reversed(encodings))
            # the members' own stay where they are
            own = [first[key] if self.device.type == "cpu" else copy.deepcopy(first[key]) for key in keys]
            self._compute_once([encoding.eval().to(self.device, dtype) for encoding in own])

    @torch.no_grad()
    def _compute_once(self, encodings: Sequence[nn.Module]) -> None:
        """Replace the numbers by what does not change, (U * N, ...), where that fits into memory."""
        whole = not any(True for _ in encodings[0].parameters())
        # `learned` is called on stacked tensors, past the ways in which other modules are stacked
        halves = bool(vars(type(encodings[0])).get("leading_axes")) and hasattr(encodings[0], "fixed")
        if not whole and not halves:
            return

        def once(encoding: nn.Module, numbers: Tensor, codes: Tensor) -> Tensor:
            return encoding(numbers, codes) if whole else encoding.fixed(numbers, codes)[0]  # type: ignore[operator]

        probe = once(encodings[0], self.numbers[:1], self.codes[:1])
        if len(encodings) * self.n_rows * probe.shape[-1] * probe.element_size() > ENCODED_BYTES:
            return
        parts = [
            once(encoding, numbers, codes)
            for encoding in encodings
            for numbers, codes in zip(self.numbers.split(8192), self.codes.split(8192), strict=True)
        ]
        self.numbers, self.per_key = torch.cat(parts), True
        self.learned = None if whole else self.stack.encoding.learned  # type: ignore[assignment]

    def forward(self, rows: Tensor) -> Tensor:
        """The networks' output for rows (M, B)."""
        index = rows + self.offset.unsqueeze(1) if self.per_key else rows
        numbers = self.numbers.index_select(0, index.flatten()).view(*rows.shape, -1)
        if self.learned is None:
            return self.stack.network(numbers)
        codes = self.codes.index_select(0, rows.flatten()).view(*rows.shape, -1)
        features = self.learned(numbers, codes)
        return self.stack.network(features if self.any_layout else features.contiguous())

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members only."""
        self.offset = self.offset[torch.as_tensor(members)]
