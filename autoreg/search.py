"""Evaluating candidates on folds: grouping them into stacks, training, and gathering what came out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.encoding import FoldStatistics, TableLayout, fold_statistics
from autoreg.errors import AutoregError, SearchError
from autoreg.folds import Fold
from autoreg.member import Member, has_views
from autoreg.parts import Recipe, resolve
from autoreg.results import CandidateResult, Progress
from autoreg.scoring import Metric
from autoreg.space import Candidate
from autoreg.stacking import mix
from autoreg.training import CandidateOutcome, Data, MemberSpec, StackSpec, train_stack

STACK_BYTES = 1 << 29
"""Activations and parameters that one stack may hold; longer work is split into several stacks."""

Floats = NDArray[np.float64]
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Problem:
    """A table in numbers, with its folds.

    Attributes
    ----------
    numbers, codes : array, (N, Dn) float32 and (N, Dc) int32
    layout : TableLayout
    y : array, (N, O)
    sample_weight : array, (N,), or None
    folds : list of Fold
    metric : Metric
    seed : int
    own_seeds : bool
        Whether every member draws a seed of its own, or all take `seed` itself.
    choose_epoch : bool
        Whether the best epoch is kept; otherwise all epochs run and the last one counts.
    half : bool
        Whether matrix products are in bfloat16 while training; what is reported and saved is computed in `dtype`.
    """

    numbers: NDArray[np.float32]
    codes: NDArray[np.int32]
    layout: TableLayout
    y: Floats
    sample_weight: Floats | None
    folds: Sequence[Fold]
    metric: Metric
    seed: int = 0
    own_seeds: bool = True
    choose_epoch: bool = True
    dtype: torch.dtype = torch.float32
    half: bool = False
    _statistics: dict[int, FoldStatistics] = field(default_factory=dict)

    def statistics(self, fold: int) -> FoldStatistics:
        """The fold's statistics, computed once."""
        if fold not in self._statistics:
            self._statistics[fold] = fold_statistics(
                self.numbers, self.codes, self.layout, self.folds[fold].train, self.sample_weight
            )
        return self._statistics[fold]

    def target_scale(self, fold: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the fold's training targets, (O,) each; spread 1 for a constant target."""
        rows = self.folds[fold].train
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        # scaled first: the squares of targets near 1e200 would overflow
        size = np.abs(self.y[rows]).max(axis=0)
        size = np.where((size > 0) & np.isfinite(size), size, 1.0)
        y = self.y[rows] / size
        mean = np.average(y, axis=0, weights=weight)
        spread = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weight)) * size
        return torch.from_numpy(mean * size), torch.from_numpy(np.where(spread > 0, spread, 1.0))

    def data(self) -> Data:
        return Data(
            torch.from_numpy(self.numbers).to(self.dtype),
            torch.from_numpy(self.codes.astype(np.int64)),
            torch.from_numpy(np.ascontiguousarray(self.y)),
            self.sample_weight,
        )


@dataclass
class Evaluated:
    """A candidate after training.

    Attributes
    ----------
    result : CandidateResult
    template : Member or None
        A single member of the candidate's shapes.
    states : list of dict
        One per fold: the member's parameters and buffers.
    oof : array, (N, O)
        Out-of-fold predictions, the mean where a row was held out several times, NaN where never.
    """

    result: CandidateResult
    recipe: Recipe | None = None
    template: Member | None = None
    states: list[dict[str, Tensor]] = field(default_factory=list)
    oof: Floats | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class _Built:
    """A candidate's members before training."""

    index: int
    recipe: Recipe
    members: list[MemberSpec]

    @property
    def key(self) -> Hashable:
        """Equal for candidates that fit into one stack."""
        candidate = self.recipe.candidate
        return (
            candidate["max_epochs"],
            self.recipe.outputs_per_target,
            candidate["n_iter_no_change"] if candidate["early_stopping"] else None,
            max(member.batch_size for member in self.members),
            signature(self.members[0].module),
        )

    @property
    def bytes(self) -> int:
        module, batch = self.members[0].module, self.members[0].batch_size
        parameters = sum(parameter.numel() for parameter in module.parameters())
        widths = sum(layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear))
        return len(self.members) * 4 * (8 * parameters + 8 * batch * widths)


def evaluate(
    candidates: Sequence[Candidate],
    problem: Problem,
    first_index: int = 0,
    on_progress: OnProgress | None = None,
) -> list[Evaluated]:
    """Train every candidate on every fold.

    A candidate whose parts raise is a failed result with the reason; the others go on.

    Parameters
    ----------
    candidates : sequence of Candidate
    problem : Problem
    first_index : int
        The number of the first of these candidates in the whole search.
    on_progress : function, optional

    Returns
    -------
    list of Evaluated
        In the order of the candidates.
    """
    done: dict[int, Evaluated] = {}
    built = []
    for index, candidate in enumerate(candidates, start=first_index):
        try:
            built.append(_build(index, candidate, problem))
        except AutoregError:
            raise
        except Exception as error:  # a part from a plugin or a user may raise anything
            done[index] = _failed(index, candidate, problem, error)
    data = problem.data()
    tracker = _Tracker(built, problem, on_progress)
    for stack in _stacks(built):
        for evaluated in _train(stack, problem, data, tracker):
            done[evaluated.result.index] = evaluated
    return [done[index] for index in sorted(done)]


def _build(index: int, candidate: Candidate, problem: Problem) -> _Built:
    recipe = resolve(candidate)
    members = []
    for k, fold in enumerate(problem.folds):
        seed = mix(problem.seed, index, k) if problem.own_seeds else problem.seed
        center, spread = problem.target_scale(k)
        if not recipe.scales_target:
            center, spread = torch.zeros_like(center), torch.ones_like(spread)
        module = recipe.make_member(problem.statistics(k), center, spread, seed)
        members.append(
            MemberSpec(
                module.to(problem.dtype),
                index,
                fold.train,
                fold.valid,
                seed,
                recipe.loss,
                recipe.optimizer,
                float(candidate["learning_rate"]),
                recipe.schedule,
                batch_size(candidate["batch_size"], len(fold.train)),
                _encoding_key(candidate, k),
            )
        )
        # .to() rounded the target's scale to the members' precision
        module.center, module.spread = center, spread
    return _Built(index, recipe, members)


def batch_size(value: int | str, n_rows: int) -> int:
    """Rows in a step; ``auto`` grows with the fold, as RealMLP's does (pytabkit).

    >>> batch_size("auto", 5000), batch_size(512, 300)
    (128, 300)
    """
    if value == "auto":
        for rows, size in ((1024, 64), (8192, 128), (30_000, 256), (100_000, 512)):
            if n_rows <= rows:
                return min(size, n_rows)
        return 1024
    return max(1, min(int(value), n_rows))


def _encoding_key(candidate: Candidate, fold: int) -> Hashable:
    encoding = candidate["encoding"]
    options = tuple(sorted((name, repr(value)) for name, value in candidate.options("encoding").items()))
    return (encoding if isinstance(encoding, str) or encoding is None else id(encoding), options, fold)


def signature(module: nn.Module) -> Hashable:
    """What two modules must share to stand in one stack: types, plain attributes and shapes, names included."""
    rows: list[Hashable] = []
    for name, part in module.named_modules():
        plain = tuple(
            (key, value if isinstance(value, (int, float, str, bool, type(None))) else id(value))
            for key, value in sorted(vars(part).items())
            if key != "training" and not key.startswith("_")
            and (isinstance(value, (int, float, str, bool, type(None))) or callable(value))
        )  # fmt: skip
        tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        rows.append((name, type(part), plain, tuple((key, tuple(tensor.shape)) for key, tensor in tensors)))
    return tuple(rows)


def _stacks(built: Sequence[_Built]) -> Iterator[list[_Built]]:
    """Candidates of one program together, in pieces that fit into memory."""
    groups: dict[Hashable, list[_Built]] = {}
    for item in built:
        groups.setdefault(item.key, []).append(item)
    for group in groups.values():
        per_stack = max(1, STACK_BYTES // max(1, group[0].bytes))
        for start in range(0, len(group), per_stack):
            yield group[start : start + per_stack]


def _train(stack: list[_Built], problem: Problem, data: Data, tracker: _Tracker) -> Iterator[Evaluated]:
    """Train a stack; when something in it raises, each candidate alone, so that only the culprit fails."""
    candidate = stack[0].recipe.candidate
    spec = StackSpec(
        [member for item in stack for member in item.members],
        int(candidate["max_epochs"]),
        problem.metric.over_members(),
        problem.choose_epoch,
        int(candidate["n_iter_no_change"]) if candidate["early_stopping"] else None,
        problem.dtype,
        problem.half,
    )
    try:
        outcomes = train_stack(spec, data, tracker.epoch_of(stack))
    except Exception as error:  # a part from a plugin or a user may raise anything
        if len(stack) > 1:
            for item in stack:
                yield from _train([item], problem, data, tracker)
        else:
            tracker.finished(stack)
            yield _failed(stack[0].index, candidate, problem, error)
        return
    tracker.finished(stack)
    by_index = {outcome.candidate: outcome for outcome in outcomes}
    for item in stack:
        yield _gather(item, by_index[item.index], problem)


def _gather(item: _Built, outcome: CandidateOutcome, problem: Problem) -> Evaluated:
    candidate = item.recipe.candidate
    if outcome.failure:
        return _failed(item.index, candidate, problem, outcome.failure, outcome)
    predictions = _predict_again(item, outcome, problem) if problem.half else outcome.predictions
    oof, scores, rmse = out_of_fold(predictions, problem)
    result = CandidateResult(
        item.index, candidate, candidate.label, scores, rmse, outcome.epoch, outcome.seconds,
        tuple(outcome.curve), tuple(outcome.train_curve),
    )  # fmt: skip
    return Evaluated(result, item.recipe, item.members[0].module, outcome.states, oof)


@torch.no_grad()
def _predict_again(item: _Built, outcome: CandidateOutcome, problem: Problem) -> list[Floats]:
    """Each member's predictions of its validation rows, in full precision."""
    predictions = []
    for spec, state in zip(item.members, outcome.states, strict=True):
        module = copy.deepcopy(spec.module).eval()
        module.load_state_dict({name: state[name] for name in module.state_dict()})
        module.center, module.spread = state["center"], state["spread"]
        chunks = []
        for rows in np.array_split(spec.valid, max(1, len(spec.valid) // 4096)):
            numbers, codes = (
                torch.from_numpy(problem.numbers[rows]),
                torch.from_numpy(problem.codes[rows].astype(np.int64)),
            )
            output = module(numbers.to(problem.dtype), codes)
            chunks.append(module.original_units(output, spec.loss.point, has_views(output, stacked=False)))
        predictions.append(torch.cat(chunks).numpy())
    return predictions


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
        weight = None if problem.sample_weight is None else problem.sample_weight[rows]
        scores.append(problem.metric.score(problem.y[rows], prediction, weight))
        squared = np.average((problem.y[rows] - prediction) ** 2, axis=0, weights=weight)
        rmse.append(float(np.sqrt(squared).mean()))
    with np.errstate(invalid="ignore", divide="ignore"):
        oof = total / count[:, None]
    return oof, tuple(scores), tuple(rmse)


def _failed(
    index: int,
    candidate: Candidate,
    problem: Problem,
    error: BaseException | str,
    outcome: CandidateOutcome | None = None,
) -> Evaluated:
    reason = error if isinstance(error, str) else f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    missing = (float("nan"),) * len(problem.folds)
    curves: dict[str, Any] = (
        {"curve": tuple(outcome.curve), "train_curve": tuple(outcome.train_curve), "seconds": outcome.seconds}
        if outcome
        else {}
    )
    result = CandidateResult(index, candidate, candidate.label, missing, missing, failure=reason, **curves)
    return Evaluated(result, error=error if isinstance(error, BaseException) else None)


def best_of(evaluated: Sequence[Evaluated]) -> Evaluated:
    """The candidate with the best mean score; without scores the first that trained.

    Raises
    ------
    SearchError
        When every candidate failed; names the first reason.
    """
    usable = [item for item in evaluated if not item.result.failure]
    if not usable:
        first = evaluated[0].result if evaluated else None
        reason = f": {first.name}: {first.failure}" if first else ""
        raise SearchError(f"none of {len(evaluated)} candidates could be trained{reason}")
    return max(usable, key=lambda item: (item.result.score if item.result.scores else 0.0, -item.result.index))


class _Tracker:
    """Tells a progress bar where the search stands."""

    def __init__(self, built: Sequence[_Built], problem: Problem, on_progress: OnProgress | None) -> None:
        self.on_progress = on_progress
        self.problem = problem
        self.work = {item.index: self._size(item) for item in built}
        self.total = sum(self.work.values()) or 1.0
        self.done = 0.0
        self.candidates_done = 0
        self.best = -np.inf
        self.begin = time.perf_counter()

    @staticmethod
    def _size(item: _Built) -> float:
        parameters = sum(parameter.numel() for parameter in item.members[0].module.parameters())
        return float((parameters + 1000) * int(item.recipe.candidate["max_epochs"]))

    def epoch_of(self, stack: list[_Built]) -> Callable[[int, dict[int, CandidateOutcome]], None] | None:
        if self.on_progress is None:
            return None

        def on_epoch(epoch: int, outcomes: dict[int, CandidateOutcome]) -> None:
            scores = [o.score for o in outcomes.values() if np.isfinite(o.score)]
            self.best = max([self.best, *scores])
            share = epoch / int(stack[0].recipe.candidate["max_epochs"])
            self._tell(self.done + share * sum(self.work[item.index] for item in stack))

        return on_epoch

    def finished(self, stack: list[_Built]) -> None:
        self.done += sum(self.work[item.index] for item in stack)
        self.candidates_done += len(stack)
        self._tell(self.done)

    def _tell(self, done: float) -> None:
        if self.on_progress is None:
            return
        fraction = min(1.0, done / self.total)
        spent = time.perf_counter() - self.begin
        left = spent * (1 - fraction) / fraction if fraction > 0.01 else float("nan")
        self.on_progress(
            Progress(
                "networks", fraction, self.candidates_done, len(self.work) - self.candidates_done,
                best=self.problem.metric.sign * self.best, seconds_left=left,
            )
        )  # fmt: skip
