"""How far a search is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from autoreg.inputs import Data
from autoreg.results import Progress
from autoreg.training import CandidateOutcome, StackSpec, seconds_per_epoch

OnProgress = Callable[[Progress], None]


class Tracker:
    """Tells a progress bar how long the plan will take, and where it stands.

    Parameters
    ----------
    stacks : sequence of StackSpec
        All that will be trained, in order.
    data : Data
    sign : int
        -1 where the score is a negated error.
    on_progress : function or None
    """

    def __init__(self, stacks: Sequence[StackSpec], data: Data, sign: int, on_progress: OnProgress | None) -> None:
        self.on_progress = on_progress
        self.stacks, self.sign = stacks, sign
        self.counts = [len({member.candidate for member in stack.members}) for stack in stacks]
        self.current, self.best = 0, -np.inf
        if on_progress is None:
            return
        self.seconds = [stack.max_epochs * _seconds_per_epoch(stack, data) for stack in stacks]
        on_progress(Progress("plan", 0.0, candidates_left=sum(self.counts), seconds_left=sum(self.seconds)))
        self.begin = time.perf_counter()

    def on_epoch(self, epoch: int, outcomes: dict[int, CandidateOutcome]) -> None:
        """One epoch of the current stack is done."""
        self.best = max([self.best, *(o.score for o in outcomes.values() if np.isfinite(o.score))])
        self._tell(epoch / self.stacks[self.current].max_epochs)

    def finished(self) -> None:
        """The current stack is done."""
        self.current += 1
        self._tell(0.0)

    def _tell(self, share: float) -> None:
        """Report, with the current stack done to a share of it."""
        if self.on_progress is None:
            return
        total = sum(self.seconds) or 1.0
        now = self.seconds[self.current] if self.current < len(self.seconds) else 0.0
        fraction = min(1.0, (sum(self.seconds[: self.current]) + share * now) / total)
        spent = time.perf_counter() - self.begin
        left = spent * (1 - fraction) / fraction if fraction > 0.01 else total
        done = sum(self.counts[: self.current])
        self.on_progress(
            Progress("networks", fraction, done, sum(self.counts) - done, best=self.sign * self.best, seconds_left=left)
        )


def _seconds_per_epoch(stack: StackSpec, data: Data) -> float:
    try:
        return seconds_per_epoch(stack, data)
    except Exception:  # a part that raises is reported when its turn comes
        return 0.0
