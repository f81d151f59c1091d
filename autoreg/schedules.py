"""Learning-rate schedules: functions of training progress t in [0, 1) to a factor of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(t: float) -> float:
    """The learning rate as it is."""
    return 1.0


def cosine(t: float) -> float:
    """From one to zero along half a cosine.

    >>> cosine(0.0), round(cosine(0.5), 6), round(cosine(1.0), 6)
    (1.0, 0.5, 0.0)
    """
    return 0.5 * (1 + math.cos(math.pi * t))


def flat_cosine(t: float) -> float:
    """Constant for the first half, then half a cosine to zero.

    >>> flat_cosine(0.3), round(flat_cosine(1.0), 6)
    (1.0, 0.0)
    """
    return 1.0 if t < 0.5 else cosine(2 * t - 1)


def coslog4(t: float) -> float:
    """Four cosine cycles of doubling length, at zero where t = 0, 1/15, 3/15, 7/15 and 1.

    From Holzmueller, Grinsztajn and Steinwart, "Better by Default" (2024), arXiv 2407.04491.

    >>> [round(coslog4(t), 6) for t in (0, 1 / 15, 3 / 15, 7 / 15, 1)]
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t)))


def warm_cosine(t: float) -> float:
    """A linear rise over the first twentieth, then half a cosine to zero.

    >>> warm_cosine(0.025), warm_cosine(0.05)
    (0.5, 1.0)
    """
    return t / 0.05 if t < 0.05 else cosine((t - 0.05) / 0.95)


class Timeline:
    """Which epoch is how far along its schedule. The end may move while training goes on.

    Parameters
    ----------
    last : int
        The epoch that training ends with.

    Examples
    --------
    >>> line = Timeline(10)
    >>> line.after(5), line.at(6, 1, 2)
    (0.5, 0.55)
    >>> line.move_end(5, 25)
    >>> line.after(5), line.after(15), line.after(25)
    (0.5, 0.75, 1.0)
    """

    def __init__(self, last: int) -> None:
        self.last = last
        self._epoch, self._t = 0, 0.0

    def at(self, epoch: int, step: int, n_steps: int) -> float:
        """Progress before a step, from 0, of an epoch, from 1."""
        done, total = (epoch - 1 - self._epoch) * n_steps + step, (self.last - self._epoch) * n_steps
        return self._t + (1 - self._t) * (done / total)

    def after(self, epoch: int) -> float:
        """Progress when an epoch is done."""
        return self.at(epoch + 1, 0, 1) if epoch < self.last else 1.0

    def move_end(self, epoch: int, last: int) -> None:
        """Spread what is left after `epoch` over the epochs up to another last one."""
        self._epoch, self._t, self.last = epoch, self.after(epoch), last

    def passes(self, t: float, epoch: int) -> bool:
        """Whether this epoch's end is the one nearest to progress t.

        >>> [epoch for epoch in range(1, 31) if Timeline(30).passes(7 / 15, epoch)]
        [14]
        """
        before, after = self.after(epoch - 1), self.after(epoch)
        half = (after - before) / 2
        return before + half < t <= after + half


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "coslog4": coslog4,
    "flat_cosine": flat_cosine,
    "warm_cosine": warm_cosine,
}
