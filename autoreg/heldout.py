"""Predictions of held-out rows: computed anew, freed of bias, and gathered."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoreg.grouping import Built
from autoreg.member import has_views
from autoreg.problem import Problem
from autoreg.scoring import root_mean_squared_error
from autoreg.specs import CandidateOutcome, MemberSpec

Floats = NDArray[np.float64]

ROWS_AT_ONCE = 4096


def held_out(item: Built, outcome: CandidateOutcome, problem: Problem) -> list[Floats]:
    """What a candidate's members predict for their validation rows, (V, O) each; empty without such rows.

    On the CPU in full precision, and for the logarithm of a target without its bias; the members' states are set right
    as well.
    """
    predictions = outcome.predictions
    if (problem.half or problem.device != "cpu") and predictions:
        trained = zip(item.members, outcome.states, strict=True)
        predictions = [_predict(spec, state, spec.valid, problem) for spec, state in trained]
    if not (item.recipe.log_target and item.recipe.predicts_mean):
        return predictions
    factors = set_right(item, outcome, predictions, problem)
    return [prediction * factor for prediction, factor in zip(predictions, factors, strict=False)]


def set_right(item: Built, outcome: CandidateOutcome, predictions: list[Floats], problem: Problem) -> list[Floats]:
    """Free members that learned logarithms of their bias; returns what they lacked, (O,) each."""
    factors = _factors(item, outcome, predictions, problem)
    for state, factor in zip(outcome.states, factors, strict=True):
        state["center"] = state["center"] + torch.from_numpy(np.log(factor))
    return factors


@torch.no_grad()
def _predict(spec: MemberSpec, state: Mapping[str, Tensor], rows: NDArray[np.int64], problem: Problem) -> Floats:
    """A trained member's predictions, (V, O)."""
    module = copy.deepcopy(spec.module).eval()
    module.load_state_dict({name: state[name] for name in module.state_dict()})
    module.center, module.spread = state["center"], state["spread"]
    chunks = []
    for some in np.array_split(rows, max(1, len(rows) // ROWS_AT_ONCE)):
        numbers = torch.from_numpy(problem.numbers[some]).to(problem.dtype)
        output = module(numbers, torch.from_numpy(problem.codes[some].astype(np.int64)))
        chunks.append(module.original_units(output, spec.loss.point, has_views(output, stacked=False)))
    return torch.cat(chunks).numpy()


def _factors(item: Built, outcome: CandidateOutcome, predictions: list[Floats], problem: Problem) -> list[Floats]:
    """What each member's predictions, (O,), lack of the mean: they follow the mean of logarithms, which tells less.

    Where validation rows choose the epoch they tell this too, for all folds together; otherwise the training rows, for
    each member alone. Duan, "Smearing estimate: a nonparametric retransformation method" (1983).
    """
    if predictions and problem.choose_epoch:
        rows = np.concatenate([spec.valid for spec in item.members])
        return [_ratio(problem, rows, np.concatenate(predictions))] * len(item.members)
    trained = zip(item.members, outcome.states, strict=True)
    return [_ratio(problem, spec.train, _predict(spec, state, spec.train, problem)) for spec, state in trained]


def _ratio(problem: Problem, rows: NDArray[np.int64], prediction: Floats) -> Floats:
    weight = problem.weight_of(rows)
    return np.average(problem.y[rows], axis=0, weights=weight) / np.average(prediction, axis=0, weights=weight)


def out_of_fold(
    predictions: Sequence[Floats], problem: Problem
) -> tuple[Floats | None, tuple[float, ...], tuple[float, ...]]:
    """Out-of-fold predictions (N, O), and each fold's score and RMSE."""
    if not predictions:
        return None, (), ()
    total, count = np.zeros_like(problem.y), np.zeros(len(problem.y))
    scores, rmse = [], []
    for fold, prediction in zip(problem.folds, predictions, strict=True):
        rows = fold.valid
        total[rows] += prediction
        count[rows] += 1
        weight = problem.weight_of(rows)
        scores.append(problem.metric.score(problem.y[rows], prediction, weight))
        rmse.append(root_mean_squared_error(problem.y[rows], prediction, weight))
    with np.errstate(invalid="ignore", divide="ignore"):
        oof = total / count[:, None]
    return oof, tuple(scores), tuple(rmse)
