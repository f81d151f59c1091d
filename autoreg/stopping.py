"""Ending a search early: the first signal asks for it, the next one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

GRACE = 2.0
"""Seconds that a command has to unwind after the second signal."""


class Stop:
    """Whether a search was asked to end with what it has.

    Attributes
    ----------
    number : int
        The signal that asked; 0 when none did.

    Examples
    --------
    >>> with early_end() as stop:
    ...     asked = stop()
    >>> asked
    False
    """

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return bool(self.number)

    def pass_on(self) -> None:
        """Do what the signal does otherwise, such as raising KeyboardInterrupt; nothing when there was none."""
        if self.number:
            self.before[self.number](self.number, None)


_current: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextmanager
def early_end(*numbers: int, notice: str = "") -> Iterator[Stop]:
    """Take the first of these signals as the wish to end early, for the length of a ``with`` block.

    Inside another such block, it is that one's wish. Otherwise the signal is passed on at the end of the block: Ctrl-C
    raises KeyboardInterrupt once what there is has been kept. A signal that is ignored, or that ends the process
    without asking Python, stays as it is; so do all of them in a thread, where no signal arrives.

    Parameters
    ----------
    numbers : int
    notice : str
        What a command writes to standard error when it is asked. The command then says itself how it ends; the process
        ends in any case, some seconds after the second signal.

    Yields
    ------
    Stop
    """
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    stop, timers = Stop(), list[threading.Timer]()

    def asked(number: int, frame: FrameType | None) -> None:
        if stop.number:
            _put_back(stop)
            if notice:
                timers.append(threading.Timer(GRACE, os._exit, [128 + number]))
                timers[0].daemon = True
                timers[0].start()
            stop.before[number](number, frame)
        stop.number = number
        if notice:
            os.write(2, f"{notice}\n".encode())  # printing may be what the signal interrupted

    if threading.current_thread() is threading.main_thread():
        stop.before = {number: found for number in numbers if callable(found := signal.getsignal(number))}
    for number in stop.before:
        signal.signal(number, asked)
    token = _current.set(stop)
    try:
        yield stop
    finally:
        _current.reset(token)
        _put_back(stop)
        for timer in timers:
            timer.cancel()
    if not notice:
        stop.pass_on()


def _put_back(stop: Stop) -> None:
    for number, handler in stop.before.items():
        signal.signal(number, handler)
