"""Checks of search strategies."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import stats

import autoreg.testing.engine as engine
from autoreg.errors import OptionError
from autoreg.estimators import AutoRegressor
from autoreg.limits import check_candidate
from autoreg.results import CandidateResult
from autoreg.space import Candidate, Space, check_parameter
from autoreg.testing.options import check_facts, check_options
from autoreg.testing.results import Check, Fault, Look, Report, concluded, look, told

FACTS: dict[str, Callable[[Any], bool]] = {
    "own_seeds": lambda value: isinstance(value, bool),
    "choose_epoch": lambda value: isinstance(value, bool),
    "half": lambda value: isinstance(value, bool),
    "prior": callable,
    "rungs": lambda value: is_rungs(value),
    "most_epochs": lambda value: isinstance(value, int) and value >= 1,
    "stop": lambda value: value is None or callable(value),
}


def is_rungs(value: Any) -> bool:
    """Whether these are points of progress with a share each, both above 0 and below 1.

    >>> is_rungs([(0.2, 0.5)]), is_rungs([(1.5, 0.5)]), is_rungs(0.5)
    (True, False, False)
    """
    return isinstance(value, (list, tuple)) and all(
        isinstance(rung, (list, tuple)) and len(rung) == 2 and all(0 < number < 1 for number in rung) for rung in value
    )


SIZE = {
    "n_rows": 200,
    "n_numbers": 3,
    "n_categories": 1,
    "n_features": 6,
    "n_targets": 1,
    "n_skewed_targets": 1,
    "n_folds": 2,
}

LISTS = Space(({"learning_rate": [0.001, 0.01], "activation": ["relu", "tanh"], "max_epochs": [2]},), SIZE, "quick")

SPACES = {
    "lists": LISTS,
    "two alternatives": Space(({"activation": ["relu"], "max_epochs": [2]}, {"activation": ["tanh"]}), SIZE, "quick"),
    "a distribution": Space(({"learning_rate": stats.loguniform(1e-4, 1e-1), "max_epochs": [2]},), SIZE, "quick"),
    "whole numbers": Space(({"network__depth": stats.randint(1, 4), "max_epochs": [2]},), SIZE, "quick"),
    "nothing": Space(({},), SIZE, "quick"),
}

MOST_ROUNDS, MOST_CANDIDATES = 200, 2000
"""A search of a small space that is longer has no end."""

Propose = Callable[..., Any]
Rounds = list[tuple[list[CandidateResult], list[Candidate]]]
"""What was known, and what was proposed then."""


def check_strategy(
    propose: Propose, *, name: str | None = None, space: Mapping[str, Any] | None = None, raises: bool = True,
    **facts: Any,
) -> list[Check]:  # fmt: skip
    """Check a search strategy against what `register_strategies` asks for.

    Parameters
    ----------
    propose : function
        As it is registered: ``propose(space, results, n, seed) -> candidates``.
    name : str, optional
        For the messages.
    space, **facts
        As they are registered: ``own_seeds``, ``choose_epoch``, ``half``, ``stop``, ``rungs``,
        ``most_epochs``.
    raises : bool
        Raise when a check fails; otherwise the list says it.

    Returns
    -------
    list of Check

    Raises
    ------
    ConformanceError
        An `AssertionError` that lists every failure.

    Examples
    --------
    >>> from autoreg.testing import check_strategy
    >>> def endless(space, results, n, seed):
    ...     return [{"learning_rate": 0.1}]
    >>> print(*check_strategy(endless, raises=False))
    failed    candidates: expected a list of autoreg.space.Candidate; came a dict in it; see
    reference/testing.md#strategies
    """
    name = name or getattr(propose, "__name__", "own").strip("<>").lower()
    subject = _Subject(propose, name, {**({"space": space} if space else {}), **facts})
    looks: list[tuple[str, Look]] = [
        ("candidates", subject.candidates),
        ("unchanged", subject.unchanged),
        ("ends", subject.ends),
        ("number", subject.number),
        ("spaces", subject.spaces),
        ("repeatable", subject.repeatable),
        ("seeds", subject.seeds),
        ("failures", subject.failures),
        ("stop", subject.stop),
        ("facts", partial(check_facts, facts, FACTS)),
        ("options", subject.options),
        ("search", subject.search),
    ]
    return concluded(look(f"strategy {name}", "strategies", looks, first=3), raises)


def result_of(index: int, candidate: Candidate, failed: bool = False) -> CandidateResult:
    """A result as a search would give it; the best learning rate is 0.01."""
    score = float("nan") if failed else -1 - abs(math.log10(float(candidate["learning_rate"])) + 2)
    curve = () if failed else (score - 1, score)
    return CandidateResult(
        index, candidate, candidate.label, (score, score), (-score, -score), epoch=2, seconds=0.1, curve=curve,
        train_curve=curve, failure="not finite in epoch 1" if failed else "",
    )  # fmt: skip


class _Subject:
    def __init__(self, propose: Propose, name: str, facts: Mapping[str, Any]) -> None:
        self.propose, self.name, self.registered = propose, name, facts

    def ask(self, space: Space, results: Sequence[CandidateResult], n: int | None, seed: int = 0) -> list[Candidate]:
        """One proposal, looked at."""
        found = self.propose(space, list(results), n, seed)
        if not isinstance(found, (list, tuple)):
            raise Fault("a list of autoreg.space.Candidate", f"a {type(found).__name__}")
        for candidate in found:
            if not isinstance(candidate, Candidate):
                raise Fault("a list of autoreg.space.Candidate", f"a {type(candidate).__name__} in it")
            try:
                for parameter in candidate.parameters:
                    check_parameter(parameter)
                check_candidate(candidate)
            except Exception as error:  # a part may be anything
                raise Fault("candidates that can be trained", told(error)) from error
        return list(found)

    def play(self, space: Space, n: int | None, seed: int = 0, failed: bool = False) -> Rounds:
        """A whole search, without training."""
        rounds: Rounds = []
        results: list[CandidateResult] = []
        while True:
            proposed = self.ask(space, results, n, seed)
            rounds.append((list(results), proposed))
            if not proposed:
                return rounds
            results += [result_of(len(results) + i, candidate, failed) for i, candidate in enumerate(proposed)]
            if len(rounds) > MOST_ROUNDS or len(results) > MOST_CANDIDATES:
                raise Fault(
                    "an empty list in the end", f"{len(results)} candidates in {len(rounds)} rounds, and no end"
                )

    def candidates(self) -> None:
        if not self.ask(LISTS, [], 3):
            raise Fault("candidates for n=3 when nothing is known yet", "none")

    def ends(self) -> str:
        rounds = self.play(LISTS, None)
        n = len(rounds) - 1
        return f"{len(rounds[-1][0])} candidates in {n} round{'s' if n > 1 else ''} for a space of four"

    def number(self) -> None:
        for n in (1, 3):
            count = len(self.play(LISTS, n)[-1][0])
            if count > n:
                raise Fault(f"at most {n} candidates in all for n={n}", f"{count}")

    def spaces(self) -> Report | None:
        refused = []
        for what, space in SPACES.items():
            try:
                for _known, proposed in self.play(space, 3):
                    for candidate in proposed:
                        self._check_inside(candidate, space, what)
            except OptionError as error:
                refused.append(f"{what} ({error})")
        return Report(f"refuses {'; '.join(refused)}") if refused else None

    @staticmethod
    def _check_inside(candidate: Candidate, space: Space, what: str) -> None:
        def inside(dimensions: Mapping[str, Any]) -> bool:
            return all(
                values.support()[0] <= candidate[name] <= values.support()[1]
                if hasattr(values, "rvs")
                else candidate[name] in values
                for name, values in dimensions.items()
            )

        if not any(inside(dimensions) for dimensions in space.dimensions):
            raise Fault(f"candidates from the space that the user gave, here {what}", f"{dict(candidate.parameters)}")

    def unchanged(self) -> None:
        results = [result_of(i, c) for i, c in enumerate(self.ask(LISTS, [], 3))]
        for what, known in (("no results", []), ("results", results)):
            space, given = copy.deepcopy(LISTS), copy.deepcopy(known)
            self.propose(space, given, 3, 0)
            if given != known or space.dimensions != LISTS.dimensions or space.size != LISTS.size:
                raise Fault(f"space and results to stay as they are, with {what}", "a change in place")

    def repeatable(self) -> None:
        before = _global_states()
        rounds = self.play(LISTS, 3)
        for what, state in _global_states().items():
            if state != before[what]:
                raise Fault(f"{what}'s global generator to stay as it is", "draws from it: make one of the seed")
        for results, proposed in reversed(rounds):
            if self.ask(LISTS, results, 3) != proposed:
                raise Fault(
                    "the same candidates for the same results and seed, whatever was asked before",
                    f"others after {len(results)} results: keep nothing but what is in the results",
                )

    def seeds(self) -> Report | None:
        space = SPACES["a distribution"]
        try:
            same = self.play(space, 3, seed=0) == self.play(space, 3, seed=1)
        except OptionError:
            return None
        return Report("another seed makes no difference") if same else None

    def failures(self) -> None:
        self.play(LISTS, 3, failed=True)

    def stop(self) -> str | None:
        stop = self.registered.get("stop")
        if stop is None:
            return None
        candidates = self.ask(LISTS, [], 3)
        results = [result_of(i, c) for i, c in enumerate(candidates)]
        given = copy.deepcopy(results)
        for known in ([], given):
            for curve in ([-5.0], [-5.0, -4.0, -9.0], [float("nan")]):
                answer = stop(LISTS, known, candidates[0], list(curve))
                if not isinstance(answer, (bool, np.bool_)):
                    raise Fault("True or False from stop(space, results, candidate, curve)", repr(answer)[:60])
                if stop(LISTS, known, candidates[0], list(curve)) != answer:
                    raise Fault("the same answer from stop to the same question", "another")
        if given != results:
            raise Fault("results to stay as they are in stop", "a change in place")
        return None

    def options(self) -> Report | str:
        def check(options: dict[str, Any]) -> None:
            other = _Subject(partial(self.propose, **options), self.name, {})
            for function in (other.candidates, other.ends, other.number, other.repeatable):
                function()

        return check_options("strategy", self.registered.get("space"), check)

    def search(self) -> None:
        """A search with it, on a small table, two folds and one epoch."""
        frame, y = engine.table()
        space = {"max_epochs": [1], "activation": ["relu", "tanh"], "network__width": [4]}
        with engine.offered("strategy", self.name, self.propose, self.registered) as name, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search = AutoRegressor(
                strategy=name, effort="quick", space=space, n_candidates=3, cv=2, companions=None, random_state=0,
                verbose=0,
            ).fit(frame, y)  # fmt: skip
        failed = [row for row in search.results_.candidates if row.failure]
        if failed:
            raise Fault("candidates that can be trained", f"{failed[0].name}: {failed[0].failure}")


def _global_states() -> dict[str, str]:
    """Where the generators stand that everybody shares."""
    torchs = torch.get_rng_state().numpy().tobytes().hex()
    return {"random": str(random.getstate()), "numpy.random": str(np.random.get_state()), "torch": torchs}
