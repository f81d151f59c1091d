"""Studies and their trials: made from results, or kept in a storage that several processes may share."""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from autoreg.errors import OptionError
from autoreg.results import CandidateResult
from autoreg.space import Candidate, Space, short
from autoreg_optuna.dimensions import Subspaces

if TYPE_CHECKING:  # importing Optuna takes a second, and every command of autoreg loads this package
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

CURVE_POINTS = 30
"""Points of a learning curve that go into the storage: each is a transaction of its own."""

PROCESS = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's line for each trial."""
    import optuna

    with _ONE_AT_A_TIME:
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def plain(score: float, space: Space) -> float:
    """A score as a person reads it: errors are positive."""
    return -score if space.scoring.startswith("neg_") else score


def _direction(space: Space) -> Literal["minimize", "maximize"]:
    return "minimize" if space.scoring.startswith("neg_") else "maximize"


def _curve(result: CandidateResult, space: Space) -> dict[int, float]:
    """Some points of a learning curve, the last among them, by epoch."""
    every = max(1, math.ceil(len(result.curve) / CURVE_POINTS))
    epochs = {*range(every, len(result.curve) + 1, every), len(result.curve)} - {0}
    return {epoch: plain(result.curve[epoch - 1], space) for epoch in sorted(epochs)}


def _outcome(result: CandidateResult) -> Any:
    from optuna.trial import TrialState

    if result.failure or not math.isfinite(result.score):
        return TrialState.FAIL
    return TrialState.PRUNED if result.facts.get("pruned") else TrialState.COMPLETE


def notes(candidate: Candidate) -> dict[str, Any]:
    """What the dashboard shows of a candidate besides its parameters, before it is trained."""
    return {"autoreg:candidate": f"{candidate.fingerprint:016x}", "model": candidate.label}


def _outcome_notes(result: CandidateResult, space: Space) -> dict[str, Any]:
    """What it shows afterwards too."""
    assert result.candidate is not None
    found = {**notes(result.candidate), "epoch": result.epoch, "seconds": round(result.seconds, 3)}
    if result.failure:
        return {**found, "failure": result.failure}
    return {**found, "scores": [float(plain(score, space)) for score in result.scores]}


def study_of(results: Sequence[CandidateResult], space: Space, spaces: Subspaces | None, sampler: Any) -> Study:
    """A study in memory that has seen these results; without subspaces only their curves."""
    import optuna

    study = optuna.create_study(sampler=sampler, direction=_direction(space))
    for result in results:
        assert result.candidate is not None
        params = spaces.params(result.candidate) if spaces else {}
        if params is None:
            continue
        state = _outcome(result)
        curve = _curve(result, space) if spaces else dict(enumerate((plain(v, space) for v in result.curve), 1))
        # as `tell` does: the value of a pruned trial is its last intermediate one
        value = curve[max(curve)] if state == optuna.trial.TrialState.PRUNED and curve else plain(result.score, space)
        study.add_trial(
            optuna.create_trial(
                state=state, params=params, distributions=spaces.distributions(params) if spaces else {},
                value=None if state == optuna.trial.TrialState.FAIL else value, intermediate_values=curve,
                user_attrs=_outcome_notes(result, space),
            )
        )  # fmt: skip
    return study


def open_storage(storage: str | BaseStorage) -> BaseStorage | str:
    """What Optuna takes for a storage: a database's URL, ``redis://...``, a journal file's path, or an object."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalRedisBackend

    if not isinstance(storage, str):
        return storage
    if storage.startswith(("redis://", "rediss://")):
        return JournalStorage(JournalRedisBackend(storage))
    return storage if "://" in storage else JournalStorage(JournalFileBackend(storage))


def stored_study(storage: Any, name: str, space: Space, sampler: BaseSampler) -> Study:
    import optuna

    try:
        opened = open_storage(storage)
        study = optuna.create_study(
            storage=opened, sampler=sampler, study_name=name, direction=_direction(space), load_if_exists=True,
            pruner=optuna.pruners.NopPruner(),
        )  # fmt: skip
    except Exception as error:  # a database, or the URL, may be at fault in many ways
        reason = (str(error).splitlines() or [""])[0]
        raise OptionError(f"storage '{storage}' cannot be opened: {type(error).__name__}: {reason}") from error
    if study.direction.name.lower() != _direction(space):
        raise OptionError(
            f"study '{name}' is to {study.direction.name.lower()} and the metric is {space.scoring}: "
            f"give another study name, such as study={name}-2"
        )
    names = [space.scoring.removeprefix("neg_") or "score"]
    if study.metric_names != names:
        study.set_metric_names(names)
        study.set_user_attr("table", dict(space.size))
    return study


def study_name(alternatives: Sequence[Mapping[str, Any]], space: Space, seed: int, kind: str) -> str:
    """One name for equal searches: the same command finds its study again."""
    told = [[(name, _text(values)) for name, values in sorted(one.items())] for one in alternatives]
    words = json.dumps([kind, told, sorted(space.size.items()), space.effort, space.scoring, int(seed), space.data()])
    return f"autoreg-{kind}-{hashlib.sha256(words.encode()).hexdigest()[:10]}"


def _text(values: Any) -> str:
    if not hasattr(values, "rvs"):
        return repr([short(value) for value in values])
    return repr([float(values.ppf(q)) for q in (0.1, 0.5, 0.9)]) if hasattr(values, "ppf") else short(values)


def this_worker() -> str:
    """Who runs the trials that are asked for now: a thread of this process, which fits one model at a time."""
    return f"{PROCESS}/{threading.get_ident()}"


def _is_gone(worker: str) -> bool:
    """Whether whoever ran a trial runs no more. Of another host nothing is known."""
    host, pid, token, thread = worker.rsplit("/", 3)
    own_host, own_pid, own_token, _ = this_worker().rsplit("/", 3)
    if host != own_host:
        return False
    if (pid, token) == (own_pid, own_token):
        return worker == this_worker() or thread not in {str(one.ident) for one in threading.enumerate()}
    if pid == own_pid:
        return True  # a process before us had our number
    if sys.platform == "win32":  # os.kill would end it
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _tell(study: Study, trial: FrozenTrial, result: CandidateResult, space: Space) -> None:
    """Finish a trial that the study holds as running."""
    from optuna.trial import TrialState

    for key, value in _outcome_notes(result, space).items():
        study._storage.set_trial_user_attr(trial._trial_id, key, value)
    for epoch, value in _curve(result, space).items():
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)
    state = _outcome(result)
    study.tell(trial.number, plain(result.score, space) if state == TrialState.COMPLETE else None, state=state)


def settle(study: Study, results: Sequence[CandidateResult], space: Space, take_over: bool) -> None:
    """Tell the study what came out, and queue again what nobody runs any more."""
    from optuna.trial import TrialState

    told = {f"{r.candidate.fingerprint:016x}": r for r in results if r.candidate is not None}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        key, worker = trial.user_attrs.get("autoreg:candidate"), trial.user_attrs.get("autoreg:worker")
        if key in told:
            _tell(study, trial, told[key], space)
        elif take_over or (worker is not None and _is_gone(worker)):
            study._storage.set_trial_user_attr(trial._trial_id, "autoreg:lost", True)
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number, "autoreg:worker": this_worker()})


def ask(study: Study) -> Trial:
    """A trial that is known to be ours from the moment that it runs: we may be killed in the next."""
    from optuna.trial import TrialState

    if not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.enqueue_trial({}, user_attrs={"autoreg:worker": this_worker()})
    trial = study.ask()
    trial.set_user_attr("autoreg:worker", this_worker())
    return trial
