"""Work in forks of this process, each of which a thread of this one waits for.

Two threads of Python that run many short operations wait for each other's interpreter lock: stacks of few members then
train no faster on two cores than one after another. A fork has a lock of its own, shares all memory until it writes to
it, and leaves this process alive when it dies.

A process in which others have threads is not forked: one of them may hold a lock that would never be given back.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import current_process, get_context, parent_process
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
    """Whether work may run in forks of this process.

    On Linux, unless others may have threads here. Not beside a GPU either: autograd does not work in forks of a process
    in which it has met one.
    """
    import torch

    alone = threading.active_count() == 1 and not current_process().daemon
    return sys.platform == "linux" and (_ours or alone) and not torch.accelerator.is_available()


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
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, LARGE)
    mallopt(trim_threshold, (1 << 31) - 1)


class Stopped(AutoregError):
    """Work that others were done beside was interrupted, so this ends too."""


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
        Stopped
            When no fork is left.
        Exception
            What the work raises there, or `answer` here.
        """
        connection, reply = self._take(order)
        while reply[0] == "ask":
            try:
                message = answer(reply[1])
            except BaseException as error:
                self._replace(connection, wanted=not isinstance(error, Stopped))
                raise
            reply = self._exchange(connection, message)
        self.idle.put(connection)
        kind, value = reply
        if kind == "error":
            raise value
        if kind == "named":
            # a class of that name says the same where the error itself cannot be sent
            raise type(value[0], (Exception,), {})(value[1])
        return value

    def _take(self, order: Any) -> tuple[Connection, Any]:
        """An idle fork, and its first reply to an order."""
        while True:
            connection = self.idle.get()
            if connection is None:
                # whoever else waits is to know it too
                self.idle.put(None)
                raise Stopped("no process is left to train in")
            if self.all[connection].is_alive():
                return connection, self._exchange(connection, order)
            # it ended while it had nothing to do
            self._replace(connection)

    def _exchange(self, connection: Connection, message: Any) -> Any:
        try:
            _send(connection, message)
            return _receive(connection)
        except BaseException as error:
            code = self._replace(connection)
            if isinstance(error, (EOFError, OSError)):
                raise ProcessEnded(f"the process that trained it {_ending(code)}") from error
            raise

    def _replace(self, connection: Connection, wanted: bool = True) -> int | None:
        """End a fork, and start another one where it is wanted; returns the first one's exit status."""
        with self.lock:
            process = self.all.pop(connection)
        connection.close()
        process.join(0.2)
        process.kill()
        process.join()
        if wanted:
            with suppress(OSError):  # there may be no memory for one
                self._add()
        if not self.all:
            self.idle.put(None)
        return process.exitcode

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self.all.values():
            process.kill()
        for connection, process in self.all.items():
            connection.close()
            process.join()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by signal {signal.Signals(-code).name}: there may be too little memory"
    return f"ended with status {code}"


class _Gone(BaseException):
    """The process that was forked is no more."""


def _serve(work: Callable[[Any, Ask], Any], connection: Connection, others: list[Connection]) -> None:
    """What a fork does until the process that was forked is done with it, or gone."""
    _end_with_the_process()
    for other in others:
        other.close()
    # a progress bar's, whose thread is not here
    sys.stdout, sys.stderr = sys.__stdout__ or sys.stdout, sys.__stderr__ or sys.stderr
    # what there is stays, and need not be looked through for garbage
    gc.freeze()
    keep_freed_memory()

    def exchange(message: bytes) -> Any:
        try:
            connection.send_bytes(message)
            return _receive(connection)
        except (EOFError, OSError) as error:
            raise _Gone from error

    try:
        order = _receive(connection)
        while True:
            try:
                result = work(order, lambda question: exchange(pickle.dumps(("ask", question))))
                reply = pickle.dumps(("result", result), protocol=pickle.HIGHEST_PROTOCOL)
            except (Exception, SystemExit) as error:  # a stranger's part may raise anything
                reply = pickle.dumps(_portable(error))
            order = exchange(reply)
    except (_Gone, EOFError, OSError):
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # whatever is wrong with it, this is the end
                stream.flush()
        os._exit(0)


def _end_with_the_process() -> None:
    """Let this fork be killed with the process that was forked, and by nothing that is said to that one."""
    # a terminal, or `timeout`, tells the whole group to end
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # at once, not at the next question: until then it would hold the locks of files that both have open
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    parent = parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(0)


def _portable(error: BaseException) -> tuple[str, Any]:
    try:
        same = pickle.loads(pickle.dumps(error))
        if type(same) is type(error) and str(same) == str(error):
            return "error", error
    except Exception:  # a stranger's class may do anything
        pass
    return "named", (type(error).__name__, one_line(error).partition(": ")[2])


def _send(connection: Connection, message: Any) -> None:
    # by pickle itself: torch has multiprocessing send tensors through shared memory, of which there may be little
    connection.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())
