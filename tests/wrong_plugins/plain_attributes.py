"""Fold statistics in plain attributes: neither stacked nor saved."""

import torch
from torch import nn

from autoreg import hookimpl


class Encoding(nn.Module):
    def __init__(self, statistics):
        super().__init__()
        self.n_features = statistics.layout.n_numbers
        self.mean = torch.tensor(statistics.mean, dtype=torch.float32)
        self.std = torch.tensor(statistics.std, dtype=torch.float32).clamp_min(1e-6)

    def forward(self, numbers, codes):
        return torch.nan_to_num((numbers - self.mean) / self.std)


@hookimpl
def register_encodings(register):
    register("plain_attributes", Encoding)
