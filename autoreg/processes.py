"""Work in forks of this process, each of which a thread of this one waits for.

Two threads of Python that run many short operations wait for each other's interpreter lock: stacks of few members then
train no faster on two cores than one after another. A fork has a lock of its own, shares all memory until it writes to
it, and leaves this process alive when it dies.

A process in which others have threads is not forked: one of them may hold a lock that would never be given back.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from autoreg.errors import AutoregError, one_line

Ask = Callable[[Any], Any]
"""``ask(question) -> answer``: has a question answered in the process that was forked."""

_ours = False


def this_process_is_ours() -> None:
    """Told by the command line: nobody else has threads here, and memory that is freed may be kept."""
    global _ours
    _ours = True
    keep_freed_memory()


def may_fork() -> bool:
    """Whether work may run in forks of this process: on Linux, unless others may have threads here."""
    alone = threading.active_count() == 1 and not current_process().daemon
    return sys.platform == "linux" and (_ours or alone)


LARGE = 1 << 25
"""32 MiB, the most that glibc takes as the size from which memory goes straight back to the system."""


def keep_freed_memory() -> None:
    """Let the C library keep what it frees: training allocates and frees the same large tensors all the time.

    For processes of our own only, never for one that imports autoreg.
    """
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return
    except (AttributeError, ValueError):  # not Linux, or not glibc
        return
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, LARGE)
    mallopt(trim_threshold, (1 << 31) - 1)


class ProcessEnded(AutoregError):
    """A fork was killed, or ended itself."""


class Forks:
    """Forks of this process that do one kind of work.

    Parameters
    ----------
    work : function
        ``work(order, ask) -> result``. It is inherited, not sent; orders, questions, answers and results are pickled.
    n : int
        How many are made, at once and in this thread.

    Examples
    --------
    >>> with Forks(lambda order, ask: order + ask("how much?"), 1) as forks:
    ...     forks.run(1, lambda question: len(question))
    10
    """

    def __init__(self, work: Callable[[Any, Ask], Any], n: int) -> None:
        self.work = work
        self.lock = threading.Lock()
        self.all: dict[Connection, Any] = {}
        self.idle: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        for _ in range(n):
            self._add()

    def _add(self) -> None:
        context = get_context("fork")
        with self.lock:
            here, there = context.Pipe()
            # those of others would stay open in this one when this process is gone
            process = context.Process(target=_serve, args=(self.work, there, [*self.all, here]), daemon=True)
            with warnings.catch_warnings():
                # of threads that libraries have: they do nothing while this one forks
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            self.all[here] = process
        self.idle.put(here)

    def run(self, order: Any, answer: Callable[[Any], Any]) -> Any:
        """Have an order done by a fork that is idle, and answer its questions meanwhile.

        Raises
        ------
        ProcessEnded
            When the fork did not live to the end; another one takes its place.
        Exception
            What the work raises there, or `answer` here.
        """
        connection = self.idle.get()
        if connection is None:
            raise ProcessEnded("the search was stopped")
        message = order
        while True:
            try:
                _send(connection, message)
                kind, value = _receive(connection)
            except (EOFError, OSError) as error:
                code = self._end(connection)
                self._add()
                raise ProcessEnded(f"the process that trained it {_ending(code)}") from error
            if kind != "ask":
                break
            try:
                message = answer(value)
            except BaseException:
                self._end(connection)
                # whoever comes next is not to wait for it
                self.idle.put(None)
                raise
        self.idle.put(connection)
        if kind == "error":
            raise value
        if kind == "named":
            # a class of that name says the same where the error itself cannot be sent
            raise type(value[0], (Exception,), {})(value[1])
        return value

    def _end(self, connection: Connection) -> int | None:
        with self.lock:
            process = self.all.pop(connection)
        connection.close()
        process.join(0.2)
        process.kill()
        process.join()
        return process.exitcode

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for connection in list(self.all):
            self._end(connection)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by signal {signal.Signals(-code).name}: there may be too little memory"
    return f"ended with status {code}"


class _Gone(BaseException):
    """The process that was forked is no more."""


def _serve(work: Callable[[Any, Ask], Any], connection: Connection, others: list[Connection]) -> None:
    """What a fork does until the process that was forked is done with it, or gone."""
    # a wish to end is heard, and answered, there, though a terminal or `timeout` may tell the whole group
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for other in others:
        other.close()
    # what there is stays, and need not be looked through for garbage
    gc.freeze()
    keep_freed_memory()

    def exchange(message: Any) -> Any:
        try:
            _send(connection, message)
            return _receive(connection)
        except (EOFError, OSError) as error:
            raise _Gone from error

    try:
        order = _receive(connection)
        while True:
            try:
                reply = "result", work(order, lambda question: exchange(("ask", question)))
            except (Exception, SystemExit) as error:  # a stranger's part may raise anything
                reply = _portable(error)
            order = exchange(reply)
    except (_Gone, EOFError, OSError):
        os._exit(0)


def _portable(error: BaseException) -> tuple[str, Any]:
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return "error", error
    except Exception:  # a stranger's class may do anything
        pass
    return "named", (type(error).__name__, one_line(error).partition(": ")[2])


def _send(connection: Connection, message: Any) -> None:
    # by pickle itself: torch has multiprocessing send tensors through shared memory, of which there may be little
    connection.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())
