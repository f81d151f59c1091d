"""The snake activation, x + sin²(a x) / a, whose frequency a each network learns for itself.

Ziyin, Hartwig and Ueda, "Neural networks fail to learn periodic functions and how to fix it" (NeurIPS 2020).
"""

import torch
from torch import nn

from autoreg import hookimpl


class Snake(nn.Module):
    def __init__(self):
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return x + torch.sin(self.frequency * x) ** 2 / self.frequency


@hookimpl
def register_activations(register):
    register("snake", Snake)
