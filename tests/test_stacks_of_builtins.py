"""DESIGN's first invariant, over every built-in: a stack of seven trains to the numbers of seven alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autoreg.folds import Fold
from autoreg.plugins import registry
from autoreg.problem import Problem
from autoreg.scoring import as_metric
from autoreg.search import _build
from autoreg.space import Candidate
from autoreg.tables import infer_schema
from autoreg.training import StackSpec, train_stack

SIZES = {"network__depth": 2, "network__width": 8, "network__dropout": 0.2}


def nasty_table(houses, numbers_only=False):
    """Missing values, a level absent from a fold, rows that the folds do not divide, weights."""
    frame = houses.iloc[:67].drop(columns="price").copy()
    if numbers_only:
        frame = frame.select_dtypes("number").fillna(0.0)
    else:
        frame["rare"] = ["only here"] * 5 + ["a", "b"] * 31
        frame.iloc[::7, 0] = None
    y = houses["price"].iloc[:67].to_numpy(float)[:, None]
    return frame, y / y.std()


def problem_of(houses, dtype, numbers_only=False):
    frame, y = nasty_table(houses, numbers_only)
    schema = infer_schema(frame)
    coded = schema.encode(frame)
    rows = np.arange(len(y))
    folds = [Fold(rows[rows % 7 != k], rows[rows % 7 == k]) for k in range(7)]
    folds[0] = Fold(rows[5:], rows[:5])  # the rare level is in no training row
    weight = np.random.default_rng(0).uniform(0.5, 2.0, len(y))
    return Problem(coded.numbers, coded.codes, schema.layout, y, weight, folds, as_metric(None), dtype=dtype,
                   choose_epoch=False)  # fmt: skip


def largest_difference(problem, parameters):
    """Between the predictions of one stack of a candidate's members and those of each member alone."""
    built = _build(0, Candidate(parameters), problem)
    score = problem.metric.over_members()
    spec = StackSpec(built.members, parameters["max_epochs"], score, choose_epoch=False, dtype=problem.dtype)
    data = problem.data()
    (together,) = train_stack(spec, data)
    assert not together.failure, together.failure
    worst = 0.0
    for member, prediction in zip(spec.members, together.predictions, strict=True):
        (alone,) = train_stack(replace(spec, members=[member]), data)
        worst = max(worst, float(np.abs(alone.predictions[0] - prediction).max()))
    return worst


def cases():
    return [(kind, name) for kind in ("encoding", "network", "activation", "loss", "optimizer")
            for name in registry().names(kind)]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), cases(), ids=lambda value: value)
def test_a_stack_of_seven_equals_seven_alone(houses, kind, name):
    """Float64, 65 steps, dropout, weights."""
    sizes = {} if name == "linear" else SIZES
    parameters = {**sizes, "batch_size": 11, "max_epochs": 13, "learning_rate": 0.003, kind: name}
    problem = problem_of(houses, torch.float64, numbers_only=name == "none")
    assert largest_difference(problem, parameters) < 1e-9
