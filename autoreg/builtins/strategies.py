"""Built-in search strategies: portfolio, grid, random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn.model_selection import ParameterGrid, ParameterSampler

from autoreg.errors import OptionError
from autoreg.hookspecs import hookimpl
from autoreg.results import CandidateResult
from autoreg.space import PARTS, Candidate, Space


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


EFFORT = {"quick": (4, 0.25), "balanced": (8, 1.0), "thorough": (24, 6.0)}
"""Candidates, and training work relative to balanced."""

WORK = 1e12
"""Multiplications of parameters with rows that a balanced plan spends, all candidates and folds together."""

EPOCHS = {"quick": (4, 64), "balanced": (8, 256), "thorough": (16, 512)}
"""Fewest and most epochs."""


def portfolio(space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
    """An ordered list of configurations that do well on tables, then draws around them.

    The space's own dimensions replace the portfolio's, key by key.

    Examples
    --------
    >>> size = {"n_rows": 1000, "n_numbers": 5, "n_features": 5, "n_folds": 5}
    >>> [c["encoding"] for c in portfolio(Space(({},), size, "quick"), [], None, 0)]
    ['ple', 'ple', 'pbld', 'pbld']
    """
    if results:
        return []
    count, effort = EFFORT[space.effort]
    count = n or count
    rng = np.random.default_rng(seed)
    listed = PORTFOLIO if count > 4 else [PORTFOLIO[i] for i in (0, 1, 4, 5)]
    settings = [*listed[:count], *(_draw(rng) for _ in range(count - len(listed)))]
    chosen = [_override({**COMMON, **s}, _pick(space.dimensions, i, rng)) for i, s in enumerate(settings)]
    _draw_declared(space, [{**COMMON, **s} for s in settings], chosen, seed)
    epochs = _epochs(space, len(chosen), effort)
    return [Candidate({"max_epochs": epochs, **c}) for c in chosen]


def _epochs(space: Space, count: int, effort: float) -> int:
    """Epochs that the plan's work pays for."""
    size = space.size
    parameters = (8 * size["n_features"] + 2 * WIDTH) * WIDTH
    per_epoch = size["n_rows"] * size["n_folds"] * count * parameters
    fewest, most = EPOCHS[space.effort]
    return int(np.clip(effort * WORK / per_epoch, fewest, most))


WIDTH = 128

COMMON: dict[str, Any] = {
    "network": "mlp",
    "network__width": WIDTH,
    "network__depth": 3,
    "activation": "silu",
    "optimizer": "adamw",
    "optimizer__beta2": 0.95,
    "schedule": "coslog4",
    # its zero points lie at 1/15, 3/15, 7/15 and 15/15: a best epoch at one of them is given until the next
    "early_stopping": True,
    "n_iter_no_change": 2.2,
}
"""What the portfolio's configurations share: RealMLP's recipe in small (arXiv 2407.04491)."""


def _setting(encoding: str, learning_rate: float, weight_decay: float, dropout: float, **more: Any) -> dict[str, Any]:
    return {
        "encoding": encoding,
        "learning_rate": learning_rate,
        "optimizer__weight_decay": weight_decay,
        "network__dropout": dropout,
        **more,
    }


PORTFOLIO: list[dict[str, Any]] = [
    _setting("ple", 0.01, 0.05, 0.1),
    _setting("ple", 0.02, 0.05, 0.2),
    _setting("ple", 0.005, 0.02, 0.0),
    _setting("ple", 0.01, 0.2, 0.3),
    _setting("pbld", 0.01, 0.05, 0.1, encoding__sigma=0.1),
    _setting("pbld", 0.02, 0.05, 0.2, encoding__sigma=0.3),
    _setting("pbld", 0.01, 0.02, 0.0, encoding__sigma=1.0),
    _setting("pbld", 0.005, 0.1, 0.3, encoding__sigma=0.1),
]


AROUND: dict[str, Any] = {
    "learning_rate": stats.loguniform(3e-3, 3e-2),
    "optimizer__weight_decay": stats.loguniform(5e-3, 0.3),
    "network__dropout": [0.0, 0.05, 0.1, 0.2, 0.3],
}
"""Where the portfolio's configurations lie."""

ENCODINGS: tuple[dict[str, Any], ...] = (
    {"encoding": ["ple"]},
    {"encoding": ["pbld"], "encoding__sigma": stats.loguniform(0.05, 3)},
)


def prior(space: Space, n: int) -> list[dict[str, Any]]:
    """The space around the portfolio, for strategies that search it in other ways.

    Examples
    --------
    >>> size = {"n_rows": 1000, "n_numbers": 5, "n_features": 5, "n_folds": 5}
    >>> [one["encoding"] for one in prior(Space(({},), size, "quick"), 4)]
    [['ple'], ['pbld']]
    """
    plan = {"max_epochs": _epochs(space, n, EFFORT[space.effort][1]), **COMMON}
    return [{**{name: [value] for name, value in plan.items()}, **AROUND, **encoding} for encoding in ENCODINGS]


def _draw(rng: np.random.Generator) -> dict[str, Any]:
    """One configuration from the prior around the portfolio."""
    dimensions = {**ENCODINGS[rng.integers(len(ENCODINGS))], **AROUND}
    return {
        name: values.rvs(random_state=rng).item() if hasattr(values, "rvs") else values[rng.integers(len(values))]
        for name, values in dimensions.items()
    }


def _pick(dimensions: Sequence[Mapping[str, Any]], index: int, rng: np.random.Generator) -> dict[str, Any]:
    """One value of every dimension that the user set: distributions drawn, lists counted through like a clock.

    >>> rng = np.random.default_rng(0)
    >>> [_pick([{"a": [1, 2], "b": [3, 4]}], i, rng) for i in range(4)]
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}, {'a': 1, 'b': 4}, {'a': 2, 'b': 4}]
    """
    rest, which = divmod(index, len(dimensions))
    picked = {}
    for name, values in dimensions[which].items():
        if hasattr(values, "rvs"):
            picked[name] = values.rvs(random_state=rng).item()
        else:
            rest, place = divmod(rest, len(list(values)))
            picked[name] = list(values)[place]
    return picked


def _draw_declared(
    space: Space, settings: Sequence[Mapping[str, Any]], chosen: Sequence[dict[str, Any]], seed: int
) -> None:
    """Give parts that the portfolio does not know the options that they declare, but for the first time of each.

    Its author's own defaults come first.

    >>> space = Space(({},), {}, declared={"activation": {"snake": {"frequency": [0.5, 2.0]}}})
    >>> chosen = [{"activation": "snake"}, {"activation": "snake"}, {"activation": "silu"}]
    >>> _draw_declared(space, [{}] * 3, chosen, 0)
    >>> chosen
    [{'activation': 'snake'}, {'activation': 'snake', 'activation__frequency': 2.0}, {'activation': 'silu'}]
    """
    met = set()
    for i, (setting, candidate) in enumerate(zip(settings, chosen, strict=True)):
        # a generator of its own, so that the draws of others do not change
        rng = np.random.default_rng([seed, i])
        for part in PARTS:
            value = candidate.get(part)
            if value == setting.get(part):
                continue
            options = {name: v for name, v in space.options_of(part, value).items() if name not in candidate}
            if options and (part, value) in met:
                candidate.update(_pick([{name: _listed(v, rng) for name, v in options.items()}], 0, rng))
            if options:
                met.add((part, value))


def _listed(values: Any, rng: np.random.Generator) -> Any:
    """A distribution as it is; one value drawn from a list."""
    return values if hasattr(values, "rvs") else [values[rng.integers(len(values))]]


def _override(setting: Mapping[str, Any], picked: Mapping[str, Any]) -> dict[str, Any]:
    """The setting with the user's values; another part does not inherit the options of the one it replaces.

    >>> _override({"encoding": "pbld", "encoding__sigma": 1.0, "learning_rate": 0.1}, {"encoding": "plain"})
    {'learning_rate': 0.1, 'encoding': 'plain'}
    """
    replaced = {part for part, value in picked.items() if "__" not in part and setting.get(part) != value}
    kept = {name: value for name, value in setting.items() if name.split("__")[0] not in replaced}
    return {**kept, **picked}


@hookimpl
def register_strategies(register: Any) -> None:
    register("portfolio", portfolio, own_seeds=True, choose_epoch=True, half=True, prior=prior)
    register("grid", grid, own_seeds=False, choose_epoch=False)
    register("random", random, own_seeds=False, choose_epoch=False)
