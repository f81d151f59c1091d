"""When a search is logged, and what happens when MLflow does not answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from autoreg_mlflow import bounds, switched_on
from conftest import Search, free_port

from autoreg.errors import ObserverWarning

SILENT = """
import sys
import numpy as np
from autoreg import AutoRegressor
X = np.random.default_rng(0).normal(size=(40, 2))
space = {"max_epochs": [1], "network": ["linear"]}
AutoRegressor(strategy="grid", space=space, cv=2, companions=None, verbose=0).fit(X, X[:, 0])
from autoreg.plugins import load_plugins
assert load_plugins().manager.has_plugin("mlflow")
assert "mlflow" not in sys.modules, "MLflow was imported"
"""


def test_installed_alone_it_writes_nothing_and_imports_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", SILENT], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []


def test_what_switches_it_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not switched_on()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    assert switched_on()
    mlflow.set_tracking_uri(None)
    assert not switched_on()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    assert switched_on()
    monkeypatch.setenv("AUTOREG_MLFLOW", "0")
    assert not switched_on()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("AUTOREG_MLFLOW", "1")
    assert switched_on()


def test_a_switch_that_is_neither_on_nor_off_is_told(
    monkeypatch: pytest.MonkeyPatch, table: Any, search: Search
) -> None:
    monkeypatch.setenv("AUTOREG_MLFLOW", "maybe")
    with pytest.warns(ObserverWarning, match="plugin 'mlflow' failed in search_started: .*AUTOREG_MLFLOW='maybe'"):
        search().fit(*table)


def test_without_a_server_mlflows_own_default_is_used_when_asked(
    monkeypatch: pytest.MonkeyPatch, table: Any, search: Search, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    model = search().fit(*table)
    (top,) = mlflow.search_runs(["0"], "tags.`autoreg.kind` = 'search'", output_format="list")
    assert top.data.metrics["cv_rmse"] == pytest.approx(-model.ensemble_score_)


def fit_beside(model: Any, table: Any) -> list[str]:
    """Fit, and return what was warned of; the model must be whole."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*table)
    assert model.predict(table[0]).shape == (90,)
    return [str(one.message) for one in caught if one.category is ObserverWarning]


def test_no_server_loses_no_fit(monkeypatch: pytest.MonkeyPatch, table: Any, search: Search) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    before = dict(os.environ)
    told = fit_beside(search(), table)
    assert [text.split(":")[0] for text in told] == [
        "plugin 'mlflow' failed in search_started", "plugin 'mlflow' failed in search_finished"
    ]  # fmt: skip
    for text in told:
        assert os.environ["MLFLOW_TRACKING_URI"] in text
        assert "Connection refused" in text
        assert "AUTOREG_MLFLOW=0 switches the logging off" in text
    assert dict(os.environ) == before


@pytest.fixture
def deaf() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        yield f"http://127.0.0.1:{place.getsockname()[1]}"


def test_a_server_that_never_answers_holds_no_fit_up(
    deaf: str, monkeypatch: pytest.MonkeyPatch, table: Any, search: Search
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", deaf)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # the user's own bound counts; ours is longer
    told = fit_beside(search(), table)
    assert len(told) == 2
    assert "timed out" in told[0].lower()


class Relay(threading.Thread):
    """Hands connections on to a server, until it is closed."""

    def __init__(self, target: str) -> None:
        super().__init__(daemon=True)
        host, port = target.removeprefix("http://").split(":")
        self.target = (host, int(port))
        self.place = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.place.getsockname()[1]}"
        self.open: list[socket.socket] = []

    def run(self) -> None:
        while True:
            try:
                near, _ = self.place.accept()
            except OSError:
                return
            far = socket.create_connection(self.target)
            self.open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._hand_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _hand_on(one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        finally:
            other.close()

    def close(self) -> None:
        # a blocked accept ends only when the socket is shut down
        self.place.shutdown(socket.SHUT_RDWR)
        self.place.close()
        for one in self.open:
            one.close()


def test_a_server_that_dies_in_between_loses_no_fit(
    server: str, monkeypatch: pytest.MonkeyPatch, table: Any, search: Search
) -> None:
    relay = Relay(server)
    relay.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", relay.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")

    closed = []

    def once(prediction: Any, target: Any) -> Any:
        if not closed:
            closed.append(True)
            relay.close()
        return ((prediction - target) ** 2).mean(-1)

    told = fit_beside(search(losses=[once], n_jobs=1), table)
    hooks = [text.split(":")[0].removeprefix("plugin 'mlflow' failed in ") for text in told]
    assert hooks == ["rung_finished", "search_finished"]


def test_a_server_that_comes_back_gets_all(
    server: str, monkeypatch: pytest.MonkeyPatch, table: Any, search: Search
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "late")

    def back(prediction: Any, target: Any) -> Any:
        os.environ["MLFLOW_TRACKING_URI"] = server
        return ((prediction - target) ** 2).mean(-1)

    told = fit_beside(search(losses=[back], n_jobs=1), table)
    assert [text.split(":")[0] for text in told] == ["plugin 'mlflow' failed in search_started"]
    (top,) = mlflow.search_runs(
        experiment_names=["late"], filter_string="tags.`autoreg.kind` = 'search'", output_format="list"
    )
    assert top.info.status == "FINISHED"
    assert "cv_rmse" in top.data.metrics
    assert len(mlflow.search_runs(experiment_names=["late"], output_format="list")) == 3


def test_bounds_hold_while_one_speaks_and_spare_what_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with bounds.bounded():
        with bounds.bounded():
            pass
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
