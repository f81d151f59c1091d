"""Search strategies for autoreg by Optuna's ask and tell in batches: ``tpe`` and ``gp``.

A candidate is a trial. Without a storage the study is made anew from the results at every call, so that equal results
give equal candidates. With one, trials outlive the process: those that a dead process left running are queued again,
and finished ones teach the sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoreg import hookimpl
from autoreg_optuna.strategies import gp, settle_last, stop, tpe


@hookimpl
def register_strategies(register: Callable[..., None]) -> None:
    register("tpe", tpe, half=True, stop=stop)
    register("gp", gp, half=True, stop=stop)


@hookimpl
def search_finished(results: Any, model: Any) -> None:
    """Tell the storage how the last candidates ended: nobody asks the strategy again."""
    settle_last(results.candidates)


@hookimpl
def search_failed(plan: Any, error: BaseException) -> None:
    """Forget the study; what is left running is queued again by the next search."""
    settle_last(())
