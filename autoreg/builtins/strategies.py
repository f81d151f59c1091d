"""Built-in search strategies: portfolio, grid, random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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


EFFORT = {"quick": (4, 0.15, 60), "balanced": (8, 1.0, 150), "thorough": (24, 4.0, 150)}
"""Candidates, training work relative to balanced, and epochs at most."""

WORK = 2.5e12
"""Multiplications and additions that a balanced plan spends, all candidates and folds together."""


def portfolio(space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
    """An ordered list of configurations that do well on tables, then draws around them.

    The space's own dimensions replace the portfolio's, key by key.
    """
    if results:
        return []
    count, work, most = EFFORT[space.effort]
    count = n or count
    rng = np.random.default_rng(seed)
    settings = [*PORTFOLIO[:count], *(_draw(rng) for _ in range(count - len(PORTFOLIO)))]
    chosen = [{**setting, **_pick(space.dimensions, i, rng)} for i, setting in enumerate(settings)]
    epochs = _epochs(space, len(chosen), work, most)
    return [Candidate({"max_epochs": epochs, **c}) for c in chosen]


def _epochs(space: Space, count: int, work: float, most: int) -> int:
    """Epochs that the plan's work pays for, between 12 and `most`."""
    size = space.size
    rows = size["n_rows"] * size["n_folds"]
    width = 128
    weights = (size["n_features"] + 2 * width) * width
    per_epoch = 6 * rows * weights * count
    # small tables are bound by steps, not by arithmetic
    steps = rows / 64 * 2e8 / 5
    return int(np.clip(work * WORK / max(per_epoch, steps), 12, most))


COMMON: dict[str, Any] = {
    "optimizer": "adamw",
    "optimizer__beta2": 0.95,
    "early_stopping": True,
    "n_iter_no_change": 25,
    "schedule": "cosine",
    "network": "mlp",
    "network__width": 128,
}

PORTFOLIO: list[dict[str, Any]] = [
    {**COMMON, "activation": "silu", "network__depth": 3, "network__dropout": 0.1, "learning_rate": 3e-3,
     "optimizer__weight_decay": 0.02},
    {**COMMON, "activation": "relu", "network__depth": 2, "network__dropout": 0.0, "learning_rate": 1e-3,
     "optimizer__weight_decay": 0.01},
]  # fmt: skip


def _draw(rng: np.random.Generator) -> dict[str, Any]:
    """One configuration from the prior around the portfolio."""
    return {
        **COMMON,
        "activation": str(rng.choice(["relu", "silu", "gelu"])),
        "network__depth": int(rng.choice([1, 2, 3])),
        "network__dropout": float(rng.choice([0.0, 0.1, 0.2, 0.3])),
        "learning_rate": float(np.exp(rng.uniform(np.log(3e-4), np.log(1e-2)))),
        "optimizer__weight_decay": float(np.exp(rng.uniform(np.log(1e-3), np.log(0.1)))),
    }


def _pick(dimensions: Sequence[Mapping[str, Any]], index: int, rng: np.random.Generator) -> dict[str, Any]:
    """One value of every dimension that the user set: lists in turn, distributions drawn."""
    alternative = dimensions[index % len(dimensions)]
    return {
        name: values.rvs(random_state=rng).item() if hasattr(values, "rvs") else list(values)[index % len(list(values))]
        for name, values in alternative.items()
    }


@hookimpl
def register_strategies(register: Any) -> None:
    register("portfolio", portfolio, own_seeds=True, choose_epoch=True, half=True)
    register("grid", grid, own_seeds=False, choose_epoch=False)
    register("random", random, own_seeds=False, choose_epoch=False)
