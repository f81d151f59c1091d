"""First weights from numpy's generator, whatever the seed."""

import numpy as np
import torch
from torch import nn

from autoreg import hookimpl


class Network(nn.Module):
    def __init__(self, n_features, n_outputs, activation):
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(n_features, 8), activation(), nn.Linear(8, n_outputs)
        self.first.weight.data = torch.tensor(np.random.normal(size=(8, n_features)), dtype=torch.float32)

    def forward(self, x):
        return self.last(self.activation(self.first(x)))


@hookimpl
def register_networks(register):
    register("own_generator", Network)
