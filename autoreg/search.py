"""Evaluating candidates on folds: grouping them into stacks, training, and gathering what came out."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autoreg.arithmetic import fast_products
from autoreg.errors import AutoregError, ContractError, OptionError, SearchError
from autoreg.guards import blame, check_finite, check_rebuilt, look_at, strangers
from autoreg.journal import Unkept
from autoreg.limits import check_candidate
from autoreg.member import Member, has_views
from autoreg.modelparts import Part
from autoreg.pace import Pace
from autoreg.parts import Recipe, resolve
from autoreg.problem import Problem
from autoreg.recall import is_kept, keep, recalled
from autoreg.results import CandidateResult
from autoreg.space import SEED, Candidate
from autoreg.stacking import mix, signature
from autoreg.threads import Stopped, at_once, one_thread, side_by_side
from autoreg.tracking import OnProgress, Tracker, seconds_per_epoch
from autoreg.training import CandidateOutcome, Data, MemberSpec, OnEpoch, StackSpec, train_stack

STACK_BYTES = 1 << 29
"""Activations and parameters that one stack may hold; longer work is split into several stacks."""
LEFT_OUT = "left out: the search was ended early"

Floats = NDArray[np.float64]
Stop = Callable[[Candidate, Sequence[float]], bool]
OnEnded = Callable[[list[CandidateResult]], None]


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

    def part(self, weight: float = 1.0) -> Part:
        """The trained candidate as part of a model."""
        assert self.recipe is not None
        assert self.template is not None
        return Part.from_members(self.recipe, self.template, self.states, weight)

    @property
    def shape(self) -> Hashable:
        """Equal for candidates whose predictions take the same steps."""
        return None if self.template is None else signature(self.template)


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
            # 10 and 10.0 are equal, and mean different things
            repr(candidate["n_iter_no_change"]) if candidate["early_stopping"] else None,
            max(member.batch_size for member in self.members),
            signature(self.members[0].module),
        )

    @property
    def bytes(self) -> int:
        module, batch = self.members[0].module, self.members[0].batch_size
        parameters = sum(parameter.numel() for parameter in module.parameters())
        widths = sum(layer.out_features for layer in module.modules() if isinstance(layer, nn.Linear))
        return len(self.members) * 4 * (8 * parameters + 8 * batch * widths * module.n_views)

    @property
    def work(self) -> float:
        """Products of parameters and rows that its training takes, to tell long from short."""
        module = self.members[0].module
        parameters = sum(parameter.numel() for parameter in module.parameters()) * module.n_views
        return float(parameters) * sum(len(m.train) for m in self.members) * int(self.recipe.candidate["max_epochs"])


def evaluate(
    candidates: Sequence[Candidate],
    problem: Problem,
    first_index: int = 0,
    on_progress: OnProgress | None = None,
    n_jobs: int | None = None,
    stop: Stop | None = None,
    on_ended: OnEnded | None = None,
    pace: Pace | None = None,
    journal: Unkept | None = None,
    enough: Callable[[], bool] | None = None,
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
    n_jobs : int or None
        Stacks trained at once; None is one per core. The numbers do not depend on it.
    stop : function or None
        ``stop(candidate, curve)``, asked after each epoch: whether the candidate leaves before its time.
    on_ended : function, optional
        Called in this thread whenever further candidates have ended, with the results of all that have, in order. Equal
        candidates make equal calls.
    pace : Pace or None
        Who may move the last epochs of stacks; None leaves them where they are planned.
    journal : Unkept or None
        Where finished stacks are kept, and recalled from instead of being trained.
    enough : function or None
        Asked after each epoch and before each stack: whether to end now with what there is.

    Returns
    -------
    list of Evaluated
        In the order of the candidates; failed, with the reason that they were left out, where there was enough before.
    """
    done: dict[int, Evaluated] = {}
    built = []
    for index, candidate in enumerate(candidates, start=first_index):
        try:
            built.append(_build(index, candidate, problem))
        except ContractError as error:
            done[index] = _failed(index, candidate, problem, error)
        except AutoregError:
            raise
        except (Exception, SystemExit) as error:  # a part from a plugin or a user may raise anything
            done[index] = _failed(index, candidate, problem, error)
    data = problem.data()
    # where the clock ends stacks, a proposal has a stack for each core
    stacks = _stacks(built, share=pace is None)
    journal, enough = journal or Unkept(), enough or (lambda: False)
    journal.stacks(first_index, len(stacks))
    specs = [_spec(stack, problem, stop) for stack in stacks]
    earlier = [place for place, stack in enumerate(stacks) if is_kept(stack, journal)]
    tracker = Tracker(specs, data, problem.metric.sign, on_progress, n_jobs, earlier)

    def trainer(place: int) -> Callable[[threading.Event], list[Evaluated]]:
        def train(halt: threading.Event) -> list[Evaluated]:
            stack, cut, last = stacks[place], False, specs[place].max_epochs
            first = stack[0].index

            def on_epoch(epoch: int, outcomes: dict[int, CandidateOutcome]) -> int | None:
                nonlocal cut, last
                if halt.is_set():
                    raise Stopped("the search was stopped")
                tracker.on_epoch(place, epoch, outcomes)
                cut = epoch < last and enough()
                moved = epoch if cut else pace.after(first, epoch) if pace else None
                last = last if moved is None else moved
                return moved

            evaluated = recalled(stack, journal, Evaluated)
            if evaluated and pace is not None:
                pace.take_up(first, journal.fact(f"ends of stack {first}") or ())
            if not evaluated and not enough():
                evaluated = list(_train(stack, problem, data, on_epoch, stop))
                if cut:
                    return [item for item in evaluated if not item.result.failure]
                if pace is not None and first in pace.moves:
                    journal.note_fact(f"ends of stack {first}", pace.moves[first])
                keep(stack, evaluated, journal)
            tracker.finished(place)
            return evaluated

        return train

    # the longest first, so that no core waits long for the last
    order = sorted(range(len(stacks)), key=lambda place: -_work(stacks[place]))

    if pace is not None:
        plans = [(stack[0].index, specs[place].max_epochs) for place, stack in ((p, stacks[p]) for p in order)]
        pace.begin([(first, epochs, max(epochs, problem.most_epochs)) for first, epochs in plans], at_once(n_jobs))

    def ended(evaluated: list[Evaluated]) -> None:
        journal.tell()
        done.update({item.result.index: item for item in evaluated})
        if on_ended is not None:
            on_ended([done[index].result for index in sorted(done)])

    with fast_products():
        side_by_side([trainer(place) for place in order], n_jobs, ended)
    if not stacks:
        ended([])
    for item in built:  # what has no score when there is enough
        if item.index not in done:
            done[item.index] = _failed(item.index, item.recipe.candidate, problem, LEFT_OUT)
    return [done[index] for index in sorted(done)]


def seconds_for(candidate: Candidate, problem: Problem) -> float:
    """How long one core takes for an epoch of a candidate on all folds, measured on a few steps; NaN where it fails."""
    try:
        with fast_products(), one_thread():
            return seconds_per_epoch(_spec([_build(0, candidate, problem)], problem), problem.data())
    except Exception:  # a part that raises is reported when its turn comes
        return float("nan")


def _build(index: int, candidate: Candidate, problem: Problem) -> _Built:
    check_candidate(candidate)
    if candidate["early_stopping"] and not problem.choose_epoch:
        raise OptionError("early_stopping=True: this strategy runs all epochs; vary max_epochs instead")
    recipe = resolve(candidate)
    look_at(recipe)
    start = int(candidate.parameters.get(SEED, problem.seed))
    members = []
    for k, fold in enumerate(problem.folds):
        seed = mix(start, candidate.fingerprint, k) if problem.own_seeds else start
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
                _encoding_key(candidate, k, module.encoding),
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


def _encoding_key(candidate: Candidate, fold: int, module: nn.Module) -> Hashable:
    encoding = candidate["encoding"]
    options = tuple(sorted((name, repr(value)) for name, value in candidate.options("encoding").items()))
    # an encoding may have drawn its buffers under the member's seed
    buffers = sha256(b"".join(buffer.numpy().tobytes() for buffer in module.buffers())).digest()
    return (encoding if isinstance(encoding, str) or encoding is None else id(encoding), options, fold, buffers)


def _stacks(built: Sequence[_Built], share: bool = True) -> list[list[_Built]]:
    """Candidates of one program together, in pieces that fit into memory and that two cores share evenly.

    Smaller stacks take longer for each network. So the largest is cut only while one of two cores would otherwise idle
    for much of the time; how many cores there are does not matter, so that the numbers are the same everywhere.
    Without `share` none is cut for that.
    """
    groups: dict[Hashable, list[_Built]] = {}
    for item in built:
        groups.setdefault(item.key, []).append(item)
    stacks = []
    for group in groups.values():
        most = max(1, STACK_BYTES // max(1, group[0].bytes))
        stacks += _cut(group, -(-len(group) // most))
    while share and stacks and _longest_of_two(stacks) > UNEVEN * sum(map(_work, stacks)) / 2:
        largest = max(range(len(stacks)), key=lambda place: _work(stacks[place]))
        if len(stacks[largest]) < 2:
            break
        stacks[largest : largest + 1] = _cut(stacks[largest], 2)
    return stacks


UNEVEN = 1.3
"""From how many times its even share on one core on a plan is cut further."""


def _cut(stack: list[_Built], pieces: int) -> list[list[_Built]]:
    """A stack in near-equal pieces."""
    bounds = [len(stack) * piece // pieces for piece in range(pieces + 1)]
    return [stack[start:stop] for start, stop in pairwise(bounds)]


def _work(stack: Sequence[_Built]) -> float:
    return sum(item.work for item in stack)


def _longest_of_two(stacks: Sequence[Sequence[_Built]]) -> float:
    """The longer part when each stack, the largest first, goes to the one of two cores that is free."""
    cores = [0.0, 0.0]
    for work in sorted(map(_work, stacks), reverse=True):
        cores[cores.index(min(cores))] += work
    return max(cores)


def _spec(stack: Sequence[_Built], problem: Problem, stop: Stop | None = None) -> StackSpec:
    candidate = stack[0].recipe.candidate
    candidates = {item.index: item.recipe.candidate for item in stack}
    return StackSpec(
        [member for item in stack for member in item.members],
        int(candidate["max_epochs"]),
        problem.metric.over_members(),
        problem.choose_epoch,
        candidate["n_iter_no_change"] if candidate["early_stopping"] else None,
        problem.dtype,
        problem.half,
        None if stop is None else lambda index, curve: stop(candidates[index], curve),
        problem.rungs,
    )


def _train(
    stack: list[_Built], problem: Problem, data: Data, on_epoch: OnEpoch, stop: Stop | None
) -> Iterator[Evaluated]:
    """Train a stack; when something in it raises, each candidate alone, so that only the culprit fails."""
    try:
        spec = _spec(stack, problem, stop)
        outcomes = train_stack(spec, data, on_epoch)
    except Stopped:
        raise
    except (Exception, SystemExit) as error:  # a part from a plugin or a user may raise anything
        if len(stack) > 1:
            for item in stack:
                yield from _train([item], problem, data, on_epoch, stop)
        else:
            yield _failed(stack[0].index, stack[0].recipe.candidate, problem, error)
        return
    by_index = {outcome.candidate: outcome for outcome in outcomes}
    for item in stack:
        yield _gather(item, by_index[item.index], problem)


def _gather(item: _Built, outcome: CandidateOutcome, problem: Problem) -> Evaluated:
    candidate = item.recipe.candidate
    if outcome.failure:
        return _failed(item.index, candidate, problem, outcome.failure, outcome)
    predictions = _predict_again(item, outcome, problem) if problem.half else outcome.predictions
    try:
        check_finite(outcome.states)
        check_rebuilt(item.recipe, item.members[0], outcome.states[0], predictions, problem)
    except (Exception, SystemExit) as error:  # made anew, a stranger's part may raise anything
        return _failed(item.index, candidate, problem, error, outcome)
    oof, scores, rmse = out_of_fold(predictions, problem)
    result = CandidateResult(
        item.index, candidate, candidate.label, scores, rmse, outcome.epoch, outcome.seconds,
        tuple(outcome.curve), tuple(outcome.train_curve), facts={"pruned": outcome.pruned} if outcome.pruned else {},
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
    if error is not LEFT_OUT:
        reason += blame(strangers(candidate))
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
