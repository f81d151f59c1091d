"""What tpe and gp propose, and what a study in a storage then holds."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from autoreg_optuna import gp, settle_last, stop, tpe
from autoreg_optuna.studies import this_worker
from optuna.trial import TrialState
from scipy import stats
from searches import SPACE, error, failed, parameters, search, trained

from autoreg.errors import OptionError
from autoreg.space import Candidate, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)
BOTH = pytest.mark.parametrize("strategy", [tpe, gp], ids=["tpe", "gp"])


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/trials.db"


def trials(storage: str, name: str = "own") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=storage).trials


@BOTH
def test_as_many_as_asked_for_in_batches_and_no_two_alike(strategy: Any) -> None:
    first = strategy(SPACE, (), 10, 0, batch=3)
    assert len(first) == 3
    results = search(strategy, 10, batch=3)
    assert len(results) == len({result.candidate for result in results}) == 10
    assert parameters(results)[:3] == [dict(candidate.parameters) for candidate in first]


@BOTH
def test_equal_results_and_seeds_give_equal_candidates(strategy: Any) -> None:
    results = search(strategy, 16)
    assert parameters(search(strategy, 16)) == parameters(results)
    assert parameters(search(strategy, 16, seed=1)) != parameters(results)
    once, twice = (strategy(SPACE, results[:12], 16, 0) for _ in range(2))
    assert once == twice == [result.candidate for result in results[12:]]


@BOTH
def test_a_storage_changes_no_candidate(strategy: Any, storage: str) -> None:
    assert parameters(search(strategy, 12, storage=storage)) == parameters(search(strategy, 12))


@BOTH
def test_it_learns_from_the_results(strategy: Any) -> None:
    """The last ten are better than the first ten, which are random, whatever the seed."""
    gains = []
    for seed in range(3):
        errors = [error(result.candidate) for result in search(strategy, 30, seed, startup=10)]
        gains.append(np.mean(errors[:10]) - np.mean(errors[-10:]))
    assert min(gains) > 0
    assert np.mean(gains) > 1


@BOTH
def test_a_small_space_is_gone_through_once(strategy: Any) -> None:
    space = Space(({"learning_rate": [0.1, 0.01], "network__depth": [2], "activation": ["relu", "silu"]},), {})
    assert len(search(strategy, 50, space=space)) == 4
    assert parameters(search(strategy, None, space=Space(({"max_epochs": [3]},), {}), report=_any)) == [
        {"max_epochs": 3}
    ]


def _any(index: int, candidate: Candidate) -> Any:
    return trained(index, Candidate({"learning_rate": 0.1, "network__depth": 1, **candidate.parameters})).__class__(
        index, candidate, "own", (-1.0,), (1.0,)
    )


@BOTH
def test_all_candidates_may_fail(strategy: Any, storage: str) -> None:
    assert len(search(strategy, 12, report=failed)) == 12
    search(strategy, 6, report=failed, storage=storage, study="own")
    assert [trial.state for trial in trials(storage)] == [TrialState.FAIL] * 6
    assert trials(storage)[0].user_attrs["failure"] == "not finite in epoch 1"


def test_the_prior_is_searched_where_the_user_gives_nothing() -> None:
    def prior(space: Space, n: int) -> list[dict[str, Any]]:
        return [{"learning_rate": stats.loguniform(1e-3, 1e-1), "network__depth": [1, 2], "max_epochs": [48 // n]}]

    results = search(tpe, 8, space=Space(({"network__depth": [7]},), {}, prior=prior))
    assert {result.candidate["network__depth"] for result in results} == {7}
    assert {result.candidate["max_epochs"] for result in results} == {6}
    assert len({result.candidate["learning_rate"] for result in results}) == 8


def test_finished_failed_and_pruned_trials_in_the_storage(storage: str) -> None:
    def report(index: int, candidate: Candidate) -> Any:
        if index == 1:
            return failed(index, candidate)
        return trained(index, candidate, facts={"pruned": 4}) if index == 2 else trained(index, candidate)

    results = search(tpe, 8, report=report, storage=storage, study="own")
    found = trials(storage)
    assert [trial.state.name for trial in found] == ["COMPLETE", "FAIL", "PRUNED", *["COMPLETE"] * 5]
    for result, trial in zip(results, found, strict=True):
        assert trial.user_attrs["model"] == result.candidate.label
        if not result.failure:
            assert trial.value == pytest.approx(-result.score)
            assert trial.user_attrs["scores"] == pytest.approx([-score for score in result.scores])
            assert trial.intermediate_values == pytest.approx({e: -s for e, s in enumerate(result.curve, 1)})
            assert trial.params["learning_rate"] == result.candidate["learning_rate"]
    study = optuna.load_study(study_name="own", storage=storage)
    assert study.direction.name == "MINIMIZE"
    assert study.metric_names == ["root_mean_squared_error"]
    assert study.best_value == pytest.approx(min(-r.score for i, r in enumerate(results) if i not in (1, 2)))


def test_a_long_curve_is_thinned_and_keeps_its_end(storage: str) -> None:
    curve = tuple(np.linspace(-9, -1, 301))
    search(tpe, 1, report=lambda i, c: trained(i, c, curve=curve), storage=storage, study="own")
    (trial,) = trials(storage)
    assert len(trial.intermediate_values) <= 31
    assert trial.intermediate_values[301] == 1


def test_the_same_search_goes_on_where_it_ended(storage: str) -> None:
    """An interrupted search and its continuation make one study: as many trials as asked for, none twice."""
    options = {"storage": storage, "study": "own", "batch": 3}
    before = search(tpe, 12, rounds=3, **options)  # the third batch is proposed, trained, and never told
    assert [trial.state.name for trial in trials(storage)] == ["COMPLETE"] * 6 + ["RUNNING"] * 3
    after = search(tpe, 12, **options)
    best = sorted((result.candidate for result in before[:6]), key=error)[:4]
    assert [result.candidate for result in after[:4]] == best
    assert [result.candidate for result in after[4:7]] == [result.candidate for result in before[6:]]
    found = trials(storage)
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 6 + ["FAIL"] * 3 + ["COMPLETE"] * 6
    assert [trial.user_attrs["retry_of"] for trial in found[9:12]] == [6, 7, 8]
    assert [trial.params for trial in found[9:12]] == [trial.params for trial in found[6:9]]
    assert len(after) == 4 + 6
    whole = search(tpe, 12, **options)
    assert [result.candidate for result in whole] == sorted(
        {result.candidate for result in (*before, *after)}, key=error
    )[:4]
    assert len(trials(storage)) == 15


def test_a_larger_plan_goes_on_with_the_trials_of_a_smaller_one(storage: str) -> None:
    options = {"storage": storage, "study": "own", "again": 0}
    search(tpe, 8, **options)
    assert len(search(tpe, 20, **options)) == 12
    assert len(trials(storage)) == 20


@pytest.mark.parametrize("take_over", [False, True])
def test_trials_that_somebody_else_runs_are_left_alone(storage: str, take_over: bool) -> None:
    options = {"storage": storage, "study": "own", "batch": 2}
    search(tpe, 8, rounds=1, **options)
    study = optuna.load_study(study_name="own", storage=storage)
    host, _, _, thread = this_worker().rsplit("/", 3)
    others = (f"{host}/{os.getppid()}/abc/{thread}", f"another-{host}/1/abc/{thread}")
    for trial, worker in zip(study.trials, others, strict=True):
        study._storage.set_trial_user_attr(trial._trial_id, "autoreg:worker", worker)
    results = search(tpe, 8, take_over=take_over, **options)
    states = [trial.state.name for trial in trials(storage)]
    assert states[:2] == ["FAIL" if take_over else "RUNNING"] * 2
    # the two are part of the plan, whoever runs them
    assert len(results) == (8 if take_over else 6)


def test_trials_of_a_process_that_is_gone_are_queued_again(storage: str) -> None:
    options = {"storage": storage, "study": "own", "batch": 2}
    search(tpe, 4, rounds=1, **options)
    study = optuna.load_study(study_name="own", storage=storage)
    host = this_worker().rsplit("/", 3)[0]
    for trial in study.trials:
        study._storage.set_trial_user_attr(trial._trial_id, "autoreg:worker", f"{host}/{2**22 + 5}/abc/1")
    assert len(search(tpe, 4, **options)) == 4
    assert [trial.state.name for trial in trials(storage)] == ["FAIL"] * 2 + ["COMPLETE"] * 4


def test_equal_searches_share_a_study_and_others_do_not(storage: str) -> None:
    search(tpe, 4, storage=storage)
    search(tpe, 4, storage=storage)
    for strategy, seed, space in (
        (gp, 0, SPACE), (tpe, 1, SPACE), (tpe, 0, Space(SPACE.dimensions, {"n_rows": 101}, scoring=SPACE.scoring)),
        (tpe, 0, replace(SPACE, data=lambda: "other rows")),
    ):  # fmt: skip
        search(strategy, 4, seed, space, storage=storage)
    names = optuna.get_all_study_names(storage=storage)
    assert len(names) == len(set(names)) == 5
    assert all(name.startswith(("autoreg-tpe-", "autoreg-gp-")) for name in names)


def test_the_storage_may_stand_in_the_environment(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOREG_OPTUNA_STORAGE", storage)
    search(tpe, 4, study="own")
    assert len(trials(storage)) == 4


def test_a_path_is_a_journal_and_an_object_a_storage(tmp_path: Path) -> None:
    search(tpe, 4, storage=str(tmp_path / "trials.log"), study="own")
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "trials.log"))
    assert len(optuna.load_study(study_name="own", storage=optuna.storages.JournalStorage(backend)).trials) == 4
    memory = optuna.storages.InMemoryStorage()
    search(tpe, 4, storage=memory, study="own")
    assert len(optuna.load_study(study_name="own", storage=memory).trials) == 4


def test_alternatives_are_searched_too(storage: str) -> None:
    given = (
        {"network__depth": [1, 2, 3], "learning_rate": stats.loguniform(1e-4, 1), "activation": ["silu"]},
        {"network__depth": [9], "learning_rate": stats.loguniform(1e-4, 1), "activation": ["relu"]},
    )
    space = Space(given, {}, scoring=SPACE.scoring)
    for strategy in (tpe, gp):
        results = search(strategy, 20, space=space, storage=storage, study=repr(strategy), startup=6)
        depths = [result.candidate["network__depth"] for result in results]
        assert 9 in depths[:6]
        assert depths[-8:].count(9) <= 3
        kept = trials(storage, repr(strategy))
        assert {trial.params["activation"] for trial in kept} == {"silu", "relu"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"storage": "sqlite:////no/such/folder/trials.db"}, "storage 'sqlite:////no/such/folder/trials.db' cannot be"),
        ({"storage": "nosql://trials"}, "storage 'nosql://trials' cannot be opened: "),
        ({"batch": 0}, "strategy option batch=0: give a whole number of at least 1"),
        ({"startup": 1.5}, "strategy option startup=1.5: give a whole number of at least 1"),
        ({"pruner": "hyper"}, "strategy option pruner='hyper': give 'median', 'none' or a pruner of Optuna"),
    ],
)
def test_options_that_cannot_be_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        tpe(SPACE, (), 4, 0, **options)
    assert "\n" not in str(caught.value)


def test_a_study_of_another_space_or_metric_is_refused(storage: str) -> None:
    search(tpe, 4, storage=storage, study="own")
    other = Space(({**SPACE.dimensions[0], "activation": ["relu", "mish"]},), {}, scoring=SPACE.scoring)
    with pytest.raises(OptionError, match=r"study 'own' belongs to another space: .* Give another study name"):
        search(tpe, 8, space=other, storage=storage, study="own")
    with pytest.raises(OptionError, match="study 'own' is to minimize and the metric is r2: give another study name"):
        search(tpe, 8, space=Space(SPACE.dimensions, {}, scoring="r2"), storage=storage, study="own")


def test_the_median_pruner_ends_what_is_worse_than_half_of_the_earlier_ones() -> None:
    results = tuple(
        trained(i, Candidate({"learning_rate": 10.0**-i, "network__depth": 3, "activation": "silu"}),
                curve=(-10.0, -5.0 - i, -4.0 - i, -3.0 - i))
        for i in range(4)
    )  # fmt: skip
    candidate = Candidate({"max_epochs": 4})
    asked = [stop(SPACE, results, candidate, (-10.0, -9.0, last)) for last in (-3.5, -5.4, -5.6, -8.0)]
    assert asked == [False, False, True, True]
    # the first fifth of the epochs, and the first batch, are left alone
    assert not stop(SPACE, results, Candidate({"max_epochs": 20}), (-10.0, -9.0, -8.0))
    assert not stop(SPACE, (), candidate, (-99.0,))
    assert not stop(SPACE, results, candidate, (-10.0, -9.0, -8.0), pruner="none", batch=3)
    threshold = optuna.pruners.ThresholdPruner(upper=7.0)
    assert [stop(SPACE, results, candidate, (last,), pruner=threshold) for last in (-6.0, -8.0)] == [False, True]


def test_a_score_that_grows_is_pruned_the_other_way_round() -> None:
    space = Space(SPACE.dimensions, {}, scoring="r2")
    results = tuple(
        trained(i, Candidate({"learning_rate": 0.1, "network__depth": 3}), scores=(0.5,), curve=(0.1, 0.2 * i))
        for i in range(4)
    )
    candidate = Candidate({"max_epochs": 4})
    assert [stop(space, results, candidate, (0.0, last)) for last in (0.1, 0.5)] == [True, False]


def test_values_of_a_trial_are_plain_numbers() -> None:
    for result in search(tpe, 6):
        rate = result.candidate["learning_rate"]
        assert type(rate) is float
        assert math.isfinite(rate)


def test_the_last_candidates_are_told_when_the_search_has_ended(storage: str) -> None:
    """With a time limit nobody asks the strategy again."""
    asked = tpe(SPACE, (), 8, 0, storage=storage, study="own", batch=4)
    assert {trial.state.name for trial in trials(storage)} == {"RUNNING"}
    results = [trained(i, candidate) for i, candidate in enumerate(asked)]
    results[-1] = replace(failed(3, asked[3]), failure="left out: the search ended early, or its time was up")
    settle_last(results)
    # what was left out waits for the next search
    assert [trial.state.name for trial in trials(storage)] == ["COMPLETE"] * 3 + ["FAIL", "WAITING"]
    settle_last(results)
