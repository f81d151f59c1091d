"""The strategies ``tpe`` and ``gp``: what to try next, and what to end early."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from autoreg.errors import OptionError
from autoreg.results import CandidateResult
from autoreg.space import Candidate, Space
from autoreg_optuna.dimensions import Subspaces
from autoreg_optuna.studies import (
    ask,
    notes,
    plain,
    quiet,
    settle,
    stored_study,
    study_name,
    study_of,
)  # fmt: skip

if TYPE_CHECKING:  # importing Optuna takes a second, and every command of autoreg loads this package
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

TRIALS = {"quick": 12, "balanced": 24, "thorough": 72}
"""How many candidates, unless the user says so."""


def _tpe(seed: int, startup: int, several: bool) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=several, constant_liar=True)


def _gp(seed: int, startup: int, several: bool) -> BaseSampler:
    from optuna.samplers import GPSampler

    # what only some alternatives have is beyond the process
    rest = _tpe(seed, startup, several) if several else None
    return GPSampler(seed=seed, n_startup_trials=startup, independent_sampler=rest, warn_independent_sampling=False)


def propose(
    kind: str,
    make_sampler: Callable[[int, int, bool], BaseSampler],
    space: Space,
    results: Sequence[CandidateResult],
    n: int | None,
    seed: int,
    *,
    storage: str | BaseStorage | None = None,
    study: str | None = None,
    batch: int = 4,
    startup: int | None = None,
    again: int = 4,
    take_over: bool = False,
    pruner: str | BasePruner = "median",
) -> list[Candidate]:
    """Candidates of the next batch.

    Parameters
    ----------
    kind : str
    make_sampler : function
        ``(seed, startup, whether there are alternatives) -> sampler``.
    space, results, n, seed
        As for every strategy.
    storage : str or BaseStorage, optional
        A database's URL, ``redis://...``, a journal file's path, or a storage; ``AUTOREG_OPTUNA_STORAGE`` unless given,
        and memory without either.
    study : str, optional
        The study's name; by default one that follows from the space, the table, the folds, the metric and the seed.
    batch : int
        Candidates that are trained together; each is chosen with a guess at what the others of its batch will give.
    startup : int, optional
        Random candidates before the sampler takes over; by default a third, at least four and at most ten.
    again : int
        So many of the best trials of an earlier fit are trained again: a storage keeps scores, and no networks.
    take_over : bool
        Queue all running trials again, also those of other machines.
    pruner : {"median", "none"} or BasePruner
        Takes candidates out early.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState

    _check(batch=batch, again=again, startup=startup)
    _pruner(pruner, 1)
    storage = storage or os.environ.get("AUTOREG_OPTUNA_STORAGE") or None
    n = int(n or TRIALS[space.effort])
    alternatives = space.full(n)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        spaces = Subspaces(alternatives)
        n = int(min(n, spaces.size))
        first = min(10, max(4, n // 3)) if startup is None else startup

        def sampler(seed: int) -> BaseSampler:
            return make_sampler(seed, first, len(spaces.all) > 1)

        repeated: list[Candidate] = []
        if storage is None:
            found = study_of(results, space, spaces, None)
        else:
            name = study or study_name(alternatives, space, seed, kind)
            found = stored_study(storage, name, space, sampler(0))
            settle(found, results, space, take_over)
            _ASKED[threading.get_ident()] = found, space
            repeated = _best(found, spaces, again) if not results else []
        trials = found.get_trials(deepcopy=False)
        counted = {
            _key(trial): trial for trial in trials
            if trial.state != TrialState.WAITING and "autoreg:lost" not in trial.user_attrs
        }  # fmt: skip
        # equal studies give equal candidates, whichever process asks
        found.sampler = sampler(_mixed(seed, len(trials)))
        return [*repeated, *_ask(found, spaces, min(batch, n - len(counted)), counted)]


_ASKED: dict[int, tuple[Study, Space]] = {}
"""The stored study that each thread's search has asked last."""


def settle_last(results: Sequence[CandidateResult]) -> None:
    """Tell the study that this thread's search has asked last how its candidates ended."""
    found, space = _ASKED.pop(threading.get_ident(), (None, None))
    # what was left out has no outcome: the next search queues it again
    ended = [result for result in results if not result.failure.startswith("left out")]
    if found is not None and space is not None and ended:
        with quiet():
            settle(found, ended, space, take_over=False)


def _ask(study: Study, spaces: Subspaces, count: int, known: dict[str, FrozenTrial]) -> Iterator[Candidate]:
    """New candidates; one that the study knows already is told what it gave then."""
    from optuna.trial import TrialState

    for _ in range(10 * max(count, 0)):
        trial = ask(study)
        try:
            candidate = spaces.ask(trial)
        except ValueError as error:
            study.tell(trial, state=TrialState.FAIL)
            raise OptionError(
                f"study '{study.study_name}' belongs to another space: {error} Give another study name"
            ) from error
        for key, value in notes(candidate).items():
            trial.set_user_attr(key, value)
        before = known.get(_key(trial))
        known.setdefault(_key(trial), trial)  # type: ignore[arg-type]
        if before is None:
            yield candidate
            count -= 1
            if not count:
                return
            continue
        trial.set_user_attr("same_as", before.number)
        if getattr(before, "state", None) == TrialState.COMPLETE:
            study.tell(trial, before.value)
        else:
            study.tell(trial, state=TrialState.FAIL)


def _key(trial: Any) -> str:
    return trial.user_attrs.get("autoreg:candidate", f"trial {trial.number}")


def _best(study: Study, spaces: Subspaces, count: int) -> list[Candidate]:
    """The candidates of the best finished trials, without those that are of another space."""
    from optuna.trial import TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    ordered = sorted(done, key=lambda trial: (sign * trial.values[0], trial.number))
    candidates = [spaces.candidate(trial.params) for trial in ordered]
    return list(dict.fromkeys(one for one in candidates if one is not None))[:count]


def _mixed(seed: int, place: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {place}".encode()).digest()[:4], "big")


def _check(batch: Any, again: Any, startup: Any) -> None:
    for name, value, least in (("batch", batch, 1), ("again", again, 0), ("startup", startup, 1)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise OptionError(f"strategy option {name}={value!r}: give a whole number of at least {least}")


tpe = partial(propose, "tpe", _tpe)
gp = partial(propose, "gp", _gp)


def stop(
    space: Space,
    results: Sequence[CandidateResult],
    candidate: Candidate,
    curve: Sequence[float],
    *,
    pruner: str | BasePruner = "median",
    **_: Any,
) -> bool:
    """Whether Optuna's pruner would end a candidate that has come so far, seen from the results of earlier batches."""
    from optuna.trial import TrialState, create_trial

    judge = _pruner(pruner, int(candidate["max_epochs"]))
    if judge is None:
        return False
    trial = create_trial(
        state=TrialState.RUNNING,
        intermediate_values={epoch: plain(score, space) for epoch, score in enumerate(curve, 1)},
    )
    return bool(judge.prune(_Earlier(tuple(results), space).study, trial))


def _pruner(pruner: str | BasePruner, max_epochs: int) -> BasePruner | None:
    from optuna.pruners import BasePruner, MedianPruner

    if isinstance(pruner, BasePruner):
        return pruner
    if pruner not in ("median", "none"):
        raise OptionError(f"strategy option pruner={pruner!r}: give 'median', 'none' or a pruner of Optuna")
    return MedianPruner(n_startup_trials=4, n_warmup_steps=max_epochs // 5) if pruner == "median" else None


class _Earlier:
    """The results of earlier batches, for a pruner."""

    def __init__(self, results: tuple[CandidateResult, ...], space: Space) -> None:
        self.results, self.space = results, space

    def __hash__(self) -> int:
        return hash(tuple((result.index, result.scores) for result in self.results))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Earlier) and all(
            a is b for a, b in zip(self.results, other.results, strict=False)
        ) and len(self.results) == len(other.results)  # fmt: skip

    @property
    def study(self) -> Study:
        return _earlier_study(self)


@lru_cache(maxsize=4)
def _earlier_study(earlier: _Earlier) -> Study:
    """Made once a batch: it is asked after every epoch of every candidate."""
    with quiet():
        return study_of(earlier.results, earlier.space, None, None)
