"""What a search keeps: the best candidate, the ensemble, and companions where they may take part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from autoreg.arithmetic import fast_products
from autoreg.companions import EvaluatedCompanion
from autoreg.ensemble import STEPS, cross_fitted, greedy_weights
from autoreg.errors import SearchError
from autoreg.libraries import on_cores
from autoreg.modelparts import CHUNK, ModelPart, padded
from autoreg.problem import AllRows, Problem
from autoreg.results import CandidateResult, SearchResults
from autoreg.scoring import root_mean_squared_error
from autoreg.search import Evaluated, best_of
from autoreg.threads import side_by_side

Floats = NDArray[np.float64]


class Choice(Protocol):
    """What can be chosen: a candidate, or a companion, after its evaluation."""

    result: CandidateResult
    oof: Floats | None
    in_threads: bool

    def part(self, weight: float = 1.0) -> ModelPart:
        """It as part of a model."""

    def on_all_rows(self, rows: AllRows) -> Choice:
        """It fitted once more, on all rows."""


@dataclass(frozen=True)
class Selection:
    """What a search ends with.

    Attributes
    ----------
    results : SearchResults
    chosen : list of (Choice, float)
        What predicts, with weights.
    best : Evaluated or None
        The best candidate; None when none could be trained and a companion stands in.
    """

    results: SearchResults
    chosen: Sequence[tuple[Choice, float]]
    best: Evaluated | None

    @property
    def parts(self) -> list[ModelPart]:
        """What predicts, as parts of a model."""
        return [item.part(weight) for item, weight in self.chosen]

    def on_all_rows(self, rows: AllRows, n_jobs: int | None = None) -> Selection:
        """What is chosen, and the best candidate, fitted once more: one model on all rows in place of one a fold.

        Raises
        ------
        Stopped
            When there was enough before.
        Exception
            Whatever one of them raises.
        """
        once = {item.result.index: item for item, _ in self.chosen}
        if self.best is not None:
            once[self.best.result.index] = self.best
        with on_cores(n_jobs):
            again = {index: item.on_all_rows(rows) for index, item in once.items() if not item.in_threads}
        rest = [index for index in once if index not in again]
        with fast_products():
            again |= zip(rest, side_by_side([_fitting(once[index], rows) for index in rest], n_jobs), strict=True)
        chosen = [(again[item.result.index], weight) for item, weight in self.chosen]
        return replace(self, chosen=chosen, best=self.best and cast(Evaluated, again[self.best.result.index]))


def _fitting(item: Choice, rows: AllRows) -> Callable[[Event], Choice]:
    def fit(halt: Event) -> Choice:
        return item.on_all_rows(replace(rows, enough=lambda: halt.is_set() or rows.enough()))

    return fit


def select(
    evaluated: Sequence[Evaluated],
    companions: Sequence[EvaluatedCompanion],
    problem: Problem,
    *,
    ensemble: bool = True,
    include: bool = False,
) -> Selection:
    """Choose what predicts.

    Parameters
    ----------
    evaluated : sequence of Evaluated
        The candidates.
    companions : sequence of EvaluatedCompanion
    problem : Problem
    ensemble : bool
        Whether several may be averaged; otherwise the best one predicts alone.
    include : bool
        Whether companions may predict, where each network gives one number for a target, as they do.

    Raises
    ------
    SearchError
        When nothing can predict.
    """
    alike = all(item.recipe is None or item.recipe.outputs_per_target == 1 for item in evaluated)
    able = [item for item in companions if item.members and not item.result.failure] if include and alike else []
    best = None if able and all(item.result.failure for item in evaluated) else best_of(evaluated)
    results = SearchResults(
        tuple(item.result for item in evaluated), tuple(item.result for item in companions), problem.metric.name,
        len(problem.folds), 0.0,
    )  # fmt: skip
    networks: list[Choice] = [item for item in evaluated if not item.result.failure and item.oof is not None]
    index = len(evaluated) + len(companions)
    row, chosen = _averaged(networks, problem, index) if ensemble else (None, {})
    everything: list[Choice] = [*networks, *able]
    if able:
        together, weights = _averaged(everything, problem, index + 1, steps=STEPS if ensemble else 1, alone=True)
        networks_alone = row or (best.result if best else None)
        taken = together is not None and any(item.result.index in weights for item in able)
        if together and taken and (networks_alone is None or not together.score <= networks_alone.score):
            results, row, chosen = replace(results, network_ensemble=row), together, weights
    by_index = {item.result.index: item for item in everything}
    if row is None:
        if best is None:
            raise SearchError("the networks failed, and no companion can stand in: there are no rows to choose by")
        return Selection(results, [(best, 1.0)], best)
    return Selection(replace(results, ensemble=row), [(by_index[i], weight) for i, weight in chosen.items()], best)


def _averaged(
    usable: Sequence[Choice], problem: Problem, index: int, steps: int = STEPS, alone: bool = False
) -> tuple[CandidateResult | None, dict[int, float]]:
    """The greedy ensemble's row and its weights by index; none where selection takes one, unless `alone` says so."""
    held_out = [fold.valid for fold in problem.folds]
    rows = np.unique(np.concatenate(held_out)) if held_out else np.zeros(0, dtype=np.int64)
    if not usable or len(rows) < 2 or (len(usable) < 2 and not alone):
        return None, {}
    predictions = np.stack([item.oof for item in usable if item.oof is not None])
    score, of_squares = problem.metric.score, problem.metric.of_squares
    found, scores, weights = cross_fitted(
        predictions, problem.y, problem.sample_weight, score, held_out, steps, of_squares
    )
    if steps == 1:  # one it shall be, and each part may have its own
        own = predictions[:, rows], problem.y[rows], problem.weight_of(rows)
        weights = greedy_weights(*own, score, steps, of_squares)
    if np.count_nonzero(weights) < 2 and not alone:
        return None, {}
    chosen = {item.result.index: float(w) for item, w in zip(usable, weights, strict=True) if w > 0}
    row = CandidateResult(
        index, None, _name([item.result for item in usable if item.result.index in chosen]), tuple(scores),
        tuple(
            root_mean_squared_error(problem.y[part], mean, problem.weight_of(part))
            for part, mean in zip(held_out, found, strict=True)
        ),
        is_ensemble=True, facts={"weights": chosen},
    )  # fmt: skip
    return row, chosen


def _name(rows: Sequence[CandidateResult]) -> str:
    """What a person reads: how many networks, and which companions.

    >>> _name([CandidateResult(3, None, "ridge", (), ()), CandidateResult(4, None, "extra_trees", (), ())])
    'ensemble of ridge and extra_trees'
    """
    companions = [row.name for row in rows if row.is_companion]
    n = len(rows) - len(companions)
    if not companions:
        return f"ensemble of {n}"
    named = [f"{n} network{'s' if n > 1 else ''}"] * (n > 0) + companions
    return f"ensemble of {' and '.join([', '.join(named[:-1])] * (len(named) > 1) + named[-1:])}"


def compared(
    results: SearchResults,
    evaluated: Sequence[Evaluated],
    companions: Sequence[EvaluatedCompanion],
    problem: Problem,
) -> SearchResults:
    """The results as a verdict compares them.

    Where rows are held out more than once, an ensemble's scores are those of mean predictions: those of all others then
    are too.
    """
    held_out = [fold.valid for fold in problem.folds]
    if not held_out or len(np.unique(np.concatenate(held_out))) == sum(map(len, held_out)):
        return results

    def again(row: CandidateResult, oof: Floats | None) -> CandidateResult:
        if row.failure or oof is None:
            return row
        score = [problem.metric.score(problem.y[part], oof[part], problem.weight_of(part)) for part in held_out]
        return replace(row, scores=tuple(score))

    return replace(
        results,
        candidates=tuple(again(row, item.oof) for row, item in zip(results.candidates, evaluated, strict=True)),
        companions=tuple(again(row, item.oof) for row, item in zip(results.companions, companions, strict=True)),
    )


def measure(
    selection: Selection, evaluated: Sequence[Evaluated], companions: Sequence[EvaluatedCompanion], problem: Problem
) -> SearchResults:
    """The results with each model's size and the time that a row takes, measured once.

    Networks of equal shapes share a measurement.
    """
    found: dict[int, tuple[float, float]] = {}
    known: dict[object, float] = {}
    chosen = {item.result.index: item for item, _ in selection.chosen}
    for item in evaluated:
        if item.result.failure or item.template is None:
            continue
        part = chosen.get(item.result.index, item).part()
        key = item.shape, part.n_members
        if key not in known:
            known[key] = _milliseconds(part, problem)
        found[item.result.index] = known[key], _megabytes(part)
    for companion in companions:
        own = chosen.get(companion.result.index, companion)
        if not companion.members:
            found[companion.result.index] = companion.result.ms_per_row, math.nan
            continue
        trees = own.part()
        try:
            each = _milliseconds(trees, problem)
        except (Exception, SystemExit):  # of a stranger's module
            each = math.nan
        found[companion.result.index] = each, _megabytes(trees)

    def told(row: CandidateResult) -> CandidateResult:
        weights: Mapping[int, float] = row.facts.get("weights", {}) if row.is_ensemble else {row.index: 1.0}
        figures = [found.get(i, (float("nan"), float("nan"))) for i in weights]
        return replace(row, ms_per_row=sum(f[0] for f in figures), megabytes=sum(f[1] for f in figures))

    results = selection.results
    return replace(
        results,
        candidates=tuple(told(row) for row in results.candidates),
        companions=tuple(told(row) for row in results.companions),
        ensemble=results.ensemble and told(results.ensemble),
        network_ensemble=results.network_ensemble and told(results.network_ensemble),
    )


@torch.inference_mode()
def _milliseconds(part: ModelPart, problem: Problem) -> float:
    numbers = padded(torch.from_numpy(problem.numbers[:CHUNK]), 0)
    codes = padded(torch.from_numpy(problem.codes[:CHUNK].astype(np.int64)), 0)
    part.predict(numbers, codes)
    begin = time.perf_counter()
    part.predict(numbers, codes)
    return 1000 * (time.perf_counter() - begin) / CHUNK


def _megabytes(part: ModelPart) -> float:
    return sum(t.numel() * t.element_size() for t in part.states.values()) / 1e6
