"""Evaluating candidates on folds: grouping them into stacks, training, and gathering what came out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoreg.arithmetic import fast_products
from autoreg.errors import AutoregError, ContractError, SearchError, named_line
from autoreg.grouping import Built, StopRule, build, by_names, lengths_of, spec_of, stacks_of, work_of
from autoreg.guards import blame, check_finite, check_rebuilt, strangers
from autoreg.heldout import held_out, out_of_fold, set_right
from autoreg.journal import Unkept
from autoreg.member import Member
from autoreg.modelparts import Part
from autoreg.pace import AsPlanned, Pace
from autoreg.parts import Recipe
from autoreg.problem import AllRows, Problem
from autoreg.processes import Ask, Forks, Stopped, may_fork
from autoreg.recall import is_kept, keep, recalled
from autoreg.results import CandidateResult, OnProgress
from autoreg.space import Candidate
from autoreg.specs import CandidateOutcome, OnEpoch, StackSpec
from autoreg.stacking import signature
from autoreg.threads import at_once, one_thread, side_by_side
from autoreg.tracking import Tracker, seconds_per_epoch
from autoreg.training import train_stack

WORTH_FORKS = 2e9
"""Products of parameters and rows from which on forks are worth the quarter of a second that they take."""

LEFT_OUT = "left out: the search ended early, or its time was up"

Floats = NDArray[np.float64]
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
    moves : sequence of (int, int)
        After which epoch which epoch became the last one.
    """

    result: CandidateResult
    recipe: Recipe | None = None
    template: Member | None = None
    states: list[dict[str, Tensor]] = field(default_factory=list)
    oof: Floats | None = None
    error: BaseException | None = None
    moves: Sequence[tuple[int, int]] = ()
    # networks are fitted side by side
    in_threads = True

    def part(self, weight: float = 1.0) -> Part:
        """The trained candidate as part of a model."""
        assert self.recipe is not None
        assert self.template is not None
        return Part.from_members(self.recipe, self.template, self.states, weight)

    def on_all_rows(self, rows: AllRows) -> Evaluated:
        """The candidate trained once more, on all rows: one member in place of one a fold.

        It trains as long as the folds found best, along the same schedule. Its result stays that of the folds.

        Raises
        ------
        SearchError
            When it cannot be trained so.
        Stopped
            When there was enough before.
        """
        assert self.result.candidate is not None
        last, moves = self.result.epoch, {epoch: end for epoch, end in self.moves if end > epoch}
        item = build(self.result.index, self.result.candidate, rows.whole)
        spec = replace(spec_of([item], rows.whole), patience=None, choose_epoch=False)

        def after(epoch: int, _: object) -> int | None:
            if rows.enough():
                raise Stopped("there was enough before all rows were learned from")
            return last if epoch == last else moves.get(epoch)

        (outcome,) = train_stack(spec, rows.data, after)
        if outcome.failure or outcome.epoch != last:
            raise SearchError(f"{self.result.name}, on all rows: {outcome.failure or f'ended at {outcome.epoch}'}")
        check_finite(outcome.states)
        (state,) = outcome.states
        if item.recipe.log_target and rows.folds.choose_epoch:
            # what held-out rows found out about the mean
            centers = [rows.folds.target_scale(k, log=True)[0] for k in range(len(self.states))]
            shifts = [own["center"] - center for own, center in zip(self.states, centers, strict=True)]
            state["center"] = state["center"] + torch.stack(shifts).mean(0)
        elif item.recipe.log_target and item.recipe.predicts_mean:
            set_right(item, outcome, [], rows.whole)
        return replace(self, recipe=item.recipe, template=item.members[0].module, states=[state])

    @property
    def shape(self) -> Hashable:
        """Equal for candidates whose predictions take the same steps."""
        return None if self.template is None else signature(self.template)


def evaluate(
    candidates: Sequence[Candidate],
    problem: Problem,
    first_index: int = 0,
    on_progress: OnProgress | None = None,
    n_jobs: int | None = None,
    stop: StopRule | None = None,
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
        Who may move the last epochs of stacks; None leaves them where they are planned. What is cut short or not begun
        since there was enough is noted there.
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
            built.append(build(index, candidate, problem))
        except ContractError as error:
            done[index] = _failed(index, candidate, problem, error)
        except AutoregError:
            raise
        except (Exception, SystemExit) as error:  # a part from a plugin or a user may raise anything
            done[index] = _failed(index, candidate, problem, error)
    journal, pace = journal or Unkept(), pace or AsPlanned()
    # the longest first, so that no core waits long for the last
    stacks = sorted(stacks_of(built, pace.shares, problem.device), key=lambda stack: -work_of(stack))
    journal.stacks(first_index, len(stacks))
    earlier = [place for place, stack in enumerate(stacks) if is_kept(stack, journal)]

    def ended(evaluated: list[Evaluated]) -> None:
        journal.tell()
        done.update({item.result.index: item for item in evaluated})
        if on_ended is not None:
            on_ended([done[index].result for index in sorted(done)])

    training = _Training(stacks, problem, stop, pace, journal, enough or (lambda: False), scored=first_index > 0)
    many = min(at_once(n_jobs), len(stacks) - len(earlier))
    # an object of a user's may note what is done with it, and what says when to stop what it was asked
    long = sum(map(work_of, stacks)) > WORTH_FORKS
    apart = many > 1 and long and stop is None and all(map(by_names, candidates)) and may_fork()
    with fast_products(), Forks(training.apart, many) if apart else nullcontext() as training.forks:
        specs = [spec_of(stack, problem, stop) for stack in stacks]
        training.tracker = Tracker(
            specs, problem.metric.sign, on_progress, training.time_epoch, n_jobs, earlier, pace.seconds_left()
        )
        pace.begin(lengths_of(stacks, problem), at_once(n_jobs))
        side_by_side([partial(training.train, place) for place in range(len(stacks))], n_jobs, ended)
    if not stacks:
        ended([])
    for item in built:  # what has no score when there is enough
        done.setdefault(item.index, _failed(item.index, item.recipe.candidate, problem, LEFT_OUT))
    return [done[index] for index in sorted(done)]


@dataclass
class _Training:
    """A proposal's stacks, each trained in a thread, or in a fork that a thread waits for."""

    stacks: Sequence[list[Built]]
    problem: Problem
    stop: StopRule | None
    pace: Pace
    journal: Unkept
    enough: Callable[[], bool]
    forks: Forks | None = None
    scored: bool = False
    tracker: Tracker = field(init=False)

    def __post_init__(self) -> None:
        self.data = self.problem.data()

    def train(self, place: int, halt: threading.Event) -> list[Evaluated]:
        """What becomes of a stack; empty where it was not begun, and without failures where it was cut short."""
        stack, pace, journal = self.stacks[place], self.pace, self.journal
        first = stack[0].index
        evaluated = [] if first in pace.skipped else recalled(stack, journal, Evaluated)
        if evaluated:
            for one in evaluated:
                index = one.result.index
                pace.take_up(index, journal.fact(f"ends of stack {index}") or ())
                one.moves = pace.moves.get(index, pace.moves.get(first, ()))
        elif first not in pace.skipped and (self.enough() or (self.scored and pace.seconds_left() == 0)):
            pace.skipped.append(first)
        elif first not in pace.skipped:
            evaluated, cut = self._evaluate(place, range(len(stack)), halt)
            if cut:
                return [item for item in evaluated if not item.result.failure]
            for item in stack:
                if item.index in pace.moves:
                    journal.note_fact(f"ends of stack {item.index}", pace.moves[item.index])
            keep(stack, evaluated, journal)
        self.scored = self.scored or not all(item.result.failure for item in evaluated)
        self.tracker.finished(place)
        return evaluated

    def _evaluate(self, place: int, within: range, halt: threading.Event) -> tuple[list[Evaluated], bool]:
        """What becomes of candidates that train together, and whether they were cut short.

        When something raises, each trains by itself, so that only the culprit fails.
        """
        chosen = [self.stacks[place][i] for i in within]
        first, ends = chosen[0].index, _Ends(self, place, chosen[0], halt)
        try:
            outcomes = self._outcomes(place, within, ends.after)
        except Stopped:
            raise
        except (Exception, SystemExit) as error:  # a part from a plugin or a user may raise anything
            if len(within) == 1:
                return [_failed(first, chosen[0].recipe.candidate, self.problem, error)], False
            self.pace.forget(first)
            self.pace.begin(lengths_of([[item] for item in chosen], self.problem), at_once=1)
            alone = [self._evaluate(place, range(i, i + 1), halt) for i in within]
            return [item for evaluated, _ in alone for item in evaluated], any(cut for _, cut in alone)
        by_index = {outcome.candidate: outcome for outcome in outcomes}
        evaluated = [_gather(item, by_index[item.index], self.problem) for item in chosen]
        for one in evaluated:
            one.moves = self.pace.moves.get(first, ())
        return evaluated, ends.cut

    def _outcomes(self, place: int, within: range, on_epoch: OnEpoch) -> list[CandidateOutcome]:
        if self.forks is None:
            return train_stack(self._spec(place, within), self.data, on_epoch)

        def answer(question: tuple[int, dict[int, float]]) -> int | None:
            epoch, scores = question
            return on_epoch(epoch, {index: CandidateOutcome(index, score=score) for index, score in scores.items()})

        found: list[CandidateOutcome] = self.forks.run((place, within), answer)
        return found

    def time_epoch(self, place: int) -> float:
        """How long an epoch of a stack takes on one core, measured on a few steps."""
        if self.forks is not None:
            return float(self.forks.run((place, None), lambda question: None))
        with one_thread():
            return seconds_per_epoch(self._spec(place, None), self.data)

    def apart(self, order: tuple[int, range | None], ask: Ask) -> list[CandidateOutcome] | float:
        """Training in a fork: after each epoch the process that was forked is asked about the end.

        A whole stack that is not said to train has its epochs timed.
        """

        def on_epoch(epoch: int, outcomes: dict[int, CandidateOutcome]) -> int | None:
            last: int | None = ask((epoch, {index: outcome.score for index, outcome in outcomes.items()}))
            return last

        with one_thread():
            spec = self._spec(*order)
            return seconds_per_epoch(spec, self.data) if order[1] is None else train_stack(spec, self.data, on_epoch)

    def _spec(self, place: int, within: range | None) -> StackSpec:
        stack = self.stacks[place]
        return spec_of(stack if within is None else [stack[i] for i in within], self.problem, self.stop)


class _Ends:
    """When a stack ends: as planned, as its pace moves that, or now because there is enough."""

    def __init__(self, training: _Training, place: int, first: Built, halt: threading.Event) -> None:
        self.training, self.place, self.halt = training, place, halt
        self.first, self.last, self.cut = first.index, int(first.recipe.candidate["max_epochs"]), False

    def after(self, epoch: int, outcomes: dict[int, CandidateOutcome]) -> int | None:
        """Another last epoch, or None."""
        if self.halt.is_set():
            raise Stopped("the search was stopped")
        training = self.training
        training.journal.beat()
        training.tracker.on_epoch(self.place, epoch, outcomes)
        self.cut = epoch < self.last and training.enough()
        if self.cut:
            training.pace.moves.setdefault(self.first, []).append((epoch, epoch))
            return epoch
        moved = training.pace.after(self.first, epoch)
        self.last = self.last if moved is None else moved
        return moved


def seconds_for(candidate: Candidate, problem: Problem) -> float:
    """How long one core takes for an epoch of a candidate on all folds, measured on a few steps; NaN where it fails."""

    def measured(order: None = None, ask: Ask | None = None) -> float:
        with fast_products(), one_thread():
            return seconds_per_epoch(spec_of([build(0, candidate, problem)], problem), problem.data())

    try:
        # a stranger's part may end the process
        if not (strangers(candidate) and by_names(candidate) and may_fork()):
            return measured()
        with Forks(measured, 1) as forks:
            return float(forks.run(None, lambda question: None))
    except Exception:  # a part that raises is reported when its turn comes
        return float("nan")


def _gather(item: Built, outcome: CandidateOutcome, problem: Problem) -> Evaluated:
    candidate = item.recipe.candidate
    if outcome.failure:
        return _failed(item.index, candidate, problem, outcome.failure, outcome)
    try:
        predictions = held_out(item, outcome, problem)
        check_finite(outcome.states, predictions)
        check_rebuilt(item.recipe, item.members[0], outcome.states[0], predictions, problem)
        oof, scores, rmse = out_of_fold(predictions, problem)
    except (Exception, SystemExit) as error:  # made anew, a stranger's part may raise anything
        return _failed(item.index, candidate, problem, error, outcome)
    result = CandidateResult(
        item.index, candidate, candidate.label, scores, rmse, outcome.epoch, outcome.seconds,
        tuple(outcome.curve), tuple(outcome.train_curve), facts={"pruned": outcome.pruned} if outcome.pruned else {},
    )  # fmt: skip
    return Evaluated(result, item.recipe, item.members[0].module, outcome.states, oof)


def _failed(
    index: int,
    candidate: Candidate,
    problem: Problem,
    error: BaseException | str,
    outcome: CandidateOutcome | None = None,
) -> Evaluated:
    reason = error if isinstance(error, str) else named_line(error)
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
