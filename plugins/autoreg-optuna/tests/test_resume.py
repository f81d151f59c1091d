"""A fit is killed in the middle; the same fit goes on from its storage."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

FIT = """
import sys
import numpy as np
from scipy.stats import loguniform
from autoreg import AutoRegressor

rng = np.random.default_rng(0)
X = rng.normal(size=(120, 3))
y = X @ [1.0, 2.0, 3.0] + 0.1 * rng.normal(size=120)
space = {
    "network": ["mlp"], "network__width": [8], "network__depth": [1, 2], "encoding": ["standard"],
    "activation": ["relu", "silu"], "learning_rate": loguniform(1e-3, 1e-1), "max_epochs": [int(sys.argv[2])],
    "optimizer": ["adam"], "early_stopping": [False],
}
options = {"storage": sys.argv[1], "study": "killed", "batch": 3, "pruner": "none"}
AutoRegressor(
    strategy="tpe", strategy_options=options, n_candidates=9, space=space, cv=2, companions=None, random_state=0,
    verbose=0,
).fit(X, y)
"""


def run(storage: str, epochs: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FIT, storage, str(epochs)], stderr=subprocess.PIPE)


def trials(storage: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name="killed", storage=storage).trials


def states(path: Path) -> list[str]:
    """Read past Optuna: it takes long to open, and the moment passes."""
    try:
        with closing(sqlite3.connect(path)) as database:
            return [state for (state,) in database.execute("SELECT state FROM trials ORDER BY trial_id")]
    except sqlite3.OperationalError:  # its tables are being made
        return []


def test_a_killed_fit_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    storage = f"sqlite:///{path}"
    process = run(storage, 200)
    deadline = time.monotonic() + 300
    while len(states(path)) < 6 or states(path).count("RUNNING") < 3:  # the second batch is in training
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert states(path) == ["COMPLETE"] * 3 + ["RUNNING"] * 3
    before = trials(storage)

    process = run(storage, 200)
    errors = process.communicate()[1].decode()
    assert process.returncode == 0, errors
    after = trials(storage)
    # the three lost ones are marked, queued again and run first; what had finished stays, and counts
    assert [trial.state.name for trial in after] == ["COMPLETE"] * 3 + ["FAIL"] * 3 + ["COMPLETE"] * 6
    assert [trial.value for trial in after[:3]] == [trial.value for trial in before[:3]]
    # the last may have been killed before all of its values were chosen
    assert all(lost.params.items() <= again.params.items() for lost, again in zip(before[3:], after[6:9], strict=True))
    assert [trial.user_attrs["retry_of"] for trial in after[6:9]] == [3, 4, 5]
    assert all(trial.state == TrialState.COMPLETE and trial.value > 0 for trial in after[6:])
