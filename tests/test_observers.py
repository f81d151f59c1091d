"""Observers hear of a search in order, change nothing, and lose no fit."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from autoreg import AutoRegressor, NeuralRegressor, hookimpl
from autoreg.errors import ObserverWarning, SearchError
from autoreg.plugins import load_plugins
from autoreg.results import SearchPlan, SearchResults
from autoreg.space import Candidate

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X[:, 0] - 2 * X[:, 1]
SMALL = {"max_epochs": [2], "network": ["linear"]}


class Witness:
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.threads: set[int] = set()

    def _note(self, hook: str, **arguments: Any) -> None:
        self.calls.append((hook, arguments))
        self.threads.add(threading.get_ident())

    @hookimpl
    def search_started(self, plan: SearchPlan) -> None:
        self._note("search_started", plan=plan)

    @hookimpl
    def rung_finished(self, results: SearchResults) -> None:
        self._note("rung_finished", results=results)

    @hookimpl
    def search_finished(self, results: SearchResults, model: Any) -> None:
        self._note("search_finished", results=results, model=model)

    @hookimpl
    def search_failed(self, plan: SearchPlan, error: BaseException) -> None:
        self._note("search_failed", plan=plan, error=error)

    @property
    def heard(self) -> list[str]:
        return [hook for hook, _ in self.calls]


Observe = Callable[..., Any]


@pytest.fixture
def observe() -> Iterator[Observe]:
    """Registers a plugin for the length of a test."""
    manager = load_plugins().manager
    added = []

    def register(plugin: Any, name: str = "witness") -> Any:
        manager.register(plugin, name=name)
        added.append(plugin)
        return plugin

    yield register
    for plugin in added:
        manager.unregister(plugin)


def search(**options: Any) -> AutoRegressor:
    given = {"strategy": "grid", "space": {**SMALL, "learning_rate": [0.1, 0.01]}, "cv": 2, "companions": None}
    return AutoRegressor(**{**given, "random_state": 0, "verbose": 0, **options})


def test_a_search_is_told_from_start_to_finish(observe: Observe) -> None:
    witness = observe(Witness())
    model = search(companions="compare", scoring="r2").fit(X, Y)
    assert witness.heard[0] == "search_started"
    assert witness.heard[-1] == "search_finished"
    assert {*witness.heard[1:-1]} == {"rung_finished"}
    plan, last = witness.calls[0][1]["plan"], witness.calls[-1][1]
    assert [candidate["learning_rate"] for candidate in plan.candidates] == [0.1, 0.01]
    assert (plan.n_rows, plan.n_folds, plan.scoring, plan.strategy) == (60, 2, "r2", "grid")
    assert plan.features == tuple(column.name for column in model.schema_.used)
    assert (plan.targets, plan.max_epochs) == (tuple(model.model_.manifest["targets"]), 2)
    assert last["model"] is model
    assert last["results"] is model.results_
    assert all(call["results"].plan is plan for hook, call in witness.calls if hook != "search_started")
    assert witness.threads == {threading.get_ident()}


def test_what_search_finished_gets_is_fitted_and_can_be_saved(observe: Observe, tmp_path: Any) -> None:
    class Saver:
        @hookimpl
        def search_finished(self, model: AutoRegressor) -> None:
            model.save(tmp_path / "model.safetensors")
            np.save(tmp_path / "prediction.npy", model.predict(X))

    observe(Saver())
    model = search().fit(X, Y)
    assert (tmp_path / "model.safetensors").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "prediction.npy"), model.predict(X))


def test_rungs_are_the_same_whatever_the_cores(observe: Observe) -> None:
    def rungs(n_jobs: int) -> list[list[tuple[int, tuple[float, ...]]]]:
        witness = observe(Witness(), f"witness of {n_jobs}")
        mlp = {"network": ["mlp"], "network__width": [4], "max_epochs": [1, 2, 3]}
        space = [mlp, {"network": ["linear"], "max_epochs": [1, 3]}]
        search(space=space, n_jobs=n_jobs).fit(X, Y)
        told = [call["results"] for hook, call in witness.calls if hook == "rung_finished"]
        return [[(row.index, row.scores) for row in results.candidates] for results in told]

    one, two = rungs(1), rungs(2)
    assert one == two
    assert len(one) == 5  # five programs
    for earlier, later in pairwise(one):
        assert {*earlier} < {*later}
        assert later == sorted(later)


def test_a_strategy_in_rounds_starts_once_and_its_rungs_grow(observe: Observe) -> None:
    def in_rounds(space: Any, results: Any, n: Any, seed: int) -> list[Candidate]:
        return [] if len(results) == 3 else [Candidate({"network": "linear", "max_epochs": 1 + len(results)})]

    witness = observe(Witness())
    search(strategy=in_rounds, space=None).fit(X, Y)
    assert witness.heard == ["search_started", *["rung_finished"] * 3, "search_finished"]
    assert [len(call["results"].candidates) for hook, call in witness.calls if hook == "rung_finished"] == [1, 2, 3]
    assert witness.calls[0][1]["plan"].strategy == "in_rounds"


def test_a_candidate_that_failed_has_ended_too(observe: Observe) -> None:
    def broken(prediction: Any, target: Any) -> Any:
        raise ArithmeticError("no")

    witness = observe(Witness())
    search(losses=["squared_error", broken], space=SMALL).fit(X, Y)
    last = [call["results"] for hook, call in witness.calls if hook == "rung_finished"][-1]
    assert [row.failure for row in last.candidates] == ["", "ArithmeticError: no"]
    assert last.best.index == 0


def test_a_search_that_fails_is_told_after_it_began(observe: Observe) -> None:
    def broken(prediction: Any, target: Any) -> Any:
        raise ArithmeticError("no")

    witness = observe(Witness())
    with pytest.raises(SearchError) as caught:
        search(losses=[broken], space=SMALL).fit(X, Y)
    assert witness.heard[-1] == "search_failed"
    assert witness.calls[-1][1] == {"plan": witness.calls[0][1]["plan"], "error": caught.value}
    witness.calls.clear()
    with pytest.raises(ValueError, match="effort"):
        search(effort="none").fit(X, Y)
    assert witness.heard == []


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_in_an_observer_ends_the_search(observe: Observe, n_jobs: int) -> None:
    class Impatient(Witness):
        @hookimpl
        def rung_finished(self, results: SearchResults) -> None:
            raise KeyboardInterrupt

    witness = observe(Impatient())
    with pytest.raises(KeyboardInterrupt):
        search(n_jobs=n_jobs).fit(X, Y)
    assert witness.heard == ["search_started", "search_failed"]
    assert isinstance(witness.calls[-1][1]["error"], KeyboardInterrupt)


@pytest.mark.parametrize("error", [ValueError("first line\nsecond"), SystemExit(3)])
@pytest.mark.parametrize("hook", ["search_started", "rung_finished", "search_finished"])
def test_an_observer_that_raises_is_a_warning_and_the_others_are_told(
    observe: Observe, hook: str, error: BaseException
) -> None:
    def fail(self: Any) -> None:
        raise error

    observe(type("Faulty", (), {hook: hookimpl(fail)})(), "a-faulty-one")
    witness = observe(Witness())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = search(n_jobs=1).fit(X, Y)
    texts = [str(warning.message) for warning in caught if warning.category is ObserverWarning]
    said = "ValueError: first line" if isinstance(error, ValueError) else "SystemExit: 3"
    assert texts == [f"plugin 'a-faulty-one' failed in {hook}: {said}"] * witness.heard.count(hook)
    assert texts
    assert model.predict(X).shape == (60,)


def test_an_observer_that_raises_while_the_search_fails_does_not_hide_why(observe: Observe) -> None:
    class Faulty:
        @hookimpl
        def search_failed(self) -> None:
            raise RuntimeError("also this")

    def broken(prediction: Any, target: Any) -> Any:
        raise ArithmeticError("no")

    observe(Faulty(), "faulty")
    with pytest.warns(ObserverWarning, match="plugin 'faulty' failed in search_failed"), pytest.raises(SearchError):
        search(losses=[broken], space=SMALL).fit(X, Y)


def test_observers_are_told_in_the_order_of_their_names(observe: Observe) -> None:
    order = []
    for name in ("c", "a", "b"):
        observe(type("One", (), {"search_started": hookimpl(lambda self, name=name: order.append(name))})(), name)
    search(n_jobs=1).fit(X, Y)
    assert order == ["a", "b", "c"]


def test_one_network_alone_is_no_search(observe: Observe) -> None:
    witness = observe(Witness())
    NeuralRegressor(network="linear", max_epochs=1).fit(X, Y)
    assert witness.calls == []
