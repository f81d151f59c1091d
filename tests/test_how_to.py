"""The how-to guides' code and commands run, and the explanations' figures are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from exampletables import lay_out
from pages import DOCS, commands, run_page

from autoreg.builtins.portfolio import EFFORT, EPOCHS
from autoreg.cli import autoreg

GUIDES = ["choose-scoring-and-folds", "restrict-the-search", "save-and-load", "use-in-a-pipeline"]
JOURNAL = "how-to/interrupt-and-resume.md"
SHORT = ["--candidates", "2", "--space", "max_epochs=2", "--quiet"]
"""Added to each `fit`: its plan is not the point here, and takes minutes."""


@pytest.mark.parametrize("guide", GUIDES)
def test_the_code_runs_and_prints_what_is_shown(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 400)
    monkeypatch.chdir(tmp_path)
    assert run_page(f"how-to/{guide}.md") >= 5


@pytest.mark.parametrize("guide", GUIDES[:2])
def test_the_commands_run(guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 120)
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line)[1:] for line in commands(f"how-to/{guide}.md")]
    assert len(lines) >= 3
    for words in lines:
        result = CliRunner().invoke(autoreg, [*words, *SHORT])
        assert result.exit_code == 0, f"autoreg {shlex.join(words)}: {result.output}"
        assert (tmp_path / words[-1]).exists()


def test_the_commands_that_look_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 300)
    monkeypatch.chdir(tmp_path)
    run_page("how-to/save-and-load.md")
    for line in commands("how-to/save-and-load.md"):
        result = CliRunner().invoke(autoreg, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"
        assert "distance_miles" in result.output or "predicts" in result.output


def test_interrupting_and_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, 200)
    monkeypatch.chdir(tmp_path)
    assert run_page(JOURNAL) == 3
    for line in commands(JOURNAL):
        result = CliRunner().invoke(autoreg, [*shlex.split(line)[1:], *SHORT])
        assert result.exit_code == 0, f"{line}: {result.output}"
    assert not (tmp_path / "speed.safetensors.run").exists()
    assert (tmp_path / "search" / "journal").exists()


def test_the_table_of_efforts_is_the_portfolios() -> None:
    page = (DOCS / "explanation" / "search.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", page, flags=re.MULTILINE)
    shown = {name: (int(n), float(work), int(low), int(high)) for name, n, low, high, work in rows}
    assert shown == {name: (*EFFORT[name], *EPOCHS[name]) for name in EFFORT}
