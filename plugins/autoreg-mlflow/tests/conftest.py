"""A real tracking server on SQLite, and a small search that is logged to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# set before autoreg looks for plugins: others that are installed have no part in these tests
os.environ["AUTOREG_PLUGINS"] = "autoreg-mlflow"
os.environ["DO_NOT_TRACK"] = "true"

import numpy as np
import pandas as pd
import pytest

from autoreg import AutoRegressor

OURS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "AUTOREG_MLFLOW")


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server; its runs are in SQLite, its artifacts in a folder that only it can reach."""
    folder = tmp_path_factory.mktemp("server")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    # what it offers besides tracking is not needed, and asks for more packages
    settings = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=settings, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(f"{address}/health", process, folder / "log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1000):
        try:
            with urllib.request.urlopen(address, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"no answer from {address}:\n{log.read_text()}")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty working directory, and nothing that tells MLflow where to log."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    yield
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def table() -> tuple[pd.DataFrame, pd.Series]:
    """90 rows of every kind of column."""
    draw, n = np.random.default_rng(0), 90
    frame = pd.DataFrame(
        {
            "area": draw.uniform(30, 200, n),
            "rooms": draw.integers(1, 6, n),
            "town": draw.choice(["Ahoy", "Bree"], n),
            "class": pd.Categorical(draw.choice(["a", "b", "c"], n)),
            "garden": draw.random(n) < 0.5,
            "sold": pd.Timestamp("2022-01-01") + pd.to_timedelta(draw.integers(0, 700, n), unit="D"),
            "constant": 1.0,
        }
    )
    return frame, pd.Series(2 * frame["area"] + 10 * frame["rooms"], name="price")


Search = Callable[..., AutoRegressor]


@pytest.fixture(scope="session")
def search() -> Search:
    """An unfitted search of two small networks and no companions."""

    def make(**options: Any) -> AutoRegressor:
        space = {"max_epochs": [3], "network": ["linear"], "learning_rate": [0.1, 0.001]}
        given = {"strategy": "grid", "space": space, "cv": 2, "companions": None, "random_state": 0, "verbose": 0}
        return AutoRegressor(**{**given, **options})

    return make
