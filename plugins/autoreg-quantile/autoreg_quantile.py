"""Quantiles and expectiles for autoreg: losses, and many quantiles from one network.

`pinball` is the loss of Koenker and Bassett, "Regression quantiles" (Econometrica 46, 1978); `expectile` that of Newey
and Powell, "Asymmetric least squares estimation and testing" (Econometrica 55, 1987). `quantiles` sums pinball losses
over many levels of one network with an output for each; `predict_quantiles` reads them. Where the outputs of a row
cross, they are sorted, which brings them no further from the true quantiles: Chernozhukov, Fernandez-Val and Galichon,
"Quantile and probability curves without crossing" (Econometrica 78, 2010).
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from autoreg import hookimpl
from autoreg.errors import OptionError

MOST_LEVELS = 999


def pinball(prediction: Tensor, target: Tensor, level: float = 0.5) -> Tensor:
    """The loss whose best prediction is the quantile of a level: half the absolute error at 0.5.

    >>> pinball(torch.tensor([[1.0], [-1.0]]), torch.zeros(2, 1), level=0.75)
    tensor([0.2500, 0.7500])
    """
    _check_level(level)
    short = target - prediction
    return torch.maximum(level * short, (level - 1) * short).mean(-1)


def expectile(prediction: Tensor, target: Tensor, level: float = 0.5) -> Tensor:
    """The loss whose best prediction is the expectile of a level: half the squared error at 0.5.

    >>> expectile(torch.tensor([[2.0], [-2.0]]), torch.zeros(2, 1), level=0.75)
    tensor([1., 3.])
    """
    _check_level(level)
    short = target - prediction
    return (torch.where(short > 0, level, 1 - level) * short.square()).mean(-1)


def quantiles(prediction: Tensor, target: Tensor, levels: int | Sequence[float] = 19) -> Tensor:
    """The mean pinball loss of all levels, each with an output of its own: (..., B, O * Q) and (..., B, O) to (..., B).

    Parameters
    ----------
    prediction, target : Tensor
    levels : int or sequence of float
        An odd number n stands for n even steps, 1/(n+1) to n/(n+1). A sequence must hold 0.5, which is what ``predict``
        gives.

    Examples
    --------
    >>> quantiles(torch.tensor([[-1.0, 0.0, 1.0]]), torch.zeros(1, 1), levels=3)
    tensor([0.1667])
    """
    steps = read_levels(levels)
    level = prediction.new_tensor(steps)
    short = target.unsqueeze(-1) - prediction.unflatten(-1, (-1, len(steps)))
    return torch.maximum(level * short, (level - 1) * short).mean((-2, -1))


def read_levels(levels: int | Sequence[float]) -> tuple[float, ...]:
    """Levels in ascending order, from a number of steps or a sequence.

    >>> read_levels(3), read_levels([0.9, 0.5])
    ((0.25, 0.5, 0.75), (0.5, 0.9))
    """
    if isinstance(levels, (list, tuple, np.ndarray)):
        levels = tuple(float(level) for level in levels)
    return _levels(levels)


@lru_cache(typed=True)
def _levels(levels: int | tuple[float, ...]) -> tuple[float, ...]:
    if (
        isinstance(levels, (int, np.integer))
        and not isinstance(levels, bool)
        and levels % 2
        and 0 < levels <= MOST_LEVELS
    ):
        return tuple(round(k / (levels + 1), 6) for k in range(1, levels + 1))
    if isinstance(levels, tuple) and len(levels) <= MOST_LEVELS:
        ordered = tuple(sorted(set(levels)))
        if 0.5 in ordered and len(ordered) == len(levels) and ordered[0] > 0 and ordered[-1] < 1:
            return ordered
    raise OptionError(
        f"loss option levels={levels!r}: give an odd number up to {MOST_LEVELS}, or different levels between 0 and 1 "
        f"with 0.5 among them"
    )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise OptionError(f"loss option level={level!r}: give a number between 0 and 1")


def uncrossed(outputs: Tensor) -> Tensor:
    """The outputs of a row in ascending order."""
    return outputs.sort(-1).values


@dataclass(frozen=True)
class Median:
    """From a network's outputs, (..., O * Q), to the middle one of each target, (..., O)."""

    n_levels: int
    place: int

    def __call__(self, output: Tensor) -> Tensor:
        return uncrossed(output.unflatten(-1, (-1, self.n_levels)))[..., self.place]


def _facts(levels: int | Sequence[float] = 19) -> dict[str, object]:
    steps = read_levels(levels)
    return {"outputs_per_target": len(steps), "point": Median(len(steps), steps.index(0.5))}


def predict_quantiles(model: Any, X: object, levels: Sequence[float] | None = None) -> pd.DataFrame:
    """Predict the quantiles of every row.

    Parameters
    ----------
    model : NeuralRegressor or AutoRegressor
        Fitted with the loss ``quantiles``, or loaded.
    X : array-like or DataFrame of shape (n_samples, n_features)
    levels : sequence of float, optional
        Any between the lowest and the highest level of the loss: values between two of its levels lie on the straight
        line between theirs. All levels of the loss where not given.

    Returns
    -------
    DataFrame
        A row each with the index of `X`, a column each level; for several targets columns ``(target, level)``. Values
        of a row never fall as the level grows.

    Examples
    --------
    >>> import autoreg
    >>> X = np.random.default_rng(0).uniform(size=(300, 1))
    >>> model = autoreg.NeuralRegressor(loss="quantiles", loss_options={"levels": [0.1, 0.5, 0.9]}, max_epochs=5,
    ...                                 random_state=0).fit(X, X[:, 0])
    >>> predict_quantiles(model, X[:2]).columns.tolist()
    [0.1, 0.5, 0.9]
    >>> bool((predict_quantiles(model, X, [0.3])[0.3] <= model.predict(X)).all())
    True
    """
    known = levels_of(model)
    found = model.predict_outputs(X, uncrossed)
    if levels is None:
        asked = known
    else:
        asked = tuple(float(level) for level in levels)
        for level in asked:
            if not known[0] <= level <= known[-1]:
                raise OptionError(f"level {level:g}: the model knows levels from {known[0]:g} to {known[-1]:g}")
        found = _between(found, np.array(known), np.array(asked))
    targets = model.model_.manifest["targets"]
    columns = list(asked) if len(targets) == 1 else pd.MultiIndex.from_product([targets, asked])
    index = X.index if isinstance(X, (pd.DataFrame, pd.Series)) else None
    return pd.DataFrame(found.reshape(len(found), -1), index=index, columns=columns)


def levels_of(model: Any) -> tuple[float, ...]:
    """The levels that a model's networks give quantiles of.

    Raises
    ------
    OptionError
        When not all of its networks were trained with the loss ``quantiles`` and the same levels, or a companion
        predicts.
    """
    candidates = [part.candidate for part in model.model_.parts if hasattr(part, "candidate")]
    if len(candidates) < len(model.model_.parts):
        raise OptionError(
            "the model predicts with companions, which have no quantiles: fit without them "
            "(companions='compare', --companions compare) and with the loss quantiles (--loss quantiles)"
        )
    losses = sorted({str(candidate["loss"]) for candidate in candidates})
    if losses != ["quantiles"]:
        raise OptionError(
            f"the model was trained with the loss {' and '.join(losses)}: train it with quantiles alone "
            f"(loss='quantiles', losses=['quantiles'], --loss quantiles)"
        )
    found = {read_levels(candidate.options("loss").get("levels", 19)) for candidate in candidates}
    if len(found) > 1:
        raise OptionError("the model's networks were trained with different levels: give space loss__levels one value")
    return found.pop()


def _between(values: np.ndarray, known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Values (..., Q) at known levels, read at others along straight lines."""
    if len(known) == 1:
        return np.repeat(values, len(asked), axis=-1)
    right = np.clip(np.searchsorted(known, asked), 1, len(known) - 1)
    share = (asked - known[right - 1]) / (known[right] - known[right - 1])
    return values[..., right - 1] * (1 - share) + values[..., right] * share


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("table", metavar="TABLE")
@click.option("-o", "--output", metavar="FILE", help="Where to; standard output where not given.")
@click.option("--level", "levels", type=float, multiple=True, help="Only this level; may be repeated.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
def command(model: str, table: str, output: str | None, levels: tuple[float, ...], force: bool) -> None:
    """Predict quantiles of the rows of TABLE: columns TARGET_q0.05, TARGET_q0.1, ..., in the order of the rows.

    MODEL was fitted with --loss quantiles.
    """
    from autoreg import load
    from autoreg.options import as_when_fitted
    from autoreg.readers import read_table
    from autoreg.writers import check_output, write_table

    if output is not None:
        check_output(output, force=force)
    estimator = load(model)
    as_text = [column.name for column in estimator.schema_.columns if column.kind == "category"]
    frame = read_table(table, as_text=as_text, **as_when_fitted({}, estimator.model_.manifest))
    found = predict_quantiles(estimator, frame, levels or None)
    targets = estimator.model_.manifest["targets"]
    pairs: Iterable[Any] = found.columns if len(targets) > 1 else [(targets[0], level) for level in found.columns]
    found.columns = [f"{target}_q{level:g}" for target, level in pairs]
    if output is None:
        found.to_csv(sys.stdout, index=False)
    else:
        write_table(found, output, force=force)


@hookimpl
def register_losses(register):
    register("pinball", pinball, space={"level": [0.4, 0.5, 0.6]})
    register("expectile", expectile, space={"level": [0.3, 0.5, 0.7]})
    register("quantiles", quantiles, facts=_facts, space={"levels": [19]})
