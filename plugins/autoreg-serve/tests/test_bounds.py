"""Services with other bounds and other models: who waits too long, who is too many, and faults of our own."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from autoreg_serve import Size
from conftest import Start
from test_refusals import CSV, HEADER, ROW

import autoreg


class Model:
    """A loaded model with something of its own: everything else is the model's."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class Patient(Model):
    """Predicts when it is told to."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.may_go, self.n_calls = threading.Event(), 0

    def predict_coded(self, tables: Any) -> Any:
        self.n_calls += 1
        assert self.may_go.wait(60)
        return self._model.predict_coded(tables)


def ask(url: str, row: dict[str, Any] = ROW, **options: Any) -> httpx.Response:
    return httpx.post(f"{url}/predict", json={"rows": [row]}, timeout=60, **options)


def waiting(url: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("autoreg_waiting "))


def until(true: Any) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it never came true")


def test_too_many_at_once_are_told_to_come_again(start: Start, model: Any) -> None:
    patient = Patient(model)
    url = start(patient, max_waiting=2)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(ask, url) for _ in range(2)]
        until(lambda: waiting(url) == 2)
        refused = ask(url)
        patient.may_go.set()
        assert [future.result().status_code for future in futures] == [200, 200]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json() == {"detail": "2 requests wait already: try again later"}
    assert ask(url).status_code == 200


def test_those_who_wait_are_predicted_together(start: Start, model: Any) -> None:
    patient = Patient(model)
    url = start(patient)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(ask, url)
        until(lambda: patient.n_calls == 1)
        futures = [pool.submit(ask, url, {**ROW, "area": 50 + i}) for i in range(15)]
        until(lambda: waiting(url) == 16)
        time.sleep(0.2)  # the last of them is on its way to the queue
        patient.may_go.set()
        answers = [future.result().json()["predictions"][0]["price"] for future in [first, *futures]]
    rows = pd.DataFrame([ROW] + [{**ROW, "area": 50 + i} for i in range(15)])
    assert np.array_equal(answers, model.predict(rows))
    assert patient.n_calls <= 4


def test_an_answer_that_takes_too_long(start: Start, model: Any) -> None:
    patient = Patient(model)
    url = start(patient, timeout=0.3)
    answer = ask(url)
    patient.may_go.set()
    assert answer.status_code == 503
    assert answer.json()["detail"] == "no answer within 0.3 seconds: send fewer rows, or try again later"
    until(lambda: ask(url).status_code == 200)


def test_a_body_that_does_not_come(start: Start) -> None:
    url = start(timeout=0.3)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 100\r\n\r\na,b"
        )
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not arrive within 0.3 seconds" in answer
    assert waiting(url) == 0


def test_a_client_that_goes_away_leaves_its_place(start: Start) -> None:
    url = start(max_waiting=1)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 100\r\n\r\na,b"
        )
        until(lambda: waiting(url) == 1)
    until(lambda: waiting(url) == 0)
    assert ask(url).status_code == 200


def test_the_bounds_are_the_options(start: Start) -> None:
    url = start(max_body=1000, max_rows=2)
    row = "1,2,3,true,2024-01-01,1 kg\n"
    codes = [
        httpx.post(f"{url}/predict", content=HEADER + row * n, headers=CSV).status_code for n in (2, 3, 1000)
    ]  # fmt: skip
    assert codes == [200, 413, 413]


def test_all_bodies_together_are_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoreg_serve.settings.Settings.max_held", 10)
    refused = ask(start())
    assert (refused.status_code, refused.json()["detail"]) == (
        503, "too many large bodies are being read: try again later",
    )  # fmt: skip


def test_intervals_are_answered_where_the_model_has_them(start: Start, model: Any) -> None:
    class WithIntervals(Model):
        def predict_interval(self, X: Any, confidence_level: float) -> Any:
            point = self._model.predict(X)
            return np.stack([point - 100 * confidence_level, point + 1], axis=1)

    url = start(WithIntervals(model))
    (row,) = ask(url, params={"interval": "0.9"}).json()["predictions"]
    point = float(model.predict(pd.DataFrame([ROW]))[0])
    assert row == {"price": point, "price_lower": point - 90, "price_upper": point + 1}
    answer = ask(url, params={"interval": "0.9"}, headers={"Accept": "text/csv"})
    assert answer.text == f"price,price_lower,price_upper\n{point!r},{point - 90!r},{point + 1!r}\n"
    parameters = httpx.get(f"{url}/openapi.json").json()["paths"]["/predict"]["post"]["parameters"]
    assert parameters[0]["name"] == "interval"


def test_a_fault_of_ours_is_told_without_its_place(start: Start, model: Any, capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(Model):
        def predict_coded(self, tables: Any) -> Any:
            raise RuntimeError("a secret")

    answer = ask(start(Broken(model)))
    assert answer.status_code == 500
    assert answer.json() == {"detail": "a fault in the service, not in your request: its log tells more"}
    logged = capfd.readouterr().err
    assert logged == "autoreg serve: bug: RuntimeError: a secret (AUTOREG_DEBUG=1 shows where)\n"


def test_one_request_at_fault_does_not_take_others_along(start: Start, model: Any, capfd: Any) -> None:
    class Picky(Patient):
        def predict_coded(self, tables: Any) -> Any:
            answers = super().predict_coded(tables)
            if any(len(table.numbers) == 3 for table in tables):
                raise RuntimeError("three")
            return answers

    picky = Picky(model)
    url = start(picky)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, url)
        until(lambda: picky.n_calls == 1)
        bad = pool.submit(httpx.post, f"{url}/predict", json={"rows": [ROW] * 3}, timeout=60)
        others = [pool.submit(ask, url) for _ in range(5)]
        until(lambda: waiting(url) == 7)
        time.sleep(0.2)
        picky.may_go.set()
        assert {future.result().status_code for future in [first, *others]} == {200}
        assert bad.result().status_code == 500
    assert "RuntimeError: three" in capfd.readouterr().err


def test_a_body_that_nobody_thought_of_is_the_clients(start: Start, model: Any, capfd: Any, monkeypatch: Any) -> None:
    url = start()
    monkeypatch.setattr("autoreg_serve.bodies.Reader._json", lambda self, body: [].pop())
    answer = ask(url)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "the table cannot be read: IndexError: pop from empty list"
    assert "bug: IndexError" in capfd.readouterr().err


def test_several_targets_and_float32(start: Start, rows: pd.DataFrame) -> None:
    y = np.stack([rows["rooms"], -rows["rooms"]], axis=1).astype(np.float32)
    known = rows[["rooms", "garden"]]
    model = autoreg.NeuralRegressor(max_epochs=2, network_options={"width": 8, "depth": 1}, random_state=0).fit(
        known, y
    )
    answers = ask(start(model), {"rooms": 3, "garden": False}).json()["predictions"]
    expected = model.predict(pd.DataFrame([{"rooms": 3, "garden": False}]))
    assert expected.dtype == np.float32
    assert np.array_equal(np.array([list(row.values()) for row in answers]), expected)


@pytest.mark.parametrize("text", ["", "10", "1.5kB", "2 MiB", "10 apples", "-1MB", "0"])
def test_a_size(text: str) -> None:
    sizes = {"10": 10, "1.5kB": 1500, "2 MiB": 2**21}
    if text in sizes:
        assert Size().convert(text, None, None) == sizes[text]
    else:
        with pytest.raises(Exception, match="is no size: give one such as"):
            Size().convert(text, None, None)
