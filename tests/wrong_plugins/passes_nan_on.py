"""Forgets that numbers may be missing."""

import torch
from torch import nn

from autoreg import hookimpl


class Encoding(nn.Module):
    leading_axes = True

    def __init__(self, statistics):
        super().__init__()
        self.n_features = statistics.layout.n_numbers
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float32))

    def forward(self, numbers, codes):
        return numbers - self.mean.unsqueeze(-2)


@hookimpl
def register_encodings(register):
    register("passes_nan_on", Encoding)
