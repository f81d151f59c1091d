"""How long a part takes beside a built-in one: a ratio, never a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable

from autoreg.testing.results import Report

ROUNDS = 5
"""Each is timed this often, in turn; the shortest counts, which other work on the machine disturbs least."""


def beside(own: Callable[[], object], built_in: Callable[[], object], name: str) -> Report:
    """Time two functions in turn.

    Parameters
    ----------
    own, built_in : function
    name : str
        Of the built-in part.
    """
    shortest = [float("inf"), float("inf")]
    for _ in range(ROUNDS):
        for place, function in enumerate((own, built_in)):
            begin = time.perf_counter()
            function()
            shortest[place] = min(shortest[place], time.perf_counter() - begin)
    return Report(f"{shortest[0] / shortest[1]:.1f} times as long as {name}")
