"""Checks for those who write plugins: what each hook asks for, tried out.

A plugin's own test is a line::

    from autoreg.testing import check_activation
    from autoreg_snake import snake

    def test_snake():
        check_activation(snake)

Each function runs all checks of a kind and raises a `ConformanceError`, an `AssertionError`, that says of each failure
what was expected, what came, and where to read. With ``raises=False`` it only returns the list.
"""

from autoreg.testing.activations import check_activation
from autoreg.testing.companions import check_companion
from autoreg.testing.encodings import check_encoding
from autoreg.testing.losses import check_loss
from autoreg.testing.networks import check_network
from autoreg.testing.optimizers import check_optimizer
from autoreg.testing.plugins import check_plugin
from autoreg.testing.results import Check, ConformanceError
from autoreg.testing.strategies import check_strategy

__all__ = [
    "Check",
    "ConformanceError",
    "check_activation",
    "check_companion",
    "check_encoding",
    "check_loss",
    "check_network",
    "check_optimizer",
    "check_plugin",
    "check_strategy",
]
