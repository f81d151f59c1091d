"""Stacks side by side, one thread each.

A thread that waits for another within an operation waits ten times longer on a core that others use too. So a
stack's operations take one thread, and as many stacks run at once as there are cores. A stack's numbers then do not
depend on how many run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from autoreg.processes import Stopped

T = TypeVar("T")


@contextmanager
def one_thread() -> Iterator[None]:
    """Operations of this thread take one core; the setting before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once(n_jobs: int | None) -> int:
    """How many functions `side_by_side` runs at once."""
    return cores() if n_jobs is None or n_jobs < 1 else n_jobs


def side_by_side(
    work: Sequence[Callable[[threading.Event], T]],
    n_jobs: int | None = None,
    on_result: Callable[[T], None] | None = None,
) -> list[T]:
    """Run functions in threads and return their results in order.

    Parameters
    ----------
    work : sequence of function
        Each is given an event that is set when the others are to stop: after an error or Ctrl-C.
    n_jobs : int or None
        At once; None or -1 is one per core.
    on_result : function, optional
        Called in this thread with each result as soon as those before it are there, so in the order of `work`.

    Examples
    --------
    >>> side_by_side([lambda stop: 1, lambda stop: 2])
    [1, 2]
    """
    stop = threading.Event()

    def alone(function: Callable[[threading.Event], T]) -> T:
        with one_thread():
            return function(stop)

    hear = on_result or (lambda result: None)
    many = at_once(n_jobs)
    if min(many, len(work)) < 2:
        return [_heard(alone(function), hear) for function in work]
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(min(many, len(work)), thread_name_prefix="stack") as pool:
            futures = [pool.submit(alone, function) for function in work]
            try:
                _wait(futures, hear)
            finally:
                if not all(future.done() and future.exception() is None for future in futures):
                    stop.set()
                    for future in futures:
                        future.cancel()
    finally:
        # what a thread sets is also what the process's later threads begin with
        torch.set_num_threads(before)
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    # those that were stopped come after the one that stopped them
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error
    return [future.result() for future in futures]


def _heard(result: T, hear: Callable[[T], None]) -> T:
    hear(result)
    return result


def _wait(futures: Sequence[Future[T]], hear: Callable[[T], None]) -> None:
    """Wait until all are done or one has failed, and hand on results in order."""
    pending, told = set(futures), 0
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        if any(future.exception() for future in done):
            return
        while told < len(futures) and futures[told].done():
            hear(futures[told].result())
            told += 1
