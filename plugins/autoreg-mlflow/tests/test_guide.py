"""The how-to guide, run as written, beside a server."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from click.testing import CliRunner

from autoreg.cli import autoreg

ROOT = Path(__file__).parents[3]
GUIDE = ROOT / "docs" / "how-to" / "log-to-mlflow.md"
BLOCK = re.compile(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)


@pytest.fixture
def flights() -> None:
    folder = Path("examples/data")
    folder.mkdir(parents=True)
    shutil.copy(ROOT / folder / "flights.csv", folder)


@pytest.mark.usefixtures("flights")
def test_the_guide_runs_and_prints_what_it_shows(server: str) -> None:
    page = GUIDE.read_text(encoding="utf-8")
    assert "http://127.0.0.1:5000" in page
    namespace: dict[str, Any] = {}
    blocks = BLOCK.findall(page.replace("http://127.0.0.1:5000", server))
    assert len(blocks) == 5
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(GUIDE), "exec"), namespace)
        # MLflow tells where a run can be seen when one is ended by hand
        own = [line for line in printed.getvalue().splitlines() if " at: http" not in line]
        assert "\n".join(own).strip() == shown.strip()


@pytest.mark.usefixtures("flights")
def test_the_command_logs_and_prints_what_it_always_prints(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"^\$ autoreg (fit .*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    rows = Path("examples/data/flights.csv").read_text().splitlines(keepends=True)[:121]
    Path("examples/data/flights.csv").write_text("".join(rows))
    words = [*line.split(), "--candidates", "2", "--space", "max_epochs=2", "--companions", "none"]
    monkeypatch.setenv("AUTOREG_MLFLOW", "0")
    quiet = CliRunner().invoke(autoreg, words)
    monkeypatch.delenv("AUTOREG_MLFLOW")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "command")
    logged = CliRunner().invoke(autoreg, [*words, "--force"])
    assert logged.exit_code == quiet.exit_code == 0, logged.output
    # figures of a clock differ, and with them the columns' widths
    assert re.sub(r"[\d.]+", "#", logged.stdout).split() == re.sub(r"[\d.]+", "#", quiet.stdout).split()
    assert len(mlflow.search_runs(experiment_names=["command"], output_format="list")) == 3
