"""How long stacks train: to the end of their plan, as long as the clock allows, or as long as a former search did."""

from __future__ import annotations

import math
import numbers
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from autoreg.errors import OptionError
from autoreg.schedules import Timeline

Moves = dict[int, list[tuple[int, int]]]
"""Of each stack, by the number of its first candidate: after which epoch which epoch became the last one."""

SETTLED = 7 / 15
"""Progress from which on the end may move: before, the portfolio's candidates are still being sorted out."""

VALIDATION_COST = 1 / 12
"""Of the time that training on all rows takes, for validation: a fourth of as many rows, at a third of the work."""

LOOK_BACK = 4
"""Epochs whose time says how long the next will take."""


_LENGTH = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|sec|m|min|h)?\s*")
_UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}


def seconds_of(limit: float | str) -> float:
    """A time limit in seconds.

    Raises
    ------
    OptionError
        When it is not a time above zero.

    Examples
    --------
    >>> seconds_of(90), seconds_of("90"), seconds_of("5m"), seconds_of("1.5h")
    (90.0, 90.0, 300.0, 5400.0)
    """
    match = _LENGTH.fullmatch(str(limit)) if isinstance(limit, str) else None
    if match:
        seconds = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(limit, numbers.Real) and not isinstance(limit, bool):
        seconds = float(limit)
    else:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise OptionError(f"time_limit={limit!r}: give seconds, or a time such as 90s, 5m or 1h")
    return seconds


class Pace(Protocol):
    """Who decides when stacks end.

    Attributes
    ----------
    shares : bool
        Whether stacks may be cut in two so that two cores share a plan evenly.
    moves : Moves
    skipped : list of int
        Stacks that were not begun, by the number of their first candidate.
    """

    shares: bool
    moves: Moves
    skipped: list[int]

    def begin(self, stacks: Sequence[tuple[int, int, int]], at_once: int) -> None:
        """Be told of stacks that are about to train.

        Parameters
        ----------
        stacks : sequence of (first candidate, epochs, most epochs)
            In the order in which they start.
        at_once : int
        """

    def take_up(self, stack: int, moves: Sequence[Sequence[int]]) -> None:
        """Be told what was decided for a stack that was trained before an interruption."""

    def forget(self, stack: int) -> None:
        """Be told that a stack failed, and its candidates train one by one: each is now a stack of its own."""

    def seconds_left(self) -> float | None:
        """How long stacks may still take, where a clock says it."""

    def after(self, stack: int, epoch: int) -> int | None:
        """Another last epoch of a stack, asked when an epoch is done; None for the one planned.

        Called from the stack's own thread.
        """


class AsPlanned:
    """Stacks end with their plan."""

    shares = True

    def __init__(self) -> None:
        self.moves: Moves = {}
        self.skipped: list[int] = []

    def begin(self, stacks: Sequence[tuple[int, int, int]], at_once: int) -> None:
        """Nothing to do: the plan says it."""

    def take_up(self, stack: int, moves: Sequence[Sequence[int]]) -> None:
        """Nothing to do: the plan says it."""

    def forget(self, stack: int) -> None:
        """What was decided for a stack that failed is of no use."""
        self.moves.pop(stack, None)

    def seconds_left(self) -> float | None:
        """Nobody knows."""
        return None

    def after(self, stack: int, epoch: int) -> int | None:
        """No other last epoch."""
        return None


@dataclass
class _Stack:
    timeline: Timeline
    most: int
    deadline: float
    ends: list[float] = field(default_factory=list)
    settled: int | None = None


class ByClock(AsPlanned):
    """Stacks end at a deadline.

    From progress `SETTLED` on, what is left of each stack's schedule is spread over as many epochs as the time left
    allows: so it reaches its end, with a learning rate of zero, when the time is up, and not in its middle.

    Parameters
    ----------
    deadline : float
        On the clock of `time.perf_counter`.

    Attributes
    ----------
    moves : Moves
        What was decided; `AsBefore` repeats it.

    Examples
    --------
    >>> pace = ByClock(time.perf_counter() - 1)
    >>> pace.begin([(0, 100, 100)], at_once=1)
    >>> pace.after(0, 1), pace.moves
    (1, {0: [(1, 1)]})
    """

    # a proposal then has a stack for each core
    shares = False

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline
        self._stacks: dict[int, _Stack] = {}

    def take_up(self, stack: int, moves: Sequence[Sequence[int]]) -> None:
        """Be told what was decided for a stack that was trained before an interruption."""
        if moves:
            self.moves[stack] = [(epoch, last) for epoch, last in moves]

    def begin(self, stacks: Sequence[tuple[int, int, int]], at_once: int) -> None:
        """Give each stack its share of the time that is left: those that start together end together."""
        now = time.perf_counter()
        turns = -(-len(stacks) // at_once)
        for place, (stack, epochs, most) in enumerate(stacks):
            share = (place // at_once + 1) / turns
            deadline = now + share * max(0.0, self.deadline - now)
            self._stacks[stack] = _Stack(Timeline(epochs), max(epochs, most), deadline)

    def seconds_left(self) -> float:
        """The time until the deadline."""
        return max(0.0, self.deadline - time.perf_counter())

    def after(self, stack: int, epoch: int) -> int | None:
        """The present epoch when the time is up; later ones as the time allows; None where the plan fits."""
        own = self._stacks[stack]
        now = time.perf_counter()
        own.ends.append(now)
        timeline = own.timeline
        if epoch >= timeline.last:
            return None
        last = epoch if now >= own.deadline else self._affordable(own, epoch, now)
        if last == timeline.last:
            return None
        self.moves.setdefault(stack, []).append((epoch, last))
        if last > epoch:
            timeline.move_end(epoch, last)
        return last

    def _affordable(self, own: _Stack, epoch: int, now: float) -> int:
        timeline = own.timeline
        if own.settled is None and timeline.after(epoch) >= SETTLED:
            own.settled = epoch
        # at a rung candidates leave and epochs become shorter: the first two after it say by how much
        count = 0 if own.settled is None else min(LOOK_BACK, epoch - own.settled)
        if count < 2:
            return timeline.last
        each = (own.ends[-1] - own.ends[-1 - count]) / count
        last = min(own.most, epoch + int((own.deadline - now) / each))
        # a small change is within what the next epochs differ by
        return timeline.last if abs(last - timeline.last) <= 0.04 * (timeline.last - epoch) else max(last, epoch)


class AsBefore(AsPlanned):
    """Stacks end where an earlier search ended them; no clock is looked at.

    Parameters
    ----------
    moves, skipped, shares
        Those of the earlier search's pace.

    Examples
    --------
    >>> pace = AsBefore({0: [(7, 12)]})
    >>> pace.after(0, 6), pace.after(0, 7)
    (None, 12)
    """

    def __init__(
        self, moves: Mapping[int, Sequence[tuple[int, int]]], skipped: Sequence[int] = (), shares: bool = False
    ) -> None:
        super().__init__()
        self.moves = {stack: [(epoch, last) for epoch, last in own] for stack, own in moves.items()}
        self.skipped, self.shares = list(skipped), shares

    def forget(self, stack: int) -> None:
        """The earlier search knew it already: what is noted is of the candidates one by one."""

    def after(self, stack: int, epoch: int) -> int | None:
        """What was decided after this epoch."""
        return dict(self.moves.get(stack, ())).get(epoch)
