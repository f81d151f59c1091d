"""How far a search is, and how long it will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

import numpy as np

from autoreg.inputs import Data
from autoreg.pace import VALIDATION_COST
from autoreg.results import OnProgress, Progress
from autoreg.specs import CandidateOutcome, StackSpec
from autoreg.threads import at_once
from autoreg.training import StackRun


class Tracker:
    """Tells a progress bar how long the plan will take, and where it stands.

    Parameters
    ----------
    stacks : sequence of StackSpec
        All that will be trained, in order.
    sign : int
        -1 where the score is a negated error.
    on_progress : function or None
    n_jobs : int or None
        Stacks trained at once.
    time_epoch : function
        ``time_epoch(place)``: how long an epoch of a stack takes on one core; may raise.
    recalled : collection of int
        Places of stacks that were trained earlier: they are done, and take no time.
    total : float or None
        Seconds that all will take, where a clock says it; None has a few steps of each stack timed.
    """

    def __init__(
        self,
        stacks: Sequence[StackSpec],
        sign: int,
        on_progress: OnProgress | None,
        time_epoch: Callable[[int], float],
        n_jobs: int | None = None,
        recalled: Collection[int] = (),
        total: float | None = None,
    ) -> None:
        self.on_progress = on_progress
        self.stacks, self.sign = stacks, sign
        self.counts = [len({member.candidate for member in stack.members}) for stack in stacks]
        self.shares = [float(place in recalled) for place in range(len(stacks))]
        self.best, self.lock = -np.inf, threading.Lock()
        if on_progress is None:
            return
        self.by_clock = total is not None
        if total is None:
            self.seconds = [stack.max_epochs * _guarded(time_epoch, place) for place, stack in enumerate(stacks)]
            left = [s for s, share in zip(self.seconds, self.shares, strict=True) if not share]
            many = max(1, min(len(left), at_once(n_jobs)))
            self.total = max([sum(left) / many, *left])
        else:
            self.seconds, self.total = [1.0] * len(stacks), total
        self.earlier = self._fraction()
        candidates_left = sum(count for place, count in enumerate(self.counts) if place not in recalled)
        if candidates_left or not recalled:
            on_progress(Progress("plan", 0.0, candidates_left=candidates_left, seconds_left=self.total))
        self.begin = time.perf_counter()

    def on_epoch(self, place: int, epoch: int, outcomes: dict[int, CandidateOutcome]) -> None:
        """One epoch of a stack is done."""
        self._tell(place, epoch / self.stacks[place].max_epochs, [o.score for o in outcomes.values()])

    def finished(self, place: int) -> None:
        """A stack is done."""
        self._tell(place, 1.0, [])

    def _tell(self, place: int, share: float, scores: Sequence[float]) -> None:
        """Report, with one stack done to a share of it."""
        if self.on_progress is None:
            return
        with self.lock:
            self.shares[place] = share
            self.best = max([self.best, *(score for score in scores if np.isfinite(score))])
            fraction = self._fraction()
            now, spent = fraction - self.earlier, time.perf_counter() - self.begin
            left = spent * (1 - fraction) / now if now > 0.01 and not self.by_clock else max(0.0, self.total - spent)
            done = sum(count for count, s in zip(self.counts, self.shares, strict=True) if s >= 1)
            self.on_progress(
                Progress(
                    "networks", fraction, done, sum(self.counts) - done, best=self.sign * self.best, seconds_left=left
                )
            )

    def _fraction(self) -> float:
        total = sum(self.seconds) or 1.0
        return min(1.0, sum(s * t for s, t in zip(self.shares, self.seconds, strict=True)) / total)


def _guarded(time_epoch: Callable[[int], float], place: int) -> float:
    try:
        return time_epoch(place)
    except Exception:  # a part that raises is reported when its turn comes
        return 0.0


def seconds_per_epoch(spec: StackSpec, data: Data, steps: int = 3) -> float:
    """How long an epoch takes on this machine, measured on a few steps of a copy.

    Parameters
    ----------
    spec : StackSpec
        Stays as it is.
    data : Data
    steps : int

    Returns
    -------
    float
        Seconds for training and validation of all rows that are held out.
    """
    run = StackRun(spec, data)
    batches = run.batches.epoch(1, spec.dtype)
    rates = run.learning_rates(1)
    run.stack.train()
    # a GPU is asked for its numbers: until then it may only have been told what to do
    run.train_steps(batches, rates, 0, 1).sum().item()
    steps = min(steps, batches.n_steps)
    begin = time.perf_counter()
    run.train_steps(batches, rates, 0, steps).sum().item()
    each, whole = (time.perf_counter() - begin) / steps, batches.n_steps / spec.members[0].subsample
    return each * (batches.n_steps + whole * VALIDATION_COST)
