"""A time limit: stacks end with the clock, a plan that ran can run again without it, and rungs take the weakest out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from exampletables import lay_out
from safetensors.torch import load_file
from sklearn.metrics import make_scorer

from autoreg import AutoRegressor, load, register
from autoreg.builtins import portfolio as builtin
from autoreg.builtins.portfolio import portfolio
from autoreg.cli import autoreg
from autoreg.errors import ModelFileError, OptionError
from autoreg.pace import SETTLED, VALIDATION_COST, AsBefore, ByClock, seconds_of
from autoreg.persistence import read_manifest
from autoreg.plans import RanPlan, plan_of
from autoreg.plugins import load_plugins
from autoreg.results import CandidateResult
from autoreg.space import Candidate, Space, Time
from autoreg.training import train_stack

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = X @ [1.0, 2.0, 3.0] + 0.1 * RNG.normal(size=90)
SIZE = {"n_rows": 1000, "n_numbers": 5, "n_features": 5, "n_folds": 5}
SMALL = {"network__width": [8], "network__depth": [1]}


def test_lengths_of_time_are_read() -> None:
    assert [seconds_of(text) for text in ("90", "90s", "5m", "1.5 h", 20, 2.5)] == [90, 90, 300, 5400, 20, 2.5]


@pytest.mark.parametrize("wrong", ["", "soon", "-5", "0", "5 d", 0, -1, float("nan"), float("inf"), True, [60]])
def test_other_lengths_are_refused(wrong: Any) -> None:
    with pytest.raises(OptionError, match=r"give seconds, or a time such as 90s, 5m or 1h"):
        seconds_of(wrong)


class Clock:
    """`time.perf_counter` as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def train(pace: ByClock, clock: Clock, stack: int, epochs: int, seconds: float, later: float | None = None) -> int:
    """The epoch that a stack ends with when each takes so many seconds, those after the last rung `later`."""
    last, epoch = epochs, 0
    while epoch < last:
        epoch += 1
        clock.now += later if later is not None and epoch > SETTLED * epochs else seconds
        moved = pace.after(stack, epoch)
        last = last if moved is None else moved
    return epoch


@pytest.mark.parametrize("seconds", [0.5, 0.9, 1.0, 1.1, 2.0])
def test_a_stack_ends_with_the_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Half as fast or twice as fast as the plan for 60 epochs of a second each: the last ends with the time."""
    clock = Clock(monkeypatch)
    pace = ByClock(clock.now + 60)
    pace.begin([(0, 60, 240)], at_once=1)
    epochs = train(pace, clock, 0, 60, seconds)
    assert abs(clock.now - 160) <= 2.5 * seconds
    assert abs(epochs * seconds - 60) <= 2.5 * seconds


def test_what_leaves_at_a_rung_gives_its_time_to_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = ByClock(clock.now + 60)
    pace.begin([(0, 60, 240)], at_once=1)
    epochs = train(pace, clock, 0, 60, 1.0, later=0.25)
    assert epochs > 60 + 60 * (1 - SETTLED)
    assert abs(clock.now - 160) <= 1


def test_no_stack_trains_longer_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = ByClock(clock.now + 60)
    pace.begin([(0, 20, 30)], at_once=1)
    assert train(pace, clock, 0, 20, 0.1) == 30


def test_stacks_that_take_turns_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    pace = ByClock(clock.now + 60)
    pace.begin([(0, 1000, 1000), (4, 1000, 1000), (8, 1000, 1000)], at_once=2)
    train(pace, clock, 0, 1000, 1.0)
    assert clock.now == pytest.approx(130, abs=1)
    train(pace, clock, 8, 1000, 1.0)
    assert clock.now == pytest.approx(160, abs=1)


def test_moves_are_repeated() -> None:
    pace = AsBefore({3: [(7, 12), (9, 9)]})
    assert [pace.after(3, epoch) for epoch in (6, 7, 8, 9)] == [None, 12, None, 9]
    assert pace.after(0, 7) is None


def row(index: int, candidate: Candidate, score: float) -> CandidateResult:
    return CandidateResult(index, candidate, candidate.label, (score,), (-score,), epoch=5)


def timed(seconds: float, each: float, at_once: int = 2) -> Space:
    return Space(({},), SIZE, time=Time(seconds, at_once, lambda candidate: each))


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_round_fits_into_the_time(at_once: int) -> None:
    for seconds, each in ((60.0, 0.01), (60.0, 0.1), (60.0, 1.0), (20.0, 5.0), (20.0, 50.0)):
        found = portfolio(timed(seconds, each, at_once), [], None, 0)
        lanes = {candidate["encoding"]: 0.0 for candidate in found}
        assert len(found) >= 2
        assert len(lanes) == 2
        counts = [sum(c["encoding"] == name for c in found) for name in lanes]
        work = sum(passes(c) * each for c in found) * builtin.cost_share(max(counts) * 2 // max(2, at_once))
        assert work <= 1.05 * seconds * at_once


def passes(candidate: Candidate) -> float:
    """How often it trains on all rows, validation in the same measure."""
    return float(candidate["max_epochs"] * (candidate["subsample"] + VALIDATION_COST) / (1 + VALIDATION_COST))


def test_an_epoch_is_a_part_of_the_rows_where_few_passes_over_them_fit() -> None:
    for each in (3.0, 6.0, 20.0, 100.0):
        for candidate in portfolio(timed(30, each), [], None, 0):
            assert 0 < candidate["subsample"] <= 1
            assert passes(candidate) * each == pytest.approx(30, rel=0.1)
            assert candidate["max_epochs"] == 1 or candidate["max_epochs"] * VALIDATION_COST * each < 8.5
    assert {c["subsample"] for c in portfolio(timed(30, 0.5), [], None, 0)} == {1.0}


@pytest.mark.parametrize("mine", [{"max_epochs": [3]}, {"subsample": [0.5]}])
def test_what_the_user_says_of_epochs_stays(mine: dict[str, list[float]]) -> None:
    space = Space((mine,), SIZE, time=Time(30, 2, lambda candidate: 20.0))
    for candidate in portfolio(space, [], None, 0):
        ((name, values),) = mine.items()
        assert candidate[name] == values[0]
        assert candidate["subsample"] == (0.5 if name == "subsample" else 1.0)
        assert candidate["max_epochs"] == (3 if name == "max_epochs" else 1)


def test_with_little_time_fewer_candidates_train_longer() -> None:
    counts = [len(portfolio(timed(60, each), [], None, 0)) for each in (0.1, 0.5, 1.0, 5.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 8
    assert counts[-1] == 2


def test_each_kind_of_candidate_is_timed_once() -> None:
    asked: list[str] = []
    space = Space(({},), SIZE, time=Time(60, 16, lambda candidate: asked.append(candidate["encoding"]) or 0.5))
    assert len(portfolio(space, [], None, 0)) >= 16
    assert sorted(asked) == ["pbld", "ple"]


@pytest.mark.parametrize("encoding", ["plain", "ple", "none"])
def test_draws_stay_near_the_best_with_encodings_of_the_users_too(encoding: str) -> None:
    mine = Space(({"encoding": [encoding]},), SIZE, "thorough")
    best = Candidate({**builtin.COMMON, "encoding": encoding, "learning_rate": 1.0, "network__dropout": 0.9})
    results = [row(i, best, -1.0) for i in range(8)]
    drawn = portfolio(mine, results, None, 0)
    near = [one for one in drawn if one["learning_rate"] > 0.1 or one["network__dropout"] == 0.9]
    assert 0 < len(near) < len(drawn)
    assert {one["encoding"] for one in drawn} == {encoding}
    assert all(not one.options("encoding") for one in drawn)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ({"loss": "squared_error", "quantile": None}, {}),
        ({"loss": "absolute_error", "quantile": None}, {}),
        ({"loss": "quantile", "quantile": 0.9}, {"loss": "quantile", "loss__quantile": 0.9}),
        ({"loss": "quantile", "quantile": 1.0}, {}),
    ],
)
def test_networks_learn_the_quantile_that_is_scored(objective: dict[str, Any], expected: dict[str, Any]) -> None:
    def losses(candidate: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in candidate.items() if name.startswith("loss")}

    for candidate in portfolio(Space(({},), SIZE, "quick", objective=objective), [], None, 0):
        assert losses(candidate.parameters) == expected
    for one in builtin.prior(Space(({},), SIZE, objective=objective), 4):
        assert losses(one) == {name: [value] for name, value in expected.items()}
    for candidate in portfolio(Space(({"loss": ["huber"]},), SIZE, objective=objective), [], 2, 0):
        assert losses(candidate.parameters) == {"loss": "huber"}


def test_rounds_follow_while_they_pay_and_differ() -> None:
    first = portfolio(timed(60, 0.01), [], None, 0)
    results = [row(i, candidate, -1.0 - i) for i, candidate in enumerate(first)]
    second = portfolio(timed(30, 0.01), results, None, 0)
    assert len(second) == 8
    assert not set(first) & set(second)
    assert portfolio(timed(0.5, 0.1), results, None, 0) == []


def test_the_number_of_candidates_is_kept_to() -> None:
    first = portfolio(timed(60, 0.01), [], 5, 0)
    assert len(first) == 5
    assert portfolio(timed(60, 0.01), [row(i, c, -1.0) for i, c in enumerate(first)], 5, 0) == []


def test_a_part_that_cannot_be_timed_is_proposed_all_the_same() -> None:
    assert len(portfolio(timed(60, float("nan")), [], None, 0)) >= 2


def in_lists(rates: Sequence[float], **more: Any) -> Any:
    own = [Candidate({"network": "linear", "learning_rate": rate, **more}) for rate in rates]
    return lambda space, results, n, seed: [] if results else own


def search(**options: Any) -> AutoRegressor:
    settings = {"cv": 2, "companions": None, "random_state": 0, "verbose": 0}
    return AutoRegressor(**{**settings, **options}).fit(X, Y)


def test_rungs_leave_the_best() -> None:
    """Of four in a stack two; eight of one program make two stacks."""
    rates = [1e-5, 3e-2, 1e-4, 1e-2] * 2
    fixed = {"max_epochs": 60, "schedule": "coslog4", "early_stopping": True, "batch_size": 4, "encoding": "plain"}
    fixed["network"] = "linear"
    plain = {name: [value] for name, value in fixed.items()}
    rows = search(space={"learning_rate": rates, **plain}, n_candidates=8, ensemble=False).results_.candidates
    for four in (rows[:4], rows[4:]):
        left = {row.candidate["learning_rate"]: row.facts.get("pruned", 0) for row in four}
        assert left[1e-5] == left[1e-4] == 28
        assert left[1e-2] == left[3e-2] == 0
        assert max(four, key=lambda row: row.score).candidate["learning_rate"] in (1e-2, 3e-2)


@pytest.mark.parametrize("strategy", ["portfolio", "grid"])
def test_a_plan_by_the_clock_runs_again_without_it(tmp_path: Path, strategy: str) -> None:
    # more than the time allows, so that the clock has a say
    space = {**SMALL, "learning_rate": [0.01, 0.02], **({} if strategy == "portfolio" else {"max_epochs": [10**6]})}
    first = search(strategy=strategy, space=space, time_limit=3, n_candidates=4)
    plan = RanPlan.from_json(first.model_.manifest["plan"])
    assert plan.time_limit == 3
    # the portfolio may have tried all of its four before
    assert plan.moves or strategy == "portfolio"
    again = AutoRegressor(strategy, cv=2, space=space, companions=None, random_state=0, verbose=0, time_limit=3)
    again.repeating(first).fit(X, Y)
    assert np.array_equal(again.predict(X), first.predict(X))
    assert again.model_.manifest["plan"] == first.model_.manifest["plan"]
    first.save(tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    third = AutoRegressor(strategy, cv=2, space=space, companions=None, random_state=0, verbose=0).repeating(loaded)
    assert np.array_equal(third.fit(X, Y).predict(X), first.predict(X))


@pytest.fixture
def notebook() -> Iterator[None]:
    """What is registered in a test is forgotten."""
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


@pytest.mark.usefixtures("notebook")
def test_what_trains_one_by_one_since_its_stack_failed_is_repeated_too() -> None:
    """The clock ends each of them, and each end is noted by the candidate's own number."""

    def fails(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if prediction.shape[-2] > 30:
            raise ArithmeticError("too many rows")
        return (prediction - target).square().sum(-1)

    register("loss", "breaks", fails)
    settings: dict[str, Any] = {"strategy": "grid", "cv": 2, "losses": ["mse", "breaks", "mae", "huber"]}
    settings |= {"space": {**SMALL, "max_epochs": [10**6]}, "companions": None, "random_state": 0, "verbose": 0}
    first = AutoRegressor(**settings, time_limit=4).fit(X, Y)
    rows = first.results_.candidates
    assert [bool(row.failure) for row in rows] == [False, True, False, False]
    assert "too many rows" in rows[1].failure
    assert sorted(RanPlan.from_json(first.model_.manifest["plan"]).moves) == [0, 2, 3]
    again = AutoRegressor(**settings).repeating(first).fit(X, Y)
    assert np.array_equal(again.predict(X), first.predict(X))
    assert [row.epoch for row in again.results_.candidates] == [row.epoch for row in rows]


def test_there_is_a_model_however_little_time_there_is() -> None:
    model = search(time_limit=0.01, companions="compare")
    assert np.isfinite(model.predict(X)).all()
    assert all(not row.failure for row in model.results_.candidates)


def test_a_single_network_has_no_plan_and_objects_cannot_be_repeated_from_a_file(tmp_path: Path) -> None:
    from torch import nn

    from autoreg import NeuralRegressor

    with pytest.raises(ModelFileError, match="holds no plan to repeat"):
        AutoRegressor().repeating(NeuralRegressor(max_epochs=1).fit(X, Y))  # type: ignore[arg-type]
    own = search(strategy="grid", activations=[nn.Tanh], space={"max_epochs": [2]})
    own.save(tmp_path / "own.safetensors")
    with pytest.raises(OptionError, match="used parts given as objects"):
        AutoRegressor().repeating(load(tmp_path / "own.safetensors", activation=nn.Tanh))


def run(words: str) -> Any:
    return CliRunner().invoke(autoreg, words.split())


def test_the_command_line_replays_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 80)
    monkeypatch.chdir(tmp_path)
    words = "fit examples/data/flights.csv --target speed_mph --quiet"
    small = " --space network__width=8 --candidates 2 --folds 2 --companions include --metric mae"
    result = run(f"{words}{small} --time-limit 4s --seed 3 -o a.safetensors")
    assert result.exit_code == 0, result.output
    result = run(f"{words} --replay a.safetensors -o b.safetensors")
    assert result.exit_code == 0, result.output
    one, other = load_file("a.safetensors"), load_file("b.safetensors")
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    assert read_manifest(Path("a.safetensors"))["plan"] == read_manifest(Path("b.safetensors"))["plan"]


def test_what_cannot_be_asked_for_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 80)
    monkeypatch.chdir(tmp_path)
    words = "fit examples/data/flights.csv --target speed_mph"
    result = run(f"{words} --time-limit soon")
    assert result.exit_code == 2
    assert result.output == "Error: time_limit='soon': give seconds, or a time such as 90s, 5m or 1h\n"
    result = run(f"{words} --time-limit 5 --replay m.safetensors")
    assert result.exit_code == 2
    assert "--time-limit and --replay both say how long to train" in result.output
    result = run(f"{words} --replay nowhere.safetensors")
    assert result.exit_code == 2


def test_a_search_without_a_limit_is_repeated_to_the_bit_too() -> None:
    """One stack of six candidates is cut for two cores in both."""
    grid = {**SMALL, "max_epochs": [3], "learning_rate": [0.001 * 2**i for i in range(6)]}
    settings: dict[str, Any] = {"strategy": "grid", "space": grid, "companions": None, "random_state": 0, "verbose": 0}
    first = AutoRegressor(**settings).fit(X, Y)
    again = AutoRegressor(**settings).repeating(first).fit(X, Y)
    assert (again.predict(X) == first.predict(X)).all()
    assert again.cv_results_["mean_test_score"].tolist() == first.cv_results_["mean_test_score"].tolist()


def test_a_search_is_repeated_once_and_with_the_seed_that_it_drew() -> None:
    settings: dict[str, Any] = {
        "strategy": "grid",
        "space": {**SMALL, "max_epochs": [3]},
        "companions": None,
        "verbose": 0,
    }
    first = AutoRegressor(**settings).fit(X, Y)
    again = AutoRegressor(**settings).repeating(first).fit(X, Y)
    assert np.array_equal(first.predict(X), again.predict(X))
    again.set_params(space={**SMALL, "max_epochs": [2]}).fit(X, Y)
    assert again.best_params_["max_epochs"] == 2


def test_the_command_line_replays_a_model_made_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 80)
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv("examples/data/flights.csv")
    settings: dict[str, Any] = {
        "strategy": "grid",
        "space": {**SMALL, "max_epochs": [2]},
        "companions": None,
        "verbose": 0,
    }
    data = table.drop(columns="speed_mph"), table["speed_mph"]
    AutoRegressor(**settings, ensemble=False).fit(*data).save("a.safetensors")
    words = "fit examples/data/flights.csv --target speed_mph --quiet"
    result = run(f"{words} --replay a.safetensors -o b.safetensors")
    assert result.exit_code == 0, result.output
    one, other = load_file("a.safetensors"), load_file("b.safetensors")
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)

    def own(y: Any, prediction: Any) -> float:
        return -float(np.abs(y - prediction).max())

    AutoRegressor(**settings, scoring=make_scorer(own)).fit(*data).save("c.safetensors")
    result = run(f"{words} --replay c.safetensors -o d.safetensors")
    assert result.exit_code == 2
    assert "scoring was an object of your own; give it on the command line" in result.output
    AutoRegressor(**settings, cv=3).fit(*data).save("e.safetensors")
    result = run(f"{words} --replay e.safetensors -o f.safetensors")
    assert result.exit_code == 2
    assert "its folds were given in Python, as cv" in result.output


def test_what_has_not_begun_when_the_time_is_up_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve stacks of a third of the time each."""
    monkeypatch.setattr("autoreg.search.train_stack", slowly := Slowly(0.2))
    space = {"network__width": list(range(4, 16)), "network": ["mlp"], "max_epochs": [50], "encoding": [None]}
    limited = {"strategy": "grid", "space": space, "companions": None, "cv": 2, "random_state": 0, "verbose": 0}
    model = AutoRegressor(**limited, time_limit=2, n_jobs=1).fit(X, Y)
    reasons = [row.failure for row in model.results_.candidates]
    left = sum(reason.startswith("left out") for reason in reasons)
    assert (len(reasons), left > 3, reasons.count("")) == (12, True, 12 - left)
    assert slowly.epochs == 12 - left
    again = AutoRegressor(**limited)
    again._again = plan_of(model.model_.manifest)
    assert [row.failure for row in again.fit(X, Y).results_.candidates] == reasons
    assert np.array_equal(again.predict(X), model.predict(X))


class Slowly:
    """Training of which every epoch takes a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.epochs = seconds, 0

    def __call__(self, spec: Any, data: Any, on_epoch: Any) -> Any:
        def after(epoch: int, outcomes: Any) -> int | None:
            time.sleep(self.seconds)
            self.epochs += 1
            return on_epoch(epoch, outcomes)

        return train_stack(spec, data, after)


def test_a_users_epochs_are_not_made_more() -> None:
    space = {**SMALL, "early_stopping": [True], "max_epochs": [40]}
    model = search(time_limit=4, companions=None, n_candidates=2, space=space)
    assert max(len(row.train_curve) for row in model.results_.candidates) <= 40
