"""The built-in search strategy: configurations that do well on tables, then draws around those that did best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from autoreg.hookspecs import hookimpl
from autoreg.pace import VALIDATION_COST
from autoreg.results import CandidateResult
from autoreg.space import PARTS, Candidate, Space, Time

EFFORT = {"quick": (4, 0.25), "balanced": (8, 1.0), "thorough": (24, 6.0)}
"""Candidates, and training work relative to balanced."""

WORK = 1e12
"""Multiplications of parameters with rows that a balanced plan spends, all candidates and folds together."""

EPOCHS = {"quick": (4, 64), "balanced": (8, 256), "thorough": (16, 512)}
"""Fewest and most epochs."""

RUNGS = ((7 / 15, 0.5),)
"""Where the schedule is at zero, and all are at their best: half of a stack's candidates stay for the last cycle."""

MOST_EPOCHS = 256
"""However much time is left, a candidate trains no longer: others are tried instead."""

FEWEST_EPOCHS = 48
"""Epochs that the plan for a time limit gives a candidate before it gives time to a second one."""

FEW_EPOCHS = 8
"""Where there is no time for so many, an epoch is a part of the rows: a schedule needs some, and so does the clock."""

AT_A_TIME = 4
"""Candidates of one encoding in a round: they share a stack, and a rung compares them."""


def portfolio(space: Space, results: Sequence[CandidateResult], n: int | None, seed: int) -> list[Candidate]:
    """An ordered list of configurations that do well on tables, then draws around the best of them.

    Rounds of candidates with two encodings, a stack each. A plan for an effort has a fixed number of them; under a time
    limit rounds follow until the time is spent. The space's own dimensions replace the portfolio's, key by key.

    Examples
    --------
    >>> size = {"n_rows": 1000, "n_numbers": 5, "n_features": 5, "n_folds": 5}
    >>> [c["encoding"] for c in portfolio(Space(({},), size, "quick"), [], None, 0)]
    ['ple', 'ple', 'pbld', 'pbld']
    """
    if space.time is not None:
        return _timed_round(space, space.time, results, n, seed)
    count, effort = EFFORT[space.effort]
    count = n or count
    done = len(results)
    if done >= count:
        return []
    lanes = min(2, count)
    size = min(AT_A_TIME, -(-count // lanes), -(-(count - done) // lanes))
    chosen = _candidates(space, results, [size] * lanes, seed)[: count - done]
    epochs = _epochs(space, count, effort)
    return [Candidate({"max_epochs": epochs, **one}) for one in chosen]


def _epochs(space: Space, count: int, effort: float) -> int:
    """Epochs that the plan's work pays for."""
    size = space.size
    parameters = (8 * size["n_features"] + 2 * WIDTH) * WIDTH
    per_epoch = size["n_rows"] * size["n_folds"] * count * parameters * cost_share(min(AT_A_TIME, count))
    fewest, most = EPOCHS[space.effort]
    return int(np.clip(effort * WORK / per_epoch, fewest, most))


def cost_share(count: int) -> float:
    """Share of all their epochs that a stack of so many candidates trains, since rungs take some out.

    >>> cost_share(1), round(cost_share(2), 3), round(cost_share(4), 3)
    (1.0, 0.733, 0.733)
    """
    share, before, left = 0.0, 0.0, count
    for t, room in (*RUNGS, (1.0, 1.0)):
        share += (t - before) * left
        before, left = t, min(left, int(np.ceil(room * count)))
    return share / count


def _timed_round(
    space: Space, time: Time, results: Sequence[CandidateResult], n: int | None, seed: int
) -> list[Candidate]:
    """A round that fits into the time that is left: a stack for each core, two at least."""
    room = MOST_CANDIDATES if n is None else n
    lanes = min(max(2, time.at_once), room - len(results))
    if lanes < 1:
        return []
    sizes, epochs, shares = [], [], []
    known: dict[str, float] = {}
    # on one core the stacks follow each other
    seconds = time.seconds * min(1.0, time.at_once / lanes)
    for lane in range(lanes):
        first = Candidate(_candidates(space, results, _only(lane, lanes), seed)[0])
        alike = repr(sorted((name, repr(value)) for name, value in first.parameters.items() if name not in CHEAP))
        if alike not in known:
            known[alike] = time.seconds_for(first)
        each = known[alike] if known[alike] > 0 else seconds
        size = AT_A_TIME
        while size > 1 and seconds / (each * size * cost_share(size)) < FEWEST_EPOCHS:
            size //= 2
        passes = seconds / (each * size * cost_share(size))
        whole = bool({"max_epochs", "subsample"} & set(first.parameters))
        many, share = _epochs_of(passes, whole)
        sizes.append(size)
        epochs.append(many)
        shares.append(share)
    if results and max(epochs) < FEWEST_EPOCHS // 2:
        return []
    chosen = _candidates(space, results, sizes, seed)
    plans = [
        {"max_epochs": many, **({"subsample": share} if share < 1 else {})}
        for size, many, share in zip(sizes, epochs, shares, strict=True)
        for _ in range(size)
    ]
    for plan, one in zip(plans, chosen, strict=True):
        if "max_epochs" in one:
            plan.pop("subsample", None)
    return [Candidate({**plan, **one}) for plan, one in zip(plans, chosen, strict=True)][: room - len(results)]


def _epochs_of(passes: float, whole: bool = False) -> tuple[int, float]:
    """Epochs, and the share of the rows that each takes, where there is time for so many passes over all of them.

    Validation after each epoch may take a fourth of the time. With `whole`, epochs stay what they are.

    >>> _epochs_of(1000.0), _epochs_of(30.5), _epochs_of(8.0)
    ((256, 1.0), (30, 1.0), (8, 1.0))
    >>> [(many, round(share, 3)) for many, share in map(_epochs_of, (4.0, 1.0, 0.3, 0.0))]
    [(8, 0.458), (3, 0.278), (1, 0.242), (1, 0.01)]
    """
    if whole or passes >= FEW_EPOCHS:
        return int(np.clip(passes, 1, MOST_EPOCHS)), 1.0
    validation = VALIDATION_COST / (1 + VALIDATION_COST)
    many = int(np.clip(passes / (4 * validation), 1, FEW_EPOCHS))
    return many, float(np.clip((passes / many - validation) / (1 - validation), 0.01, 1.0))


def _only(lane: int, lanes: int) -> list[int]:
    return [int(place == lane) for place in range(lanes)]


MOST_CANDIDATES = 1000
"""Of a search without a number of its own: all are kept until its end, and the file lists them."""

WIDTH = 128

COMMON: dict[str, Any] = {
    "network": "realmlp",
    "network__width": WIDTH,
    "network__depth": 3,
    "network__residual": True,
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


LISTED: tuple[list[dict[str, Any]], ...] = (
    [
        _setting("ple", 0.008, 0.05, 0.15),
        _setting("ple", 0.005, 0.2, 0.3),
        _setting("ple", 0.005, 0.02, 0.05),
        _setting("ple", 0.01, 0.05, 0.25),
    ],
    [
        _setting("pbld", 0.01, 0.05, 0.2, encoding__sigma=1.0),
        _setting("pbld", 0.01, 0.05, 0.2, encoding__sigma=0.3),
        _setting("pbld", 0.008, 0.05, 0.1, encoding__sigma=0.3),
        _setting("pbld", 0.005, 0.02, 0.0, encoding__sigma=0.5),
    ],
)
"""The first candidates of each encoding, the most useful first."""

AROUND: dict[str, Any] = {
    "learning_rate": stats.loguniform(2e-3, 1.5e-2),
    "optimizer__weight_decay": stats.loguniform(5e-3, 0.3),
    "network__dropout": [0.0, 0.05, 0.1, 0.2, 0.3],
}
"""Where the portfolio's configurations lie."""

ENCODINGS: tuple[dict[str, Any], ...] = (
    {"encoding": ["ple"]},
    {"encoding": ["pbld"], "encoding__sigma": stats.loguniform(0.05, 3)},
)

CHEAP = {*AROUND, "encoding__sigma", "target_scaling"}
"""What an epoch takes hardly depends on these."""

FOR_SKEWED: dict[str, Any] = {"target_scaling": ["standard", "log"]}
"""A further dimension where all targets are positive and skewed."""


def _is_skewed(space: Space) -> bool:
    # losses that the user names may want the target as it is
    if any("loss" in alternative for alternative in space.dimensions):
        return False
    return space.size.get("n_skewed_targets", 0) == space.size.get("n_targets", 1)


def _loss(space: Space) -> dict[str, Any]:
    """The pinball loss where a quantile is scored; otherwise `NeuralRegressor`'s own.

    Not for absolute errors: on the table where it was tried, networks that learned it had a larger one (search.md).

    >>> _loss(Space(({},), {}, objective={"loss": "quantile", "quantile": 0.9}))
    {'loss': 'quantile', 'loss__quantile': 0.9}
    >>> _loss(Space(({},), {}, objective={"loss": "squared_error", "quantile": None}))
    {}
    """
    level = space.objective.get("quantile")
    # the least and the greatest value are quantiles, but nothing that a gradient leads to
    return {} if level is None or level in (0, 1) else {"loss": "quantile", "loss__quantile": level}


def prior(space: Space, n: int) -> list[dict[str, Any]]:
    """The space around the portfolio, for strategies that search it in other ways.

    Examples
    --------
    >>> size = {"n_rows": 1000, "n_numbers": 5, "n_features": 5, "n_folds": 5}
    >>> [one["encoding"] for one in prior(Space(({},), size, "quick"), 4)]
    [['ple'], ['pbld']]
    """
    plan = {"max_epochs": _epochs(space, n, EFFORT[space.effort][1]), **COMMON, **_loss(space)}
    around = {**AROUND, **(FOR_SKEWED if _is_skewed(space) else {})}
    return [{**{name: [value] for name, value in plan.items()}, **around, **encoding} for encoding in ENCODINGS]


def _candidates(
    space: Space, results: Sequence[CandidateResult], sizes: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """The next candidates of each lane, without their epochs: those listed first, then draws."""
    settings = []
    skewed = _is_skewed(space)
    for lane, size in enumerate(sizes):
        rng = np.random.default_rng([seed, len(results), lane])
        listed = LISTED[lane][:size] if not results and lane < len(LISTED) else []
        draws = [_draw(results, lane % len(LISTED), rng, skewed) for _ in range(size - len(listed))]
        settings += [{**COMMON, **_loss(space), **one} for one in (*listed, *draws)]
    rng = np.random.default_rng([seed, len(results)])
    chosen = [_override(setting, _pick(space.dimensions, len(results) + i, rng)) for i, setting in enumerate(settings)]
    _draw_declared(space, settings, chosen, seed)
    return chosen


def _draw(results: Sequence[CandidateResult], lane: int, rng: np.random.Generator, skewed: bool) -> dict[str, Any]:
    """One configuration from the prior; every other one near one of the best so far with its encoding."""
    dimensions = {**ENCODINGS[lane], **AROUND, **(FOR_SKEWED if skewed else {})}
    drawn = {
        name: _draw_from(values, rng) if hasattr(values, "rvs") else values[rng.integers(len(values))]
        for name, values in dimensions.items()
    }
    scored = [(row.score, row.candidate) for row in results if row.candidate is not None and row.score == row.score]
    # where the user's own encodings take their place, all are
    same = [(score, one) for score, one in scored if one["encoding"] == drawn["encoding"]] or scored
    if not same or rng.random() < 0.5:
        return drawn
    best = sorted(same, key=lambda pair: -pair[0])[: max(1, min(3, len(same) // 2))]
    _, near = best[rng.integers(len(best))]
    for name, values in dimensions.items():
        if name.split("__")[0] == "encoding" and near["encoding"] != drawn["encoding"]:
            continue  # its options are those of another
        if name in near.parameters and (not hasattr(values, "rvs") or rng.random() < 0.5):
            drawn[name] = near[name]
        elif name in near.parameters:
            drawn[name] = float(near[name] * np.exp(rng.normal(0, 0.4)))
    return drawn


def _draw_from(distribution: Any, rng: np.random.Generator) -> Any:
    """One plain number; scipy gives whole ones as they are, and others in numpy's types."""
    value = distribution.rvs(random_state=rng)
    return value.item() if hasattr(value, "item") else value


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
            picked[name] = _draw_from(values, rng)
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
    register(
        "portfolio", portfolio, own_seeds=True, choose_epoch=True, half=True, prior=prior,
        rungs=RUNGS, most_epochs=MOST_EPOCHS,
    )  # fmt: skip
