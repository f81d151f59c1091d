"""What is fixed and what is learned are together not the forward."""

import torch
from torch import nn

from autoreg import hookimpl


class Encoding(nn.Module):
    leading_axes = True

    def __init__(self, statistics):
        super().__init__()
        self.n_features = statistics.layout.n_numbers
        self.slope = nn.Parameter(torch.ones(self.n_features))

    def fixed(self, numbers, codes):
        return torch.nan_to_num(numbers).clamp(-1, 1), codes

    def learned(self, features, codes):
        return features * self.slope.unsqueeze(-2)

    def forward(self, numbers, codes):
        return torch.nan_to_num(numbers) * self.slope.unsqueeze(-2)


@hookimpl
def register_encodings(register):
    register("halves_disagree", Encoding)
