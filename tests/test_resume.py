"""A search that is killed goes on to the same result; one that is asked to end keeps what it has."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from runs import Run, planned, same_model, units

from autoreg import AutoRegressor, hookimpl
from autoreg.cli import autoreg
from autoreg.errors import JournalWarning, OptionError
from autoreg.journal import Journal
from autoreg.persistence import read_manifest, read_model
from autoreg.plugins import load_plugins
from autoreg.results import SearchPlan, SearchResults
from autoreg.space import Candidate
from autoreg.stopping import early_end

STACKS = ["--activation", "relu", "--activation", "tanh", "--activation", "silu", "--candidates", "6"]
PLAN = ["table.csv", "--target", "y", "--effort", "quick", "--folds", "3", *STACKS]
SHORT = ["--space", "max_epochs=40"]
ENDLESS = ["--space", "max_epochs=100000", "--space", "early_stopping=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, and the model of a search that nothing interrupts."""
    found = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=X[:, 0] * X[:, 1] + rng.normal(0, 0.1, 300))
    frame.to_csv(found / "table.csv", index=False)
    assert Run([*PLAN, *SHORT, "-o", "whole.safetensors"], found).end()[0] == 0
    assert not (found / "whole.safetensors.run").exists()
    return found


def test_a_search_that_is_killed_and_then_interrupted_goes_on_to_the_same_result(folder: Path) -> None:
    output, run_dir = folder / "ended.safetensors", folder / "ended.safetensors.run"
    words = [*PLAN, *SHORT, "-o", output.name]
    killed = Run(words, folder)
    assert killed.wait_for(lambda: units(run_dir, "stack "))
    killed.kill()
    before, n_stacks = units(run_dir), planned(run_dir)
    assert n_stacks > 2
    assert not output.exists()

    stopped = Run(words, folder)
    assert stopped.wait_for(lambda: len(units(run_dir)) > len(before))
    stopped.send(signal.SIGINT)
    status, out, err = stopped.end()
    assert status == 130, err
    stacks = sum(key.startswith("stack ") for key in before)
    assert f"Resuming: {stacks} of {n_stacks} stacks of networks are done." in err.splitlines()
    assert "Stopping after the epochs in training, and saving what there is." in err
    assert f"Stopped early: {output.name} was chosen from what had a score, " in err
    assert "rank" in out
    manifest = read_manifest(output)
    assert manifest["stopped_early"] is True
    left_out = [row for row in manifest["leaderboard"] if row["failure"].startswith("left out")]
    assert len(left_out) < sum(row["parameters"] is not None for row in manifest["leaderboard"]) == 6
    assert units(run_dir)[: len(before)] == before

    status, _, err = Run([*words, "--force"], folder).end()
    assert status == 0, err
    assert same_model(output, folder / "whole.safetensors")
    assert not run_dir.exists()


def test_a_request_to_end_keeps_the_best_so_far(folder: Path) -> None:
    words = [*PLAN, *ENDLESS, "-o", "term.safetensors", "--run-dir", "kept"]
    run = Run(words, folder)
    assert run.process.stderr is not None
    while "networks:" not in run.process.stderr.readline():
        pass
    run.send(signal.SIGTERM)
    status, _, err = run.end()
    assert status == 143, err
    assert "The same command with --force goes on from kept." in err
    assert read_manifest(folder / "term.safetensors")["stopped_early"] is True
    assert units(folder / "kept", "stack ") == []

    again = ["table.csv", "--target", "y", "--replay", "term.safetensors", "-o", "again.safetensors"]
    status, _, err = Run(again, folder).end()
    assert status == 0, err
    (first, tensors), (second, same) = (read_model(folder / f"{name}.safetensors") for name in ("term", "again"))
    assert first["plan"] == second["plan"]
    assert {name: t.numpy().tobytes() for name, t in tensors.items()} == {
        n: t.numpy().tobytes() for n, t in same.items()
    }


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> list[str]:
    """A quick plan of the same table, with its run directory kept."""
    words = [str(folder / "table.csv"), *PLAN[1:], "--space", "max_epochs=2", "--companions", "none"]
    return ["fit", *words, "--run-dir", str(tmp_path / "run"), "-o", str(tmp_path / "m.safetensors")]


def test_a_directory_that_was_named_stays(table: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(autoreg, table).exit_code == 0
    n_stacks = len(units(tmp_path / "run"))
    assert n_stacks == planned(tmp_path / "run") > 2
    refused = CliRunner().invoke(autoreg, [*table, "--force", "--candidates", "5"])
    assert refused.exit_code == 2
    assert "holds another search (option n_candidates was 6, and is 5): repeat that one, give" in refused.stderr
    again = CliRunner().invoke(autoreg, [*table, "--force"])
    assert f"Resuming: {n_stacks} of {n_stacks} stacks of networks are done." in again.stderr
    assert "Plan:" not in again.stderr


def test_a_directory_in_use_is_refused(table: list[str], tmp_path: Path) -> None:
    other = Journal(tmp_path / "run")
    done = CliRunner().invoke(autoreg, table)
    other.close()
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "is in use by another process" in line


def test_a_search_without_a_result_leaves_no_directory(table: list[str], tmp_path: Path) -> None:
    words = [word for word in table if word not in ("--run-dir", str(tmp_path / "run"))]
    done = CliRunner().invoke(autoreg, [*words, "--space", "learning_rate=1e30"])
    assert done.exit_code == 2, done.stderr
    assert "none of 6 candidates could be trained" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("network__dept=2", "no option of network realmlp 'dept'"),
        ("learning_rate=-1", "learning_rate=-1"),
        ("target_scaling=log", "target_scaling"),
        ("loss=poisson", "loss poisson needs targets at least 0"),
    ],
)
def test_a_wrong_option_is_refused_before_companions_are_fitted(
    wrong: str, message: str, table: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoreg.companions.fit_companion", no_training)
    words = [word for word in table if word not in ("--run-dir", str(tmp_path / "run"))]
    done = CliRunner().invoke(autoreg, [*words, "--companions", "include", "--space", wrong])
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- in one process


X = np.random.default_rng(0).normal(size=(60, 3))
Y = X[:, 0] - 2 * X[:, 1]
SMALL = {"max_epochs": [3], "network": ["linear"], "learning_rate": [0.01, 0.1]}


def search(**given: Any) -> AutoRegressor:
    return AutoRegressor(**{"strategy": "grid", "space": SMALL, "cv": 3, "random_state": 0, "verbose": 0, **given})


def no_training(*_: object, **__: object) -> None:
    raise AssertionError("it was trained again")


def what_was_found(fitted: AutoRegressor) -> object:
    table = {name: repr(list(values)) for name, values in fitted.cv_results_.items()}
    curves = [(row.curve, row.train_curve, row.failure, dict(row.facts)) for row in fitted.results_.candidates]
    companions = [(row.name, repr(row.scores), row.seconds) for row in fitted.results_.companions]
    weights = {name: tensor.numpy().tobytes() for name, tensor in fitted.model_.tensors().items()}
    return table, repr(curves), companions, weights, fitted.ensemble_score_, fitted.predict(X).tobytes()


def spent_before(directory: Path) -> float:
    return max(json.loads(line[9:])["elapsed"] for line in (directory / "journal").read_bytes().splitlines())


def failing(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("not today")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"strategy": "portfolio", "effort": "quick", "space": {"max_epochs": [3]}, "random_state": None},
        {"activations": ["relu", failing], "space": {**SMALL, "network": ["mlp"]}},
        {"networks": [torch.nn.Linear(3, 1), "linear"], "space": {"max_epochs": [3], "encoding": [None]}},
        {"companions": None, "ensemble": False},
    ],
    ids=["grid", "portfolio without a seed", "a failure", "objects", "networks alone"],
)
def test_what_is_finished_is_recalled(given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = search(run_dir=tmp_path / "run", **given).fit(X, Y)
    spent = spent_before(tmp_path / "run")
    monkeypatch.setattr("autoreg.search.train_stack", no_training)
    monkeypatch.setattr("autoreg.companions.fit_companion", no_training)
    again = search(run_dir=tmp_path / "run", **given).fit(X, Y)
    assert what_was_found(again) == what_was_found(first)
    assert again.results_.seconds > spent > 0


def test_a_companion_that_lacked_memory_is_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_little(*_: object) -> None:
        raise MemoryError("too little")

    with monkeypatch.context() as patch:
        patch.setattr("autoreg.companions.fit_companion", too_little)
        first = search(run_dir=tmp_path / "run").fit(X, Y)
    assert all("too little" in row.failure for row in first.results_.companions)
    monkeypatch.setattr("autoreg.search.train_stack", no_training)
    again = search(run_dir=tmp_path / "run").fit(X, Y)
    assert not any(row.failure for row in again.results_.companions)


def test_a_search_by_the_clock_is_recalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"strategy": "portfolio", "space": {"network__width": [16]}, "time_limit": 3, "run_dir": tmp_path / "run"}
    first = search(**given).fit(X, Y)
    plan = first.model_.manifest["plan"]
    monkeypatch.setattr("autoreg.search.train_stack", no_training)
    monkeypatch.setattr("autoreg.companions.fit_companion", no_training)
    assert 0 < spent_before(tmp_path / "run") < 10
    again = search(**given).fit(X, Y)  # its time is up, and nothing that was done in it is lost
    assert what_was_found(again) == what_was_found(first)
    assert again.model_.manifest["plan"] == plan


def test_a_journal_changes_nothing(tmp_path: Path) -> None:
    one, other = search().fit(X, Y), search(run_dir=tmp_path / "run").fit(X, Y)
    assert one.predict(X).tobytes() == other.predict(X).tobytes()
    other.save(tmp_path / "m.safetensors")
    assert str(tmp_path) not in (tmp_path / "m.safetensors").read_bytes().decode("latin-1")


def wandering(space: object, results: Any, n: object, seed: object) -> list[Candidate]:
    """Never the same twice."""
    if len(results) >= 4:
        return []
    rate = float(np.random.default_rng().uniform(0.01, 0.1))
    return [Candidate({"network": "linear", "max_epochs": 2, "learning_rate": rate * k}) for k in (1, 2)]


def test_the_answers_of_a_strategy_are_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"strategy": wandering, "space": None, "run_dir": tmp_path / "run"}
    first = search(**given).fit(X, Y)
    rates = list(first.cv_results_["param_learning_rate"])
    assert len(set(rates)) == 4
    monkeypatch.setattr("autoreg.search.train_stack", no_training)
    assert list(search(**given).fit(X, Y).cv_results_["param_learning_rate"]) == rates


def test_a_part_of_the_journal_is_enough(tmp_path: Path) -> None:
    whole = search(run_dir=tmp_path / "run").fit(X, Y)
    path = tmp_path / "run" / "journal"
    lines = path.read_bytes().splitlines(keepends=True)
    for n in range(len(lines)):
        path.write_bytes(b"".join(lines[:n]))
        again = search(run_dir=tmp_path / "run").fit(X, Y)
        assert again.predict(X).tobytes() == whole.predict(X).tobytes()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"effort": "quick"}, r"option effort was 'balanced', and is 'quick'"),
        ({"space": {**SMALL, "max_epochs": [4]}}, r"option space max_epochs was \[3\], and is \[4\]"),
        ({"random_state": 1}, r"seed was 0, and is 1"),
        ({"cv": 4}, r"the folds are others"),
        ({"X": X + 1}, r"the columns are others|the rows are others"),
        ({"y": Y + 1}, r"the targets are others"),
        ({"w": np.full(60, 2.0)}, r"the weights are others"),
    ],
)
def test_another_search_is_refused(change: dict[str, Any], part: str, tmp_path: Path) -> None:
    search(run_dir=tmp_path / "run", companions=None).fit(X, Y)
    X_now, y_now, weight = change.pop("X", X), change.pop("y", Y), change.pop("w", None)
    with pytest.raises(OptionError, match=rf"another search \(.*({part})\): repeat that one"):
        search(run_dir=tmp_path / "run", companions=None, **change).fit(X_now, y_now, weight)


def test_other_cores_are_the_same_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(run_dir=tmp_path / "run", n_jobs=1).fit(X, Y)
    monkeypatch.setattr("autoreg.search.train_stack", no_training)
    search(run_dir=tmp_path / "run", n_jobs=2).fit(X, Y)


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("autoreg.journal.os.replace", full)
    with pytest.warns(JournalWarning, match="No space left on device"):
        fitted = search(run_dir=tmp_path / "run").fit(X, Y)
    assert fitted.predict(X).tobytes() == search().fit(X, Y).predict(X).tobytes()


def test_observers_hear_the_same_on_resume(tmp_path: Path) -> None:
    heard: list[object] = []

    class Witness:
        @hookimpl
        def search_started(self, plan: SearchPlan) -> None:
            heard.append(len(plan.candidates))

        @hookimpl
        def rung_finished(self, results: SearchResults) -> None:
            heard.append([(row.index, row.scores, row.seconds) for row in results.candidates])

    witness = Witness()
    load_plugins().manager.register(witness)
    try:
        search(run_dir=tmp_path / "run").fit(X, Y)
        first = heard.copy()
        heard.clear()
        search(run_dir=tmp_path / "run").fit(X, Y)
        assert heard == first
    finally:
        load_plugins().manager.unregister(witness)


# ---------------------------------------------------------------- Ctrl-C in Python


def interrupting(at: int) -> Any:
    """An activation that presses Ctrl-C when it is called the n-th time while training."""
    calls = 0

    def activation(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += x.requires_grad
        if x.requires_grad and calls == at:
            os.kill(os.getpid(), signal.SIGINT)
        return torch.tanh(x)

    return activation


def test_ctrl_c_leaves_a_fitted_estimator(tmp_path: Path) -> None:
    space = {"max_epochs": [200], "network": ["mlp"], "early_stopping": [True], "activation": [interrupting(40)]}
    fitted = search(strategy="portfolio", n_candidates=1, space=space, n_jobs=1, run_dir=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X, Y)
    assert np.isfinite(fitted.predict(X)).all()
    (row,) = fitted.results_.candidates
    assert 1 <= row.epoch <= len(row.curve) < 200
    assert units(tmp_path / "run", "stack ") == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_leaves_out_what_has_not_begun() -> None:
    def asked_for_more(space: object, results: Any, n: object, seed: object) -> list[Candidate]:
        if results:
            os.kill(os.getpid(), signal.SIGINT)
        return [Candidate({"network": "linear", "max_epochs": 2 + len(results)})] * 2

    fitted = search(strategy=asked_for_more, space=None)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X, Y)
    assert [row.failure for row in fitted.results_.candidates] == [
        "",
        "",
        *["left out: the search ended early, or its time was up"] * 2,
    ]
    assert fitted.best_index_ in (0, 1)


def test_ctrl_c_before_any_score_leaves_nothing() -> None:
    def at_once(space: object, results: Any, n: object, seed: object) -> list[Candidate]:
        os.kill(os.getpid(), signal.SIGINT)
        return [Candidate({"network": "linear", "max_epochs": 2})]

    fitted = search(strategy=at_once, space=None)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X, Y)
    assert not hasattr(fitted, "model_")


def test_ctrl_c_twice_leaves_at_once() -> None:
    def twice(space: object, results: Any, n: object, seed: object) -> list[Candidate]:
        if results:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return [Candidate({"network": "linear", "max_epochs": 2 + len(results)})] * 2

    fitted = search(strategy=twice, space=None)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X, Y)
    assert not hasattr(fitted, "model_")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_fit_within_another_block_leaves_the_end_to_it() -> None:
    def at_once(space: object, results: Any, n: object, seed: object) -> list[Candidate]:
        if results:
            os.kill(os.getpid(), signal.SIGINT)
        return [Candidate({"network": "linear", "max_epochs": 2 + len(results)})]

    with early_end(signal.SIGINT, notice="Stopping.") as stop:
        fitted = search(strategy=at_once, space=None).fit(X, Y)
    assert stop.number == signal.SIGINT
    assert fitted.predict(X).shape == (60,)
    with pytest.raises(KeyboardInterrupt):
        stop.pass_on()


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with early_end(signal.SIGINT) as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_rounds_that_were_done_are_not_lost_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounds(space: Any, results: Any, n: object, seed: object) -> list[Candidate]:
        return [Candidate({"network": "linear", "max_epochs": 2 + len(results)})] if len(results) < 3 else []

    given = {"strategy": rounds, "space": None, "time_limit": 60, "companions": None, "run_dir": tmp_path / "run"}
    first = search(**given).fit(X, Y)
    monkeypatch.setattr("autoreg.search.train_stack", no_training)
    monkeypatch.setattr(Journal, "elapsed", property(lambda self: 1000.0))
    again = search(**given).fit(X, Y)
    assert len(again.results_.candidates) == len(first.results_.candidates) == 3
    assert np.array_equal(again.predict(X), first.predict(X))
