"""Built-in search strategies that give scikit-learn's scores: grid, random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.model_selection import ParameterGrid, ParameterSampler

from autoreg.errors import OptionError
from autoreg.hookspecs import hookimpl
from autoreg.results import CandidateResult
from autoreg.space import Candidate, Space


def grid(space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
    """Every combination of the space's lists, in the order of scikit-learn's ParameterGrid.

    Examples
    --------
    >>> space = Space(({"learning_rate": [0.1, 0.2], "activation": ["relu"]},), {})
    >>> [c.parameters for c in grid(space, [], None, 0)]
    [{'activation': 'relu', 'learning_rate': 0.1}, {'activation': 'relu', 'learning_rate': 0.2}]
    """
    if results:
        return []
    for alternative in space.dimensions:
        for name, values in alternative.items():
            if hasattr(values, "rvs"):
                raise OptionError(f"strategy grid needs lists, space '{name}' is a distribution: use strategy random")
    combinations = ParameterGrid([{k: list(v) for k, v in alternative.items()} for alternative in space.dimensions])
    return [Candidate(parameters) for parameters in combinations][:n]


def random(space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
    """Draws from the space, as scikit-learn's ParameterSampler makes them; 10 unless `n` says otherwise."""
    if results:
        return []
    dimensions = [dict(alternative) for alternative in space.dimensions]
    lists_only = all(not hasattr(v, "rvs") for alternative in dimensions for v in alternative.values())
    count = n or 10
    if lists_only:
        count = min(count, len(ParameterGrid(dimensions)))
    return [Candidate(p) for p in ParameterSampler(dimensions, count, random_state=seed)]


@hookimpl
def register_strategies(register: Any) -> None:
    register("grid", grid, own_seeds=False, choose_epoch=False)
    register("random", random, own_seeds=False, choose_epoch=False)
