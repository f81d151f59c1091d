"""Telling plugins that observe what happens in a search. Whatever one of them raises, the fit goes on."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from autoreg.errors import ObserverWarning, one_line
from autoreg.plugins import load_plugins
from autoreg.results import CandidateResult, SearchPlan, SearchResults


class Watch:
    """What the observers of one search are told. All calls come from the thread that called `fit`.

    Attributes
    ----------
    plan : SearchPlan or None
        None before the search has started.
    """

    def __init__(self) -> None:
        self.plan: SearchPlan | None = None
        self._begin = time.perf_counter()

    def start(self, plan: SearchPlan) -> None:
        """The first candidates are proposed, and no network is trained yet."""
        self.plan = plan
        tell("search_started", plan=plan)

    def rung(self, before: Sequence[CandidateResult], ended: Sequence[CandidateResult]) -> None:
        """Further candidates have ended.

        Parameters
        ----------
        before : sequence of CandidateResult
            Those of earlier proposals.
        ended : sequence of CandidateResult
            Those of the present proposal so far, in the order of their proposal.
        """
        assert self.plan is not None
        seconds = time.perf_counter() - self._begin
        candidates = (*before, *ended)
        tell(
            "rung_finished",
            results=SearchResults(candidates, (), self.plan.scoring, self.plan.n_folds, seconds, plan=self.plan),
        )

    def finish(self, results: SearchResults, model: Any) -> None:
        """The search has ended and `model` is fitted."""
        self.plan = None
        tell("search_finished", results=results, model=model)


@contextmanager
def watched() -> Iterator[Watch]:
    """A watch over one search; where the search ends in an error, Ctrl-C among them, its observers hear of it."""
    watch = Watch()
    try:
        yield watch
    except BaseException as error:
        if watch.plan is not None:
            tell("search_failed", plan=watch.plan, error=error)
        raise


def tell(hook: str, **arguments: Any) -> None:
    """Call a hook of every plugin that has it, in the order of their names, each guarded.

    Warns
    -----
    ObserverWarning
        When one raises. Only Ctrl-C passes.
    """
    manager = load_plugins().manager
    everyone = manager.get_plugins()
    for name, plugin in sorted(
        ((one.plugin_name, one.plugin) for one in getattr(manager.hook, hook).get_hookimpls()), key=lambda one: one[0]
    ):
        try:
            manager.subset_hook_caller(hook, everyone - {plugin})(**arguments)
        except (Exception, SystemExit) as error:  # an observer never loses the fit
            warnings.warn(f"plugin '{name}' failed in {hook}: {one_line(error)}", ObserverWarning, stacklevel=2)
