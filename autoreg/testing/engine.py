"""Parts in the real engine: a small table, members in a stack and alone, a model saved and loaded."""

from __future__ import annotations

import pickle
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from autoreg.estimators import NeuralRegressor, load
from autoreg.folds import Fold
from autoreg.grouping import build
from autoreg.plugins import registry
from autoreg.problem import Problem
from autoreg.registry import Owner
from autoreg.scoring import as_metric
from autoreg.space import Candidate
from autoreg.specs import CandidateOutcome, MemberSpec, StackSpec
from autoreg.tables import infer_schema
from autoreg.testing.results import Fault, told
from autoreg.training import train_stack

SMALL: dict[str, Any] = {
    "batch_size": 7,
    "max_epochs": 5,
    "learning_rate": 0.003,
}
"""A candidate that trains in a moment, for more than seven steps, with folds of unequal numbers of steps."""

MLP: dict[str, Any] = {"network__width": 4, "network__depth": 1}
"""Around a part that is no network."""

N_ROWS = 25


def candidate(given: Mapping[str, Any]) -> Candidate:
    """The small candidate with something in it.

    >>> candidate({"activation": "tanh"}).label
    'mlp(width=4, depth=1) tanh lr 0.003'
    """
    return Candidate({**SMALL, **({} if "network" in given else MLP), **given})


_OWNER = Owner("autoreg.testing")


@contextmanager
def offered(kind: str, name: str, thing: Any, facts: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Register a thing for a while, unless it is; gives the name under which it is found.

    >>> with offered("activation", "relu", torch.relu) as name:
    ...     name, registry().get("activation", name).owner.plugin
    ('relu-checked', 'autoreg.testing')
    """
    given = dict(facts or {})
    space = given.pop("space", {})
    known = [entry for entry in registry() if (entry.kind, entry.name) == (kind, name)]
    if len(known) == 1 and known[0].thing is thing and (known[0].facts, known[0].space) == (given, space):
        yield name
        return
    while name in registry().names(kind):
        name += "-checked"
    registry().add(kind, name, thing, _OWNER, space=space, **given)
    try:
        yield name
    finally:
        registry().remove(_OWNER)


def table(n_targets: int = 1, numbers_only: bool = False) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Numbers with gaps, a category with a rare level, targets above zero."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.normal(size=(N_ROWS, 3)), columns=["a", "b", "c"])
    y = np.exp(0.5 * frame[["a"]].to_numpy() + 0.1 * draw.normal(size=(N_ROWS, n_targets)))
    if not numbers_only:
        frame["d"] = ["rare"] * 3 + list(draw.choice(["x", "y"], N_ROWS - 3))
        frame.loc[::6, "b"] = np.nan
    return frame, y


def problem(
    dtype: torch.dtype = torch.float64, n_targets: int = 1, half: bool = False, numbers_only: bool = False
) -> Problem:
    """The table with three unequal folds, of which one never sees the rare level; weights."""
    frame, y = table(n_targets, numbers_only)
    schema = infer_schema(frame)
    coded = schema.encode(frame)
    rows = np.arange(N_ROWS)
    folds = [Fold(rows[3:], rows[:3]), Fold(rows[rows % 3 > 0], rows[rows % 3 == 0]), Fold(rows[:12], rows[12:])]
    weight = np.random.default_rng(1).uniform(0.5, 2.0, N_ROWS)
    return Problem(
        coded.numbers, coded.codes, schema.layout, y, weight, folds, as_metric(None), dtype=dtype, half=half,
        choose_epoch=False,
    )  # fmt: skip


def _members(candidates: Sequence[Mapping[str, Any]], setting: Problem) -> list[MemberSpec]:
    return [
        member for index, given in enumerate(candidates) for member in build(index, candidate(given), setting).members
    ]


def train(members: Sequence[MemberSpec], setting: Problem) -> list[CandidateOutcome]:
    """Train members in one stack."""
    spec = StackSpec(
        members, SMALL["max_epochs"], setting.metric.over_members(), choose_epoch=False, dtype=setting.dtype,
        half=setting.half,
    )  # fmt: skip
    return train_stack(spec, setting.data())


def check_stack(candidates: list[Mapping[str, Any]], **options: Any) -> None:
    """A stack of candidates trains to the numbers of each member alone, in float64.

    Parameters
    ----------
    candidates : list of mappings
        Of one program; three members each.
    **options
        Of `problem`.
    """
    setting = problem(**options)
    members = _members(candidates, setting)
    outcomes = train(members, setting)
    for outcome in outcomes:
        if outcome.failure:
            raise Fault("a stack of three members that trains", outcome.failure)
    together = [prediction for outcome in outcomes for prediction in outcome.predictions]
    for member, prediction in zip(members, together, strict=True):
        alone = train([member], setting)[0].predictions[0]
        worst = float(np.abs(alone - prediction).max() / (1 + np.abs(alone).max()))
        if not worst < 1e-9:
            raise Fault(
                "the same predictions from members in a stack as from each alone, to 1e-9",
                f"{worst:.2g} between them: something of one member reaches another, or is kept outside of the state",
            )


def check_half(given: Mapping[str, Any], **options: Any) -> None:
    """A stack with matrix products in bfloat16 trains."""
    setting = problem(torch.float32, half=True, **options)
    (outcome,) = train(_members([given], setting), setting)
    if outcome.failure:
        raise Fault("training with matrix products in bfloat16", outcome.failure)


def fitted(given: Mapping[str, Any], n_targets: int = 1, numbers_only: bool = False) -> NeuralRegressor:
    """One network, trained on the table."""
    frame, y = table(n_targets, numbers_only)
    estimator = NeuralRegressor._from_candidate(candidate(given))
    estimator.set_params(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(frame, y)


def check_saved(given: Mapping[str, Any], numbers_only: bool = False, **options: Any) -> None:
    """A model with the part, saved and loaded, predicts the same bits."""
    estimator, (frame, _) = fitted(given, numbers_only=numbers_only, **options), table(numbers_only=numbers_only)
    expected = estimator.predict(frame)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.safetensors"
        estimator.save(path)
        _check_bits(load(path).predict(frame), expected, "saved and loaded")


def check_pickled(given: Mapping[str, Any], numbers_only: bool = False, **options: Any) -> None:
    """A model with the part, pickled and read back, predicts the same bits."""
    estimator, (frame, _) = fitted(given, numbers_only=numbers_only, **options), table(numbers_only=numbers_only)
    expected = estimator.predict(frame)
    try:
        copy = pickle.loads(pickle.dumps(estimator))
    except Exception as error:  # pickle has no error of its own for what it cannot do
        raise Fault(
            "a fitted model that can be pickled, for joblib and copies",
            f"{told(error)}: define functions and classes at the top of a module",
        ) from error
    _check_bits(copy.predict(frame), expected, "pickled and read back")


def _check_bits(found: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]], what: str) -> None:
    if not np.array_equal(found, expected):
        raise Fault(
            f"the same predictions from the model {what}",
            f"{np.abs(found - expected).max():.2g} between them: numbers must be parameters or buffers, or follow "
            f"from the options",
        )
