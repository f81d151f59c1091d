"""A network that sees the mean of the rows it is given, also when it predicts."""

from torch import nn

from autoreg import hookimpl


class Network(nn.Module):
    def __init__(self, n_features, n_outputs, activation):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), activation(), nn.Linear(8, n_outputs))

    def forward(self, x):
        return self.layers(x - x.mean(0))


@hookimpl
def register_networks(register):
    register("centres_the_batch", Network)
