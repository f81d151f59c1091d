"""The cores that other libraries take while they fit a companion."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import joblib
from threadpoolctl import ThreadpoolController

from autoreg.threads import at_once, cores

MANY_VALUES = 200_000
"""Values of a table that are worth several threads."""

_ALLOWED: ContextVar[int | None] = ContextVar("allowed", default=None)


@contextmanager
def on_cores(n_jobs: int | None) -> Iterator[None]:
    """Companions take so many cores: OpenMP's threads, and what joblib gives an estimator with ``n_jobs=None``.

    >>> with on_cores(1):
    ...     joblib.effective_n_jobs(None)
    1
    """
    many = at_once(n_jobs)
    token = _ALLOWED.set(many if many < cores() else None)
    try:
        # in threads: processes would start anew and import all for each small transformer of a pipeline
        with joblib.parallel_config("threading", n_jobs=many):
            yield
    finally:
        _ALLOWED.reset(token)


@contextmanager
def quietly(n_values: int) -> Iterator[None]:
    """Without warnings, and on a small table with one thread: starting and joining more takes longer than they save."""
    limit = 1 if n_values < MANY_VALUES else _ALLOWED.get()
    with warnings.catch_warnings(), _libraries(len(sys.modules)).limit(limits=limit, user_api="openmp"):
        # a user can do nothing about how well conditioned a baseline is
        warnings.simplefilter("ignore")
        yield


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """The loaded libraries that have threads; looked for again after an import, for that takes as long as a fit."""
    return ThreadpoolController()
