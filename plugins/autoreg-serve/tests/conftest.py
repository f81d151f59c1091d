"""A small model, the service as a process of its own, and services in threads with other bounds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import uvicorn
from autoreg_serve.app import build_app
from autoreg_serve.running import listen
from autoreg_serve.served import Served
from autoreg_serve.settings import Settings

from autoreg import AutoRegressor, load

# what else is installed has no part in these tests
os.environ["AUTOREG_PLUGINS"] = "autoreg-serve"

COMMAND = [sys.executable, "-m", "autoreg", "serve"]


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """80 rows of all kinds of columns, some missing, and a target."""
    draw = np.random.default_rng(0)
    n = 80
    frame = pd.DataFrame(
        {
            "area": draw.uniform(30, 200, n).round(1),
            "rooms": draw.integers(1, 7, n),
            "zip code": draw.choice(["007", "7", "08"], n),
            "garden": draw.random(n) < 0.5,
            "sold": pd.date_range("2024-01-01", periods=n, freq="3D").strftime("%Y-%m-%d"),
            "weight": [f"{value:.1f} kg" for value in draw.uniform(1, 9, n)],
        }
    )
    frame.loc[3:8, "area"] = np.nan
    frame.loc[10:12, "zip code"] = None
    frame["price"] = 2.5 * frame["area"].fillna(100) + 40 * (frame["zip code"] == "007") + draw.normal(0, 5, n)
    return frame


@pytest.fixture(scope="session")
def rows(table: pd.DataFrame) -> pd.DataFrame:
    """What is to be predicted."""
    return table.drop(columns="price")


@pytest.fixture(scope="session")
def path(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved ensemble."""
    space = {"max_epochs": [2], "network__width": [8], "network__depth": [1], "activation": ["relu", "tanh"]}
    model = AutoRegressor("grid", space=space, cv=2, companions=None, random_state=0, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about texts that are read as numbers
        model.fit(table.drop(columns="price"), table["price"])
    path = tmp_path_factory.mktemp("model") / "houses.safetensors"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def model(path: Path) -> Any:
    return load(path)


@dataclass
class Process:
    """A running ``autoreg serve``."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(path: Path, *options: str) -> Iterator[Process]:
    """Start the command, wait until it says where it is, and end it."""
    process = subprocess.Popen(
        [*COMMAND, str(path), "--port", "0", *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        while not lines and process.poll() is None:
            time.sleep(0.01)
        found = re.match(r"Serving .+ at (http://\S+); try it at", lines[0])
        assert found, lines
        yield Process(process, found[1], lines)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        reader.join(10)
        process.stderr.close()


@pytest.fixture(scope="session")
def service(path: Path) -> Iterator[Process]:
    """The service with its usual bounds."""
    with serving(path) as process:
        yield process
        assert process.end() == 143
    assert process.lines[1:] == ["Terminated.\n"]  # nothing else was worth a line: no traceback above all


@pytest.fixture(scope="session")
def client(service: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


Start = Callable[..., str]


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts services in threads of this process: ``start(max_waiting=1)``, ``start(estimator=mine)``."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(estimator: Any = None, **settings: Any) -> str:
        served = Served.open(str(path))
        if estimator is not None:
            served = Served(estimator, served.name, served.sha256)
        door = listen("127.0.0.1", 0)
        app = build_app(served, Settings(str(path), **settings))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", ws="none", log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
        thread.start()
        running.append((server, thread))
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        return f"http://127.0.0.1:{door.getsockname()[1]}"

    yield begin
    for server, thread in running:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
