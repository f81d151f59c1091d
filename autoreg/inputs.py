"""What a stack's networks read."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.member import Member

ENCODED_BYTES = 1 << 30
"""Encodings without parameters are computed once for all rows when they fit into this."""


@dataclass(frozen=True)
class Data:
    """A coded table and its target as tensors: (N, Dn), (N, Dc), (N, O) float64; sample weights (N,) or None."""

    numbers: Tensor
    codes: Tensor
    target: Tensor
    sample_weight: NDArray[np.float64] | None = None


class Inputs:
    """What the stack's networks read: rows of a table encoded once, or encoded step by step.

    An encoding without parameters is applied once to all rows, for each distinct `encoding_key`.
    """

    def __init__(
        self, encodings: Sequence[tuple[Hashable, nn.Module]], stack: Member, data: Data, dtype: torch.dtype
    ) -> None:
        self.stack = stack
        self.numbers, self.codes = data.numbers.to(dtype), data.codes
        self.n_rows = len(self.numbers)
        self.encoded: Tensor | None = None
        keys = list(dict.fromkeys(key for key, _ in encodings))
        learned = any(True for _ in stack.encoding.parameters()) or None in keys
        if not learned:
            self.encoded = self._encode(dict(reversed(encodings)), keys, dtype)
        self.offset = torch.tensor([keys.index(key) * self.n_rows for key, _ in encodings])

    @torch.no_grad()
    def _encode(self, first: dict[Hashable, nn.Module], keys: list[Hashable], dtype: torch.dtype) -> Tensor | None:
        probe = first[keys[0]](self.numbers[:1], self.codes[:1])
        if len(keys) * self.n_rows * probe.shape[-1] * probe.element_size() > ENCODED_BYTES:
            return None
        parts = []
        for encoding in (first[key] for key in keys):
            encoding = encoding.eval().to(dtype)
            parts += [
                encoding(numbers, codes)
                for numbers, codes in zip(self.numbers.split(8192), self.codes.split(8192), strict=True)
            ]
        return torch.cat(parts)

    def forward(self, rows: Tensor) -> Tensor:
        """The networks' output for rows (M, B)."""
        if self.encoded is not None:
            index = (rows + self.offset.unsqueeze(1)).flatten()
            x = self.encoded.index_select(0, index).view(*rows.shape, -1)
            return self.stack.network(x)
        flat = rows.flatten()
        numbers = self.numbers.index_select(0, flat).view(*rows.shape, -1)
        codes = self.codes.index_select(0, flat).view(*rows.shape, -1)
        return self.stack.network(self.stack.encoding(numbers, codes))

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some members only."""
        self.offset = self.offset[torch.as_tensor(members)]
