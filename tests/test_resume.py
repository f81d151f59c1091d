"""A search that is killed goes on to the same result; one that is asked to end keeps what it has."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from runs import Run, records, same_model, units

from autoreg.persistence import read_manifest

STACKS = ["--activation", "relu", "--activation", "tanh", "--activation", "silu", "--candidates", "6"]
PLAN = ["table.csv", "--target", "y", "--effort", "quick", "--folds", "3", "--quiet", *STACKS]
SHORT = ["--space", "max_epochs=12"]
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


def test_a_search_that_is_killed_twice_goes_on_to_the_same_result(folder: Path) -> None:
    output, run_dir = folder / "killed.safetensors", folder / "killed.safetensors.run"
    words = [*PLAN, *SHORT, "-o", output.name]
    before: list[str] = []
    for done in (1, 3):
        killed = Run(words, folder)
        assert killed.wait_for(lambda: len(units(run_dir)) >= max(done, len(before) + 1))  # noqa: B023
        killed.kill()
        assert units(run_dir)[: len(before)] == before
        before = units(run_dir)
        assert not output.exists()
    words.remove("--quiet")
    status, _, err = Run(words, folder).end()
    assert status == 0, err
    done = sum(key.startswith("stack ") for key in before)
    assert f"Resuming: {done} of 5 stacks of networks are done." in err.splitlines()
    assert same_model(output, folder / "whole.safetensors")
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminated"]
)
def test_the_first_signal_keeps_the_best_so_far(number: int, code: int, folder: Path) -> None:
    output = folder / f"{code}.safetensors"
    run_dir = folder / f"{code}.safetensors.run"
    words = [*PLAN, *ENDLESS, "-o", output.name, "--run-dir", run_dir.name]
    words.remove("--quiet")
    run = Run(words, folder)
    assert run.wait_for(lambda: len(records(run_dir)) > 2)
    assert run.process.stderr is not None
    while "networks:" not in run.process.stderr.readline():
        pass
    run.send(number)
    status, out, err = run.end()
    assert status == code
    assert "Stopping after the epochs in training" in err
    assert f"Stopped early: {output.name} is made of the " in err
    assert "rank" in out
    manifest = read_manifest(output)
    assert manifest["stopped_early"] is True
    assert 1 <= sum(row["parameters"] is not None for row in manifest["leaderboard"]) <= 6
    assert not units(run_dir, "stack ")
