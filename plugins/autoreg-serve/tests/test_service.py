"""The service as a process: what it answers, and that its numbers are the model's."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from conftest import COMMAND, Process, Start, serving

from autoreg import load

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as a client has them: None where missing."""
    return [
        {name: None if pd.isna(cell) else cell for name, cell in row.items()} for row in frame.to_dict(orient="records")
    ]


def predicted(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.array([row["price"] for row in response.json()["predictions"]])


def test_json_rows_give_the_models_numbers_bit_for_bit(client: httpx.Client, model: Any, rows: pd.DataFrame) -> None:
    response = client.post("/predict", json={"rows": records(rows)})
    assert response.headers["content-type"] == "application/json"
    assert response.json()["notices"] == []
    assert np.array_equal(predicted(response), model.predict(rows))


def test_json_columns_do_too(client: httpx.Client, model: Any, rows: pd.DataFrame) -> None:
    columns = {name: [row[name] for row in records(rows)] for name in rows.columns}
    assert np.array_equal(predicted(client.post("/predict", json={"columns": columns})), model.predict(rows))


def test_csv_in_and_out(client: httpx.Client, model: Any, rows: pd.DataFrame) -> None:
    body = rows.to_csv(index=False).encode()
    assert np.array_equal(predicted(client.post("/predict", content=body, headers=CSV)), model.predict(rows))
    response = client.post("/predict", content=body, headers={**CSV, "Accept": "text/csv"})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    first, *numbers = response.text.splitlines()
    assert first == "price"
    assert np.array_equal([float(number) for number in numbers], model.predict(rows))


def test_what_the_command_predict_writes_is_what_the_service_answers(
    client: httpx.Client, path: Path, rows: pd.DataFrame, tmp_path: Path
) -> None:
    rows.to_csv(tmp_path / "rows.csv", index=False)
    command = [*COMMAND[:-1], "predict", str(path), str(tmp_path / "rows.csv")]
    written = subprocess.run(command, capture_output=True, check=True).stdout
    answered = client.post(
        "/predict", content=(tmp_path / "rows.csv").read_bytes(), headers={**CSV, "Accept": "text/csv"}
    )
    assert answered.content == written.replace(b"\r\n", b"\n")


def test_a_compressed_body(client: httpx.Client, model: Any, rows: pd.DataFrame) -> None:
    text = rows.to_csv(index=False).encode()
    for body in (gzip.compress(text), gzip.compress(text[:100]) + gzip.compress(text[100:])):
        response = client.post("/predict", content=body, headers={**CSV, "Content-Encoding": "gzip"})
        assert np.array_equal(predicted(response), model.predict(rows))


def test_csv_as_other_countries_write_it(client: httpx.Client, model: Any, rows: pd.DataFrame) -> None:
    text = rows.assign(weight=3.5).to_csv(index=False, sep=";", decimal=",").replace("sold", "söld")
    with pytest.raises(AssertionError, match=r"column missing.*'söld' for 'sold'"):
        predicted(
            client.post(
                "/predict?sep=;&decimal=,",
                content=text.encode("latin-1"),
                headers={"Content-Type": "text/csv; charset=latin-1"},
            )
        )
    response = client.post(
        "/predict", params={"sep": ";", "decimal": ","}, content=text.replace("söld", "sold"), headers=CSV
    )
    assert np.array_equal(predicted(response), model.predict(rows.assign(weight=3.5)))
    text = rows[:3].assign(area="?").to_csv(index=False)
    response = client.post("/predict", params={"na_values": ["?", "-"]}, content=text, headers=CSV)
    assert np.array_equal(predicted(response), model.predict(rows[:3].assign(area=np.nan)))


def test_csv_is_read_as_the_models_table_was(start: Start, path: Path, rows: pd.DataFrame) -> None:
    model = load(path)
    model.model_.manifest["reading"] = {"decimal": ",", "na_values": ["-999"]}
    url = start(estimator=model)
    frame = rows[["area", "rooms", "zip code", "garden", "sold", "weight"]].assign(weight=3.5)
    text = frame.fillna({"area": -999}).to_csv(index=False, sep=";", decimal=",")
    response = httpx.post(f"{url}/predict", content=text, headers=CSV)
    assert np.array_equal(predicted(response), model.predict(frame))
    operation = httpx.get(f"{url}/openapi.json").json()["paths"]["/predict"]["post"]
    example = operation["requestBody"]["content"]["text/csv"]["example"]
    assert httpx.post(f"{url}/predict", content=example, headers=CSV).status_code == 200
    told = {one["name"]: one["description"] for one in operation["parameters"]}
    assert told["decimal"].startswith('Decimal sign of a CSV body: "," where not given')


def test_a_text_that_is_a_category_is_kept_as_written(client: httpx.Client, model: Any, rows: pd.DataFrame) -> None:
    for code in ("007", "7"):
        row = rows[:1].assign(**{"zip code": code})
        body = row.to_csv(index=False)
        assert np.array_equal(predicted(client.post("/predict", content=body, headers=CSV)), model.predict(row))
        assert np.array_equal(predicted(client.post("/predict", json={"rows": records(row)})), model.predict(row))


@pytest.mark.parametrize("cell", ["null", "NaN"])
def test_null_and_nan_are_missing(client: httpx.Client, model: Any, rows: pd.DataFrame, cell: str) -> None:
    row = records(rows[:1])[0]
    for name in ("area", "rooms", "zip code", "garden", "sold", "weight"):
        body = json.dumps({"rows": [{**row, name: "HERE"}]}).replace('"HERE"', cell)
        response = client.post("/predict", content=body, headers=JSON)
        expected = model.predict(rows[:1].astype(object).assign(**{name: None}))
        assert np.array_equal(predicted(response), expected)
        assert response.json()["notices"] == []


def test_a_row_may_leave_out_what_another_has(client: httpx.Client, model: Any, rows: pd.DataFrame) -> None:
    sent = records(rows[:2])
    del sent[1]["area"]
    expected = model.predict(rows[:2].assign(area=[rows["area"][0], np.nan]))
    assert np.array_equal(predicted(client.post("/predict", json={"rows": sent})), expected)


def test_what_is_mended_or_not_used_is_told(client: httpx.Client, rows: pd.DataFrame) -> None:
    row = {**records(rows[:1])[0], "colour": "red", "price": 3, "area": 1e999}
    notices = client.post("/predict", content=json.dumps({"rows": [row]}), headers=JSON).json()["notices"]
    assert notices == [
        "1 column that the model does not know, not used: 'colour'",
        "column 'area': 1 infinite value, in row 1, counts as missing",
    ]
    body = rows[:2].assign(größe=1).to_csv(index=False).encode()
    response = client.post("/predict", content=body, headers={**CSV, "Accept": "text/csv"})
    assert json.loads(response.headers["autoreg-notices"]) == [
        "1 column that the model does not know, not used: 'größe'"
    ]


def test_rows_asked_for_at_once_get_the_numbers_that_each_gets_alone(
    client: httpx.Client, service: Process, model: Any, rows: pd.DataFrame
) -> None:
    parts = [rows[begin : begin + 1 + begin % 3] for begin in range(60)]
    expected = [model.predict(part) for part in parts]
    wrong = {"rows": [{"area": 1}]}
    with httpx.Client(base_url=service.url, timeout=60) as many, ThreadPoolExecutor(20) as pool:
        bad = [pool.submit(many.post, "/predict", json=wrong) for _ in range(20)]
        good = [pool.submit(many.post, "/predict", json={"rows": records(part)}) for part in parts * 3]
        assert {future.result().status_code for future in bad} == {422}
        answers = [predicted(future.result()) for future in good]
    assert all(np.array_equal(one, other) for one, other in zip(answers, expected * 3, strict=True))


def test_the_description_is_of_this_model_and_its_examples_work(client: httpx.Client, rows: pd.DataFrame) -> None:
    found = client.get("/openapi.json").json()
    row = found["components"]["schemas"]["Row"]
    assert row["required"] == list(rows.columns)
    assert row["properties"]["area"]["type"] == ["number", "null"]
    assert "to 1" in row["properties"]["area"]["description"]
    sent = found["paths"]["/predict"]["post"]["requestBody"]["content"]
    bodies = [(json.dumps(example["value"]), JSON) for example in sent["application/json"]["examples"].values()]
    bodies.append((sent["text/csv"]["example"], CSV))
    answers = [client.post("/predict", content=body, headers=headers) for body, headers in bodies]
    assert len({predicted(answer)[0] for answer in answers}) == 1
    assert all(answer.json()["notices"] == [] for answer in answers)
    assert set(found["paths"]) == {"/predict", "/model", "/health", "/metrics"}
    text = json.dumps(found)
    assert not [
        name for name in re.findall(r'"#/components/schemas/(\w+)"', text) if name not in found["components"]["schemas"]
    ]


def test_no_row_of_the_table_is_told(client: httpx.Client, rows: pd.DataFrame) -> None:
    told = client.get("/openapi.json").json()["components"]["schemas"]["Row"]["example"]
    same = [sum(row[name] == told[name] for name in told) for row in records(rows)]
    assert max(same) < len(told)
    assert client.get("/model").json()["columns"][2]["n_levels"] == 3


def test_the_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    assert client.get("/").headers["location"] == "docs"
    page = client.get("/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert client.get(address).status_code == 200


def test_the_model_is_told_without_paths_and_settings(client: httpx.Client, path: Path) -> None:
    response = client.get("/model")
    card = response.json()
    assert card["targets"] == ["price"]
    assert card["file"] == "houses.safetensors"
    assert card["n_rows"] == 80
    assert [column["name"] for column in card["columns"]][:2] == ["area", "rooms"]
    assert len(card["leaderboard"]) >= 2
    assert math.isclose(sum(member["share"] for member in card["members"]), 1)
    assert str(path.parent) not in response.text
    assert not {"estimator", "parameters", "owners"} & card.keys()


def test_health_and_metrics(client: httpx.Client, rows: pd.DataFrame) -> None:
    def numbers() -> dict[str, float]:
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        lines = [line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    assert client.get("/health").json() == {"status": "ok"}
    before = numbers()
    client.post("/predict", json={"rows": records(rows[:7])})
    client.post("/predict", json={"rows": 1})
    client.get("/no/such/place?secret")
    after = numbers()
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)}
    assert grown["autoreg_rows_total"] == 7
    assert grown['autoreg_requests_total{method="POST",path="/predict",status="200"}'] == 1
    assert grown['autoreg_requests_total{method="GET",path="other",status="404"}'] == 1
    assert grown['autoreg_errors_total{status="422"}'] == 1
    assert grown["autoreg_predict_seconds_count"] == 2
    (info,) = [name for name in after if name.startswith("autoreg_model_info")]
    assert 'targets="price"' in info
    assert after["autoreg_waiting"] == 0


def test_several_processes_answer_and_count_together(path: Path, model: Any, rows: pd.DataFrame) -> None:
    with serving(path, "--workers", "2") as process:
        for _ in range(20):  # each on a connection of its own, so that either process may get it
            answer = httpx.post(f"{process.url}/predict", json={"rows": records(rows[:5])}, timeout=60)
            assert np.array_equal(predicted(answer), model.predict(rows[:5]))
        counted = httpx.get(f"{process.url}/metrics", timeout=60).text
        assert "autoreg_rows_total 100.0" in counted
        assert "autoreg_model_info{" in counted
        assert process.end() == 143
    assert process.lines[1:] == ["Terminated.\n"]


def test_a_process_that_ends_is_replaced(path: Path, rows: pd.DataFrame) -> None:
    with serving(path, "--workers", "1") as one, serving(path, "--workers", "2") as two:
        assert children(one) == []
        httpx.get(f"{two.url}/health", timeout=60)
        first, second = children(two)
        os.kill(first, signal.SIGKILL)
        while len(now := children(two)) < 2 or first in now:
            time.sleep(0.05)
        assert second in now
        for _ in range(10):
            assert httpx.post(f"{two.url}/predict", json={"rows": records(rows[:2])}, timeout=60).status_code == 200
    assert two.lines[1:] == ["A process ended with status -9; another takes its place.\n", "Terminated.\n"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_all_of_it(path: Path, workers: str) -> None:
    with serving(path, "--workers", workers) as process:
        assert httpx.get(f"{process.url}/health", timeout=60).status_code == 200
        os.killpg(process.process.pid, signal.SIGINT)  # as a terminal does: to all processes at once
        assert process.process.wait(60) == 130
    assert process.lines[1:] == ["Interrupted.\n"]


def children(process: Process) -> list[int]:
    """Processes that serve for this one, on any system that has ps."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    found = [line.split(maxsplit=2) for line in listed.splitlines()]
    ours = [item for item in found if int(item[1]) == process.process.pid]
    return [int(pid) for pid, _, *words in ours if "spawn_main" in " ".join(words)]


def test_several_processes_that_cannot_start_are_no_endless_loop(path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # among the numbers, which only whoever loads them looks at
    damaged.write_bytes(content)
    done = subprocess.run([*COMMAND, str(damaged), "--port", "0", "--workers", "2"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "is damaged: its tensors do not match their checksum" in done.stderr
    assert done.stderr.endswith("Error: the service could not be started: the line above says why\n")
    assert "Traceback" not in done.stderr


def test_a_signal_lets_those_who_wait_have_their_answers(path: Path, model: Any, rows: pd.DataFrame) -> None:
    many = pd.concat([rows] * 400, ignore_index=True)
    body = json.dumps({"rows": records(many)}).encode()
    with serving(path) as process:
        host, port = process.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            lines = ["POST /predict HTTP/1.1", "Host: x", "Content-Type: application/json"]
            lines += [f"Content-Length: {len(body)}", "", ""]
            connection.sendall("\r\n".join(lines).encode() + body[:-1])
            httpx.get(f"{process.url}/health", timeout=60)  # the service has read what came before
            process.process.terminate()
            connection.sendall(body[-1:])
            answer = b""
            while chunk := connection.recv(1 << 20):
                answer += chunk
        assert process.process.wait(60) == 143
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    numbers = [row["price"] for row in json.loads(content)["predictions"]]
    assert np.array_equal(numbers, model.predict(many))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x80\x04 pickle"])
def test_a_bad_model_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(content)
    done = subprocess.run([*COMMAND, str(bad)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"Error: .*bad\.safetensors .*\n", done.stderr)


def test_an_address_that_is_taken_is_one_line(path: Path, service: Process) -> None:
    port = service.url.rpartition(":")[2]
    done = subprocess.run([*COMMAND, str(path), "--port", port], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: cannot listen at 127.0.0.1, port {port}: address already in use. Give")
    assert done.stderr.count("\n") == 1


def test_its_help_imports_neither_torch_nor_fastapi() -> None:
    program = "import sys, autoreg_serve; print({'torch', 'fastapi', 'uvicorn', 'pandas'} & set(sys.modules))"
    done = subprocess.run([COMMAND[0], "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
