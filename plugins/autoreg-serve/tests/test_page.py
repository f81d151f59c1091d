"""The guide docs/how-to/serve-a-model.md: its commands and its code give what it shows, up to the model's numbers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from conftest import Process, serving

from autoreg import load

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "serve-a-model.md").read_text(encoding="utf-8")
SHORT = ["--candidates", "2", "--space", "max_epochs=1", "--companions", "none", "--quiet"]
"""Added to `fit`, whose plan is not the point here."""

COMMANDS = [
    (shlex.split(command), shown)
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, flags=re.M | re.S)
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.M)
]
ASKED = [(words[1:], shown) for words, shown in COMMANDS if words[0] == "curl"]


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "flights.safetensors"
    (fit,) = [words for words, _ in COMMANDS if words[:2] == ["autoreg", "fit"]]
    words = [str(path) if word == "flights.safetensors" else word for word in fit[1:]]
    subprocess.run([sys.executable, "-m", "autoreg", *words, *SHORT], check=True, cwd=ROOT)
    return path


@pytest.fixture(scope="module")
def flight_service(flights: Path) -> Any:
    with serving(flights) as process:
        yield process


def curl(url: str, words: list[str]) -> httpx.Response:
    """What curl does with these words."""
    address, *rest = words
    headers, content = {}, b""
    for flag, value in zip(rest[::2], rest[1::2], strict=True):
        if flag == "-H":
            name, _, text = value.partition(": ")
            headers[name] = text
        elif flag == "--data-binary":
            content = (ROOT / value.removeprefix("@")).read_bytes()
        else:
            assert flag == "-d"
            content = value.encode()
    return httpx.post(address.replace("http://127.0.0.1:8000", url), content=content, headers=headers, timeout=60)


def test_there_is_something_to_run() -> None:
    assert len(ASKED) == 3


@pytest.mark.parametrize(("words", "shown"), ASKED)
def test_what_curl_is_shown_to_get(flight_service: Process, words: list[str], shown: str) -> None:
    found = curl(flight_service.url, words).text
    if not shown.startswith("{"):
        assert found.splitlines()[0] == shown.splitlines()[0]
        assert len(found.splitlines()) > 500
        return
    expected, answer = json.loads(shown), json.loads(found)
    if "detail" in expected:
        assert answer == expected
    else:
        assert answer.keys() == expected.keys()
        assert [row.keys() for row in answer["predictions"]] == [row.keys() for row in expected["predictions"]]
        assert answer["notices"] == []


def test_the_python_code_gets_the_models_numbers(
    flight_service: Process, flights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
    requests = ModuleType("requests")  # httpx takes the same arguments, but for the name of one
    requests.post = lambda url, data, headers: httpx.post(url, content=data, headers=headers, timeout=60)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "requests", requests)
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:8000", flight_service.url), names)
    expected = load(flights).predict(pd.read_csv(ROOT / "examples" / "data" / "new_flights.csv"))
    assert np.array_equal(names["speeds"], expected)
