"""The rounds of a search: a strategy proposes, candidates are trained, until it has no more or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

from autoreg.errors import AutoregError, ContractError, OptionError, SearchError, unknown
from autoreg.grouping import recipe_of
from autoreg.guards import Asked
from autoreg.identity import data_of
from autoreg.journal import Unkept
from autoreg.observers import Watch
from autoreg.pace import AsPlanned, ByClock, Pace, seconds_of
from autoreg.plans import RanPlan
from autoreg.plugins import registry
from autoreg.problem import Problem
from autoreg.registry import option_names
from autoreg.results import OnProgress, SearchPlan
from autoreg.search import Evaluated, evaluate, seconds_for
from autoreg.space import NAME_LISTS, PARTS, Candidate, Space, Time, as_dimensions, short
from autoreg.stopping import Stop
from autoreg.targets import is_skewed
from autoreg.threads import at_once


@dataclass(frozen=True)
class Limit:
    """A time limit, on the clock of `time.perf_counter`.

    Attributes
    ----------
    seconds : float
    companions_until, networks_until, fitting_until : float
        When no further companion starts, when the networks stop, and when fitting on all rows is given up.
    """

    seconds: float
    companions_until: float
    networks_until: float
    fitting_until: float

    @classmethod
    def of(cls, limit: float | str, begin: float, n_rows: int, on_all_rows: bool = False) -> Limit:
        """What a limit that began to count at `begin` leaves for a table of so many rows.

        `on_all_rows` says that what is chosen is then fitted once more.
        """
        seconds = seconds_of(limit)
        # choosing, saving and ending come after the networks
        end = begin + max(0.3 * seconds, seconds - AFTER - AFTER_SHARE * seconds - AFTER_ROW * n_rows)
        networks = end - (REFIT_SHARE * (end - begin) if on_all_rows else 0.0)
        return cls(seconds, begin + COMPANIONS_SHARE * seconds, networks, end)


COMPANIONS_SHARE = 0.25
"""Share of a time limit after which no further companion starts."""

AFTER, AFTER_SHARE, AFTER_ROW = 0.7, 0.02, 2e-5
"""Seconds, share of the limit, and seconds a row, kept for what comes after the networks."""

MOST_KEPT = 200
"""Candidates whose networks are kept for the ensemble while others are tried: a search of hours tries a thousand."""

NOTHING = "the strategy proposed no candidate: give a larger space"

REFIT_SHARE = 0.3
"""Share of the rest kept for fitting on all rows."""


class Rounds:
    """One search.

    Parameters
    ----------
    strategy : Asked
    stop : function or None
        The strategy's.
    problem : Problem
    estimator : AutoRegressor
    limit : Limit or None
    again : RanPlan or None
        A plan to repeat; `strategy` then proposes what it holds.
    journal : Unkept
    asked : Stop
        Whether to end with what there is.
    """

    def __init__(
        self,
        strategy: Asked,
        stop: Callable[..., bool] | None,
        problem: Problem,
        estimator: Any,
        limit: Limit | None,
        again: RanPlan | None,
        journal: Unkept,
        asked: Stop,
    ) -> None:
        self.strategy, self.stop, self.problem, self.estimator = strategy, stop, problem, estimator
        self.limit, self.again, self.journal, self.asked = limit, again, journal, asked
        self.pace: Pace = again.pace if again else AsPlanned()
        if limit is not None:
            self.pace = ByClock(limit.networks_until)
        self.space = space_of(estimator, problem)
        self._proposed: list[list[Candidate]] = []
        self._first: list[Candidate] = []

    def check_first(self, watch: Watch, plan: SearchPlan) -> None:
        """Refuse options that do not go with the data, or the strategy, before anything is trained.

        A strategy of ours may be asked twice. A stranger's is asked once: now, unless it is to know the time left then.

        Raises
        ------
        AutoregError
        """
        ask = partial(self.strategy, self.space, (), self.estimator.n_candidates, self.problem.seed)
        if not self.strategy.ours:
            if self.limit is not None:
                return
            self._first = self.journal.proposal(0, ask)
            if not self._first:
                raise SearchError(NOTHING)
            watch.start(replace(plan, candidates=tuple(self._first)))
        for candidate in self._first or ask():
            try:
                recipe_of(candidate, self.problem)
            except (Exception, SystemExit) as error:  # of a stranger's part: this candidate's failure, once it is built
                if isinstance(error, AutoregError) and not isinstance(error, ContractError):
                    raise

    def run(self, on_progress: OnProgress | None, watch: Watch, plan: SearchPlan) -> list[Evaluated]:
        """Train what the strategy proposes.

        Raises
        ------
        SearchError
            When it proposes nothing at all.
        """
        space, jobs = self.space, self.problem.at_once(self.estimator.n_jobs)
        done: list[Evaluated] = []
        while not self.asked():
            results = tuple(item.result for item in done)
            if self.limit is not None:
                left = self.limit.networks_until - time.perf_counter()
                if done and left <= 0 and not self.journal.has_proposal(len(done)):
                    break
                space = replace(space, time=Time(left, at_once(jobs), partial(seconds_for, problem=self.problem)))
            ask = partial(self.strategy, space, results, self.estimator.n_candidates, self.problem.seed)
            proposed = (not done and self._first) or self.journal.proposal(len(done), ask)
            if not proposed:
                break
            if watch.plan is None:
                watch.start(replace(plan, candidates=tuple(proposed)))
            self._proposed.append(list(proposed))
            leaves = self.stop and partial(self.stop, space, results)
            done += evaluate(
                proposed, self.problem, len(done), on_progress, jobs, leaves, partial(watch.rung, results), self.pace,
                self.journal, self.asked,
            )  # fmt: skip
            let_go(done)
        if not done and not self.asked():
            raise SearchError(NOTHING)
        return done

    def ran(self, companions: list[str]) -> RanPlan:
        """What was done, for the model to keep."""
        seconds = self.again.time_limit if self.again else self.limit.seconds if self.limit else None
        early = self.asked() or (self.again is not None and self.again.ended_early)
        precision = "bfloat16" if self.problem.half else "float32"
        return RanPlan(self._proposed, companions, precision, self.pace.moves, seconds, self.pace.skipped, early)


def let_go(done: Sequence[Evaluated], most: int = MOST_KEPT) -> None:
    """Forget the networks of all but the best; what was found out about them stays."""
    usable = [item for item in done if item.oof is not None and item.result.score == item.result.score]
    for item in sorted(usable, key=lambda item: -item.result.score)[most:]:
        item.states, item.oof, item.template = [], None, None


def strategy_of(estimator: Any, again: RanPlan | None = None) -> tuple[Asked, Mapping[str, Any]]:
    """The strategy's function with its options, and what it says of itself; of a plan to repeat, what it proposed."""
    value, options = estimator.strategy, estimator.strategy_options or {}
    if not isinstance(options, Mapping):
        raise OptionError(f"strategy_options={options!r}: give a dict of options")
    entry = None if callable(value) else registry().get("strategy", value)
    propose, facts = (entry.thing, dict(entry.facts)) if entry else (value, {})
    known = option_names(propose, 4)
    for name in options:
        if known is not None and name not in known:
            raise OptionError(
                unknown(f"option of strategy {short(value)}", name, known)
                if known
                else f"strategy {short(value)} takes no options: remove '{name}'"
            )
    if options and "stop" in facts:
        facts["stop"] = partial(facts["stop"], **options)
    asked = again.propose if again else partial(propose, **options)
    return Asked(asked, short(value), entry), facts


def space_of(estimator: Any, problem: Problem) -> Space:
    """The user's space with the name lists as further dimensions."""
    lists = {
        parameter: list(getattr(estimator, option))
        for option, parameter in NAME_LISTS.items()
        if getattr(estimator, option) is not None
    }
    dimensions = tuple({**lists, **alternative} for alternative in as_dimensions(estimator.space))
    layout = problem.layout
    size = {
        "n_rows": len(problem.folds[0].train),
        "n_numbers": layout.n_numbers,
        "n_categories": len(layout.n_codes),
        "n_features": layout.n_numbers + sum(min(n, 8) for n in layout.n_codes),
        "n_targets": problem.y.shape[1],
        "n_skewed_targets": sum(map(is_skewed, problem.y.T)),
        "n_folds": len(problem.folds),
    }
    # what stands around our own portfolio is offered to every strategy
    prior = registry().get("strategy", "portfolio").facts.get("prior")
    declared: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for entry in registry():
        if entry.kind in declared and entry.space:
            declared[entry.kind][entry.name] = entry.space
    return Space(
        dimensions, size, estimator.effort, problem.metric.name, prior, declared, data=cache(partial(data_of, problem)),
        objective=asdict(problem.metric.objective),
    )  # fmt: skip
